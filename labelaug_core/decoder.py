"""PathDecoder: the GRU that scores the decisions along a path (Sec. 3.2.5, Eq. 1; Figure 3), and Algorithm 2.

Each part stands here twice: in its plain form, node by node, and packed, for all paths of a PrefixTree at once.
Shapes: B samples, d features, H hidden units, N nodes (and one <eop>), E slots, P paths.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear, logsigmoid

from labelaug_core.block_softmax import block_log_softmax, block_logsumexp
from labelaug_core.graph import EOP, LabelGraph
from labelaug_core.prefix_tree import PrefixTree


class PathDecoder(nn.Module):
    """f_t = g(e_t, f_{t-1}) (Eq. 1), g a GRU cell, f_0 from the encoder's features; a linear layer scores the nodes.

    d: size of the features; hidden: H, the size of f_t and of the node embeddings e. feed: the features also enter at
    every step, added to e_t by a linear layer: Algorithms 1 and 2 write g_dec(G, f, ...), Eq. 1 has no f.
    """

    def __init__(self, graph: LabelGraph, d: int, hidden: int = 256, feed: bool = False):
        super().__init__()
        n = len(graph.nodes)
        self.start = nn.Linear(d, hidden)
        self.embedding = nn.Embedding(n, hidden)  # e; the root is the <START> token
        self.cell = nn.GRUCell(hidden, hidden)
        self.score = nn.Linear(hidden, n + 1)  # z; the last one is <eop>
        self.feed = nn.Linear(d, hidden, bias=False) if feed else None

    # -- the plain form ---------------------------------------------------------------------------------------

    def first_state(self, features: Tensor) -> Tensor:
        """f_0, out of the encoder's features: [B, d] -> [B, H]."""
        return torch.tanh(self.start(features))

    def step(self, node: Tensor, f: Tensor, features: Tensor | None = None) -> Tensor:
        """Eq. 1: f_t = g(e_t, f_{t-1}). node [B] (indices of nodes), f [B, H], features [B, d] for `feed` -> [B, H]."""
        e = self.embedding(node)
        return self.cell(e if self.feed is None else e + self.feed(features), f)

    def decisions(self, f: Tensor, tree: PrefixTree, v: str) -> dict[str, Tensor]:
        """log p of every decision at node v from its state f [B, H]: {u or <eop>: [B]}; empty where the path ends.

        At an evaluated label the first decision is to stop, a sigmoid; the answers then hold p(go on), too.
        """
        graph, index, z = tree.graph, tree.graph.index, self.score(f)  # z [B, N + 1]
        below = [u for u in graph.children(v) if u in tree.legal]
        may_stop = bool(below) and v in tree.labels[: tree.n_evaluated]  # with nothing below, stopping is certain
        out = {EOP: logsigmoid(z[:, -1])} if may_stop else {}
        for u in below:
            g = graph.group[u]
            block = [index[w] for w in (graph.group if tree.literal else below) if graph.group[w] == g]
            if graph.exclusive[g]:  # block softmax
                out[u] = z[:, index[u]] - z[:, block].logsumexp(1)
            else:
                out[u] = logsigmoid(z[:, index[u]])
            if may_stop:
                out[u] = out[u] + logsigmoid(-z[:, -1])
        return out

    def steps_of_path(self, features: Tensor, tree: PrefixTree, path: tuple[str, ...]) -> Tensor:
        """log p of every decision along one path v0 ... vN: [B, d] -> [B, decisions]."""
        f, steps = self.first_state(features), []  # f_0 [B, H]
        for v, u in zip(path, (*path[1:], EOP), strict=True):
            f = self.step(torch.full((len(f),), tree.graph.index[v]), f, features)  # [B, H]
            found = self.decisions(f, tree, v)
            if u in found:  # a path that ends where stopping is certain, or at a coarse label, has no <eop>
                steps.append(found[u])
        return torch.stack(steps, 1)

    def decode(self, features: Tensor, tree: PrefixTree) -> tuple[str, ...]:
        """Algorithm 2, for one sample, features [1, d]: the most probable answer at each step, until <eop>.

        A question with one legal answer says nothing (p = 1), so it is asked only where no other is left; the paper
        has no such rule (tree.literal), and then such a question always wins.
        """
        graph, path, f = tree.graph, [tree.graph.root], self.first_state(features)
        while True:
            f = self.step(torch.tensor([graph.index[path[-1]]]), f, features)
            found = {u: logp.item() for u, logp in self.decisions(f, tree, path[-1]).items()}
            if found.pop(EOP, -math.inf) >= math.log(0.5) or not found:
                return tuple(path)
            asked = [graph.group[u] for u in found]
            open_ = [u for u in found if asked.count(graph.group[u]) > 1 or not graph.exclusive[graph.group[u]]]
            path.append(max(found if tree.literal or not open_ else open_, key=found.get))

    # -- the packed form ----------------------------------------------------------------------------------------

    def tokens(self) -> Tensor:
        """W_ih e of every node, a table shared by all steps and samples: [N, 3H]."""
        return linear(self.embedding.weight, self.cell.weight_ih, self.cell.bias_ih)

    def entering(self, node: Tensor, tokens: Tensor, features: Tensor, sample: Tensor) -> Tensor:
        """W_ih of what enters each of M steps, `node` [M] for the row `sample` [M] of the features -> [M, 3H]."""
        from_e = embedding(node, tokens)
        if self.feed is None:
            return from_e
        return from_e + linear(self.feed(features), self.cell.weight_ih).index_select(0, sample)

    def states_from(self, f: Tensor) -> Tensor:
        """W_hh f of each state, shared by all nodes below it: [M, H] -> [M, 3H]."""
        return linear(f, self.cell.weight_hh, self.cell.bias_hh)

    @staticmethod
    def gates(from_e: Tensor, from_f: Tensor, f: Tensor) -> Tensor:
        """nn.GRUCell (Eq. 1) written out: from W_ih e, W_hh f [M, 3H] and f [M, H] the next states [M, H]."""
        (r_e, z_e, n_e), (r_f, z_f, n_f) = from_e.chunk(3, -1), from_f.chunk(3, -1)
        new = torch.tanh(torch.addcmul(n_e, torch.sigmoid(r_e + r_f), n_f))
        return torch.lerp(new, f, torch.sigmoid(z_e + z_f))

    def slot_log_probs(
        self, features: Tensor, tree: PrefixTree, only: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """log p of every slot of the tree (as `decisions`), level by level: features [B, d] -> [B, E].

        only [B, S] bool: compute no other states (tree.wanted[y]: those that decide between paths to the classes y; a
        state asks for all states above it). The slots of the other states then hold values without meaning: enough for
        an objective that does not use them. tokens: what self.tokens() gives, where it is known already.
        """
        wanted = tree.wanted.any(0).expand(len(features), -1) if only is None else only
        tokens, f, scores = self.tokens() if tokens is None else tokens, self.first_state(features), []
        row = torch.empty(wanted.shape, dtype=torch.long, device=f.device)  # where each state stands in f
        for t, (first, last) in enumerate(tree.levels):
            here = wanted[:, tree.first_state[t] : tree.first_state[t + 1]] | (t == 0)  # the root in any case
            sample, state = here.nonzero(as_tuple=True)
            state = state + tree.first_state[t]  # the M states to compute
            if not len(state):
                scores.append(f.new_zeros(len(features), last - first))
                continue
            above = row[sample, tree.state_parent[state]] if t else sample
            from_f = self.states_from(f).index_select(0, above)
            from_e = self.entering(tree.state_node[state], tokens, features, sample)
            f = self.gates(from_e, from_f, f.index_select(0, above))  # [M, H]
            row.fill_(0)
            row[sample, state] = torch.arange(len(state), device=f.device)
            asked = getattr(tree, f"asked_{t}")  # the nodes that this level scores
            z = linear(f, embedding(asked, self.score.weight), self.score.bias[asked])  # [M, asked]
            at = row[:, tree.slot_state[first:last]] * len(asked) + tree.slot_column[first:last]
            scores.append(z.flatten().index_select(0, at.flatten()).view_as(at))
        z = torch.cat(scores, 1)
        logp = block_log_softmax(z, tree.slot_block, tree.block_exclusive)
        if not tree.has_stops:
            return logp
        go_on = logsigmoid(-z[:, tree.slot_stop.clamp(min=0)])
        return logp + go_on.masked_fill(tree.slot_stop < 0, 0.0)

    def sequence_log_probs(self, features: Tensor, tree: PrefixTree, path: Tensor, forced: Tensor) -> Tensor:
        """Part 1 of Algorithm 1, token by token: log p(v_{t+1} | v_t, f_t) summed over t. -> [B].

        features [B, d]; path [B]: one ground-truth path for each sample; forced [T] bool, the teacher-force coin of
        each step: True feeds the ground-truth token, False the model's own best answer to the same question. (The
        paper computes the loss before t_i is set; here the loss is on the ground-truth token, then t_i is fed.)
        """
        f, total, n_slots = self.first_state(features), features.new_zeros(len(path)), len(tree.slot_node)
        token = tree.state_node[:1].expand(len(path))
        for t, slot in enumerate(tree.path_slots[path].T):
            f = self.step(token, f, features)
            going, slot = slot < n_slots, slot.clamp(max=n_slots - 1)
            block = tree.slot_block[slot]
            rivals, real = tree.slots_from(tree.block_first[block], tree.block_size[block])  # [B, W]
            z = self.score(f)
            among = z.gather(1, tree.slot_node[rivals]).masked_fill(~real, -torch.inf)
            logp = torch.where(tree.block_exclusive[block, None], among.log_softmax(1), logsigmoid(among))
            truth = slot - tree.block_first[block]
            step = logp.gather(1, truth[:, None])[:, 0] + logsigmoid(-z[:, -1]) * (tree.slot_stop[slot] >= 0)
            total = total + torch.where(going, step, 0.0)
            token = tree.slot_node[tree.block_first[block] + (truth if bool(forced[t]) else among.argmax(1))]
            token = token.clamp(max=len(tree.graph.nodes) - 1)  # after <eop> nothing is fed
        return total

    @torch.no_grad()
    def sample(
        self,
        features: Tensor,
        tree: PrefixTree,
        tokens: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """One complete path drawn from p(P | x) for each sample, computing no state but its own: [B, d] -> [B].

        A path can end at legal answers only; of a literal tree, whose blocks hold others, the rest is drawn in
        proportion (which biases REINFORCE there).
        """
        tokens, f = self.tokens() if tokens is None else tokens, self.first_state(features)
        every = torch.arange(len(f), device=f.device)

        def draw(state: Tensor) -> Tensor:
            nonlocal f
            f = self.gates(self.entering(tree.state_node[state], tokens, features, every), self.states_from(f), f)
            slots, real = tree.slots_from(tree.state_first[state], tree.state_size[state])  # [B, W]
            all_z = self.score(f)
            z = all_z.gather(1, tree.slot_node[slots]).masked_fill(~real, -torch.inf)
            block = tree.slot_block[slots] - tree.slot_block[slots[:, :1]]
            total = block_logsumexp(z, block, int(block.max()) + 1).gather(1, block)
            logp = torch.where(tree.block_exclusive[tree.slot_block[slots]], z - total, logsigmoid(z))
            logp = logp + logsigmoid(-all_z[:, -1:]) * (tree.slot_stop[slots] >= 0) + tree.log_question[slots].to(z)
            noise = torch.empty_like(logp).exponential_(generator=generator).log()  # Gumbel-max: the largest is a draw
            drawn = (logp - noise).masked_fill(~(real & tree.leads[slots]), -torch.inf).argmax(1, keepdim=True)
            return slots.gather(1, drawn)[:, 0]

        return tree.walk(len(features), draw)


def greedy(tree: PrefixTree, slot_logp: Tensor) -> Tensor:
    """The paths of Algorithm 2 for all samples at once (plain form: PathDecoder.decode). [B, E] -> [B] path indices."""
    options = torch.zeros_like(tree.block_state).scatter_add(0, tree.slot_block, tree.leads.long())[tree.slot_block]
    idle = (options == 1) & tree.block_exclusive[tree.slot_block] & (not tree.literal)
    score = slot_logp.detach().exp() - 2.0 * idle  # probabilities lie in [0, 1]: idle questions come last
    stops = tree.slot_node == len(tree.graph.nodes)
    score = torch.where(stops, torch.where(slot_logp >= math.log(0.5), 2.0, -4.0), score)  # before or after all others

    def choose(state: Tensor) -> Tensor:
        slots, real = tree.slots_from(tree.state_first[state], tree.state_size[state])
        best = score.gather(1, slots).masked_fill(~(real & tree.leads[slots]), -torch.inf).argmax(1, keepdim=True)
        return slots.gather(1, best)[:, 0]

    return tree.walk(len(slot_logp), choose)
