"""The baselines of Sec. 4.1: FFN, Label Set (Deng et al., 2014) and Pseudo Labels (Lee, 2013, with a coarse filter).

Heads share one interface: loss(features, y, is_coarse) -> scalar and predictions(features) -> {log_probs [B, n_fine]}.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from labelaug_core.data import Task
from labelaug_core.graph import LabelGraph


class FFNHead(nn.Module):
    """A linear layer and a softmax over the fine labels."""

    def __init__(self, d: int, n_fine: int):
        super().__init__()
        self.score = nn.Linear(d, n_fine)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        return nn.functional.cross_entropy(self.score(features), y)

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        return {"log_probs": self.score(features).log_softmax(1)}


class LabelSetHead(nn.Module):
    """The nodes of all ground-truth paths as one set of labels, each a sigmoid (Sec. 4.1).

    uncertain: `positive` marks nondeterministic nodes as present, as the paper does, although an image has only one
    of them; `ignore` leaves them out of the loss.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int, uncertain: str = "positive"):
        super().__init__()
        if uncertain not in ("positive", "ignore"):
            raise ValueError(f"LabelSetHead: uncertain must be positive or ignore, got {uncertain!r}")
        self.score, self.n_fine = nn.Linear(d, len(graph.nodes)), n_fine
        target = torch.zeros(len(labels), len(graph.nodes))
        weight = torch.ones(len(labels), len(graph.nodes))
        for i, label in enumerate(labels):
            deterministic, nondeterministic = graph.split_paths(label)
            for v in {v for path in deterministic + nondeterministic for v in path}:
                target[i, graph.index[v]] = 1.0
            if uncertain == "ignore":
                union = {v for path in deterministic + nondeterministic for v in path}
                for v in union:
                    weight[i, graph.index[v]] = float(not any(graph.compete(v, w) for w in union))
            for v in graph.descendants(label):  # what lies below a coarse label is unknown
                weight[i, graph.index[v]] = 0.0
        self.register_buffer("target", target, persistent=False)
        self.register_buffer("weight", weight, persistent=False)
        self.register_buffer("columns", torch.tensor([graph.index[v] for v in labels[:n_fine]]), persistent=False)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        z = self.score(features)
        bce = nn.functional.binary_cross_entropy_with_logits(z, self.target[y], self.weight[y], reduction="sum")
        return bce / len(y)

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """Sigmoids of the evaluated labels, normalised over them."""
        return {"log_probs": nn.functional.logsigmoid(self.score(features)[:, self.columns]).log_softmax(1)}


def pseudo_label(task: Task, log_probs: np.ndarray) -> Task:
    """Sec. 4.1, Pseudo Labels: coarse images get the fine class that an FFN gives them; contradictions are dropped.

    log_probs [n_coarse, n_fine]: the FFN's on task.coarse. An image is dropped when its coarse label is neither its
    pseudo label nor above it in the graph.
    """
    guess = log_probs.argmax(1)
    agrees = np.array(
        [
            [fine == coarse or coarse in task.graph.ancestors(fine) for fine in task.labels[: task.n_fine]]
            for coarse in task.labels
        ]
    )
    kept = np.flatnonzero(agrees[task.coarse.y, guess])
    coarse = replace(task.coarse.take(kept), y=guess[kept])
    return replace(
        task.fine_only(), coarse=coarse, sizes=task.sizes | {"pseudo labels kept": f"{len(kept)} of {len(guess)}"}
    )
