"""PathDecoder: the GRU that scores the answers along a path (Sec. 3.2.5, Eq. 1; Figure 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labelaug_core.block_softmax import block_log_softmax
from labelaug_core.graph import LabelGraph
from labelaug_core.prefix_tree import PrefixTree


class PathDecoder(nn.Module):
    """f_t = g(e_t, f_{t-1}) (Eq. 1), g a GRU cell, f_0 from the encoder's features; a linear layer scores the nodes.

    d: size of the features; hidden: H, the size of f_t and of the node embeddings e.
    """

    def __init__(self, graph: LabelGraph, d: int, hidden: int = 256):
        super().__init__()
        n = len(graph.nodes)
        self.start = nn.Linear(d, hidden)
        self.embedding = nn.Embedding(n, hidden)  # e; the root is the <START> token
        self.cell = nn.GRUCell(hidden, hidden)
        self.score = nn.Linear(hidden, n + 1)  # z; the last row is <eop>

    def _step(self, node: Tensor, f: Tensor, parent: Tensor | None = None) -> Tensor:
        """Eq. 1: states f [B, S, H], nodes [B or 1, C] reached from the states number parent [B or 1, C]: [B, C, H].

        It is nn.GRUCell written out, so that W_hh f is computed once a state and shared by all nodes below it, and
        W_ih e is a table over the nodes, shared by the whole batch.
        """
        from_e = nn.functional.linear(self.embedding.weight, self.cell.weight_ih, self.cell.bias_ih)[node]
        from_f = nn.functional.linear(f, self.cell.weight_hh, self.cell.bias_hh)
        if parent is not None:
            rows = torch.arange(len(f), device=f.device)[:, None]
            from_f, f = from_f[rows, parent], f[rows, parent]
        (r_e, z_e, n_e), (r_f, z_f, n_f) = from_e.chunk(3, -1), from_f.chunk(3, -1)
        new = torch.tanh(torch.addcmul(n_e, torch.sigmoid(r_e + r_f), n_f))
        return torch.lerp(new, f, torch.sigmoid(z_e + z_f))

    def root(self, features: Tensor, tree: PrefixTree) -> Tensor:
        """f_1, the state at v0: f_0 out of the encoder's features, then the <START> token. [B, d] -> [B, 1, H]."""
        return self._step(tree.state_node[None, :1], torch.tanh(self.start(features))[:, None])

    def slot_log_probs(self, features: Tensor, tree: PrefixTree, only: Tensor | None = None) -> Tensor:
        """log p(u | v, f) of every slot of the tree, level by level. features [B, d] -> [B, E].

        only [B]: compute no state but those on the ground-truth paths of these classes. The slots of the other
        states then hold meaningless numbers: enough for an objective that looks at ground-truth paths alone.
        """
        f = self.root(features, tree)
        here, scores = tree.level_states(0, only), []
        for level, (first, last) in enumerate(tree.levels):
            position = tree.position(level, here)  # of each state of this level in f; -1: not computed
            state, node = tree.slot_state[first:last] - tree.first_state[level], tree.slot_node[first:last]
            asked, column = node.unique(return_inverse=True)
            z = nn.functional.linear(f, self.score.weight[asked], self.score.bias[asked])  # [B, S, nodes asked here]
            at = position[:, state]
            z = z.flatten(1).gather(1, (at.clamp(min=0) * len(asked) + column).expand(len(f), -1))
            scores.append(z.masked_fill(at < 0, 0.0))
            if level + 1 < len(tree.levels):
                here = tree.level_states(level + 1, only)
                parent = position.expand(len(here), -1).gather(1, tree.state_parent[here] - tree.first_state[level])
                f = self._step(tree.state_node[here], f, parent)
        return block_log_softmax(torch.cat(scores, 1), tree.slot_block, tree.block_exclusive)

    def sequence_log_probs(self, features: Tensor, tree: PrefixTree, path: Tensor, forced: Tensor) -> Tensor:
        """Algorithm 1, part 1, token by token: log p(v_{t+1} | v_t, f_t) summed over t. -> [B].

        features [B, d]; path [B]: one ground-truth path for each sample; forced [T] bool, the teacher-force coin of
        each step: True feeds the ground-truth token, False the model's own best answer to the same question. (The
        paper computes the loss before t_i is set; here the loss is on the ground-truth token, then t_i is fed.)
        """
        f = self.root(features, tree)[:, 0]
        total, rows = features.new_zeros(len(path)), torch.arange(len(path), device=path.device)
        for t, slot in enumerate(tree.path_slots[path].T):
            going = slot < len(tree.slot_node)
            slot = slot.clamp(max=len(tree.slot_node) - 1)
            z = self.score(f)[:, tree.slot_node]  # [B, E]; only the block of the question on the path is looked at
            logp = block_log_softmax(z, tree.slot_block, tree.block_exclusive)
            total = total + torch.where(going, logp[rows, slot], 0.0)
            block = tree.slot_block == tree.slot_block[slot][:, None]
            token = slot if bool(forced[t]) else z.masked_fill(~block, -torch.inf).argmax(1)
            token = tree.slot_node[token].clamp(max=len(tree.graph.nodes) - 1)  # after <eop> nothing is fed
            f = self._step(token[:, None], f[:, None])[:, 0]
        return total
