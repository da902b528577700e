"""Beyond the paper (notebook 40): other estimators of the same gradient, other models of the same labels, and the
same models with fewer fine labels or another graph. Nothing that the paper's tables need is here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from labelaug_core import cell, losses, records, single_label
from labelaug_core.baselines import FFNHead
from labelaug_core.datasets.base import Split, Task
from labelaug_core.evaluation import compare
from labelaug_core.graph import LabelGraph
from labelaug_core.label_aug import PathHead
from labelaug_core.training import hold_out, predict, seed_everything, train

ESTIMATORS = ("no baseline", "average baseline", "leave-one-out", "straight-through Gumbel", "exact")


def estimate(name: str, path_logp: Tensor, r: Tensor, average: float, sampled: Tensor | None = None) -> Tensor:
    """A scalar whose gradient estimates that of -E[r] (Eq. 3): path_logp, r [B, P] -> a mean over the batch.

    sampled [B, k]: indices of paths drawn from path_logp; by default k = 4 are drawn here. Williams (1992) without and
    with the average baseline; leave-one-out (a sample's baseline is the mean reward of the k - 1 others: Kool et al.,
    2019); straight-through Gumbel-softmax over the paths (Jang et al., 2017), which draws its own and is biased;
    `exact`. Raises ValueError for another name.
    """
    if name == "exact":
        return losses.expected_reward(path_logp, r)
    if name == "straight-through Gumbel":
        return -torch.stack([(nn.functional.gumbel_softmax(path_logp, hard=True) * r).sum(1) for _ in range(4)]).mean()
    if name not in ESTIMATORS:
        raise ValueError(f"estimate: unknown estimator {name!r} (known: {', '.join(ESTIMATORS)})")
    if sampled is None:
        sampled = torch.multinomial(path_logp.detach().exp(), 4, replacement=True)
    got = r.gather(1, sampled)
    baseline = {
        "no baseline": torch.zeros_like(got),
        "average baseline": torch.full_like(got, average),
        "leave-one-out": (got.sum(1, keepdim=True) - got) / max(1, got.shape[1] - 1),
    }[name]
    return -((got - baseline) * path_logp.gather(1, sampled)).mean()


class EstimatorHead(PathHead):
    """Algorithm 1 with another estimator in its second part; part 1 is teacher forcing as before."""

    def __init__(self, *args, estimator: str, **options):
        super().__init__(*args, **options)
        self.estimator = estimator

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        tree = self.tree if is_coarse else self.fine_tree
        slot_logp = self.decoder.slot_log_probs(features, tree)
        l_d = self._teacher_forcing(tree.answer_log_probs(slot_logp), y, tree)
        uncertain = losses.is_uncertain(tree, y)
        if not bool(uncertain.any()):
            return l_d
        path_logp, r = tree.path_log_probs(slot_logp)[uncertain], losses.reward(tree, y[uncertain])
        l_nd = estimate(self.estimator, path_logp, r, float(self.b))
        if self.training:
            self.b.lerp_((path_logp.detach().exp() * r).sum(1).mean(), 0.1)
        return l_d + uncertain.float().mean() * l_nd


class FlatMarginalHead(FFNHead):
    """A softmax over the fine labels; a coarse label's probability is the sum over the fine labels below it."""

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int):
        super().__init__(d, n_fine)
        fine = labels[:n_fine]
        inside = torch.tensor([[c == y or c in _on(graph, y) for y in fine] for c in labels])
        self.register_buffer("outside", ~inside, persistent=False)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        logp = self.score(features).log_softmax(1)
        return -logp.masked_fill(self.outside[y], -torch.inf).logsumexp(1).mean()


class HexHead(nn.Module):
    """One score a node, and the probability of a legal state the softmax of the sum of its nodes' scores (Deng et al.,
    2014), on the label graph: a state is a fine label, all that lies above it, and one answer to each question that
    the label leaves open. The sum over states is exact: given the label, open questions are independent of each other.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int):
        super().__init__()
        self.score = nn.Linear(d, len(graph.nodes))
        on = torch.zeros(n_fine, len(graph.nodes), dtype=torch.bool)
        for i, label in enumerate(labels[:n_fine]):
            on[i, [graph.index[v] for v in _on(graph, label)]] = True
        asked = {v: g if graph.exclusive.get(g := graph.group.get(v)) else v for v in graph.nodes}
        number = {q: i for i, q in enumerate(dict.fromkeys(asked.values()))}  # a node that competes with none: its own
        question = torch.tensor([number[asked[v]] for v in graph.nodes])
        member = nn.functional.one_hot(question).bool().T  # [Q, N]: the answers to each question
        self.register_buffer("answers", on[:, None] & member, persistent=False)  # [K, Q, N]
        self.register_buffer("question", question, persistent=False)
        self.register_buffer("node", torch.tensor([graph.index[v] for v in labels]), persistent=False)
        self.register_buffer("on", on, persistent=False)

    def _terms(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores z [B, N], and of each label and question the log sum over its answers [B, K, Q] (0: none)."""
        z = self.score(features)
        open_ = z[:, None, None].masked_fill(~self.answers, -torch.inf).logsumexp(3)
        return z, open_.masked_fill(~self.answers.any(2), 0.0)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        z, terms = self._terms(features)
        label = terms.sum(2)  # [B, K]
        if not is_coarse:
            return nn.functional.cross_entropy(label, y)
        node = self.node[y]
        with_it = label - terms.gather(2, self.question[node][:, None, None].expand(-1, label.shape[1], 1))[..., 0]
        with_it = (with_it + z.gather(1, node[:, None])).masked_fill(~self.on[:, node].T, -torch.inf)
        return (label.logsumexp(1) - with_it.logsumexp(1)).mean()

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        return {"log_probs": self._terms(features)[1].sum(2).log_softmax(1)}


def _on(graph: LabelGraph, label: str) -> set[str]:
    """All nodes on the paths to a label, itself among them, the root not."""
    return {v for path in graph.paths(label) for v in path} - {graph.root}


HEADS = {"flat-marginal": FlatMarginalHead, "hex": HexHead}


def relabel(task: Task, share: float, seed: int) -> Task:
    """Keep the fine label of 1 - share of the training samples (by class, at least one of a class where that can be);
    of the others only the coarse label is known: they become the coarse part. share in [0, 1)."""
    rng, y = np.random.default_rng([seed, 7]), task.train.y
    coarse_of = np.array([_coarse_label(task, i) for i in range(task.n_fine)])
    n_keep = max(1, round((1 - share) * len(y)))
    order = rng.permutation(len(y))
    turn = pd.Series(y[order]).groupby(y[order]).cumcount()  # the first of its class, the second, ...
    kept = np.sort(order[np.argsort(turn, kind="stable")[:n_keep]])
    rest = np.setdiff1d(np.arange(len(y)), kept)
    coarse = task.train.take(rest)
    coarse = Split(coarse.inputs, coarse_of[y[rest]], coarse.ids, coarse.truth)
    return replace(task, train=task.train.take(kept), coarse=coarse if len(rest) else None)


def _coarse_label(task: Task, fine: int) -> int:
    above = task.graph.ancestors(task.labels[fine])
    found = [i for i, v in enumerate(task.labels) if i >= task.n_fine and v in above]
    if not found:
        raise ValueError(f"relabel: no coarse label of {task.graph.name} is above {task.labels[fine]!r}")
    return found[0]


def run(folder: Path, name: str, settings: dict, task: Task, seed: int) -> np.ndarray:
    """One run, recorded in folder/runs, or read if it is: which test samples are right [N].

    settings: as of a cell; `method` may also be one of HEADS; `estimator` asks for EstimatorHead.
    """
    settings = settings | {"experiment": name, "code": records.code_hash(settings["source"], "beyond")}
    path = records.record_path(folder, name, seed)
    try:
        if not records.stale(records.read_record(path), settings, task.content_hash):
            found = records.read_predictions(path)
            return found["exact"] == found["y"]
    except records.RecordError:
        pass
    method = settings["method"]
    if method in HEADS or "estimator" in settings:
        fine, val = hold_out(task.train, settings["training"]["val_fraction"], seed)
        used = replace(task, train=fine)
        seed_everything(seed)

        def head(d: int) -> nn.Module:
            if method in HEADS:
                return HEADS[method](task.graph, task.labels, task.n_fine, d)
            return EstimatorHead(task.graph, task.labels, task.n_fine, d, settings["head"]["hidden"],
                                 estimator=settings["estimator"])  # fmt: skip

        model = cell.build(settings, used, head)
        model, history = train(
            model, used, val, settings["training"], seed, lambda found, y: single_label.score(found, y, "exact")
        )
    else:
        model, used, val, history = cell.fit(settings, task, seed)
    logp = predict(model, task.test, next(model.parameters()).device)["log_probs"]
    kept = {"y": task.test.y.astype(np.uint16), "exact": logp.argmax(1).astype(np.uint16)}
    kept["p_exact"] = np.exp(logp.max(1)).astype(np.float16)
    data = {"content_hash": task.content_hash, "n_train": len(used.train), "n_val": len(val), "n_test": len(task.test)}
    data["n_coarse"] = len(used.coarse) if used.coarse is not None else 0
    record = {"settings": settings, "seed": seed, "code_hash": records.code_hash(settings["source"]), "data": data,
              "validation": next(h for h in history if h.get("chosen")), **cell.environment()}  # fmt: skip
    records.write_record(path, record, kept)
    return kept["exact"] == kept["y"]


def summary(right: np.ndarray, reference: np.ndarray | None = None) -> dict[str, float]:
    """Accuracy of an arm over seeds, and its difference to another on the same seeds and samples: right [seeds, N]."""
    value = 100 * right.mean(1)
    out = {"n_seeds": len(value), "accuracy": value.mean(), "accuracy_std": value.std(ddof=1)}
    if reference is not None:
        found = compare(right, reference)
        out |= {"delta": found["delta"], "ci_low": found["delta_ci_low"], "ci_high": found["delta_ci_high"],
                "p": found["p_value"]}  # fmt: skip
    return out | {"seeds": " ".join(f"{v:.2f}" for v in value)}
