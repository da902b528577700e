"""The package `hiclass` behind the interface of a head: it is fitted at once, not by steps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from labelaug_core.graph import GraphError, LabelGraph


class HiclassHead(nn.Module):
    """`hiclass` as its users run it: one logistic regression for each parent node, on standardised features.

    Its tree is the label graph without augmented nodes. A coarse sample has an empty second level. Raises GraphError
    naming labels that do not fit two levels (coarse labels below the root, fine ones below a single node of these).
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int):
        super().__init__()
        tree = graph.without(*graph.augmented)
        top = tree.children(graph.root)
        wrong = [v for v in labels[:n_fine] if len(tree.parents[v]) > 1 or tree.parents[v][0] not in top]
        if wrong := wrong + [v for v in labels[n_fine:] if v not in top]:
            raise GraphError(f"{graph.name}: hiclass has two levels here, no place for {', '.join(map(repr, wrong))}")
        self.labels, self.n_fine, self.model = labels, n_fine, None
        self.above = {v: "".join(tree.parents[v]) for v in labels[:n_fine]}
        self.mean = nn.Parameter(torch.zeros(d), requires_grad=False)  # both are set by `fit`
        self.scale = nn.Parameter(torch.ones(d), requires_grad=False)

    def fit(self, features: Tensor, y: np.ndarray) -> None:
        """features [N, d], y [N] indices into labels: fine and coarse samples together."""
        from hiclass import LocalClassifierPerParentNode
        from sklearn.linear_model import LogisticRegression

        self.mean.data, std = features.mean(0), features.std(0, correction=0)
        self.scale.data = torch.where(std > 0, std, 1.0)
        names = [self.labels[k] for k in y]
        levels = np.array([[self.above[v], v] if v in self.above else [v, ""] for v in names])
        self.model = LocalClassifierPerParentNode(LogisticRegression(max_iter=1000))
        self.model.fit(self.standardised(features), levels)

    def standardised(self, features: Tensor) -> np.ndarray:
        """Features [N, d] with mean 0 and standard deviation 1 on the training samples."""
        return ((features - self.mean) / self.scale).detach().cpu().numpy()

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """greedy [B]: hiclass's own answer, level by level; log_probs [B, n_fine] of its last level."""
        x = self.standardised(features)
        place = {v: i for i, v in enumerate(self.labels)}
        found, p = self.model.predict_proba(x), np.zeros((len(x), self.n_fine))
        known = [i for i, v in enumerate(self.model.classes_[-1]) if v in self.above]  # "" is no class
        p[:, [place[self.model.classes_[-1][i]] for i in known]] = found[:, known]
        answer = torch.tensor([place[v] for v in self.model.predict(x)[:, -1]])
        return {"log_probs": torch.from_numpy(p).clamp(min=1e-30).log().to(features), "greedy": answer}
