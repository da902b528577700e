"""PathDecoder: the GRU that scores the answers along a path (Sec. 3.2.5, Eq. 1; Figure 3)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labelaug_core.block_softmax import block_log_softmax, block_logsumexp
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

    def _tokens(self) -> Tensor:
        """W_ih e of every node, a table shared by all steps and samples: [N, 3H]."""
        return nn.functional.linear(self.embedding.weight, self.cell.weight_ih, self.cell.bias_ih)

    def _from_state(self, f: Tensor) -> Tensor:
        """W_hh f of each state, shared by all nodes below it: [M, H] -> [M, 3H]."""
        return nn.functional.linear(f, self.cell.weight_hh, self.cell.bias_hh)

    @staticmethod
    def _step(from_e: Tensor, from_f: Tensor, f: Tensor) -> Tensor:
        """Eq. 1, nn.GRUCell written out: from W_ih e, W_hh f [M, 3H] and f [M, H] the next states [M, H]."""
        (r_e, z_e, n_e), (r_f, z_f, n_f) = from_e.chunk(3, -1), from_f.chunk(3, -1)
        new = torch.tanh(torch.addcmul(n_e, torch.sigmoid(r_e + r_f), n_f))
        return torch.lerp(new, f, torch.sigmoid(z_e + z_f))

    def _root(self, features: Tensor, tree: PrefixTree, tokens: Tensor) -> Tensor:
        """f_1, the state at v0: f_0 out of the encoder's features, then the <START> token. [B, d] -> [B, H]."""
        f = torch.tanh(self.start(features))
        return self._step(tokens[tree.state_node[0]].expand(len(f), -1), self._from_state(f), f)

    def slot_log_probs(
        self, features: Tensor, tree: PrefixTree, only: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """log p(u | v, f) of every slot of the tree, level by level. features [B, d] -> [B, E].

        only [B, S] bool: compute no other states (tree.wanted[y]: those that decide between paths to the classes y).
        The slots of the other states then hold meaningless numbers: enough for an objective that does not look at
        them. Where nothing branches p = 1 whatever the state, so such states are never computed. tokens: what
        self._tokens() gives, if that is known already.
        """
        wanted = tree.wanted.any(0).expand(len(features), -1) if only is None else only
        tokens, f, row, scores = self._tokens() if tokens is None else tokens, None, None, []
        for level, (first, last) in enumerate(tree.levels):
            first_state, after = tree.first_state[level : level + 2]
            sample, state = wanted[:, first_state:after].nonzero(as_tuple=True)  # the M states to compute
            if level == 0:
                f = self._root(features, tree, tokens)
                sample, state = torch.arange(len(f), device=f.device), torch.zeros_like(f[:, 0], dtype=torch.long)
            else:
                above = tree.state_parent[first_state + state] - tree.first_state[level - 1]
                parent, of_state = row[sample, above].unique(return_inverse=True)
                f = f.index_select(0, parent)
                from_f = self._from_state(f).index_select(0, of_state)
                from_e = tokens.index_select(0, tree.state_node[first_state + state])
                f = self._step(from_e, from_f, f.index_select(0, of_state))
            row = torch.full((len(features), after - first_state), -1, device=f.device)
            row[sample, state] = torch.arange(len(f), device=f.device)  # where each state stands in f; -1: nowhere
            asked, column = tree.slot_node[first:last].unique(return_inverse=True)
            z = nn.functional.linear(f, self.score.weight[asked], self.score.bias[asked])  # [M, nodes asked here]
            at = row[:, tree.slot_state[first:last] - first_state]
            at = torch.where(at < 0, z.numel(), at * len(asked) + column)  # [B, slots of this level] into z, or 0.0
            scores.append(torch.cat([z.flatten(), z.new_zeros(1)]).index_select(0, at.flatten()).view_as(at))
        return block_log_softmax(torch.cat(scores, 1), tree.slot_block, tree.block_exclusive)

    def sequence_log_probs(self, features: Tensor, tree: PrefixTree, path: Tensor, forced: Tensor) -> Tensor:
        """Algorithm 1, part 1, token by token: log p(v_{t+1} | v_t, f_t) summed over t. -> [B].

        features [B, d]; path [B]: one ground-truth path for each sample; forced [T] bool, the teacher-force coin of
        each step: True feeds the ground-truth token, False the model's own best answer to the same question. (The
        paper computes the loss before t_i is set; here the loss is on the ground-truth token, then t_i is fed.)
        """
        tokens = self._tokens()
        f = self._root(features, tree, tokens)
        total = features.new_zeros(len(path))
        for t, slot in enumerate(tree.path_slots[path].T):
            going = slot < len(tree.slot_node)
            slot = slot.clamp(max=len(tree.slot_node) - 1)
            block = tree.slot_block[slot]
            rivals, real = tree.block_slots(block)  # [B, W]: only the question on the path is looked at
            z = self.score(f).gather(1, tree.slot_node[rivals])
            among = z.masked_fill(~real, -torch.inf).log_softmax(1)
            logp = torch.where(tree.block_exclusive[block, None], among, nn.functional.logsigmoid(z))
            truth = slot - tree.block_first[block]
            total = total + torch.where(going, logp.gather(1, truth[:, None])[:, 0], 0.0)
            if t + 1 == len(tree.levels):
                break
            token = truth if bool(forced[t]) else among.argmax(1)
            token = tree.slot_node[tree.block_first[block] + token]
            token = token.clamp(max=len(tree.graph.nodes) - 1)  # after <eop> nothing is fed
            f = self._step(tokens.index_select(0, token), self._from_state(f), f)
        return total

    @torch.no_grad()
    def sample(
        self,
        features: Tensor,
        tree: PrefixTree,
        generator: torch.Generator | None = None,
        tokens: Tensor | None = None,
    ) -> Tensor:
        """One path for each sample, [B, d] -> [B]: tree.sample, computing no state but those on the sampled path."""
        tokens = self._tokens() if tokens is None else tokens
        f = None

        def draw(state: Tensor) -> Tensor:
            nonlocal f
            if f is None:
                f = self._root(features, tree, tokens)
            else:
                f = self._step(tokens.index_select(0, tree.state_node[state]), self._from_state(f), f)
            slots, real = tree.state_slots(state)
            z = self.score(f).gather(1, tree.slot_node[slots]).masked_fill(~real, -torch.inf)
            block = tree.slot_block[slots] - tree.slot_block[slots[:, :1]]
            total = block_logsumexp(z, block, int(block.max()) + 1).gather(1, block)
            exclusive = tree.block_exclusive[tree.slot_block[slots]]
            logp = torch.where(exclusive, z - total, nn.functional.logsigmoid(z))
            return tree.draw(slots, logp.masked_fill(~(real & tree.leads[slots]), -torch.inf), generator)

        return tree._walk(len(features), draw)
