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

from companion import one_label as single_label
from companion.heads.baselines import pseudo_label
from labelaug_core.data import Task
from labelaug_core.cache import cached_features
from labelaug_core.encoders import Identity, build_encoder
from labelaug_core.graph_file import load_graph
from companion.methods import METHODS
from companion.records.store import GROUPS, ROOT, code_hash
from labelaug_core.training import Classifier, hold_out, predict, seed_everything, train


def load_task(settings: dict) -> Task:
    """The data of a cell, as features where its encoder is frozen (encoded once, cached).

    Where the encoder's last stage is trained the inputs are the activations before it, and Task.head_first is the
    same task as frozen features.
    """
    module, function = GROUPS[settings["source"]][0].split(".")
    task = getattr(import_module(f"companion.datasets.{module}"), function)(
        load_graph(settings["source"]), settings["data"]
    )
    tune = settings["encoder"].get("tune")
    if tune in ("frozen", "last"):
        whole = build_encoder(settings["encoder"])
        features = encoded(task, whole)
        if tune == "last":
            activations = encoded(task, whole.before_last(settings["data"]), np.float16)
            features = replace(activations, head_first=features)
        task = features
    return task if settings["data"].get("join") else task.fine_only()


def encoded(task: Task, encoder, dtype: type = np.float32) -> Task:
    """The task with what the encoder makes of its inputs in their place."""
    parts = {p: getattr(task, p) for p in ("train", "test", "coarse")}
    return replace(
        task,
        **{
            p: replace(split, inputs=cached_features(encoder, split.inputs, f"{task.content_hash}-{p}", dtype=dtype))
            for p, split in parts.items()
            if split is not None
        },
    )


def kind(task: Task):
    """The module that knows the heads and metrics of this task: one label a sample, or several."""
    return import_module("companion.heads.several_labels") if task.train.y.ndim == 2 else single_label


def build(settings: dict, task: Task, head) -> Classifier:
    tune = settings["encoder"].get("tune")
    if tune == "frozen":
        encoder = Identity(task.train.inputs[np.arange(1)].shape[1])
    else:
        encoder = build_encoder(settings["encoder"])
        encoder = encoder.last() if tune == "last" else encoder
    t = settings["training"]
    return Classifier(encoder, head, t["trunk"], t["dropout"], t["coarse_weight"])


def fit(settings: dict, task: Task, seed: int, head=None):
    """Train one seed. -> (model, the task it was trained on, its validation part, its history).

    head: a function from the trunk's width to a head that is no method of the tables; it decodes by its probabilities.

    Pseudo Labels first train an FFN of the same kind on the fine data, whose guesses label the coarse images. Where
    the encoder's last stage is trained, trunk and head first are those of the frozen arm of the same seed; then all
    is trained together with the settings `finetune`.
    """
    method, training, whole_train = METHODS.get(settings["method"]), settings["training"], task.train
    if settings["method"] == "pseudo-labels":
        teacher, *_ = fit(settings | {"method": "ffn"}, task.fine_only(), seed)
        log_probs = predict(teacher, task.coarse, next(teacher.parameters()).device)["log_probs"]
    fine_part, val = hold_out(whole_train, training["val_fraction"], seed)
    used = replace(task, train=fine_part)
    if settings["method"] == "pseudo-labels":
        used = pseudo_label(used, log_probs)
    seed_everything(seed)
    decode = method.decode if head is None else "exact"
    if head is None:
        head, used = kind(task).build_head(method, used, settings["head"], seed)
    model = build(settings, used, head)
    if task.head_first is not None:
        frozen = settings | {"encoder": settings["encoder"] | {"tune": "frozen"}}
        start, *_ = fit(frozen, task.head_first, seed)
        model.trunk.load_state_dict(start.trunk.state_dict())
        model.head.load_state_dict(start.head.state_dict())
        training = training | training["finetune"]

    def score(found, y):
        return kind(task).score(found, y, decode)

    model, history = train(model, used, val, training, seed, score)
    return model, used, val, history


def run_seed(settings: dict, task: Task, seed: int):
    """-> (record, predictions, model): everything of one run but its place on disk."""
    start, decode = time.perf_counter(), METHODS[settings["method"]].decode
    model, used, val, history = fit(settings, task, seed)
    device = next(model.parameters()).device
    found, val_found = predict(model, used.test, device), predict(model, val, device)
    metrics = kind(task).measure(found, used.test.y, decode, val_found, val.y)
    record = {
        "settings": settings,
        "seed": seed,
        "code_hash": code_hash(settings["source"]),
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
        "test": metrics,
        "decode": decode,
        "wall_seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        **environment(),
    }
    return record, kind(task).keep(found, used.test.y, metrics, used.test.truth is not None), model


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
