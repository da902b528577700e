"""The prefix tree of all prediction paths to a set of labels: what a decoder scores, laid out as index tensors.

Paths that begin alike share their beginning, so the tree is scored once and every path's probability is a sum of
shared terms. Words used here and below:

state  a prefix v0 ... v of a path at which something is left to decide          S of them, sorted by depth
slot   one possible answer u at a state (a child of v, or <eop>)                 E of them, sorted by state
block  the slots of one state that compete: one question, one competing group    sorted by state
path   a slot that ends a path: a label with nothing below it, or an <eop>       P of them

From slot log-probabilities [B, E] (PathDecoder makes them) come path and label probabilities, samples and greedy
paths. The path distribution is: first the question, uniform over the blocks of the state, then the answer by block
softmax; so all complete paths sum to 1. The paper leaves the question open (its blocks sum to more than 1).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from labelaug_core.block_softmax import block_logsumexp
from labelaug_core.graph import EOP, GraphError, LabelGraph


class PrefixTree(nn.Module):
    """Index tensors of all paths from the root to `labels` (node names; class i is labels[i]); no parameters.

    literal=True keeps the paper's rule beside ours: a block is normalised over its whole competing group, also
    over nodes that are no child here (slots that lead nowhere). Raises GraphError beyond `cap` slots, and beyond
    500 `cap` pairs of a label and a slot: there are tables of that size here.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], literal: bool = False, cap: int = 200_000):
        super().__init__()
        self.graph, self.labels = graph, list(labels)
        if unknown := [v for v in labels if v not in graph.parents or v == graph.root]:
            raise GraphError(f"{graph.name}: the graph has no label node {unknown[0]!r}")
        if not self.labels:
            raise GraphError(f"{graph.name}: a prefix tree needs at least one label")
        class_of = {v: i for i, v in enumerate(self.labels)}
        legal = set(labels).union(*(graph.ancestors(v) for v in labels))
        members: dict[str, list[str]] = {}
        for v, g in graph.group.items():
            members.setdefault(g, []).append(v)

        state_prefix, slots, block_state, self.block_group = [(graph.root,)], [], [], []
        state_slot, levels, frontier = [-1], [], [0]
        while frontier:
            first, deeper = len(slots), []
            for s in frontier:
                v = state_prefix[s][-1]
                blocks = {g: [u for u in us if u in legal] for g, us in graph.blocks(v).items()}
                blocks = {g: us for g, us in blocks.items() if us} | ({EOP: [EOP]} if v in class_of else {})
                for g, answers in blocks.items():
                    ghosts = [u for u in members.get(g, ()) if u not in answers] if literal else []
                    for u in answers + ghosts:
                        prefix, child, label = (*state_prefix[s], u), -1, -1
                        if u == EOP:
                            label = class_of[v]
                        elif u in answers and not any(w in legal for w in graph.children(u)):
                            label = class_of[u]
                        elif u in answers:
                            child = len(state_prefix)
                            state_prefix.append(prefix)
                            state_slot.append(len(slots))
                            deeper.append(child)
                        slots.append((s, graph.index.get(u, len(graph.nodes)), len(block_state), child, label, prefix))
                    block_state.append(s)
                    self.block_group.append(g)
                    if len(slots) > cap:
                        raise GraphError(
                            f"{graph.name}: its paths need more than cap={cap} slots; raise `cap` if memory allows, "
                            "or use large.SampledPathHead"
                        )
            levels.append((first, len(slots)))
            frontier = deeper

        if len(labels) * len(slots) > 500 * cap:
            raise GraphError(
                f"{graph.name}: {len(labels)} labels and {len(slots)} slots need tables that are larger than cap={cap} "
                "allows; raise `cap` if memory allows, or use large.SampledPathHead"
            )

        def keep(name: str, values, dtype=torch.long) -> None:
            self.register_buffer(name, torch.tensor(values, dtype=dtype), persistent=False)

        keep("state_node", [graph.index[p[-1]] for p in state_prefix])
        keep("state_parent", [slots[e][0] if e >= 0 else -1 for e in state_slot])
        for i, name in enumerate(("slot_state", "slot_node", "slot_block", "slot_child", "slot_label")):
            keep(name, [slot[i] for slot in slots])
        keep("block_state", block_state)
        keep("block_exclusive", [graph.exclusive.get(g, True) for g in self.block_group], torch.bool)
        keep("state_blocks", torch.bincount(self.block_state).tolist())
        self.levels = levels  # per depth: the range of its slots
        depth_of = [len(p) - 1 for p in state_prefix]
        self.first_state = [depth_of.index(t) for t in range(len(levels))] + [len(state_prefix)]
        self.prefixes = [slot[5] for slot in slots]

        ends = [e for e, slot in enumerate(slots) if slot[4] >= 0]
        self.paths = [tuple(v for v in self.prefixes[e] if v != EOP) for e in ends]
        keep("path_slot", ends)
        keep("path_label", [slots[e][4] for e in ends])
        keep("slot_path", [ends.index(e) if slot[4] >= 0 else -1 for e, slot in enumerate(slots)])
        depth = len(levels)
        ways = []  # the slots of each path, root first, padded with E (an extra slot of log-probability 0)
        for e in ends:
            way = []
            while e >= 0:
                way.insert(0, e)
                e = state_slot[slots[e][0]]
            ways.append(way + [len(slots)] * (depth - len(way)))
        keep("path_slots", ways)
        on_way = torch.zeros(len(self.labels), len(slots) + 1, dtype=torch.bool)
        on_way[self.path_label[:, None].expand(-1, depth), self.path_slots] = True
        self.register_buffer("on_way", on_way[:, :-1], persistent=False)  # [K, E]: slots on some path to the label
        keep("block_size", torch.bincount(self.slot_block).tolist())
        keep("block_first", (self.block_size.cumsum(0) - self.block_size).tolist())
        keep("state_size", torch.bincount(self.slot_state).tolist())
        keep("state_first", (self.state_size.cumsum(0) - self.state_size).tolist())
        self.register_buffer("leads", (self.slot_child >= 0) | (self.slot_label >= 0), persistent=False)
        # [K, S]: the states on each label's way whose score matters: there or later on the way something is decided
        decides = (self.block_size > 1) | ~self.block_exclusive  # a lone answer has p = 1 whatever its score
        decides = torch.cat([decides[self.slot_block], torch.zeros(1, dtype=torch.bool)])[self.path_slots]  # [P, T]
        path, t = (decides.flip(1).cumsum(1).flip(1) > 0).nonzero(as_tuple=True)
        wanted = torch.zeros(len(self.labels), len(state_prefix), dtype=torch.bool)
        wanted[self.path_label[path], self.slot_state[self.path_slots[path, t]]] = True
        self.register_buffer("wanted", wanted, persistent=False)
        self.register_buffer(
            "question", -self._path_sum(self.state_blocks[self.slot_state].double().log()), persistent=False
        )
        keep("contains", [[float(v in path) for path in self.paths] for v in self.labels], torch.float)  # [K, P]
        certain = {v: set(graph.split_paths(v)[0]) for v in self.labels}
        keep("deterministic", [path in certain[path[-1]] for path in self.paths], torch.bool)  # [P], Def. 3.2

    def _range(self, first: Tensor, size: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
        """The slots first, first + 1, ... of each sample, padded with the last: [B, W], and which are real."""
        step = torch.arange(int(table.max()), device=first.device)
        return first[:, None] + step.minimum(size[:, None] - 1), step < size[:, None]

    def block_slots(self, block: Tensor) -> tuple[Tensor, Tensor]:
        """[B] -> [B, W] the slots of each sample's block, padded, and [B, W] bool, which are real."""
        return self._range(self.block_first[block], self.block_size[block], self.block_size)

    def state_slots(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """[B] -> [B, W] the slots of each sample's state, padded, and [B, W] bool, which are real."""
        return self._range(self.state_first[state], self.state_size[state], self.state_size)

    def wanted_on(self, path: Tensor) -> Tensor:
        """[B] path indices -> [B, S] bool: the states on each path."""
        slots = self.path_slots[path]
        state = self.slot_state[torch.where(slots < len(self.slot_node), slots, slots[:, :1])]  # padded: the root
        nowhere = torch.zeros(len(path), len(self.state_node), dtype=torch.bool, device=path.device)
        return nowhere.scatter(1, state, True)

    def _path_sum(self, per_slot: Tensor) -> Tensor:
        """[..., E] -> [..., P]: the sum over the slots of each path."""
        padded = torch.cat([per_slot, per_slot.new_zeros(*per_slot.shape[:-1], 1)], -1)
        slots = self.path_slots.flatten()  # index_select: the gradient of an index by a table is slow
        return padded.index_select(-1, slots).unflatten(-1, self.path_slots.shape).sum(-1)

    def answer_log_probs(self, slot_logp: Tensor) -> Tensor:
        """log p of each path's answers, the questions given: Eq. 2's sum over t. [B, E] -> [B, P]."""
        return self._path_sum(slot_logp)

    def path_log_probs(self, slot_logp: Tensor) -> Tensor:
        """log p(P | x) of every complete path, questions included; exp sums to 1 over P. [B, E] -> [B, P]."""
        return self._path_sum(slot_logp) + self.question.to(slot_logp.dtype)

    def label_log_probs(self, slot_logp: Tensor) -> Tensor:
        """Exact log p(label | x): the log of the summed probability of the label's paths. [B, E] -> [B, K].

        That is the probability that a path *ends* at the label. Where an inner label (cat) and labels below it are
        evaluated together, cat means "cat, and no more is said".
        """
        return block_logsumexp(self.path_log_probs(slot_logp), self.path_label, len(self.labels))

    def question_log_likelihood(self, slot_logp: Tensor, y: Tensor) -> Tensor:
        """Mean over the questions below each node on the way of log P_b(label), from the leaves up. [B, E] -> [B].

        P_b sums the unknown answers of block b out: Q(v) = mean over b of log sum over u in b of p(u | v) exp Q(u),
        with Q(label) = 0; blocks that do not lead to the label are not asked.
        """
        below, first_below = slot_logp.new_zeros(len(slot_logp), 1), len(self.state_node)
        for first, last in reversed(self.levels):
            child = self.slot_child[first:last]
            z = slot_logp[:, first:last] + below[:, torch.where(child >= 0, child - first_below, -1)]
            block = self.slot_block[first:last]
            b0, b1 = int(block[0]), int(block[-1]) + 1
            p_block = block_logsumexp(z.masked_fill(~self.on_way[y, first:last], -torch.inf), block - b0, b1 - b0)
            asked = p_block > -torch.inf
            state = self.block_state[b0:b1]
            first_below = int(state[0])
            n = int(state[-1]) - first_below + 1
            index = (state - first_below).expand(p_block.shape)
            total = slot_logp.new_zeros(len(y), n).scatter_add(1, index, p_block.masked_fill(~asked, 0.0))
            count = slot_logp.new_zeros(len(y), n).scatter_add(1, index, asked.to(total.dtype))
            below = torch.cat([total / count.clamp(min=1), total.new_zeros(len(y), 1)], 1)  # last: an ended path
        return below[:, 0]

    def _walk(self, batch: int, choose) -> Tensor:
        """Follow choose(each sample's state [B]) -> its slot [B], from the root until every path has ended."""
        state = torch.zeros(batch, dtype=torch.long, device=self.state_node.device)
        path = torch.full_like(state, -1)
        for _ in self.levels:
            slot = choose(state)
            done = path >= 0
            path = torch.where(done, path, self.slot_path[slot])
            state = torch.where(done | (path >= 0), state, self.slot_child[slot])
        return path

    def draw(self, slots: Tensor, logp: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One slot for each sample, slots [B, W] with log-probabilities logp [B, W] (they need not sum to 1)."""
        p = logp.new_zeros(len(logp), len(self.slot_node)).scatter_add(1, slots, logp.softmax(1))
        return torch.multinomial(p, 1, generator=generator)[:, 0]  # over [B, E]: the same draws for every use

    def sample(self, slot_logp: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One path drawn from the path distribution for each sample. [B, E] -> [B] path indices."""

        def choose(state: Tensor) -> Tensor:
            slots, real = self.state_slots(state)  # the questions of a state are equally likely: nothing to subtract
            real = real & self.leads[slots]
            return self.draw(slots, slot_logp.detach().gather(1, slots).masked_fill(~real, -torch.inf), generator)

        return self._walk(len(slot_logp), choose)

    def greedy(self, slot_logp: Tensor, literal: bool = False) -> Tensor:
        """Algorithm 2: at each step the most probable legal answer, until <eop>. [B, E] -> [B] path indices.

        A question with one legal answer says nothing (p = 1), so it is asked only where no other is left;
        literal=True drops that rule, as the paper does, and then such a question always wins.
        """
        options = torch.zeros_like(self.block_state).scatter_add(0, self.slot_block, self.leads.long())
        idle = (options[self.slot_block] == 1) & self.block_exclusive[self.slot_block] & (not literal)
        score = slot_logp.detach().exp() - 2.0 * idle  # probabilities lie in [0, 1]: idle questions come last

        def choose(state: Tensor) -> Tensor:
            slots, real = self.state_slots(state)
            best = score.gather(1, slots).masked_fill(~(real & self.leads[slots]), -torch.inf).argmax(1)
            return slots.gather(1, best[:, None])[:, 0]

        return self._walk(len(slot_logp), choose)
