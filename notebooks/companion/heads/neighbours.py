"""Beyond the paper (notebook 40): other estimators of the same gradient, and other models of the same labels. Nothing
that the paper's tables need is here."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from labelaug_core import losses
from companion.heads.baselines import FFNHead
from labelaug_core.block_softmax import block_logsumexp
from labelaug_core.graph import LabelGraph
from labelaug_core.label_aug import PathHead, PathSettings, deterministic_part

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

    def __init__(
        self,
        graph: LabelGraph,
        labels: list[str],
        n_fine: int,
        d: int,
        settings: PathSettings | None = None,
        estimator: str = "average baseline",
    ):
        super().__init__(graph, labels, n_fine, d, settings)
        self.estimator = estimator

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        tree = self.tree if is_coarse else self.fine_tree
        slot_logp = self.decoder.slot_log_probs(features, tree)
        l_d = deterministic_part(self, tree.answer_log_probs(slot_logp), y, tree)
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
        answers = on[:, None] & member  # [K, Q, N]
        self.register_buffer("members", answers.flatten(0, 1).T.float(), persistent=False)  # [N, K Q]
        self.register_buffer("none", ~answers.any(2), persistent=False)  # [K, Q]: the label leaves no such answer
        self.register_buffer("question", question, persistent=False)
        self.register_buffer("node", torch.tensor([graph.index[v] for v in labels]), persistent=False)
        self.register_buffer("on", on, persistent=False)

    def _terms(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Scores z [B, N], and of each label and question the log sum over its answers [B, K, Q] (0: none)."""
        z = self.score(features)
        top = z.detach().amax(1, keepdim=True)
        total = (z - top).exp() @ self.members + self.none.flatten()  # 1 where nothing is asked: log 1 = 0
        terms = total.clamp(min=1e-30).log() + top * ~self.none.flatten()
        return z, terms.view(len(z), *self.none.shape)

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


class AgreementHead(PathHead):
    """label-aug whose questions must agree: log p(label | x) is, up to a constant, the sum over the questions q on the
    way to the label of log A_q, plus the mean over q of log p(label | its answer to q).

    A_q is the probability of the label's answer to q and of the way there (summed, where it has several answers).
    label-aug takes the mean over q of A_q p(label | answer): there one question that is misled keeps a wrong label
    alive, and what a coarse label teaches one question moves the result by a Q-th. Here each answer is evidence of its
    own, so each coarse label counts against every label that would answer otherwise.

    A coarse label is the answer to its question, as in label-aug.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int, settings: PathSettings | None = None):
        super().__init__(graph, labels, n_fine, d, replace(settings or PathSettings(), objective="question"))
        tree = self.fine_tree
        asked = [tuple(tree.graph.group[v] for v in path[1:]) for path in tree.paths]
        number = {q: i for i, q in enumerate(dict.fromkeys(asked))}
        place = tree.path_label * len(number) + torch.tensor([number[q] for q in asked])
        has = torch.zeros(len(tree.labels) * len(number), dtype=torch.bool)
        has[place] = True
        self.register_buffer("place", place, persistent=False)  # [P]: label and question of each path
        self.register_buffer("has", has.view(len(tree.labels), -1), persistent=False)  # [K, Q]

    def log_probs(self, features: Tensor) -> Tensor:
        slot_logp = self.decoder.slot_log_probs(features, self.fine_tree)
        path = self.fine_tree.answer_log_probs(slot_logp)
        whole = self._by_question(path)
        answer = self._by_question(path - slot_logp[:, self.fine_tree.path_slot])  # without the last step
        return (answer.sum(2) + (whole - answer).sum(2) / self.has.sum(1)).log_softmax(1)

    def _by_question(self, per_path: Tensor) -> Tensor:
        """The log of the summed probability of each label's paths that ask the same: [B, P] -> [B, K, Q], 0: none."""
        z = block_logsumexp(per_path, self.place, self.has.numel())
        return z.view(-1, *self.has.shape).masked_fill(~self.has, 0.0)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        return super().loss(features, y, True) if is_coarse else nn.functional.nll_loss(self.log_probs(features), y)

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        return {"log_probs": self.log_probs(features)}


class HierarchicalSoftmaxHead(nn.Module):
    """The package `hierarchicalsoftmax` as its users put it on a network: its linear layer, loss and probabilities, on
    the tree that is left of the label graph without its augmented nodes. (Of several parents it keeps the first.)"""

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int):
        super().__init__()
        from hierarchicalsoftmax import HierarchicalSoftmaxLinear, HierarchicalSoftmaxLoss, SoftmaxNode, inference

        tree, self.leaves = graph.without(*graph.augmented), inference.leaf_probabilities
        made = {graph.root: SoftmaxNode(graph.root)}
        while missing := [v for v in tree.nodes if v not in made and tree.parents[v][0] in made]:
            made |= {v: SoftmaxNode(v, parent=made[tree.parents[v][0]]) for v in missing}
        self.root = made[graph.root]
        self.root.set_indexes()
        self.score = HierarchicalSoftmaxLinear(self.root, in_features=d)
        self.criterion = HierarchicalSoftmaxLoss(self.root)
        leaf = {node.name: i for i, node in enumerate(self.root.leaves)}
        self.register_buffer("node", torch.tensor([self.root.node_to_id[made[v]] for v in labels]), persistent=False)
        self.register_buffer("leaf", torch.tensor([leaf[v] for v in labels[:n_fine]]), persistent=False)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        return self.criterion(self.score(features), self.node[y])

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        p = self.leaves(self.score(features), self.root)[:, self.leaf]
        return {"log_probs": p.clamp(min=1e-30).log()}
