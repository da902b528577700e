"""Graphs whose paths are too many to list: decoding and training without a prefix tree.

A PathDecoder is run along the paths that are kept (greedy, beam) or drawn (training), and on them it scores the
children of each node alone. Memory grows with the graph's edges and the paths held, not with N x N nor with the
number of all paths. On graphs small enough for a PrefixTree everything here equals what the tree gives.
"""

from __future__ import annotations

import math
import random

import networkx as nx
import torch
from torch import Tensor, nn

from labelaug_core.block_softmax import block_log_softmax, block_logsumexp
from labelaug_core.decoder import PathDecoder
from labelaug_core.graph import LabelGraph


class Edges(nn.Module):
    """All moves on paths to `labels` (class i is labels[i]) as a CSR adjacency: index tensors, no parameters.

    n_evaluated: the first so many labels are evaluated (default: all), as in PrefixTree: a path may stop at them.
    The slots (possible answers) of node v are first[v] ... first[v + 1] - 1, block by block, in PrefixTree's order.
    child [E]: the slot's node, N for <eop>; block [E]; label [E]: the class of a slot that ends a path, else -1;
    lone [E] bool: the only answer of its block; log_question [E], float64: minus the log of the number of questions
    beside it (0 for <eop>); exclusive [n_blocks]; stops [N] bool: a path may stop here, or go on.
    Raises GraphError naming labels that are no node of the graph or given twice, and for no label.
    """

    def __init__(self, graph: LabelGraph, labels: list[str], n_evaluated: int | None = None):
        super().__init__()
        self.graph, self.labels = graph, list(labels)
        graph.check_labels(labels)
        evaluated = set(self.labels[:n_evaluated])
        class_of, leads = {v: i for i, v in enumerate(labels)}, set()  # leads: to a label below
        for v in reversed(list(nx.topological_sort(graph.networkx))):
            if any(u in class_of or u in leads for u in graph.children(v)):
                leads.add(v)
        first, slots, exclusive, questions = [0], [], [], []  # questions: of each slot
        for v in graph.nodes:
            blocks = graph.blocks(v) if v in leads else {}
            legal = {g: [u for u in us if u in class_of or u in leads] for g, us in blocks.items()}
            for g, answers in legal.items():
                ends = (-1 if u in leads else class_of[u] for u in answers)
                slots += [(graph.index[u], len(exclusive), end) for u, end in zip(answers, ends, strict=True)]
                exclusive += [graph.exclusive[g]] if answers else []
            questions += [sum(map(bool, legal.values()))] * (len(slots) - len(questions))
            if v in leads and v in evaluated:
                slots.append((len(graph.nodes), len(exclusive), class_of[v]))
                exclusive.append(False)
                questions.append(1)
            first.append(len(slots))
        child, block, label = torch.tensor(slots).T.contiguous()
        lone = (block.bincount()[block] == 1) & torch.tensor(exclusive)[block]
        tensors = {"first": torch.tensor(first), "child": child, "block": block, "label": label, "lone": lone}
        tensors |= {"exclusive": torch.tensor(exclusive), "log_question": -torch.tensor(questions).double().log()}
        tensors["stops"] = torch.tensor([v in leads and v in evaluated for v in graph.nodes])
        for name, values in tensors.items():
            self.register_buffer(name, values, persistent=False)

    def path(self, label: str, i: int) -> list[int]:
        """Path number i of n_paths[label]: its nodes from the root on, and <eop> where a path may stop."""
        v, path = label, [self.graph.index[label]]
        ends = [len(self.graph.nodes)] if self.stops[path[0]] else []
        while v != self.graph.root:
            for parent in self.graph.parents[v]:
                if i < self.graph.n_paths[parent]:
                    break
                i -= self.graph.n_paths[parent]
            v = parent
            path.append(self.graph.index[v])
        return path[::-1] + ends

    def decisions(self, decoder: PathDecoder, f: Tensor, node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p of every decision at M states, f [M, H] at node [M]: row [W] (of which state), slot [W], log p [W].

        As PathDecoder.decisions: to stop, or to go on and give the answer, its question given.
        """
        nodes, rows = node.unique(return_inverse=True)
        rows, counts = rows.argsort(stable=True), rows.bincount().tolist()
        first, size = self.first[node[rows]], self.first.diff()[node[rows]]
        row = rows.repeat_interleave(size)
        slot = torch.arange(len(row), device=f.device) - (size.cumsum(0) - size - first).repeat_interleave(size)
        below = [self.child[self.first[v] : self.first[v + 1]] for v in nodes.tolist()]
        sizes, asked = [len(b) for b in below], torch.cat(below)  # each node's weights are read once, all in one go:
        weights = decoder.score.weight.index_select(0, asked).split(sizes)  # the gradient of each read is [N, H]
        biases = decoder.score.bias.index_select(0, asked).split(sizes)
        states = f[rows].split(counts)
        z = [nn.functional.linear(*at).flatten() for at in zip(states, weights, biases, strict=True)]
        n_blocks = len(self.exclusive)
        asked, block = (row * n_blocks + self.block[slot]).unique_consecutive(return_inverse=True)
        logp = block_log_softmax(torch.cat(z), block, self.exclusive[asked % n_blocks])
        z_stop = nn.functional.linear(f, decoder.score.weight[-1:], decoder.score.bias[-1:])[:, 0]  # <eop> comes last
        goes_on = self.stops[node[row]] & (self.child[slot] < len(self.stops))
        return row, slot, logp + nn.functional.logsigmoid(-z_stop)[row].masked_fill(~goes_on, 0.0)

    def path_log_probs(self, decoder: PathDecoder, features: Tensor, paths: list[list[int]]) -> Tensor:
        """log p(path | x), questions included, of one path a row: features [R, d], as `path` gives them -> [R]."""
        nodes = nn.utils.rnn.pad_sequence([torch.tensor(p) for p in paths], batch_first=True, padding_value=-1)
        nodes = nodes.to(features.device)
        f, total = at_root(decoder, features), features.new_zeros(len(nodes))
        at = torch.arange(len(nodes), device=features.device)
        for t in range(1, nodes.shape[1]):
            row, slot, logp = self.decisions(decoder, f, nodes[at, t - 1])
            taken = self.child[slot] == nodes[at, t][row]
            logp = logp[taken] + self.log_question[slot[taken]].to(logp.dtype)
            total = total.to(logp.dtype).index_add(0, at[row[taken]], logp)
            if t + 1 < nodes.shape[1]:
                going = nodes[at, t + 1] >= 0
                at = at[going]
                f = decoder.step(nodes[at, t], f[going])
        return total


def at_root(decoder: PathDecoder, features: Tensor) -> Tensor:
    """f_1, the state at the root (node 0): [B, d] -> [B, H]."""
    f = decoder.first_state(features)
    return decoder.step(torch.zeros(len(f), dtype=torch.long, device=f.device), f)


@torch.no_grad()
def greedy(decoder: PathDecoder, features: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """Algorithm 2, as labelaug_core.decoder.greedy: the class [B], and the path's nodes [B, T], padded with -1.

    A question with one legal answer is asked only where no other is left; of equal answers the first is taken.
    """
    f, at = at_root(decoder, features), torch.arange(len(features), device=features.device)
    node, label = torch.zeros_like(at), torch.full_like(at, -1)
    path = [node]
    while len(at):
        row, slot, logp = edges.decisions(decoder, f, node)
        score = logp.exp() - 2.0 * edges.lone[slot]  # probabilities lie in [0, 1]: idle questions come last
        to_stop = torch.where(logp >= math.log(0.5), 2.0, -4.0).to(score)  # before or after all others
        score = torch.where(edges.child[slot] == len(edges.stops), to_stop, score)
        best = score.new_full((len(at),), -torch.inf).scatter_reduce(0, row, score, "amax")
        slot = torch.where(score == best[row], slot, len(edges.child))
        slot = torch.full_like(at, len(edges.child)).scatter_reduce(0, row, slot, "amin")
        label[at], node = edges.label[slot], edges.child[slot]
        path.append(torch.full_like(label, -1).index_put((at,), node))
        going = edges.label[slot] < 0
        at, node = at[going], node[going]
        f = decoder.step(node, f[going])
    path = torch.stack(path, 1)
    return label, path.masked_fill(path == len(edges.graph.nodes), -1)


@torch.no_grad()
def beam(decoder: PathDecoder, features: Tensor, edges: Edges, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable paths found with `width` prefixes kept a step, best first, at most `width` a sample.

    Returns the class [B, W], log p(path | x) [B, W] (questions included, as PrefixTree.path_log_probs) and the nodes
    [B, W, T]; padded with -1, -inf and -1. Exact where no step has more than `width` prefixes and ended paths.
    """
    f, sample = at_root(decoder, features), torch.arange(len(features), device=features.device)
    path, label, total = torch.zeros_like(sample)[:, None], torch.full_like(sample, -1), f.new_zeros(len(f))
    while len(f):
        going, ended = (label < 0).nonzero()[:, 0], (label >= 0).nonzero()[:, 0]  # f holds the states of `going`
        row, slot, logp = edges.decisions(decoder, f, path[going, -1])
        logp = total[going][row] + logp + edges.log_question[slot].to(logp.dtype)
        origin, total = torch.cat([ended, going[row]]), torch.cat([total[ended], logp])
        row = torch.cat([torch.full_like(ended, -1), row])
        label = torch.cat([label[ended], edges.label[slot]])
        node = torch.cat([torch.full_like(ended, -1), edges.child[slot]])
        best = total.argsort(descending=True, stable=True)
        best = best[sample[origin][best].argsort(stable=True)]  # sample by sample, each best first
        count = sample[origin].bincount(minlength=len(features))
        rank = torch.arange(len(best), device=f.device) - (count.cumsum(0) - count).repeat_interleave(count)
        kept = best[rank < width]
        path, total, label = torch.cat([path[origin[kept]], node[kept, None]], 1), total[kept], label[kept]
        sample, going = sample[origin[kept]], kept[label < 0]
        f = decoder.step(node[going], f[row[going]])
    path = path.masked_fill(path == len(edges.graph.nodes), -1)
    count = sample.bincount(minlength=len(features)).tolist()
    padded = ((label, -1), (total, -torch.inf), (path, -1))
    return tuple(nn.utils.rnn.pad_sequence(x.split(count), batch_first=True, padding_value=p) for x, p in padded)


class SampledPathHead(nn.Module):
    """PathHead for graphs too large for a PrefixTree: trained on sampled paths, evaluated by beam.

    hidden: H. k: ground-truth paths a sample; width: of the beam.
    Raises GraphError naming groups of the graph whose members do not compete: their paths would not sum to 1.
    """

    def __init__(
        self, graph: LabelGraph, labels: list[str], n_fine: int, d: int, hidden: int = 256, k: int = 8, width: int = 8
    ):
        super().__init__()
        self.decoder = PathDecoder(graph, d, hidden)
        self.edges, self.fine_edges = Edges(graph, labels, n_fine), Edges(graph, labels[:n_fine])
        self.k, self.width = k, width
        names = graph.nodes  # a new list at each call
        graph.check_competing({graph.group[names[v]] for v in self.edges.child.unique().tolist() if v < len(names)})

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """-log p(label | x), of a coarse label that it is reached: features [B, d], y [B] label indices -> scalar.

        Exact for a label with at most k paths. For others p is estimated by k paths drawn uniformly: that estimate
        is unbiased, and its -log is in expectation an upper bound that tightens with k.
        """
        edges = self.edges if is_coarse else self.fine_edges
        rng = random.Random(int(torch.randint(2**62, ())))
        paths, owner, weight = [], [], []
        for b, label in enumerate(edges.labels[c] for c in y.tolist()):
            n = edges.graph.n_paths[label]
            drawn = range(n) if n <= self.k else [rng.randrange(n) for _ in range(self.k)]
            paths += [edges.path(label, i) for i in drawn]
            owner += [b] * len(drawn)
            weight.append(math.log(n) - math.log(len(drawn)))
        owner = torch.tensor(owner, device=y.device)
        logp = block_logsumexp(edges.path_log_probs(self.decoder, features[owner], paths), owner, len(y))
        return -(logp + logp.new_tensor(weight)).mean()

    def predictions(self, features: Tensor) -> dict[str, Tensor]:
        """log_probs [B, n_fine] and greedy [B]. A label has the probability of its paths in the beam and, of what the
        beam has missed, the same share as every other label."""
        label, logp, _ = beam(self.decoder, features, self.fine_edges, self.width)
        n = len(self.fine_edges.labels)
        p = logp.new_zeros(len(label), n + 1).scatter_add(1, label % (n + 1), logp.exp())[:, :n]  # padding: column n
        missed = (1 - p.sum(1, keepdim=True)).clamp(min=torch.finfo(p.dtype).eps)
        return {
            "log_probs": (p + missed / n).log(),
            "greedy": greedy(self.decoder, features, self.fine_edges)[0],
        }
