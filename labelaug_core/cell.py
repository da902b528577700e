"""One cell of a table: load its data, train one seed, and say everything about the run in a record."""

from __future__ import annotations

import platform
import resource
import subprocess
import time
from dataclasses import replace
from importlib import import_module, metadata

import numpy as np
import torch
from sklearn.metrics import balanced_accuracy_score

from labelaug_core.baselines import FFNHead, pseudo_label
from labelaug_core.datasets.base import Task
from labelaug_core.encoders import Identity, build_encoder, cached_features
from labelaug_core.graph_file import load_graph
from labelaug_core.methods import METHODS, build_head
from labelaug_core.records import GROUPS, ROOT, code_hash
from labelaug_core.training import Classifier, accuracy, hold_out, predict, seed_everything, train


def load_task(settings: dict) -> Task:
    """The data of a cell, as features where its encoder is frozen (encoded once, cached)."""
    module, function = GROUPS[settings["group"]][0].split(".")
    task = getattr(import_module(f"labelaug_core.datasets.{module}"), function)(
        load_graph(settings["group"]), settings["data"]
    )
    if settings["encoder"].get("tune") == "frozen":
        encoder = build_encoder(settings["encoder"])
        parts = {p: getattr(task, p) for p in ("train", "test", "coarse")}
        task = replace(
            task,
            **{
                p: replace(split, inputs=cached_features(encoder, split.inputs, f"{task.content_hash}-{p}"))
                for p, split in parts.items()
            },
        )
    return task if settings["data"].get("join") else task.fine_only()


def build(settings: dict, task: Task, head) -> Classifier:
    frozen = settings["encoder"].get("tune") == "frozen"
    encoder = Identity(task.train.inputs[np.arange(1)].shape[1]) if frozen else build_encoder(settings["encoder"])
    t = settings["training"]
    return Classifier(encoder, head, t["trunk"], t["dropout"], t["coarse_weight"])


def fit(settings: dict, task: Task, seed: int):
    """Train one seed. -> (model, the task it was trained on, its validation part, its history).

    Pseudo Labels first train an FFN of the same kind on the fine data, whose guesses label the coarse images.
    """
    method = METHODS[settings["method"]]
    rng_seed = seed
    fine_part, val = hold_out(task.train, settings["training"]["val_fraction"], seed)
    task = replace(task, train=fine_part)
    if settings["method"] == "pseudo-labels":
        seed_everything(rng_seed)
        teacher = build(settings, task, lambda d: FFNHead(d, task.n_fine))
        teacher, _ = train(teacher, task.fine_only(), val, settings["training"], seed)
        task = pseudo_label(task, predict(teacher, task.coarse)["log_probs"])
    seed_everything(rng_seed)
    head, task = build_head(
        method, task, settings["head"] if method.head == "path" else _graph_only(settings["head"]), seed
    )
    model, history = train(build(settings, task, head), task, val, settings["training"], seed, method.decode)
    return model, task, val, history


def _graph_only(options: dict) -> dict:
    return {k: v for k, v in options.items() if k == "graph"}


def measure(found: dict[str, np.ndarray], y: np.ndarray, decode: str) -> dict[str, float]:
    """Top-1 accuracy, accuracy averaged over classes, and -log p(true label); both decodings where there are two."""
    guess = found["greedy"] if decode == "greedy" else found["log_probs"].argmax(1)
    out = {
        "accuracy": float((guess == y).mean()),
        "mean_per_class": float(balanced_accuracy_score(y, guess)),
        "nll": -float(found["log_probs"][np.arange(len(y)), y].mean()),
        "accuracy_exact": accuracy(found, y, "exact"),
    }
    if "greedy" in found:
        out["accuracy_greedy"] = accuracy(found, y, "greedy")
    return out


def run_seed(settings: dict, task: Task, seed: int):
    """-> (record, predictions, model): everything of one run but its place on disk."""
    start, decode = time.perf_counter(), METHODS[settings["method"]].decode
    model, used, val, history = fit(settings, task, seed)
    found = predict(model, used.test, next(model.parameters()).device)
    exact = found["log_probs"].argmax(1)
    predictions = {
        "y": used.test.y.astype(np.uint16),
        "exact": exact.astype(np.uint16),
        "p_exact": np.exp(found["log_probs"].max(1)).astype(np.float16),
    }
    if "path" in found:
        predictions |= {"greedy": found["greedy"].astype(np.uint16), "path": found["path"].astype(np.uint32)}
    record = {
        "settings": settings,
        "seed": seed,
        "code_hash": code_hash(settings["group"]),
        "data": {
            "content_hash": task.content_hash,
            "sizes": used.sizes,
            "n_train": len(used.train),
            "n_val": len(val),
            "n_coarse": len(used.coarse) if used.coarse is not None else 0,
            "n_test": len(used.test),
        },
        "history": history,
        "validation": next(row for row in history if row.get("chosen")),
        "test": measure(found, used.test.y, decode),
        "decode": decode,
        "wall_seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        **environment(),
    }
    return record, predictions, model


def environment() -> dict:
    """Device, versions and git commit of a run."""
    cuda = torch.cuda.is_available()
    versions = {p: metadata.version(p) for p in ("torch", "numpy", "timm", "accelerate", "scikit-learn")}
    git = subprocess.run(["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "device": torch.cuda.get_device_name()
        if cuda
        else f"cpu ({platform.machine()}, {torch.get_num_threads()} threads)",
        "versions": versions | {"python": platform.python_version()},
        "git_commit": git.stdout.strip() or "unknown",
    }
