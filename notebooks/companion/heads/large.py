"""Graphs whose paths are too many to list: decoding and training without a prefix tree.

A PathDecoder is run along the paths that are kept (greedy, beam) or drawn (training), and on them it scores the
children of each node alone. Memory grows with the graph's edges and the paths held, not with N x N nor with the
number of all paths. On graphs small enough for a PrefixTree everything here equals what the tree gives.
"""

from __future__ import annotations

import math
import random
from functools import cached_property

import networkx as nx
import torch
from torch import Tensor, nn

from labelaug_core.block_softmax import block_log_softmax, block_logsumexp
from labelaug_core.decoder import PathDecoder
from labelaug_core.graph import GraphError, LabelGraph


class Edges(nn.Module):
    """All moves on paths to `labels` (class i is labels[i]) as a CSR adjacency: index tensors, no parameters.

    The slots (possible answers) of node v are first[v] ... first[v + 1] - 1, block by block, in PrefixTree's order.
    child [E]: the slot's node, N for <eop>; block [E]; label [E]: the class of a slot that ends a path, else -1;
    lone [E] bool: the only answer of its block; exclusive [n_blocks]; log_questions [N], float64: the log of the number
    of v's blocks (-inf: none).
    Raises GraphError for a label that is no node of the graph, and for no label.
    """

    def __init__(self, graph: LabelGraph, labels: list[str]):
        super().__init__()
        self.graph, self.labels = graph, list(labels)
        if unknown := [v for v in labels if v not in graph.parents or v == graph.root]:
            raise GraphError(f"{graph.name}: the graph has no label node {unknown[0]!r}")
        if not self.labels:
            raise GraphError(f"{graph.name}: edges need at least one label to lead to")
        class_of, leads = {v: i for i, v in enumerate(labels)}, set()  # leads: to a label below
        for v in reversed(list(nx.topological_sort(graph.networkx))):
            if any(u in class_of or u in leads for u in graph.children(v)):
                leads.add(v)
        first, slots, exclusive, questions = [0], [], [], []
        for v in graph.nodes:
            blocks = graph.blocks(v) if v in leads else {}
            legal = {g: [u for u in us if u in class_of or u in leads] for g, us in blocks.items()}
            for g, answers in legal.items():
                ends = (-1 if u in leads else class_of[u] for u in answers)
                slots += [(graph.index[u], len(exclusive), end) for u, end in zip(answers, ends, strict=True)]
                exclusive += [graph.exclusive[g]] if answers else []
            if v in leads and v in class_of:
                slots.append((len(graph.nodes), len(exclusive), class_of[v]))
                exclusive.append(True)
            questions.append(sum(map(bool, legal.values())) + (v in leads and v in class_of))
            first.append(len(slots))
        child, block, label = torch.tensor(slots).T.contiguous()
        lone = (block.bincount()[block] == 1) & torch.tensor(exclusive)[block]
        tensors = {"first": torch.tensor(first), "child": child, "block": block, "label": label, "lone": lone}
        tensors |= {"exclusive": torch.tensor(exclusive), "log_questions": torch.tensor(questions).double().log()}
        for name, values in tensors.items():
            self.register_buffer(name, values, persistent=False)

    @cached_property
    def n_paths(self) -> dict[str, int]:
        """How many paths lead from the root to each node, exactly: dynamic programming in one pass."""
        counts = {self.graph.root: 1}
        for v in nx.topological_sort(self.graph.networkx):
            counts.setdefault(v, sum(counts[p] for p in self.graph.parents[v]))
        return counts

    def path(self, label: str, i: int) -> list[int]:
        """Path number i < n_paths[label] to the label: its nodes from the root on, and <eop> where paths go on."""
        v, path = label, [self.graph.index[label]]
        ends = [len(self.graph.nodes)] if self.log_questions[path[0]] >= 0 else []
        while v != self.graph.root:
            for parent in self.graph.parents[v]:
                if i < self.n_paths[parent]:
                    break
                i -= self.n_paths[parent]
            v = parent
            path.append(self.graph.index[v])
        return path[::-1] + ends

    def answers(self, decoder: PathDecoder, f: Tensor, node: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log p of every answer at M states, f [M, H] at node [M]: row [W] (of which state), slot [W], log p [W]."""
        nodes, rows = node.unique(return_inverse=True)
        rows, counts = rows.argsort(stable=True), rows.bincount().tolist()
        first, size = self.first[node[rows]], self.first.diff()[node[rows]]
        row = rows.repeat_interleave(size)
        slot = torch.arange(len(row), device=f.device) - (size.cumsum(0) - size - first).repeat_interleave(size)
        z = []
        for v, f_v in zip(nodes.tolist(), f[rows].split(counts), strict=True):  # each node's weights are read once
            below = self.child[self.first[v] : self.first[v + 1]]
            z.append(nn.functional.linear(f_v, decoder.score.weight[below], decoder.score.bias[below]).flatten())
        n_blocks = len(self.exclusive)
        asked, block = (row * n_blocks + self.block[slot]).unique_consecutive(return_inverse=True)
        return row, slot, block_log_softmax(torch.cat(z), block, self.exclusive[asked % n_blocks])

    def path_log_probs(self, decoder: PathDecoder, features: Tensor, paths: list[list[int]]) -> Tensor:
        """log p(path | x), questions included, of one path a row: features [R, d], as `path` gives them -> [R]."""
        nodes = nn.utils.rnn.pad_sequence([torch.tensor(p) for p in paths], batch_first=True, padding_value=-1)
        nodes = nodes.to(features.device)
        f, at, total = start(decoder, features), torch.arange(len(nodes), device=features.device), 0.0
        for t in range(1, nodes.shape[1]):
            row, slot, logp = self.answers(decoder, f, nodes[at, t - 1])
            taken = self.child[slot] == nodes[at, t][row]
            logp = logp[taken] - self.log_questions[nodes[at, t - 1]][row[taken]].to(logp.dtype)
            total = total + logp.new_zeros(len(nodes)).index_add(0, at[row[taken]], logp)
            if t + 1 < nodes.shape[1]:
                going = nodes[at, t + 1] >= 0
                at = at[going]
                f = decoder.cell(decoder.embedding(nodes[at, t]), f[going])
        return total


def start(decoder: PathDecoder, features: Tensor) -> Tensor:
    """f_1, the state at the root (node 0): [B, d] -> [B, H]."""
    f = torch.tanh(decoder.start(features))
    return decoder.cell(decoder.embedding.weight[:1].expand(len(f), -1), f)


@torch.no_grad()
def greedy(decoder: PathDecoder, features: Tensor, edges: Edges) -> tuple[Tensor, Tensor]:
    """Algorithm 2, as PrefixTree.greedy: the class [B], and the path's nodes [B, T], padded with -1.

    A question with one legal answer is asked only where no other is left; of equal answers the first is taken.
    """
    f, at = start(decoder, features), torch.arange(len(features), device=features.device)
    node, label = torch.zeros_like(at), torch.full_like(at, -1)
    path = [node]
    while len(at):
        row, slot, logp = edges.answers(decoder, f, node)
        score = logp.exp() - 2.0 * edges.lone[slot]
        best = score.new_full((len(at),), -torch.inf).scatter_reduce(0, row, score, "amax")
        slot = torch.where(score == best[row], slot, len(edges.child))
        slot = torch.full_like(at, len(edges.child)).scatter_reduce(0, row, slot, "amin")
        label[at], node = edges.label[slot], edges.child[slot]
        path.append(torch.full_like(label, -1).index_put((at,), node))
        going = edges.label[slot] < 0
        at, node = at[going], node[going]
        f = decoder.cell(decoder.embedding(node), f[going])
    path = torch.stack(path, 1)
    return label, path.masked_fill(path == len(edges.graph.nodes), -1)


@torch.no_grad()
def beam(decoder: PathDecoder, features: Tensor, edges: Edges, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """The most probable paths found with `width` prefixes kept a step, best first, at most `width` a sample.

    Returns the class [B, W], log p(path | x) [B, W] (questions included, as PrefixTree.path_log_probs) and the nodes
    [B, W, T]; padded with -1, -inf and -1. Exact where no step has more than `width` prefixes and ended paths.
    """
    f, sample = start(decoder, features), torch.arange(len(features), device=features.device)
    path, label, total = torch.zeros_like(sample)[:, None], torch.full_like(sample, -1), f.new_zeros(len(f))
    while len(f):
        going, ended = (label < 0).nonzero()[:, 0], (label >= 0).nonzero()[:, 0]  # f holds the states of `going`
        row, slot, logp = edges.answers(decoder, f, path[going, -1])
        logp = total[going][row] + logp - edges.log_questions[path[going, -1]][row].to(logp.dtype)
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
        f = decoder.cell(decoder.embedding(node[going]), f[row[going]])
    path = path.masked_fill(path == len(edges.graph.nodes), -1)
    count = sample.bincount(minlength=len(features)).tolist()
    padded = ((label, -1), (total, -torch.inf), (path, -1))
    return tuple(nn.utils.rnn.pad_sequence(x.split(count), batch_first=True, padding_value=p) for x, p in padded)


class SampledPathHead(nn.Module):
    """PathHead for graphs too large for a PrefixTree: trained on sampled paths, evaluated by beam.

    labels, n_fine, hidden as there. k: ground-truth paths a sample; width: of the beam.
    """

    def __init__(
        self, graph: LabelGraph, labels: list[str], n_fine: int, d: int, hidden: int = 256, k: int = 8, width: int = 8
    ):
        super().__init__()
        self.decoder = PathDecoder(graph, d, hidden)
        self.edges, self.fine_edges = Edges(graph, labels), Edges(graph, labels[:n_fine])
        self.k, self.width = k, width

    def loss(self, features: Tensor, y: Tensor, is_coarse: bool = False) -> Tensor:
        """-log p(label | x), a mean over the batch: features [B, d], y [B] indices into labels -> scalar.

        Exact for a label with at most k paths. For others p is estimated by k paths drawn uniformly: that estimate
        is unbiased, and its -log is in expectation an upper bound that tightens with k.
        """
        edges = self.edges if is_coarse else self.fine_edges
        rng = random.Random(int(torch.randint(2**62, ())))
        paths, owner, weight = [], [], []
        for b, label in enumerate(edges.labels[c] for c in y.tolist()):
            n = edges.n_paths[label]
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
