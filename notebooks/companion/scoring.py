"""What one label a sample and several labels a sample differ in: heads, validation score, test metrics, what is kept.

`Scoring` is the interface; `scoring_of(task, method)` picks the right one. `found` is everywhere what
labelaug_core.training.predict gives: `log_probs` [N, n_fine] and whatever else a head predicts.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar

import numpy as np
from scipy.special import log_softmax
from torch import nn

from companion.controls import on_graph
from companion.heads.baselines import FFNHead, LabelSetHead, allowed
from companion.heads.direct import DirectHead, DirectPathsHead
from companion.heads.estimators import EstimatorHead
from companion.heads.hiclass_head import HiclassHead
from companion.heads.neighbours import AgreementHead, FlatMarginalHead, HexHead, HierarchicalSoftmaxHead
from companion.heads.several_labels import FlatHead, PathsHead, SetHead
from companion.methods import Method
from labelaug_core.data import DataError, Split, Task
from labelaug_core.label_aug import PathHead, PathSettings

HEADS = {  # one label a sample: (graph, labels, n_fine, d, ...) -> a head
    "ffn": FFNHead,
    "label-set": LabelSetHead,
    "path": PathHead,
    "direct": DirectHead,
    "flat-marginal": FlatMarginalHead,
    "hex": HexHead,
    "agreement": AgreementHead,
    "hierarchicalsoftmax": HierarchicalSoftmaxHead,
    "hiclass": HiclassHead,
    "estimator": EstimatorHead,
}
SUMMED_HEADS = ("flat-marginal", "hex", "agreement")  # these give a coarse label what lies below it, summed
PATH_HEADS = ("path", "agreement", "estimator")  # these take PathSettings
HEADS_FOR_SEVERAL = {"ffn": FlatHead, "label-set": SetHead, "path": PathsHead, "direct": DirectPathsHead}
OF_ONE_HEAD = {"hidden": "path", "feed": "path", "share": "direct"}  # an option of a cell, and the head that has it

MakeHead = Callable[[int], nn.Module]  # from the width of the trunk to a head


@dataclass(frozen=True)
class Scoring(ABC):
    """How runs of one kind of task are built and judged. decode: `exact` or `greedy`, as the method's."""

    decode: str = "exact"
    criterion: ClassVar[str]  # the key of `score` by which a model is chosen

    @abstractmethod
    def build_head(self, method: Method, task: Task, options: dict, seed: int) -> tuple[MakeHead, Task]:
        """The method's head, and the task on the graph that it asks for. options: the cell's head settings."""

    @abstractmethod
    def score(self, found: dict[str, np.ndarray], y: np.ndarray) -> dict[str, float]:
        """What the validation part says of a model: `val_accuracy`, `val_nll`, ...; among them the criterion."""

    @abstractmethod
    def measure(self, found: dict, y: np.ndarray, val_found: dict, val_y: np.ndarray) -> dict[str, float]:
        """Test metrics; what a metric needs to know beside the model is fitted on the validation part."""

    @abstractmethod
    def keep(self, found: dict, y: np.ndarray, metrics: dict[str, float], truth: list | None) -> dict[str, np.ndarray]:
        """The arrays of a record. truth: of each sample the true attributes that are known (Sec. 4.4)."""


def scoring_of(task: Task, method: Method) -> Scoring:
    """The scoring of a task and a method: several labels a sample where y is a table [N, K]."""
    return (SeveralLabels if task.train.y.ndim == 2 else OneLabel)(method.decode)


class OneLabel(Scoring):
    """Every sample has one label: y [N] of class indices."""

    criterion = "val_accuracy"

    def build_head(self, method: Method, task: Task, options: dict, seed: int) -> tuple[MakeHead, Task]:
        """A flat head (FFN, Label Set) has none of the path decoder's options, a graph aside.

        FFN has no place for a label that only the coarse part has, so of a fusion it uses the images of the shared
        labels, as the paper's size of FlowerFusion suggests. Raises DataError where no label is shared (the paper:
        "cannot be directly employed"). So do heads that sum over the fine labels below a coarse one with the images
        of coarse labels that have none.
        """
        task = on_graph(task, options.get("graph", method.graph), seed)
        if method.head in ("ffn", *SUMMED_HEADS) and task.coarse is not None:
            task = replace(task, coarse=usable_samples(task, method))
        own = dict(method.options)
        if method.head in PATH_HEADS:
            known = {f.name for f in fields(PathSettings)}
            chosen = own | {k: v for k, v in options.items() if k != "graph"}
            settings = PathSettings(**{k: v for k, v in chosen.items() if k in known})
            own = {"settings": settings} | {k: v for k, v in chosen.items() if k not in known}
        if method.head == "direct" and "share" in options:
            own["share"] = options["share"]
        return (lambda d: HEADS[method.head](task.graph, task.labels, task.n_fine, d, **own)), task

    def guess(self, found: dict[str, np.ndarray]) -> np.ndarray:
        """Classes [N]: of the greedy path (`greedy`, Algorithm 2) or of the highest label probability (`exact`)."""
        return found["greedy"] if self.decode == "greedy" else found["log_probs"].argmax(1)

    def score(self, found: dict[str, np.ndarray], y: np.ndarray) -> dict[str, float]:
        """Accuracy, by which a model is chosen, and -log p(true label)."""
        nll = -float(found["log_probs"][np.arange(len(y)), y].mean())
        return {"val_accuracy": float((self.guess(found) == y).mean()), "val_nll": nll}

    def measure(self, found: dict, y: np.ndarray, val_found: dict, val_y: np.ndarray) -> dict[str, float]:
        """Top-1 accuracy, accuracy averaged over classes, -log p(true label), both decodings where there are two, and
        the temperature that the validation part asks for."""
        chosen = self.guess(found)
        out = {
            "accuracy": float((chosen == y).mean()),
            "mean_per_class": mean_per_class(chosen == y, y),
            "nll": self.score(found, y)["val_nll"],
            "temperature": temperature(val_found["log_probs"], val_y),
        }
        for way in ("exact", "greedy") if "greedy" in found else ("exact",):
            out[f"accuracy_{way}"] = float((OneLabel(way).guess(found) == y).mean())
        return out

    def keep(self, found: dict, y: np.ndarray, metrics: dict[str, float], truth: list | None) -> dict[str, np.ndarray]:
        """y [N], exact [N] (the most probable class), p_exact [N] (its probability), p_scaled [N] (the same at the
        fitted temperature), greedy [N], path [N] and, with truth, path_logp [N, P], where the head has them (0 for
        a sample of which nothing is known)."""
        scaled = np.exp(log_softmax(found["log_probs"] / metrics["temperature"], axis=1).max(1))
        kept = {
            "y": y.astype(np.uint16),
            "exact": found["log_probs"].argmax(1).astype(np.uint16),
            "p_exact": np.exp(found["log_probs"].max(1)).astype(np.float16),
            "p_scaled": scaled.astype(np.float16),
        }
        for name, kind in {"greedy": np.uint16, "path": np.uint32}.items():
            if name in found:
                kept[name] = found[name].astype(kind)
        if truth and "path_log_probs" in found:
            known = np.array([bool(t) for t in truth])
            kept["path_logp"] = np.where(known[:, None], found["path_log_probs"], 0.0).astype(np.float16)
        return kept


def usable_samples(task: Task, method: Method) -> Split:
    """The coarse samples that the method can use: FFN those of fine labels, the others also those of labels above them.

    Raises DataError where there is none.
    """
    usable = allowed(task.graph, task.labels, task.n_fine).any(1).numpy()
    if method.head == "ffn":
        usable[task.n_fine :] = False
    rows = np.flatnonzero(usable[task.coarse.y])
    if not len(rows):
        what = "is in both datasets" if method.head == "ffn" else "answers a coarse one"
        raise DataError(f"{method.title} cannot be trained on this fusion: no label of {task.graph.name} {what}")
    return task.coarse.take(rows)


def mean_per_class(right: np.ndarray, y: np.ndarray) -> float:
    """The share of right samples [N], averaged over the classes that y [N] has."""
    n = np.bincount(y)
    return float((np.bincount(y, right)[n > 0] / n[n > 0]).mean())


def temperature(log_probs: np.ndarray, y: np.ndarray) -> float:
    """T > 0 that minimises the mean -log p(true label) of softmax(log p / T): log_probs [N, K], y [N]."""
    from scipy.optimize import minimize_scalar

    def nll(log_t: float) -> float:
        return -log_softmax(log_probs / np.exp(log_t), axis=1)[np.arange(len(y)), y].mean()

    return float(np.exp(minimize_scalar(nll, bounds=(-3, 3), method="bounded").x))


class SeveralLabels(Scoring):
    """A sample has several labels: y bool [N, K].

    A label counts as predicted when the probability of its whole path reaches a threshold that the validation part
    chose, and the most probable label always does: a prediction is never empty. One rule for every method.
    """

    criterion = "val_f1"

    def build_head(self, method: Method, task: Task, options: dict, seed: int) -> tuple[MakeHead, Task]:
        """options: hidden, share and coarse. Raises DataError for a method without such a head."""
        if method.head not in HEADS_FOR_SEVERAL:
            raise DataError(
                f"{method.title}: no head for several labels a sample (there is: {', '.join(HEADS_FOR_SEVERAL)})"
            )
        chosen = {k: v for k, v in options.items() if k == "coarse" or OF_ONE_HEAD.get(k) == method.head}
        return (lambda d: HEADS_FOR_SEVERAL[method.head](task.graph, task.labels, task.n_fine, d, **chosen)), task

    def score(self, found: dict[str, np.ndarray], y: np.ndarray) -> dict[str, float]:
        """Micro-F1 at its best threshold, by which a model is chosen, the share of samples whose whole set of labels is
        right, and -log p of that set, each label a yes or no by itself."""
        from sklearn.metrics import accuracy_score, f1_score  # here: one label a sample waits for no scikit-learn

        logp = found["log_probs"].astype(float)
        chosen = above_threshold(found["log_probs"], choose_threshold(found["log_probs"], y))
        return {
            "val_f1": float(f1_score(y, chosen, average="micro")),
            "val_accuracy": float(accuracy_score(y, chosen)),
            "val_nll": float(-np.where(y, logp, np.log(-np.expm1(np.minimum(logp, -1e-6)))).sum(1).mean()),
        }

    def measure(self, found: dict, y: np.ndarray, val_found: dict, val_y: np.ndarray) -> dict[str, float]:
        """F1 micro, macro (over categories that the test has) and by sample, and the share of samples whose whole set
        is right, at the threshold of the validation part."""
        from sklearn.metrics import accuracy_score, f1_score

        threshold = choose_threshold(val_found["log_probs"], val_y)
        chosen, seen = above_threshold(found["log_probs"], threshold), y.any(0)
        return {
            "f1": float(f1_score(y, chosen, average="micro")),
            "f1_macro": float(f1_score(y[:, seen], chosen[:, seen], average="macro", zero_division=0)),
            "f1_samples": float(f1_score(y, chosen, average="samples", zero_division=0)),
            "accuracy": float(accuracy_score(y, chosen)),
            "threshold": threshold,
        }

    def keep(self, found: dict, y: np.ndarray, metrics: dict[str, float], truth: list | None) -> dict[str, np.ndarray]:
        """y and predicted as packed bits [N, ceil(K / 8)], and of the first 20 samples log_probs [20, K] and, from the
        path decoder, step_log_probs [20, E]."""
        kept = {
            "y": np.packbits(y, axis=1),
            "predicted": np.packbits(above_threshold(found["log_probs"], metrics["threshold"]), axis=1),
            "log_probs": found["log_probs"][:20].astype(np.float16),
        }
        if "step_log_probs" in found:
            kept["step_log_probs"] = found["step_log_probs"][:20].astype(np.float16)
        return kept


def choose_threshold(log_probs: np.ndarray, y: np.ndarray) -> float:
    """The threshold on log p with the highest micro-F1, each sample's best label being predicted in any case.

    log_probs [N, K] <= 0, y [N, K] bool.
    """
    from sklearn.metrics import precision_recall_curve

    z = log_probs.copy()
    np.put_along_axis(z, z.argmax(1)[:, None], 1.0, axis=1)  # above every log probability: always predicted
    precision, recall, thresholds = precision_recall_curve(y.ravel(), z.ravel())
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    return float(thresholds[f1[:-1].argmax()])


def above_threshold(log_probs: np.ndarray, threshold: float) -> np.ndarray:
    """Predicted labels, bool [N, K]: those that reach the threshold, and each sample's most probable one."""
    chosen = log_probs >= threshold
    np.put_along_axis(chosen, log_probs.argmax(1)[:, None], True, axis=1)
    return chosen
