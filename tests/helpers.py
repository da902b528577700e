"""What the core's tests share: a graph of ten nodes, random graphs, and path probabilities the slow way."""

from __future__ import annotations

import copy

import networkx as nx
import numpy as np
import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from labelaug_core.data import Split, Task
from labelaug_core.decoder import PathDecoder
from labelaug_core.encoders import Identity
from labelaug_core.graph import LabelGraph
from labelaug_core.graph_file import graph_from_dict, load_graph
from labelaug_core.training import Classifier, TrainingSettings

SHIPPED = ("critters", "flower", "pet")

# The paper's Figure 2 in small: Brit is Shorthair for certain and comes in two colours, Coon has no choice,
# Pug is alone in its group.
TEN = {
    "name": "ten",
    "root": "animal",
    "groups": {
        "species": {"below": "animal", "nodes": ["cat", "dog"]},
        "hair": {"below": "cat", "nodes": ["Short", "Long"]},
        "color": {"below": "cat", "nodes": ["Solid", "Tabby"]},
        "cat breed": {
            "columns": ["hair", "color"],
            "nodes": {"Brit": ["Short", ["Solid", "Tabby"]], "Coon": ["Long", "Tabby"]},
        },
        "dog breed": {"below": "dog", "nodes": ["Pug"]},
    },
    "labels": {"fine": {"groups": ["cat breed", "dog breed"]}, "coarse": {"nodes": ["cat", "dog"]}},
}


def ten() -> dict:
    """A copy of TEN, to be spoilt."""
    return copy.deepcopy(TEN)


def build(data: dict = TEN, file: str = "ten.yaml") -> LabelGraph:
    return graph_from_dict(copy.deepcopy(data), file)


@st.composite
def random_graphs(draw, inner_labels: bool = True, exclusive: bool = True, one_group: bool = False) -> LabelGraph:
    """A valid random DAG of 2 to 9 nodes: several parents, several groups below a node, rows in any order.

    Every leaf is a label of `fine`; with inner_labels some inner nodes are too, of `fine` or `coarse`.
    exclusive=False draws groups whose members do not compete; one_group puts all nodes into one group.
    """
    n = draw(st.integers(1, 8))
    parents: dict[str, list[str]] = {}
    for i in range(n):
        above = ["root", *parents]
        parents[f"n{i}"] = draw(st.lists(st.sampled_from(above), min_size=1, max_size=2, unique=True))
    group = {v: "g0" if one_group else draw(st.sampled_from(["g0", "g1", "g2"])) for v in parents}
    order = draw(st.permutations(list(parents)))
    groups: dict[str, dict] = {}
    for v in order:
        groups.setdefault(group[v], {"nodes": {}})["nodes"][v] = parents[v]
    if not exclusive:
        for spec in groups.values():
            spec["exclusive"] = draw(st.booleans())
    inner = {p for ps in parents.values() for p in ps} - {"root"}
    fine, coarse = [v for v in order if v not in inner], []
    for v in sorted(inner) if inner_labels else ():
        {"fine": fine, "coarse": coarse, "none": []}[draw(st.sampled_from(["fine", "coarse", "none"]))].append(v)
    labels = {"fine": {"nodes": fine}} | ({"coarse": {"nodes": coarse}} if coarse else {})
    return graph_from_dict({"root": "root", "groups": groups, "labels": labels}, "random.yaml")


def some_labels(data, graph: LabelGraph, evaluated: int = 1) -> tuple[list[str], int]:
    """Labels of a graph in any order (nested ones are welcome), and how many are evaluated, at least so many."""
    labels = data.draw(st.lists(st.sampled_from(graph.label_nodes()), min_size=1, unique=True), label="labels")
    return labels, data.draw(st.integers(evaluated, len(labels)), label="evaluated")


def learn(head: nn.Module, x: Tensor, y: Tensor, steps: int, lr: float) -> None:
    """Train a head on one batch, again and again."""
    optimizer = torch.optim.Adam(head.parameters(), lr)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = head.loss(x, y)
        assert loss.isfinite()
        loss.backward()
        optimizer.step()


def make_decoder(graph: LabelGraph, seed: int = 0, d: int = 5, hidden: int = 6, feed: bool = False) -> PathDecoder:
    """A small decoder in float64, scaled up so that its probabilities are far from uniform."""
    torch.manual_seed(seed)
    decoder = PathDecoder(graph, d, hidden, feed).double()
    with torch.no_grad():
        decoder.score.weight *= 5
        decoder.cell.weight_ih *= 3
    return decoder


def make_features(batch: int, seed: int = 0, d: int = 5) -> Tensor:
    return torch.randn(batch, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def simple_paths(graph: LabelGraph, label: str) -> list[tuple[str, ...]]:
    """All paths from the root to the label, by networkx and from the edges alone."""
    edges = nx.DiGraph([(p, v) for v, ps in graph.parents.items() for p in ps])
    return [tuple(path) for path in nx.all_simple_paths(edges, graph.root, label)]


def features_task(n: int = 48, d: int = 32, seed: int = 0) -> Task:
    """Random features whose class can be read off: pet breeds, and cats and dogs beside them."""
    graph, rng = load_graph("pet"), np.random.default_rng(seed)
    fine = graph.label_nodes("oxford-iiit-pet")
    y, coarse_y = rng.integers(len(fine), size=n), rng.integers(len(fine), len(fine) + 2, size=n)
    x = rng.normal(size=(n, d)).astype(np.float32)
    split = Split(x, y, [f"image {i}" for i in range(n)])
    return Task(graph, [*fine, "cat", "dog"], len(fine), split, split, Split(x + 1, coarse_y, split.ids))


def classifier(task: Task, make_head, trunk: int = 64) -> Classifier:
    """A classifier on the task's features, without dropout; the same weights at every call."""
    torch.manual_seed(0)
    return Classifier(Identity(task.train.inputs.shape[1]), make_head, TrainingSettings(trunk=trunk, dropout=0.0))
