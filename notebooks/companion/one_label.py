"""Runs in which every sample has one label: the head of each method, the validation score, what a record keeps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from sklearn.metrics import balanced_accuracy_score

from companion.heads.baselines import FFNHead, LabelSetHead
from labelaug_core.data import DataError, Task
from labelaug_core.label_aug import PathHead
from companion.methods import Method, variant


def build_head(method: Method, task: Task, options: dict, seed: int):
    """-> (a function from the trunk's width to the head, the task on the graph that the method asks for).

    A flat head (FFN, Label Set) has none of the path decoder's options, a graph aside. FFN has no place for a label
    that only the coarse part has, so of a fusion it uses the images of the shared labels, as the paper's size of
    FlowerFusion suggests. Raises DataError where no label is shared (the paper: "cannot be directly employed").
    """
    graph = variant(task.graph, options.get("graph", method.graph), seed)
    task = replace(task, graph=graph)
    if method.head == "ffn":
        if task.coarse is not None:
            shared = np.flatnonzero(task.coarse.y < task.n_fine)
            if not len(shared):
                raise DataError(f"FFN cannot be trained on this fusion: no label of {graph.name} is in both datasets")
            task = replace(task, coarse=task.coarse.take(shared))
        return (lambda d: FFNHead(d, task.n_fine)), task
    if method.head == "label-set":
        return (lambda d: LabelSetHead(graph, task.labels, task.n_fine, d, **dict(method.options))), task
    options = dict(method.options) | {k: v for k, v in options.items() if k != "graph"}
    return (lambda d: PathHead(graph, task.labels, task.n_fine, d, **options)), task


def guess(found: dict[str, np.ndarray], decode: str) -> np.ndarray:
    """Classes [N]: of the greedy path (`greedy`, Algorithm 2) or of the highest label probability (`exact`)."""
    return found["greedy"] if decode == "greedy" else found["log_probs"].argmax(1)


def score(found: dict[str, np.ndarray], y: np.ndarray, decode: str) -> dict[str, float]:
    """What validation says of a model: its accuracy, by which it is chosen, and -log p(true label)."""
    nll = -float(found["log_probs"][np.arange(len(y)), y].mean())
    return {"val_accuracy": float((guess(found, decode) == y).mean()), "val_nll": nll}


def temperature(log_probs: np.ndarray, y: np.ndarray) -> float:
    """T > 0 that minimises the mean -log p(true label) of softmax(log p / T): log_probs [N, K], y [N]."""

    def nll(log_t: float) -> float:
        return -log_softmax(log_probs / np.exp(log_t), axis=1)[np.arange(len(y)), y].mean()

    return float(np.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded").x))


def measure(found: dict, y: np.ndarray, decode: str, val_found: dict, val_y: np.ndarray) -> dict[str, float]:
    """Test metrics: top-1 accuracy, accuracy averaged over classes, -log p(true label), both decodings where there
    are two, and the temperature that the validation data ask for."""
    chosen = guess(found, decode)
    out = {
        "accuracy": float((chosen == y).mean()),
        "mean_per_class": float(balanced_accuracy_score(y, chosen)),
        "nll": score(found, y, decode)["val_nll"],
        "temperature": temperature(val_found["log_probs"], val_y),
    }
    for way in ("exact", "greedy") if "greedy" in found else ("exact",):
        out[f"accuracy_{way}"] = float((guess(found, way) == y).mean())
    return out


def keep(found: dict[str, np.ndarray], y: np.ndarray, metrics: dict, truth: bool) -> dict[str, np.ndarray]:
    """The predictions of a record: the classes, the best one's probability (also at the fitted temperature), the
    greedy path and, where the images' true attributes are known, log p of every path (for Sec. 4.4)."""
    exact = found["log_probs"].argmax(1)
    scaled = np.exp(log_softmax(found["log_probs"] / metrics["temperature"], axis=1).max(1))
    kept = {
        "y": y.astype(np.uint16),
        "exact": exact.astype(np.uint16),
        "p_exact": np.exp(found["log_probs"].max(1)).astype(np.float16),
        "p_scaled": scaled.astype(np.float16),
    }
    if "path" in found:
        kept |= {"greedy": found["greedy"].astype(np.uint16), "path": found["path"].astype(np.uint32)}
        if truth:
            kept["path_logp"] = found["path_log_probs"].astype(np.float16)
    return kept
