"""`label-aug-direct`: path decoders of ours that start as FFN and earn the graph (beside the paper's; notebook 42).

One for one label a sample, one for several. They keep the graph, its paths, sums over them, any question asked, and
explanations. They give up the GRU: a step's score no longer depends on the steps before it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid, softplus

from companion.heads.several_labels import log_not, tree_of_sets
from labelaug_core.block_softmax import block_log_softmax, block_logsumexp
from labelaug_core.graph import GraphError, LabelGraph
from labelaug_core.prefix_tree import PrefixTree


def node_scores(d: int, ends: Tensor, share: float) -> tuple[nn.Linear, Tensor]:
    """Scores of nodes, [B, d] -> [B, N], and their rates [N]: where `ends` [N] is true as FFN's scores of labels, with
    rate 1; elsewhere they begin at zero, with rate `share`."""
    score = nn.Linear(d, len(ends))
    with torch.no_grad():
        score.weight[~ends], score.bias[~ends] = 0.0, 0.0
    return score, torch.where(ends, 1.0, share)


class DirectHead(nn.Module):
    """Paths scored straight from the features, and normalised over all paths at once.

    The score of a path is the sum of the scores of its nodes, z = w_v . f, less the log of how many paths its label
    has; p(P | x) is the softmax over all complete paths (a path decoder normalises step by step instead, and so cannot
    take back what an early step gave away). A label's probability is the sum over its paths; a coarse label's the sum
    over the paths through it. The nodes that end paths are scored as FFN scores labels. The scores of the others begin
    at zero and learn at `share` of the rate: so the head begins as FFN does, and share = 0 is a flat softmax whose
    coarse labels are sums over paths.

    Shapes: B samples, d features, N nodes, P paths, K evaluated labels. share: in [0, 1].
    Raises GraphError naming groups of the graph whose members do not compete.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int, share: float = 0.1):
        super().__init__()
        self.tree, self.fine_tree = PrefixTree(graph, labels, n_fine), PrefixTree(graph, labels[:n_fine])
        graph.check_competing(set(self.tree.block_group))
        last = {path[-1] for path, whole in zip(self.tree.paths, self.tree.complete, strict=True) if whole}
        self.score, rate = node_scores(d, torch.tensor([v in last for v in graph.nodes]), share)
        self.register_buffer("rate", rate, persistent=False)
        for name, tree in (("on", self.tree), ("fine_on", self.fine_tree)):
            on = torch.tensor([[v in path for path in tree.paths] for v in graph.nodes], dtype=torch.float)
            self.register_buffer(name, on, persistent=False)  # [N, P]

    def path_log_probs(self, features: Tensor, tree: PrefixTree) -> Tensor:
        """log p(P | x) of every path of the tree, -inf of one that is not complete: [B, d] -> [B, P]."""
        z = self.score(features) * self.rate  # [B, N]
        size = tree.path_label.bincount(minlength=len(tree.labels)).to(z).log()[tree.path_label]
        s = z @ (self.fine_on if tree is self.fine_tree else self.on) - size
        return s.masked_fill(~tree.complete, -torch.inf).log_softmax(1)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """-log p(label): features [B, d], y [B] indices into labels -> scalar, a mean over samples."""
        tree = self.tree if is_coarse else self.fine_tree
        logp = self.path_log_probs(features, tree)
        return -logp.masked_fill(tree.earned[y] == 0, -torch.inf).logsumexp(1).mean()

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, K]: exact log p(label | x); path_log_probs [B, P]; path [B]: the most probable one's index."""
        logp = self.path_log_probs(features, self.fine_tree)
        labels = block_logsumexp(logp, self.fine_tree.path_label, len(self.fine_tree.labels))
        return {"log_probs": labels, "path_log_probs": logp, "path": logp.argmax(1)}

    def explained(self, features: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """What `explain` asks for: log p of every step [B, E] given the steps before it and its question, as a path
        decoder has it, and the predictions. The questions of a state are not equally likely here."""
        tree, found = self.fine_tree, self.predictions(features)
        logp, slots = found["path_log_probs"], tree.path_slots  # [B, P], [P, T]
        by_slot = logp.repeat_interleave(slots.shape[1], 1)  # [B, P T]
        reach = block_logsumexp(by_slot, slots.flatten(), len(tree.slot_node) + 1)[:, :-1]  # the last pads
        stops, n = tree.slot_node == len(tree.graph.index), len(tree.state_node)
        on = block_logsumexp(reach.masked_fill(stops, -torch.inf), tree.slot_state, n)[:, tree.slot_state]
        at = block_logsumexp(reach, tree.slot_state, n)[:, tree.slot_state]  # log p that a path comes by here
        return torch.where(stops, reach - at, block_log_softmax(reach, tree.slot_block) + on - at), found


class DirectPathsHead(nn.Module):
    """The same with several labels a sample: sets of paths scored straight from the features, normalised over all sets.

    A set of nodes has with each node its parent, and with each node that is no fine label a child. Its score is the
    sum of its nodes' scores, z = w_v . f, and p(set | x) is the softmax over all such sets, exactly: on a tree the sum
    over the sets below a node is a product over its children. A fine sample gives the whole set, a sample known by
    archive its archives and what lies above them; the sets below are summed. The scores of nodes that are no fine
    label begin at zero and learn at `share` of the rate: so the head begins as FFN joined by noisy-or, with which it
    agrees at share = 0.

    Shapes: B samples, d features, E nodes of the tree (its slots), S of them with children. share: in [0, 1].
    Raises GraphError naming labels with several paths, groups whose members compete, and fine labels whose path has
    not exactly one coarse label, where there are coarse labels.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_fine: int, d: int, share: float = 0.1):
        super().__init__()
        self.tree, implies = tree_of_sets(graph, labels, n_fine)
        fine, coarse = {*labels[:n_fine]}, {*labels[n_fine:]}
        if unclear := [v for v in labels[:n_fine] if coarse and len(coarse & {v, *graph.ancestors(v)}) != 1]:
            what = "not exactly one coarse label on the path of"
            raise GraphError(f"{graph.name}: {what} {', '.join(map(repr, unclear))}")
        nodes = [p[-1] for p in self.tree.prefixes]
        self.score, rate = node_scores(d, torch.tensor([v in fine for v in nodes]), share)
        may_end = torch.tensor([i == 0 or graph.nodes[v] in fine for i, v in enumerate(self.tree.state_node)])
        self.register_buffer("rate", rate, False)
        self.register_buffer("implies", implies, False)
        self.register_buffer("summed", torch.tensor([v in coarse for v in nodes]), False)  # over what lies below
        self.register_buffer("may_end", may_end, False)  # [S]: without a child; at the root as with FFN
        self.register_buffer("order", self.tree.path_label.argsort(), False)

    def scores(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Features [B, d] -> z [B, E], w [B, E], n [B, S].

        w: the log of the sum of exp(score) over all sets from a node down, the node present. n: the sum of the log of
        1 + exp(w) over a state's children, which is -log p(none of them) if each answers by itself.
        """
        tree, z = self.tree, self.score(features) * self.rate
        w, n = [None] * len(tree.levels), [None] * len(tree.levels)
        for t in range(len(tree.levels) - 1, -1, -1):
            (a, b), first, after = tree.levels[t], tree.first_state[t], tree.first_state[t + 1]
            w[t] = z[:, a:b]
            if t + 1 < len(tree.levels):
                none = n[t + 1]
                below = torch.where(self.may_end[after : after + none.shape[1]], none, none + log_not(-none))
                child = tree.slot_child[a:b] - after
                w[t] = w[t] + torch.where(child >= 0, below[:, child.clamp(min=0)], 0.0)
            n[t] = z.new_zeros(len(z), after - first).index_add(1, tree.slot_state[a:b] - first, softplus(w[t]))
        return z, torch.cat(w, 1), torch.cat(n, 1)

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """Features [B, d], y [B, K] bool -> scalar: -log p of what is known of the set, the mean over samples."""
        z, w, n = self.scores(features)
        present = y.to(self.implies) @ self.implies[: y.shape[1]] > 0  # [B, E]
        known = torch.where(self.summed, w, z) if is_coarse else z
        return (n[:, 0] - (known * present).sum(1)).mean()

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, n_fine], each label by itself; step_log_probs [B, E], log p of a node given its parent."""
        _, w, n = self.scores(features)
        some = torch.where(self.may_end, 0.0, log_not(-n))[:, self.tree.slot_state]  # log p(some child), if it must
        steps = logsigmoid(w) - some
        return {"log_probs": self.tree.answer_log_probs(steps)[:, self.order], "step_log_probs": steps}
