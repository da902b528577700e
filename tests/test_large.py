"""Graphs too large for a prefix tree: on small ones, the same numbers as the tree's; on large ones, no hang."""

from __future__ import annotations

import random
import time
from collections import Counter

import pytest
import torch
from companion.heads.large import Edges, SampledPathHead, beam, greedy
from helpers import SHIPPED, build, learn, make_decoder, make_features, random_graphs, some_labels
from hypothesis import given, settings
from hypothesis import strategies as st

from labelaug_core.decoder import greedy as tree_greedy
from labelaug_core.graph import EOP, GraphError, LabelGraph
from labelaug_core.graph_file import load_graph
from labelaug_core.losses import marginal_likelihood
from labelaug_core.prefix_tree import PrefixTree


def lattice(levels: int, width: int = 2) -> LabelGraph:
    """Every node of a level lies below every node of the level above: width ** (levels - 1) paths to each label."""
    groups, above = {}, ["root"]
    for i in range(levels):
        nodes = [f"n{i}.{j}" for j in range(width)]
        groups[f"level {i}"] = {"below": above, "nodes": nodes}
        above = nodes
    return build({"root": "root", "groups": groups, "labels": {"d": {"nodes": above}}}, "lattice.yaml")


def names(graph: LabelGraph, nodes) -> tuple[str, ...]:
    """A padded path of node numbers -> its names."""
    return tuple(graph.nodes[v] for v in nodes if 0 <= v < len(graph.nodes))


def check_beam(graph: LabelGraph, labels: list[str], n_evaluated: int) -> None:
    """A beam as wide as the tree finds every complete path of the tree, with its log-probability, in order."""
    tree, decoder, x = PrefixTree(graph, labels, n_evaluated), make_decoder(graph), make_features(3)
    label, logp, nodes = beam(decoder, x, Edges(graph, labels, n_evaluated), width=len(tree.slot_node))
    expected = tree.path_log_probs(decoder.slot_log_probs(x, tree)).masked_fill(~tree.complete, -torch.inf)
    assert logp.shape == (3, int(tree.complete.sum()))
    best = expected.sort(1, descending=True).values[:, : logp.shape[1]]
    torch.testing.assert_close(logp, best, atol=1e-10, rtol=0)
    at = {path: p for p, path in enumerate(tree.paths) if tree.complete[p]}
    for b in range(len(x)):
        found = [at[names(graph, path)] for path in nodes[b].tolist()]
        assert sorted(found) == list(at.values())
        assert label[b].tolist() == tree.path_label[found].tolist()
        torch.testing.assert_close(logp[b], expected[b, found], atol=1e-10, rtol=0)


def check_greedy(graph: LabelGraph, labels: list[str], n_evaluated: int) -> None:
    tree, decoder, x = PrefixTree(graph, labels, n_evaluated), make_decoder(graph), make_features(8)
    path = tree_greedy(tree, decoder.slot_log_probs(x, tree))
    label, nodes = greedy(decoder, x, Edges(graph, labels, n_evaluated))
    assert [names(graph, n) for n in nodes.tolist()] == [tree.paths[p] for p in path]
    assert label.tolist() == tree.path_label[path].tolist()


@settings(max_examples=60, deadline=None)
@given(random_graphs(exclusive=False), st.data())
def test_a_wide_beam_is_enumeration(graph, data):
    check_beam(graph, *some_labels(data, graph, evaluated=0))


@settings(max_examples=60, deadline=None)
@given(random_graphs(exclusive=False), st.data())
def test_greedy_is_algorithm_2_of_the_tree(graph, data):
    check_greedy(graph, *some_labels(data, graph, evaluated=0))


@pytest.mark.parametrize("name", SHIPPED)
def test_beam_and_greedy_on_shipped_graphs(name):
    graph = load_graph(name)
    for labels in (graph.label_nodes(), *map(graph.label_nodes, graph.labels)):
        for n_evaluated in {len(labels), len(labels) - 2}:
            check_beam(graph, labels, n_evaluated)
            check_greedy(graph, labels, n_evaluated)


def test_greedy_and_beam_stop_at_an_inner_label():
    """`cat` and `dog` evaluated beside the breeds: the score of <eop> decides."""
    graph = build()
    labels, ends = ["cat", "dog", "Brit", "Coon", "Pug"], []
    for bias in (-30.0, 30.0):
        decoder, x = make_decoder(graph), make_features(8)
        with torch.no_grad():
            decoder.score.bias[-1] = bias
        ends.append({labels[k] for k in greedy(decoder, x, Edges(graph, labels))[0].tolist()})
        assert {labels[k] for k in beam(decoder, x, Edges(graph, labels), 1)[0][:, 0].tolist()} == ends[-1]
    assert not ends[0] & {"cat", "dog"} and ends[1] <= {"cat", "dog"}


def test_of_equal_answers_greedy_takes_the_trees():
    graph = load_graph("critters")
    decoder, x = make_decoder(graph), make_features(2)
    with torch.no_grad():
        decoder.score.weight.zero_()
        decoder.score.bias.zero_()
    tree = PrefixTree(graph, graph.label_nodes())
    label, _ = greedy(decoder, x, Edges(graph, graph.label_nodes()))
    assert label.tolist() == tree.path_label[tree_greedy(tree, decoder.slot_log_probs(x, tree))].tolist()


def test_a_narrow_beam_keeps_the_best_prefixes():
    """width=1 takes at each step the most probable answer, its question's share included."""
    graph = lattice(levels=5, width=3)
    decoder, x, edges = make_decoder(graph), make_features(4), Edges(graph, graph.label_nodes())
    tree = PrefixTree(graph, graph.label_nodes())
    path = tree_greedy(tree, decoder.slot_log_probs(x, tree))  # one question at each node: greedy is the beam of one
    best = tree.path_log_probs(decoder.slot_log_probs(x, tree)).gather(1, path[:, None])
    label, logp, _ = beam(decoder, x, edges, width=1)
    assert label[:, 0].tolist() == tree.path_label[path].tolist()
    torch.testing.assert_close(logp, best, atol=1e-10, rtol=0)
    wider = [beam(decoder, x, edges, width=w)[1].logsumexp(1) for w in (1, 10, 243)]
    assert all((a < b).all() for a, b in zip(wider, wider[1:], strict=False))
    torch.testing.assert_close(wider[-1], torch.zeros(4, dtype=torch.float64), atol=1e-10, rtol=0)


@settings(max_examples=60, deadline=None)
@given(random_graphs(exclusive=False), st.data())
def test_numbered_paths_are_the_graphs(graph, data):
    labels, n_evaluated = some_labels(data, graph, evaluated=0)
    edges, tree = Edges(graph, labels, n_evaluated), PrefixTree(graph, labels, n_evaluated)
    for y in labels:
        numbered = [edges.path(y, i) for i in range(graph.n_paths[y])]
        assert sorted(names(graph, p) for p in numbered) == sorted(graph.paths(y))
        stops = any((*p, EOP) in tree.prefixes for p in graph.paths(y))
        assert all((p[-1] == len(graph.nodes)) == stops for p in numbered)


def check_loss(graph: LabelGraph, labels: list[str], n_fine: int, is_coarse: bool) -> None:
    torch.manual_seed(0)
    head = SampledPathHead(graph, labels, n_fine, d=5, hidden=6, k=256).double()
    y = torch.arange(len(labels) if is_coarse else n_fine)
    tree, x = PrefixTree(graph, labels[: len(y)], n_fine), make_features(len(y))
    exact = marginal_likelihood(tree.label_log_probs(head.decoder.slot_log_probs(x, tree)), y)
    weights = list(head.decoder.parameters())
    loss = head.loss(x, y, is_coarse)
    torch.testing.assert_close(loss, exact, atol=1e-10, rtol=0)
    if exact.requires_grad:
        grads = (torch.autograd.grad(v, weights, allow_unused=True, materialize_grads=True) for v in (loss, exact))
        for a, b in zip(*grads, strict=True):
            torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-8)


@settings(max_examples=40, deadline=None)
@given(random_graphs(), st.booleans(), st.data())
def test_with_all_paths_the_sampled_loss_is_the_marginal_likelihood(graph, is_coarse, data):
    labels, n_fine = some_labels(data, graph, evaluated=0)
    check_loss(graph, labels, max(1, n_fine), is_coarse)


@pytest.mark.parametrize(
    "make",
    [
        lambda g, labels: Edges(g, labels),
        lambda g, labels: PrefixTree(g, labels),
        lambda g, labels: SampledPathHead(g, labels, len(labels), 5),
    ],
)
def test_labels_that_cannot_be_are_refused_all_at_once(make):
    graph = build()
    with pytest.raises(GraphError, match="no label node 'fox', 'animal'"):
        make(graph, ["fox", "Brit", "animal"])
    with pytest.raises(GraphError, match="given twice as a label: 'Brit', 'Pug'"):
        make(graph, ["Brit", "Pug", "Brit", "Pug"])
    with pytest.raises(GraphError, match="at least one label"):
        make(graph, [])


def test_a_group_that_does_not_compete_is_refused():
    graph = build({"root": "r", "groups": {"g": {"below": "r", "nodes": ["a", "b"], "exclusive": False}},
                   "labels": {"d": {"groups": ["g"]}}})  # fmt: skip
    with pytest.raises(GraphError, match="needs groups that compete.*'g'"):
        SampledPathHead(graph, ["a", "b"], 2, 5)


def test_sampled_paths_give_an_unbiased_probability():
    """Over all pairs of paths, equally likely, the mean of the estimates exp(-loss) is p(label | x)."""
    graph = lattice(levels=3, width=2)  # 4 paths to each label
    labels, x = graph.label_nodes(), make_features(1)
    head = SampledPathHead(graph, labels, len(labels), d=5, hidden=6, k=2).double()
    with torch.no_grad():
        tree = PrefixTree(graph, labels)
        exact = head.decoder.slot_log_probs(x, tree)
        exact = tree.label_log_probs(exact)[0, 0].exp()
        torch.manual_seed(0)
        estimates = torch.stack([head.loss(x, torch.tensor([0])).neg().exp() for _ in range(400)])
    assert estimates.std() > 0.01 * exact
    assert abs(estimates.mean() - exact) < 4 * estimates.std() / 20


def test_drawn_paths_are_equally_likely():
    graph = lattice(levels=3, width=2)
    edges, rng = Edges(graph, graph.label_nodes()), random.Random(0)
    drawn = Counter(tuple(edges.path("n2.0", rng.randrange(4))) for _ in range(2_000))
    assert len(drawn) == 4 and all(abs(n - 500) < 100 for n in drawn.values())


# -- large graphs ------


def test_a_lattice_of_sixty_levels_is_counted_and_refused_at_once():
    graph = lattice(levels=60)
    label = graph.label_nodes()[0]
    assert graph.count_paths(label) == 2**59
    begin = time.monotonic()
    with pytest.raises(GraphError, match=f"{label!r} has {2**59} paths.*raise `cap`"):
        graph.paths(label)
    with pytest.raises(GraphError, match="lattice.*cap=200000 slots, too many for LabelAug"):
        PrefixTree(graph, graph.label_nodes())
    assert time.monotonic() - begin < 30


def test_training_on_a_graph_that_cannot_be_listed():
    """4 ** 9 paths to each of four labels: the sampled loss learns which label it is, and the beam finds it."""
    graph = lattice(levels=10, width=4)
    with pytest.raises(GraphError, match="cap"):
        PrefixTree(graph, graph.label_nodes())
    torch.manual_seed(0)
    head = SampledPathHead(graph, graph.label_nodes(), 4, d=4, hidden=16, k=4, width=4)
    y = torch.arange(4).repeat(2)
    x = torch.eye(4)[y]
    learn(head, x, y, steps=100, lr=0.03)
    found = head.predictions(x)
    assert found["greedy"].tolist() == y.tolist() and found["log_probs"].argmax(1).tolist() == y.tolist()
    torch.testing.assert_close(found["log_probs"].exp().sum(1), torch.ones(8), atol=1e-5, rtol=0)


def taxonomy(n: int, inner: int) -> str:
    """A YAML of n nodes under a root, of which `inner` have children, each its own group; leaves are the labels."""
    rng, below = random.Random(0), {}
    for i in range(1, n + 1):
        below.setdefault(rng.randrange(min(i, inner)), []).append(f"n{i}")
    lines = ["root: n0", "groups:"]
    lines += [f"  below n{p}: {{below: n{p}, nodes: [{', '.join(nodes)}]}}" for p, nodes in below.items()]
    leaves = [f"n{i}" for i in range(1, n + 1) if i not in below]
    return "\n".join([*lines, "labels:", "  d:", "    nodes:", *(f"      class {v}: {v}" for v in leaves)])


def test_a_taxonomy_as_large_as_wordnet_loads_and_decodes(tmp_path):
    """80,000 nodes (WordNet has 82,115 noun synsets); CPU seconds, so that a busy machine does not count."""
    file = tmp_path / "taxonomy.yaml"
    file.write_text(taxonomy(80_000, inner=16_000))
    begin = time.process_time()
    graph = load_graph(file)
    assert time.process_time() - begin < 10
    labels = graph.label_nodes()
    assert len(graph.nodes) == 80_001 and len(labels) > 60_000
    begin = time.process_time()
    edges, decoder = Edges(graph, labels), make_decoder(graph, hidden=4)
    label, nodes = greedy(decoder, make_features(4), edges)
    assert [names(graph, p)[-1] for p in nodes.tolist()] == [labels[y] for y in label]
    best, logp, _ = beam(decoder, make_features(4), edges, width=8)
    assert best.shape == (4, 8) and (logp.diff() <= 0).all() and (logp.exp().sum(1) <= 1).all()
    assert time.process_time() - begin < 20
