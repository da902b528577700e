"""The extra heads and estimators of notebook 40, checked by enumeration."""

import itertools

import numpy as np
import pytest
import torch

from labelaug_core import beyond, losses
from labelaug_core.graph_file import load_graph


@pytest.fixture
def graph():
    return load_graph("critters")


@pytest.mark.parametrize("name", ["no baseline", "average baseline", "leave-one-out"])
def test_a_sampled_estimator_is_right_on_average(name):
    """Its gradient, averaged over all pairs of paths with their probabilities, is that of -E[r]."""
    torch.manual_seed(0)
    z = torch.randn(1, 4, dtype=torch.double, requires_grad=True)
    r = torch.tensor([[1.0, 0.0, 0.5, 0.0]], dtype=torch.double)
    p = z.detach().softmax(1)[0]
    total = torch.zeros_like(z)
    for pair in itertools.product(range(4), repeat=2):
        value = beyond.estimate(name, z.log_softmax(1), r, 0.3, torch.tensor([pair]))
        total += p[pair[0]] * p[pair[1]] * torch.autograd.grad(value, z)[0]
    exact = torch.autograd.grad(losses.expected_reward(z.log_softmax(1), r), z)[0]
    torch.testing.assert_close(total, exact)


def test_an_unknown_estimator_is_named():
    with pytest.raises(ValueError, match="'best'"):
        beyond.estimate("best", torch.zeros(1, 2), torch.zeros(1, 2), 0.0)


def states(graph, label: str) -> list[set[str]]:
    """All legal states of a label: what is on every time, and one answer to each question that is left open."""
    on = beyond._on(graph, label)
    questions: dict[str, list[str]] = {}
    for v in on:
        g = graph.group.get(v)
        questions.setdefault(g if graph.exclusive.get(g) else v, []).append(v)
    return [set(choice) for choice in itertools.product(*questions.values())]


def test_hex_is_a_softmax_over_all_legal_states(graph):
    labels = graph.label_nodes("critters")
    coarse = [v for v in graph.nodes if v not in labels and v != graph.root]
    torch.manual_seed(0)
    head = beyond.HexHead(graph, labels + coarse, len(labels), 3).double()
    x = torch.randn(2, 3, dtype=torch.double)
    z = head.score(x).detach().numpy()
    every = [
        (label, s, np.exp(z[:, [graph.index[v] for v in s]].sum(1))) for label in labels for s in states(graph, label)
    ]
    total = sum(e for *_, e in every)
    for i, label in enumerate(labels):
        p = sum(e for which, _, e in every if which == label) / total
        np.testing.assert_allclose(head.predictions(x)["log_probs"].exp().detach().numpy()[:, i], p)
    for i, v in enumerate(coarse, len(labels)):
        p = sum(e for _, s, e in every if v in s) / total
        y = torch.tensor([i, i])
        assert head.loss(x, y, is_coarse=True).item() == pytest.approx(-np.log(p).mean())
    assert head.loss(x, torch.tensor([3, 5])).item() == pytest.approx(
        -head.predictions(x)["log_probs"][[0, 1], [3, 5]].mean().item()
    )


def test_flat_marginal_sums_the_labels_below(graph):
    labels = graph.label_nodes("critters")
    head = beyond.FlatMarginalHead(graph, [*labels, "cat"], len(labels), 3)
    x = torch.randn(2, 3)
    p = head.predictions(x)["log_probs"].exp()
    cats = [i for i, v in enumerate(labels) if "cat" in graph.ancestors(v)]
    assert head.loss(x, torch.tensor([len(labels)] * 2), is_coarse=True).item() == pytest.approx(
        -p[:, cats].sum(1).log().mean().item(), abs=1e-5
    )
    assert head.loss(x, torch.tensor([2, 4])).item() == pytest.approx(-p[[0, 1], [2, 4]].log().mean().item(), abs=1e-5)


def test_relabelling_keeps_classes_even_and_tells_no_more_than_the_coarse_label(graph):
    from labelaug_core.datasets.base import Split, Task

    labels = [*graph.label_nodes("critters"), "cat", "dog"]
    y = np.repeat(np.arange(14), 10)
    split = Split(np.arange(140), y, [str(i) for i in range(140)])
    task = Task(graph, labels, 14, split, split)
    out = beyond.relabel(task, 0.8, 0)
    assert np.bincount(out.train.y).tolist() == [2] * 14 and len(out.coarse) == 112
    assert sorted(out.train.ids + out.coarse.ids, key=int) == split.ids
    for i, k in zip(out.coarse.ids, out.coarse.y, strict=True):
        assert labels[k] in graph.ancestors(labels[y[int(i)]])
    assert beyond.relabel(task, 0.0, 0).coarse is None
