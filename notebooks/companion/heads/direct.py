"""`label-aug-direct`: a path decoder of ours that starts as FFN and earns the graph (beside the paper's; notebook 42).

It keeps the graph, its paths, sums over them, any question asked, and explanations. It gives up the GRU: a step's score
no longer depends on the steps before it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labelaug_core.block_softmax import block_logsumexp
from labelaug_core.graph import LabelGraph
from labelaug_core.prefix_tree import PrefixTree


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
        self.score = nn.Linear(d, len(graph.nodes))
        self.tree, self.fine_tree = PrefixTree(graph, labels, n_fine), PrefixTree(graph, labels[:n_fine])
        graph.check_competing(set(self.tree.block_group))
        ends = torch.tensor([graph.index[path[-1]] for path in self.tree.paths])[self.tree.complete].unique()
        inner = torch.ones(len(graph.nodes), dtype=torch.bool).index_fill(0, ends, False)
        self.register_buffer("rate", torch.where(inner, share, 1.0), persistent=False)
        with torch.no_grad():
            self.score.weight[inner], self.score.bias[inner] = 0.0, 0.0
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
