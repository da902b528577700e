"""The heads of tasks in which a sample has several labels: FFN, Label Set and label-aug."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from companion.heads.baselines import LabelSetHead, allowed
from labelaug_core.decoder import PathDecoder
from labelaug_core.graph import GraphError, LabelGraph
from labelaug_core.prefix_tree import PrefixTree


def log_not(logp: Tensor) -> Tensor:
    """log(1 - p) from log p <= 0, accurate near 0 and near 1; finite also where p rounds to 1."""
    logp = logp.clamp(max=-torch.finfo(logp.dtype).tiny)
    near = logp > -0.693  # p above one half; each form has finite gradients on its own side alone
    p_high = torch.log(-torch.expm1(torch.where(near, logp, -0.5)))
    p_low = torch.log1p(-torch.exp(torch.where(near, -0.5, logp)))
    return torch.where(near, p_high, p_low)


def log_loss(log_yes: Tensor, log_no: Tensor, y: Tensor) -> Tensor:
    """-log of the probability of each yes or no: log p and log(1 - p) [B, K] of every yes, y [B, K] bool."""
    return -torch.where(y, log_yes, log_no)


def noisy_or(log_no: Tensor, below: Tensor, y: Tensor) -> Tensor:
    """The log loss of "some category below": an archive is absent when all its categories are, each by itself.

    log_no [B, n_fine]: log(1 - p) of the categories; below [n_fine, A] 0/1; y [B, A] bool -> a scalar. An archive
    without categories is left out: nothing here can answer it.
    """
    asked = below.any(0)
    none = log_no @ below[:, asked]
    return log_loss(log_not(none), none, y[:, asked]).sum(1).mean()


def below_coarse(graph: LabelGraph, labels: list[str], n_fine: int) -> Tensor:
    """[n_fine, A] 0/1: category i lies below the a-th label that only coarse samples have."""
    return allowed(graph, labels, n_fine)[n_fine:].T.float()


def known(what: str, value: str, *values: str) -> str:
    """The value, if it is one of the values; else raises ValueError."""
    if value not in values:
        raise ValueError(f"{what}: coarse must be {' or '.join(values)}, got {value!r}")
    return value


class FlatHead(nn.Module):
    """FFN: a linear layer and a sigmoid for each category.

    coarse: what a paper known by archive teaches. `noisy-or`: some category of each of its archives is present, none
    of any other. `archives`: outputs of their own for the archives, and nothing about categories but through the
    trunk (fine papers train these outputs, too).
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int, coarse: str = "noisy-or"):
        super().__init__()
        self.coarse, self.n_fine = known("FFN", coarse, "noisy-or", "archives"), n_fine
        self.score = nn.Linear(d, n_fine)
        self.register_buffer("below", below_coarse(graph, labels, n_fine), persistent=False)
        self.archives = nn.Linear(d, len(labels) - n_fine) if coarse == "archives" and len(labels) > n_fine else None

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """Features [B, d], y [B, K] bool -> scalar: the sum over labels, the mean over samples."""
        bce = nn.functional.binary_cross_entropy_with_logits
        if is_coarse and self.coarse == "noisy-or":
            return noisy_or(nn.functional.logsigmoid(-self.score(features)), self.below, y[:, self.n_fine :])
        loss = features.new_zeros(())
        if not is_coarse:
            loss = loss + bce(self.score(features), y.to(features), reduction="sum") / len(y)
        if self.archives is not None:
            above = y[:, self.n_fine :].to(features) if is_coarse else (y.to(features) @ self.below).clamp(max=1)
            loss = loss + bce(self.archives(features), above, reduction="sum") / len(y)
        return loss

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, n_fine], each label by itself."""
        return {"log_probs": nn.functional.logsigmoid(self.score(features))}


class SetHead(LabelSetHead):
    """Label Set: the nodes of all paths to a sample's labels as one set, each a sigmoid (Sec. 4.1).

    What lies below an archive of a paper known by archive alone is left out of its loss. A category's probability is
    its own sigmoid alone: this method knows no path, and of several labels one may lie above another.
    """

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """Features [B, d], y [B, K] bool -> scalar: the sum over nodes, the mean over samples."""
        labels = y.to(features)
        target = (labels @ self.target[: y.shape[1]]).clamp(max=1)
        weight = (labels @ (1 - self.weight[: y.shape[1]]) == 0).to(features)
        z = self.score(features)
        return nn.functional.binary_cross_entropy_with_logits(z, target, weight, reduction="sum") / len(y)

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, n_fine], each label by itself."""
        return {"log_probs": nn.functional.logsigmoid(self.score(features)[:, self.columns])}


class OpenDecoder(PathDecoder):
    """The decoder with f_0 = W x + b, no tanh, and embeddings that start at a tenth of their usual size.

    Among hundreds of sigmoids the features must reach the answers unsquashed and not drowned by the tokens: with
    tanh and N(0, 1) embeddings the decoder stays far behind FFN on arXiv's validation papers. On photographs, where
    answers compete, it makes no difference, so PathHead keeps the usual one.
    """

    def __init__(self, graph: LabelGraph, d: int, hidden: int = 256, feed: bool = False):
        super().__init__(graph, d, hidden, feed)
        self.embedding.weight.data.mul_(0.1)

    def first_state(self, features: Tensor) -> Tensor:
        """f_0: [B, d] -> [B, H]."""
        return self.start(features)


def tree_of_sets(graph: LabelGraph, labels: list[str], n_fine: int) -> tuple[PrefixTree, Tensor]:
    """The tree of the fine labels' paths, one slot a node; and [K, E] 0/1: the slots that each of the labels implies.

    Raises GraphError naming labels that have several paths and groups whose members compete.
    """
    tree = PrefixTree(graph, labels[:n_fine], n_evaluated=0)
    several = [v for v in labels[:n_fine] if graph.count_paths(v) > 1]
    compete = {g for g in tree.block_group if graph.exclusive[g]}
    if several or compete:
        raise GraphError(
            f"{graph.name}: where a sample has several labels, each label needs one path and no group may compete"
            + (f"; labels with several paths: {', '.join(map(repr, several))}" if several else "")
            + (f"; give `exclusive: false` to {', '.join(map(repr, sorted(compete)))}" if compete else "")
        )
    implied = [{y, *graph.ancestors(y)} for y in labels]
    return tree, torch.tensor([[float(p[-1] in nodes) for p in tree.prefixes] for nodes in implied])


class PathsHead(nn.Module):
    """label-aug with several labels a sample: each label is a path, and every node on it a yes or no given its parent.

    The loss of a fine sample is -log p of all answers asked: at the root and at each node that is present, the
    children present and absent. Every label has one path, so this is exact: teacher forcing (Eq. 2) of all paths at
    once, a shared step counted once, and Algorithm 1's second part has nothing to sample. A label is present when it is
    reached, so nothing decides to stop, and a label implies the labels above it.
    coarse: `path` teaches a paper known by archive the answers down to its archives and asks nothing below;
    `noisy-or` that some path through each of its archives is present, whatever the decoder says of the archive itself.
    Raises GraphError naming labels that have several paths and groups whose members compete.
    """

    def __init__(
        self,
        graph: LabelGraph,
        labels: list[str],
        n_fine: int,
        d: int,
        hidden: int = 256,
        coarse: str = "path",
        feed: bool = False,
    ):
        super().__init__()
        self.coarse, self.n_fine = known("label-aug", coarse, "path", "noisy-or"), n_fine
        self.decoder = OpenDecoder(graph, d, hidden, feed)
        self.tree, implies = tree_of_sets(graph, labels, n_fine)
        self.register_buffer("implies", implies, False)
        self.register_buffer("asked", implies[n_fine:].any(0), False)  # of a coarse sample
        asking = torch.bincount(self.tree.slot_state, self.asked.float(), len(self.tree.state_node)) > 0
        self.register_buffer("asking", asking, False)
        above = (self.tree.slot_child >= 0).nonzero()[:, 0]  # the slot of each state below the root, in their order
        self.register_buffer("above", above, False)
        self.register_buffer("order", self.tree.path_label.argsort(), False)
        self.register_buffer("below", below_coarse(graph, labels, n_fine), False)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """Features [B, d], y [B, K] bool -> scalar: the sum over answers, the mean over samples."""
        if is_coarse and self.coarse == "noisy-or":
            return noisy_or(log_not(self.log_probs(features)), self.below, y[:, self.n_fine :])
        target = y.to(self.implies) @ self.implies[: y.shape[1]] > 0  # [B, E]: the slot's node is present
        state = torch.cat([torch.ones_like(target[:, :1]), target[:, self.above]], 1)  # [B, S]: so is the state's
        if is_coarse:
            state &= self.asking
        logp = self.decoder.slot_log_probs(features, self.tree, only=state)
        wanted = state[:, self.tree.slot_state] & (self.asked | (not is_coarse))
        return (log_loss(logp, log_not(logp), target) * wanted).sum(1).mean()

    def log_probs(self, features: Tensor) -> Tensor:
        """log p of each category's whole path: [B, d] -> [B, n_fine]."""
        return self.tree.answer_log_probs(self.decoder.slot_log_probs(features, self.tree))[:, self.order]

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, n_fine] and step_log_probs [B, E], log p of each node given its parent, as tree.prefixes."""
        steps = self.decoder.slot_log_probs(features, self.tree)
        return {"log_probs": self.tree.answer_log_probs(steps)[:, self.order], "step_log_probs": steps}
