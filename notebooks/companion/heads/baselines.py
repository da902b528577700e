"""The baselines of Sec. 4.1: FFN, Label Set (Deng et al., 2014) and Pseudo Labels (Lee, 2013, with a coarse filter).

Shapes: B samples, d features, K = n_fine evaluated labels, L labels in all (first the evaluated, then the coarse ones),
N nodes. An evaluated label says exactly that; a coarse label says "at least this": some label below it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from labelaug_core.data import Task
from labelaug_core.graph import LabelGraph


def allowed(graph: LabelGraph, labels: list[str], n_fine: int) -> Tensor:
    """[L, K] bool: the evaluated labels that a sample's label allows.

    An evaluated label allows itself alone, a coarse label those below it: none, where only coarse data know its kind.
    """
    above = [graph.ancestors(v) for v in labels[:n_fine]]
    coarse = [[v in ancestors for ancestors in above] for v in labels[n_fine:]]
    return torch.cat([torch.eye(n_fine, dtype=torch.bool), torch.tensor(coarse, dtype=torch.bool).view(-1, n_fine)])


class FFNHead(nn.Module):
    """A linear layer and a softmax over the evaluated labels. It cannot use a label that only coarse samples have."""

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int):
        super().__init__()
        self.score = nn.Linear(d, n_fine)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """Cross-entropy: features [B, d], y [B] evaluated labels -> scalar, a mean over samples."""
        return nn.functional.cross_entropy(self.score(features), y)

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, K]."""
        return {"log_probs": self.score(features).log_softmax(1)}


class LabelSetHead(nn.Module):
    """The nodes of all ground-truth paths as one set of labels, each a sigmoid (Sec. 4.1).

    uncertain: `positive` marks nondeterministic nodes as present, as the paper does, although an image has only one
    of them; `ignore` leaves them out of the loss. Raises ValueError for another value.
    Nodes below a sample's label: below an evaluated label, those on the way to other evaluated labels are absent, since
    the label says that the sample is none of them; all others are unknown, and left out of the loss.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int, uncertain: str = "positive"):
        super().__init__()
        if uncertain not in ("positive", "ignore"):
            raise ValueError(f"LabelSetHead: uncertain must be positive or ignore, got {uncertain!r}")
        self.score, fine = nn.Linear(d, len(graph.nodes)), labels[:n_fine]
        told = set(fine).union(*(graph.ancestors(v) for v in fine))  # nodes that an evaluated label decides
        target, weight = torch.zeros(len(labels), len(graph.nodes)), torch.ones(len(labels), len(graph.nodes))
        for i, label in enumerate(labels):
            present, below = {label, *graph.ancestors(label)}, graph.descendants(label)
            target[i, [graph.index[v] for v in present]] = 1.0
            unknown = below - told if i < n_fine else below
            if uncertain == "ignore":
                unknown = unknown | {v for v in present if any(graph.compete(v, w) for w in present)}
            weight[i, [graph.index[v] for v in unknown]] = 0.0
        self.register_buffer("target", target, persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("columns", torch.tensor([graph.index[v] for v in fine]), persistent=False)
        above = [graph.ancestors(u) for u in fine]
        inside = torch.tensor([[float(v in ancestors) for v in fine] for ancestors in above])
        self.register_buffer("inside", inside, persistent=False)  # [K, K]: label u (row) lies below label v

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """Features [B, d], y [B] indices into labels -> scalar: binary cross-entropies, summed over nodes."""
        z = self.score(features)
        bce = nn.functional.binary_cross_entropy_with_logits(z, self.target[y], self.weight[y], reduction="sum")
        return bce / len(y)

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, K]: the sigmoid of each evaluated label, times that of the absence of each evaluated label
        below it (a beagle is a dog, too; the label `dog` says that it is none of the breeds), normalised over labels.
        """
        z = self.score(features)[:, self.columns]
        log_set = nn.functional.logsigmoid(z) + nn.functional.logsigmoid(-z) @ self.inside
        return {"log_probs": log_set.log_softmax(1)}


def pseudo_label(task: Task, log_probs: np.ndarray) -> Task:
    """Sec. 4.1, Pseudo Labels: coarse images get the fine class that an FFN gives them; contradictions are dropped.

    log_probs [n_coarse, K]: the FFN's on task.coarse. An image is dropped when its label does not allow the class.
    """
    guess = log_probs.argmax(1)
    agrees = allowed(task.graph, task.labels, task.n_fine).numpy()
    kept = np.flatnonzero(agrees[task.coarse.y, guess])
    coarse = replace(task.coarse.take(kept), y=guess[kept])
    return replace(
        task.fine_only(), coarse=coarse, sizes=task.sizes | {"pseudo labels kept": f"{len(kept)} of {len(guess)}"}
    )
