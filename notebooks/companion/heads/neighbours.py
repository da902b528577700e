"""Neighbouring models (notebook 42): other ways to learn labels of several granularities, on the same label graph.

Shapes: B samples, d features, K = n_fine evaluated labels, L labels in all, N nodes, P paths.

`flat-marginal`, `hex` and `agreement` give a coarse label the summed probability of the evaluated labels that it
allows. Where it allows none, its probability is zero: companion.scoring leaves such samples out, as it does for FFN,
and a loss that meets one raises GraphError.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from companion.heads.baselines import FFNHead, allowed
from labelaug_core.block_softmax import block_logsumexp
from labelaug_core.graph import GraphError, LabelGraph
from labelaug_core.label_aug import PathHead, PathSettings


def check_allowed(graph: LabelGraph, labels: list[str], outside: Tensor, y: Tensor) -> None:
    """Raises GraphError naming the labels in y [B] that no evaluated label answers. outside [L, K] bool."""
    impossible = outside.all(1)
    if bool(impossible[y].any()):
        names = ", ".join(repr(labels[k]) for k in y[impossible[y]].unique().tolist())
        raise GraphError(f"{graph.name}: no evaluated label lies below {names}; leave samples with these labels out")


class FlatMarginalHead(FFNHead):
    """A softmax over the evaluated labels; a coarse label's probability is the sum over the evaluated labels below."""

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int):
        super().__init__(graph, labels, n_fine, d)
        self.graph, self.labels = graph, labels
        self.register_buffer("outside", ~allowed(graph, labels, n_fine), persistent=False)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """-log p(label): features [B, d], y [B] indices into labels -> scalar."""
        check_allowed(self.graph, self.labels, self.outside, y)
        logp = self.score(features).log_softmax(1)
        return -logp.masked_fill(self.outside[y], -torch.inf).logsumexp(1).mean()


class HexHead(nn.Module):
    """One score a node, and the probability of a legal state the softmax of the sum of its nodes' scores (Deng et al.,
    2014), on the label graph: a state is an evaluated label, all that lies above it, and one answer to each question
    that the label leaves open. The sum over states is exact: given the label, open questions are independent of each
    other. A coarse label's probability is that of the states in which its node is on.

    Raises GraphError naming groups that compete and hold a node beside one of its ancestors: both are on at once.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int):
        super().__init__()
        self.graph, self.labels, self.score = graph, labels, nn.Linear(d, len(graph.nodes))
        if wrong := {graph.group[v] for v in graph.group for u in graph.ancestors(v) if graph.compete(u, v)}:
            names = ", ".join(map(repr, sorted(wrong)))
            raise GraphError(
                f"{graph.name}: HEX cannot have a node compete with its ancestor, as in the groups {names}"
            )
        question = {v: graph.group[v] if graph.exclusive[graph.group[v]] else v for v in graph.group}
        pairs: dict[tuple[int, str], int] = {}  # a label and a question that it answers -> the pair's number
        entries = []  # an answer of the pair: its node, the pair
        for k, label in enumerate(labels[:n_fine]):
            on = {label, *graph.ancestors(label)} - {graph.root}
            for v in sorted(on, key=graph.index.get):  # in one order: sums give the same bits in every process
                entries.append((graph.index[v], pairs.setdefault((k, question[v]), len(pairs))))
        node, pair = torch.tensor(entries).T.contiguous()
        asked = torch.tensor([[pairs.get((k, question[v]), -1) for k in range(n_fine)] for v in labels])
        tensors = {"entry_node": node, "entry_pair": pair, "asked": asked}  # asked [L, K]: the pair of a label's node
        tensors["pair_label"] = torch.tensor([k for k, _ in pairs])
        tensors["node"] = torch.tensor([graph.index[v] for v in labels])
        tensors["outside"] = ~allowed(graph, labels, n_fine)
        for name, values in tensors.items():
            self.register_buffer(name, values, persistent=False)

    def log_weights(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores z [B, N]; the log sum of exp(z) over the answers of each pair [B, pairs]; log weights [B, K]."""
        z = self.score(features)
        terms = block_logsumexp(z.index_select(1, self.entry_node), self.entry_pair, len(self.pair_label))
        return z, terms, z.new_zeros(len(z), self.outside.shape[1]).index_add(1, self.pair_label, terms)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """-log p(label): features [B, d], y [B] indices into labels -> scalar."""
        z, terms, weight = self.log_weights(features)
        if not is_coarse:
            return nn.functional.cross_entropy(weight, y)
        check_allowed(self.graph, self.labels, self.outside, y)
        # an evaluated label: its own states; a coarse one: of each label below the states in which its node is on
        fixed = z.gather(1, self.node[y][:, None]) - terms.gather(1, self.asked[y].clamp(min=0))
        fixed = torch.where((y < self.outside.shape[1])[:, None], 0.0, fixed)
        with_it = (weight + fixed).masked_fill(self.outside[y], -torch.inf)
        return (weight.logsumexp(1) - with_it.logsumexp(1)).mean()

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, K]."""
        return {"log_probs": self.log_weights(features)[2].log_softmax(1)}


class AgreementHead(PathHead):
    """label-aug whose questions must agree: log p(label | x) is, up to a constant, the sum over the questions q on the
    way to the label of log A_q, plus the mean over q of log p(label | its answer to q).

    A_q is the probability of the label's answer to q and of the way there (summed, where it has several answers).
    label-aug takes the mean over q of A_q p(label | answer): there one question that is misled keeps a wrong label
    alive, and what a coarse label teaches one question moves the result by a Q-th. Here each answer is evidence of its
    own, so each coarse label counts against every label that would answer otherwise.

    The probability of a coarse label c is the sum over the labels below it of p(label | x) p(c | label, x). The latter
    is the share of c among the label's answers to the question of c, by the decoder's path probabilities (a mean, where
    several q ask it): 1 where the label is certain of c.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int, settings: PathSettings | None = None):
        super().__init__(graph, labels[:n_fine], n_fine, d, settings)
        self.graph, self.labels, tree = graph, labels, self.fine_tree
        asked = [tuple(graph.group[v] for v in path[1:]) for path in tree.paths]
        number = {q: i for i, q in enumerate(dict.fromkeys(asked))}
        place = tree.path_label * len(number) + torch.tensor([number[q] for q in asked])
        has = torch.zeros(n_fine * len(number), dtype=torch.bool)
        has[place] = True
        has = has.view(n_fine, -1)
        through = torch.tensor([[v in path for path in tree.paths] for v in labels])
        about = torch.tensor([[graph.group[v] in q for q in number] for v in labels])  # [L, Q]: q asks for the label
        tensors = {"place": place, "has": has, "through": through, "asks": has & about[:, None]}
        for name, values in (tensors | {"outside": ~allowed(graph, labels, n_fine)}).items():
            self.register_buffer(name, values, persistent=False)  # [P], [K, Q], [L, P], [L, K, Q], [L, K]

    def by_question(self, per_path: Tensor) -> Tensor:
        """The log of the summed probability of each label's paths that ask the same: [B, P] -> [B, K, Q], -inf: 0."""
        return block_logsumexp(per_path, self.place, self.has.numel()).view(-1, *self.has.shape)

    def of_labels(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p of each path [B, P], by question [B, K, Q], and log p(label | x) [B, K]."""
        slot_logp = self.decoder.slot_log_probs(features, self.fine_tree)
        path = self.fine_tree.answer_log_probs(slot_logp)
        whole = self.by_question(path)
        answer = self.by_question(path - slot_logp[:, self.fine_tree.path_slot])  # without the last step: A_q
        log_a, rest = answer.masked_fill(~self.has, 0.0), (whole - answer).masked_fill(~self.has, 0.0)
        return path, whole, (log_a.sum(2) + rest.sum(2) / self.has.sum(1)).log_softmax(1)

    def log_probs(self, features: Tensor) -> Tensor:
        """log p(label | x): [B, d] -> [B, K]."""
        return self.of_labels(features)[2]

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """-log p(label): features [B, d], y [B] indices into labels -> scalar."""
        path, whole, log_p = self.of_labels(features)
        if not is_coarse:
            return nn.functional.nll_loss(log_p, y)
        check_allowed(self.graph, self.labels, self.outside, y)
        with_it = self.by_question(path.masked_fill(~self.through[y], -torch.inf))
        shares = (with_it - whole).masked_fill(~self.asks[y], -torch.inf).flatten(1)
        n_labels, n_questions = self.has.shape
        label = torch.arange(n_labels, device=y.device).repeat_interleave(n_questions)
        log_share = block_logsumexp(shares, label, n_labels) - self.asks[y].sum(2).clamp(min=1).to(log_p).log()
        return -(log_p + log_share).masked_fill(self.outside[y], -torch.inf).logsumexp(1).mean()

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, K]."""
        return {"log_probs": self.log_probs(features)}


class HierarchicalSoftmaxHead(nn.Module):
    """The package `hierarchicalsoftmax` as its users put it on a network: its linear layer, loss and probabilities, on
    the tree that is left of the label graph without its augmented nodes. (Of several parents it keeps the first.)

    Raises GraphError naming evaluated labels that lie above other labels: the package predicts leaves alone.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int):
        super().__init__()
        from hierarchicalsoftmax import HierarchicalSoftmaxLinear, HierarchicalSoftmaxLoss, SoftmaxNode, inference

        tree, self.leaves = graph.without(*graph.augmented), inference.leaf_probabilities
        if inner := [v for v in labels[:n_fine] if tree.children(v)]:
            names = ", ".join(map(repr, inner))
            raise GraphError(f"{graph.name}: hierarchicalsoftmax predicts leaves alone, other labels lie below {names}")
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
        """The package's loss: features [B, d], y [B] indices into labels -> scalar."""
        return self.criterion(self.score(features), self.node[y])

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, K], normalised over the evaluated labels (leaves that only coarse data have are left out)."""
        p = self.leaves(self.score(features), self.root)[:, self.leaf]
        return {"log_probs": p.clamp(min=torch.finfo(p.dtype).tiny).log().log_softmax(1)}
