"""The prefix tree: all paths from the root to a set of labels, sharing their beginnings, laid out as index tensors.

Words used here and below:

state  a prefix v0 ... v of a path at which something is left to decide                S of them, sorted by depth
slot   one decision at a state: the answer u (a child of v), or to stop (<eop>)        E of them, sorted by state
block  the slots of one state that compete: one question, one competing group          sorted by state
path   a slot at which a label is decided, with all slots above it                     P of them
level  all states and slots of one depth                                               T of them

The probability of a path: at an evaluated label that has legal children first *stop or go on*; after going on the
question, uniform over the questions of the state; then the answer, by block softmax. So all complete paths sum to 1.
(The paper leaves the question open: its blocks sum to more than 1.) At a label with nothing below it stopping is
certain. A coarse label above other labels means "at least this": its path ends where the label is reached, and the
probability of that path is the probability of reaching it.

The decoder gives slot log-probabilities [B, E], the log of p(u | v, question), times p(go on) where v is evaluated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from labelaug_core.block_softmax import block_logsumexp
from labelaug_core.graph import EOP, GraphError, LabelGraph


@dataclass
class State:
    """A prefix of paths; `slot` is the slot that leads to it (-1: the root)."""

    prefix: tuple[str, ...]
    slot: int


@dataclass
class Slot:
    """One decision at a state. child: the state below (-1: none); label: the class decided here (-1: none)."""

    state: int
    block: int
    answer: str
    child: int = -1
    label: int = -1


@dataclass
class Grown:
    """A tree before it is indexed: block b belongs to state block_state[b] and to the group block_group[b]."""

    states: list[State]
    slots: list[Slot] = field(default_factory=list)
    block_state: list[int] = field(default_factory=list)
    block_group: list[str] = field(default_factory=list)
    levels: list[tuple[int, int]] = field(default_factory=list)  # of each depth its first slot and the one after


def grow(graph: LabelGraph, labels: list[str], n_evaluated: int, literal: bool, cap: int) -> Grown:
    """Grow the tree level by level. Raises GraphError beyond `cap` slots (see PrefixTree for the arguments)."""
    class_of, evaluated = {v: i for i, v in enumerate(labels)}, set(labels[:n_evaluated])
    legal = set(labels).union(*(graph.ancestors(v) for v in labels))
    members: dict[str, list[str]] = {}
    for v, g in graph.group.items():
        members.setdefault(g, []).append(v)
    tree, frontier = Grown([State((graph.root,), -1)]), [0]
    while frontier:
        first, deeper = len(tree.slots), []
        for s in frontier:
            v = tree.states[s].prefix[-1]
            questions = {g: [u for u in us if u in legal] for g, us in graph.blocks(v).items()}
            questions |= {EOP: [EOP]} if v in evaluated else {}
            for g, answers in questions.items():
                ghosts = [u for u in members.get(g, ()) if u not in answers] if literal and answers else []
                for u in answers + ghosts:
                    slot = Slot(s, len(tree.block_state), u)
                    if u == EOP:
                        slot.label = class_of[v]
                    elif u in answers:
                        if inner := any(w in legal for w in graph.children(u)):
                            slot.child = len(tree.states)
                            tree.states.append(State((*tree.states[s].prefix, u), len(tree.slots)))
                            deeper.append(slot.child)
                        slot.label = -1 if inner and u in evaluated else class_of.get(u, -1)
                    tree.slots.append(slot)
                if answers:
                    tree.block_state.append(s)
                    tree.block_group.append(g)
                if max(len(tree.slots), len(labels) * len(tree.slots) // 500) > cap:  # there are [labels, slots] tables
                    raise GraphError(
                        f"{graph.name}: the paths of its {len(labels)} labels need more than cap={cap} slots, too many "
                        "for LabelAug; a PrefixTree takes another `cap` if memory allows"
                    )
        tree.levels.append((first, len(tree.slots)))
        frontier = deeper
    return tree


class PrefixTree(nn.Module):
    """Index tensors of all paths from the root to `labels` (node names; class i is labels[i]); no parameters.

    n_evaluated: the first so many labels are evaluated, a path may stop at them (default: all); the others are coarse.
    literal: the paper's rule beside ours: a block is normalised over its whole competing group, also over nodes that
    are no child here (slots that lead nowhere).
    Raises GraphError naming labels that the graph lacks or that are given twice, for no label, and for more than `cap`
    slots or 500 `cap` pairs of a label and a slot.
    """

    def __init__(
        self,
        graph: LabelGraph,
        labels: list[str],
        n_evaluated: int | None = None,
        literal: bool = False,
        cap: int = 200_000,
    ):
        super().__init__()
        self.graph, self.labels, self.literal = graph, list(labels), literal
        self.n_evaluated = len(labels) if n_evaluated is None else n_evaluated
        graph.check_labels(labels)
        self.legal = set(labels).union(*(graph.ancestors(v) for v in labels))  # the nodes of all these paths
        tree = grow(graph, self.labels, self.n_evaluated, literal, cap)
        self.levels, self.block_group = tree.levels, tree.block_group
        self.prefixes = [(*tree.states[slot.state].prefix, slot.answer) for slot in tree.slots]
        depth = [len(state.prefix) - 1 for state in tree.states]
        self.first_state = [depth.index(t) for t in range(len(tree.levels))] + [len(depth)]
        self._index_slots(tree)
        self._index_paths(tree)
        self._index_wanted()

    def _keep(self, name: str, values, dtype: torch.dtype = torch.long) -> None:
        self.register_buffer(name, torch.as_tensor(values, dtype=dtype), persistent=False)

    def _index_slots(self, tree: Grown) -> None:
        """Of each state, slot and block: its node, its place, its neighbours in the tree."""
        index = self.graph.index
        self._keep("state_node", [index[state.prefix[-1]] for state in tree.states])
        self._keep("state_parent", [0, *(tree.slots[state.slot].state for state in tree.states[1:])])
        self._keep("slot_state", [slot.state for slot in tree.slots])
        self._keep("slot_node", [index.get(slot.answer, len(index)) for slot in tree.slots])  # the last: <eop>
        self._keep("slot_block", [slot.block for slot in tree.slots])
        self._keep("slot_child", [slot.child for slot in tree.slots])
        self._keep("leads", [slot.child >= 0 or slot.label >= 0 for slot in tree.slots], torch.bool)
        self._keep("block_state", tree.block_state)
        self._keep("block_exclusive", [self.graph.exclusive.get(g, False) for g in tree.block_group], torch.bool)
        self._keep("block_size", self.slot_block.bincount())
        self._keep("block_first", self.block_size.cumsum(0) - self.block_size)
        self._keep("state_size", self.slot_state.bincount())
        self._keep("state_first", self.state_size.cumsum(0) - self.state_size)
        stop = {slot.state: e for e, slot in enumerate(tree.slots) if slot.answer == EOP}
        beside = [stop.get(slot.state, -1) if slot.answer != EOP else -1 for slot in tree.slots]
        self._keep("slot_stop", beside)  # the <eop> slot beside each other slot of the same state; -1: none
        self.has_stops = bool(stop)
        stopping = self.slot_node == len(index)
        questions = self.block_state.bincount() - torch.tensor([s in stop for s in range(len(tree.states))]).long()
        log_question = -questions[self.slot_state].double().log()  # the questions of a state are equally likely
        self._keep("log_question", log_question.masked_fill(stopping, 0.0), torch.float64)
        asked = [self.slot_node[a:b].unique(return_inverse=True) for a, b in tree.levels]
        for t, (nodes, _) in enumerate(asked):
            self._keep(f"asked_{t}", nodes)  # the nodes that level t scores, and each slot's place among them
        self._keep("slot_column", torch.cat([column for _, column in asked]))

    def _index_paths(self, tree: Grown) -> None:
        """Of each path: its label, its slots, is it complete, is it deterministic, which labels it earns."""
        ends = [e for e, slot in enumerate(tree.slots) if slot.label >= 0]
        n_slots, ways = len(tree.slots), []
        for e in ends:
            way = [e]
            while (e := tree.states[tree.slots[e].state].slot) >= 0:
                way.insert(0, e)
            ways.append(way + [n_slots] * (len(tree.levels) - len(way)))
        self.paths = [tuple(v for v in self.prefixes[e] if v != EOP) for e in ends]
        self._keep("path_slot", ends)
        self._keep("path_slots", ways)  # [P, T], root first, padded with E (one more slot, of log-probability 0)
        self._keep("path_label", [tree.slots[e].label for e in ends])
        self._keep("complete", [tree.slots[e].child < 0 for e in ends], torch.bool)
        number = {e: p for p, e in enumerate(ends) if tree.slots[e].child < 0}
        self._keep("slot_path", [number.get(e, -1) for e in range(n_slots)])
        on_way = torch.zeros(len(self.labels), n_slots + 1, dtype=torch.bool)
        on_way[self.path_label[:, None].expand(-1, len(tree.levels)), self.path_slots] = True
        self._keep("on_way", on_way[:, :-1], torch.bool)  # [K, E]: the slots on some path to the label
        certain = {v: set(self.graph.split_paths(v, len(ends))[0]) for v in self.labels}
        self._keep("deterministic", [path in certain[path[-1]] for path in self.paths], torch.bool)  # Def. 3.2
        inside = [[v in path for path in self.paths] for v in self.labels[self.n_evaluated :]]
        ending = self.path_label == torch.arange(self.n_evaluated)[:, None]
        earned = torch.cat([ending, torch.tensor(inside, dtype=torch.bool).view(-1, len(self.paths))])
        self._keep("earned", earned & self.complete, torch.float)  # [K, P]: stops at it; coarse: goes through it

    def _index_wanted(self) -> None:
        """Of each label the states that matter: there, or later on the way, something is decided."""
        decides = ((self.block_size > 1) | ~self.block_exclusive)[self.slot_block] | (self.slot_stop >= 0)
        decides = torch.cat([decides, torch.zeros(1, dtype=torch.bool)])[self.path_slots]  # [P, T]
        decides = decides.flip(1).cumsum(1).flip(1) > 0
        for name, paths in (("wanted", True), ("wanted_certain", self.deterministic[:, None])):  # [K, S] each
            path, t = (decides & paths).nonzero(as_tuple=True)
            wanted = torch.zeros(len(self.labels), len(self.state_node), dtype=torch.bool)
            wanted[self.path_label[path], self.slot_state[self.path_slots[path, t]]] = True
            self._keep(name, wanted, torch.bool)

    def wanted_on(self, path: Tensor) -> Tensor:
        """[B] path indices -> [B, S] bool: the states on each path."""
        slots = self.path_slots[path]
        state = self.slot_state[torch.where(slots < len(self.slot_node), slots, slots[:, :1])]  # padded: the root
        nowhere = torch.zeros(len(path), len(self.state_node), dtype=torch.bool, device=path.device)
        return nowhere.scatter(1, state, True)

    def slots_from(self, first: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
        """The slots first, first + 1, ... of each sample, padded with the last: [B] -> [B, W], and which are real."""
        step = torch.arange(int(size.max()), device=first.device)
        return first[:, None] + step.minimum(size[:, None] - 1), step < size[:, None]

    # -- sums over paths ----------------------------------------------------------------------------------------

    def answer_log_probs(self, slot_logp: Tensor) -> Tensor:
        """The sum over t of Eq. 2 for every path, the questions given: [B, E] -> [B, P]."""
        padded = torch.cat([slot_logp, slot_logp.new_zeros(*slot_logp.shape[:-1], 1)], -1)
        slots = self.path_slots.flatten()  # index_select: the gradient of an index by a table is slow
        return padded.index_select(-1, slots).unflatten(-1, self.path_slots.shape).sum(-1)

    def path_log_probs(self, slot_logp: Tensor) -> Tensor:
        """log p(P | x) of every path, questions included; exp sums to 1 over the complete ones. [B, E] -> [B, P]."""
        return self.answer_log_probs(slot_logp + self.log_question.to(slot_logp.dtype))

    def label_log_probs(self, slot_logp: Tensor) -> Tensor:
        """Exact log p(label | x): the log of the summed probability of the label's paths. [B, E] -> [B, K].

        Evaluated labels: that a path stops there, a distribution. Coarse labels: that a path reaches them.
        """
        return block_logsumexp(self.path_log_probs(slot_logp), self.path_label, len(self.labels))

    # -- walks through the tree ---------------------------------------------------------------------------------

    def walk(self, batch: int, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Follow choose(the state of each sample [B]) -> its slot [B] from the root until every path has ended."""
        state = torch.zeros(batch, dtype=torch.long, device=self.state_node.device)
        path = torch.full_like(state, -1)
        for _ in self.levels:
            slot = choose(state)
            path = torch.where(path >= 0, path, self.slot_path[slot])
            state = torch.where(path >= 0, state, self.slot_child[slot])
        return path
