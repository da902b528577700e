"""Baselines, neighbouring models and other estimators, by enumeration; also where evaluated labels nest."""

import itertools
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from companion.heads import neighbours
from companion.heads.baselines import FFNHead, LabelSetHead, allowed, pseudo_label
from companion.heads.direct import DirectHead
from companion.heads.estimators import ESTIMATORS, EstimatorHead, surrogate
from companion.heads.hiclass_head import HiclassHead
from companion.methods import METHODS
from companion.scoring import OneLabel
from helpers import build, learn, random_graphs, simple_paths, ten
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from labelaug_core import losses
from labelaug_core.data import DataError, Split, Task
from labelaug_core.graph import EOP, GraphError, LabelGraph
from labelaug_core.graph_file import load_graph
from labelaug_core.label_aug import PathHead, PathSettings


@pytest.fixture
def graph():
    return load_graph("critters")


def fine_and_coarse(graph: LabelGraph) -> tuple[list[str], int]:
    """The labels of a random graph, the fine ones first, and how many these are."""
    fine = graph.label_nodes("fine")
    return [*fine, *(v for v in graph.label_nodes() if v not in fine)], len(fine)


def nested() -> tuple[LabelGraph, list[str], int]:
    """`dog` is an evaluated label above the evaluated label `Pug`; `cat` is a coarse one."""
    return build(), ["Brit", "Coon", "Pug", "dog", "cat"], 4


def with_a_fox() -> tuple[LabelGraph, list[str], int]:
    """`fox` is a label that only coarse data have, and no fine label lies below it."""
    data = ten()
    data["groups"]["species"]["nodes"].append("fox")
    data["labels"]["coarse"]["nodes"].append("fox")
    return build(data), ["Brit", "Coon", "Pug", "cat", "dog", "fox"], 3


def on(graph: LabelGraph, label: str) -> set[str]:
    """All nodes on the paths to a label, the root not."""
    return {v for path in simple_paths(graph, label) for v in path} - {graph.root}


def inputs(n: int = 2, d: int = 3) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(n, d, dtype=torch.double)


# -- direct and global scores ------


@settings(max_examples=60, deadline=None)
@given(random_graphs())
def test_direct_scores_are_a_softmax_over_all_paths(graph):
    """By enumeration: evaluated labels stop a path, a coarse label is reached by every path through it."""
    labels, n_fine = fine_and_coarse(graph)
    torch.manual_seed(0)
    head, x = DirectHead(graph, labels, n_fine, 3, share=0.5).double(), inputs()
    torch.nn.init.normal_(head.score.weight)
    z = dict(zip(graph.nodes, (head.score(x) * head.rate).T, strict=True))
    ends = [v for v in labels if v in labels[:n_fine] or not any(v in graph.ancestors(u) for u in labels)]
    for known, is_coarse in ((ends, True), ([v for v in ends if v in labels[:n_fine]], False)):
        paths = [p for v in known for p in simple_paths(graph, v)]
        count = torch.tensor([float(sum(p[-1] == q[-1] for q in paths)) for p in paths], dtype=torch.double)
        logp = (torch.stack([sum(z[v] for v in p) for p in paths], 1) - count.log()).log_softmax(1)
        for k, v in enumerate(labels if is_coarse else labels[:n_fine]):
            own = [p[-1] == v if k < n_fine else v in p for p in paths]
            expected = -logp[:, own].logsumexp(1).mean()
            y = torch.full((len(x),), k)
            torch.testing.assert_close(head.loss(x, y, is_coarse), expected)
            if not is_coarse:
                torch.testing.assert_close(-head.predictions(x)["log_probs"][:, k].mean(), expected)


@settings(max_examples=60, deadline=None)
@given(random_graphs())
def test_the_steps_of_direct_scores_are_conditional_probabilities(graph):
    """By enumeration: to stop or to go on, then the answer given its question; `explain` shows these."""
    labels, n_fine = fine_and_coarse(graph)
    head, x = DirectHead(graph, labels, n_fine, 3).double(), inputs()
    torch.nn.init.normal_(head.score.weight)
    tree, (logp, found) = head.fine_tree, head.explained(x)
    p = found["path_log_probs"].exp()
    for e, prefix in enumerate(tree.prefixes):

        def reached(start):
            ended = start[-1] == EOP  # of the paths that begin so, or that are no longer
            own = [q == start[:-1] if ended else q[: len(start)] == start for q in tree.paths]
            return p[:, own].sum(1)

        here, stop = reached(prefix[:-1]), reached((*prefix[:-1], EOP))
        group = graph.group.get(prefix[-1])
        asked = sum(reached((*prefix[:-1], u)) for u in graph.children(prefix[-2]) if graph.group.get(u) == group)
        expected = stop / here if prefix[-1] == EOP else (1 - stop / here) * reached(prefix) / asked
        torch.testing.assert_close(logp[:, e].exp(), expected)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_direct_scores_begin_as_ffn(graph, share):
    fine = graph.label_nodes("critters")
    labels, n_fine = [*fine, *graph.label_nodes("critters-species")], len(fine)
    head, x = DirectHead(graph, labels, n_fine, 3, share).double(), inputs()
    rows = [graph.index[v] for v in labels[:n_fine]]
    z = torch.nn.functional.linear(x, head.score.weight[rows], head.score.bias[rows])
    torch.testing.assert_close(head.predictions(x)["log_probs"], z.log_softmax(1))
    head.loss(x, torch.tensor([0, 1])).backward()
    inner = [i for i, v in enumerate(graph.nodes) if v not in labels and v != graph.root]
    assert bool(head.score.weight.grad[inner].any()) == (share > 0)


# -- estimators ------


@pytest.mark.parametrize("name", ["no baseline", "average baseline", "leave-one-out"])
def test_a_sampled_estimator_is_right_on_average(name):
    """Its gradient, averaged over all pairs of paths with their probabilities, is that of -E[r]."""
    torch.manual_seed(0)
    z = torch.randn(1, 5, dtype=torch.double, requires_grad=True)
    r = torch.tensor([[1.0, 0.0, 0.5, 0.0, 0.0]], dtype=torch.double)
    mask = torch.tensor([[False, False, False, False, True]])  # a path that is not complete

    def log_p() -> torch.Tensor:
        return z.masked_fill(mask, -torch.inf).log_softmax(1)

    p = log_p().detach().exp()[0]
    total = torch.zeros_like(z)
    for pair in itertools.product(range(4), repeat=2):
        value = surrogate(name, log_p(), r, 0.3, torch.tensor([pair]))
        total += p[pair[0]] * p[pair[1]] * torch.autograd.grad(value, z)[0]
    exact = torch.autograd.grad(losses.expected_reward(log_p(), r), z)[0]
    torch.testing.assert_close(total, exact)


def test_an_unknown_estimator_is_named():
    with pytest.raises(ValueError, match="'best'"):
        surrogate("best", torch.zeros(1, 2), torch.zeros(1, 2), 0.0)
    with pytest.raises(ValueError, match="'best'"):
        EstimatorHead(*nested(), 3, estimator="best")


@settings(max_examples=40, deadline=None)
@given(random_graphs(), st.booleans(), st.sampled_from(["path", "reward"]))
def test_the_exact_estimator_is_the_expected_reward_of_label_aug(graph, is_coarse, coarse):
    labels, n_fine = fine_and_coarse(graph)
    chosen = PathSettings(6, "expected-reward", alpha=0.7, beta=0.3, coarse=coarse)
    torch.manual_seed(0)
    head = EstimatorHead(graph, labels, n_fine, 3, chosen, estimator="exact").double()
    torch.manual_seed(0)
    same = PathHead(graph, labels, n_fine, 3, chosen).double()
    y = torch.arange(n_fine if not is_coarse else len(labels))
    x = inputs(len(y))
    torch.testing.assert_close(head.loss(x, y, is_coarse), same.loss(x, y, is_coarse))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_only_complete_paths_are_sampled(name, monkeypatch):
    """The coarse label `cat` has a path in the joint tree that is only the beginning of others."""
    head, drawn = EstimatorHead(*nested(), 3, PathSettings(8, coarse="reward"), estimator=name).double(), []
    multinomial = torch.multinomial
    monkeypatch.setattr(torch, "multinomial", lambda *a, **k: drawn.append(multinomial(*a, **k)) or drawn[-1])
    assert not head.tree.complete.all()
    for _ in range(20):
        head.loss(inputs(50), torch.full((50,), 4), is_coarse=True).backward()
    assert all(bool(head.tree.complete[sampled].all()) for sampled in drawn)
    assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)
    assert bool(drawn) == (name in ("no baseline", "average baseline", "leave-one-out")) and 0 < head.b < 1


# -- a softmax over labels ------


def test_an_evaluated_label_allows_itself_and_a_coarse_one_what_lies_below():
    graph, labels, n_fine = nested()
    names = [[labels[k] for k in row.nonzero()[:, 0].tolist()] for row in allowed(graph, labels, n_fine)]
    assert names == [["Brit"], ["Coon"], ["Pug"], ["dog"], ["Brit", "Coon"]]


@settings(max_examples=40, deadline=None)
@given(random_graphs())
def test_flat_marginal_sums_the_labels_below(graph):
    labels, n_fine = fine_and_coarse(graph)
    head, x = neighbours.FlatMarginalHead(graph, labels, n_fine, 3).double(), inputs()
    p = head.predictions(x)["log_probs"].exp()
    for k, label in enumerate(labels):
        below = [i for i, v in enumerate(labels[:n_fine]) if (i == k if k < n_fine else label in on(graph, v))]
        loss = head.loss(x, torch.tensor([k, k]), is_coarse=True)
        torch.testing.assert_close(loss, -p[:, below].sum(1).log().mean())


def test_summed_coarse_labels_are_soft_pseudo_labels_with_the_coarse_filter(graph):
    """The gradient is that of a cross-entropy to the model's own p(breed), cut to the breeds that fit and rescaled."""
    labels = graph.label_nodes("critters")
    head = neighbours.FlatMarginalHead(graph, [*labels, "Shorthair"], len(labels), 3).double()
    x, y = torch.randn(4, 3, dtype=torch.double), torch.full((4,), len(labels))
    head.loss(x, y, is_coarse=True).backward()
    found = head.score.weight.grad.clone()
    head.zero_grad()
    logp = head.score(x).log_softmax(1)
    fits = torch.tensor([float("Shorthair" in on(graph, v)) for v in labels], dtype=torch.double)
    soft = logp.exp().detach() * fits
    assert 0 < fits.sum() < len(labels)
    (-(soft / soft.sum(1, keepdim=True)) * logp).sum(1).mean().backward()
    torch.testing.assert_close(found, head.score.weight.grad)


# -- HEX ------


def states(graph: LabelGraph, label: str) -> list[set[str]]:
    """All legal states of a label: what is on every time, and one answer to each question that is left open."""
    questions: dict[str, list[str]] = {}
    for v in on(graph, label):
        g = graph.group[v]
        questions.setdefault(g if graph.exclusive[g] else v, []).append(v)
    return [set(choice) for choice in itertools.product(*questions.values())]


def check_hex(graph: LabelGraph, labels: list[str], n_fine: int) -> None:
    torch.manual_seed(0)
    head, x = neighbours.HexHead(graph, labels, n_fine, 3).double(), inputs()
    z = head.score(x).detach()
    every = [
        (k, s, z[:, [graph.index[v] for v in s]].sum(1).exp()) for k in range(n_fine) for s in states(graph, labels[k])
    ]
    total = sum(e for *_, e in every)
    logp = head.predictions(x)["log_probs"]
    for k, label in enumerate(labels):
        p = sum(e for i, s, e in every if (i == k if k < n_fine else label in s)) / total
        y = torch.tensor([k, k])
        torch.testing.assert_close(head.loss(x, y, is_coarse=True), -p.log().mean())
        if k < n_fine:
            torch.testing.assert_close(logp[:, k].exp(), p)
            torch.testing.assert_close(head.loss(x, y), -p.log().mean())


def test_hex_is_a_softmax_over_all_legal_states(graph):
    labels = graph.label_nodes("critters")
    check_hex(graph, labels + [v for v in graph.nodes if v not in labels and v != graph.root], len(labels))


@settings(max_examples=60, deadline=None)
@given(random_graphs(exclusive=False))
def test_hex_is_a_softmax_over_all_legal_states_of_random_graphs(graph):
    try:
        neighbours.HexHead(graph, *fine_and_coarse(graph), 3)
    except GraphError as error:
        assume("its ancestor" not in str(error))
    check_hex(graph, *fine_and_coarse(graph))


def test_hex_refuses_a_node_that_competes_with_its_ancestor():
    groups = {g: {"nodes": {v: ["r"], w: [v]}} for g, v, w in (("g", "a", "b"), ("h", "c", "d"))}
    graph = build({"root": "r", "groups": groups, "labels": {"d": {"groups": ["g", "h"]}}})
    with pytest.raises(GraphError, match="compete with its ancestor, as in the groups 'g', 'h'"):
        neighbours.HexHead(graph, ["a", "b", "c", "d"], 4, 3)


def test_hex_keeps_gradients_and_differences_at_extreme_scores(graph):
    """A sum of exponentials would be zero in float32 where a node's score lies 100 or 1,000 below the largest."""
    labels = graph.label_nodes("critters")
    for scale in (100.0, 1000.0):
        head = neighbours.HexHead(graph, [*labels, "cat", "dog"], len(labels), 3)
        with torch.no_grad():
            head.score.weight.zero_()
            head.score.bias.zero_()
            for v in on(graph, labels[0]) | on(graph, labels[1]):  # both are cats
                head.score.bias[graph.index[v]] = -scale
            head.score.bias[graph.index[labels[0]]] -= 5
        logp = head.predictions(torch.zeros(1, 3))["log_probs"][0]
        exact = head.double().predictions(torch.zeros(1, 3).double())["log_probs"][0]
        torch.testing.assert_close(logp.double(), exact, rtol=1e-6, atol=1e-3)
        assert exact[0] < exact[1] - 1  # a difference far below the largest score
        head = head.float()
        for y, is_coarse in ((0, False), (len(labels), True)):
            head.zero_grad()
            head.loss(torch.zeros(1, 3), torch.tensor([y]), is_coarse).backward()
            assert head.score.bias.grad.isfinite().all()
            assert head.score.bias.grad[graph.index["cat"]] < -0.4


# -- agreement, hierarchicalsoftmax ------


def test_agreement_multiplies_the_answers_and_averages_what_is_below_them(graph):
    labels = graph.label_nodes("critters")
    coarse = [v for v in graph.nodes if v not in labels and v != graph.root]
    torch.manual_seed(0)
    head = neighbours.AgreementHead(graph, labels + coarse, len(labels), 3, PathSettings(8)).double()
    x, tree = torch.randn(2, 3, dtype=torch.double), head.fine_tree
    p = head.decoder.slot_log_probs(x, tree).exp().detach().numpy()
    slot = {prefix: e for e, prefix in enumerate(tree.prefixes)}  # (root, cat, Shorthair): the slot of that answer
    score, share = np.zeros((2, len(labels))), {v: np.zeros((2, len(labels))) for v in coarse}
    for k, label in enumerate(labels):
        questions: dict[str, list] = {}
        for path in graph.paths(label):
            questions.setdefault(graph.group[path[2]], []).append(path)
        for paths in questions.values():
            way = [p[:, slot[path[:2]]] * p[:, slot[path[:3]]] for path in paths]
            whole = [w * p[:, slot[path]] for w, path in zip(way, paths, strict=True)]
            score[:, k] += np.log(sum(way)) + np.log(sum(whole) / sum(way)) / len(questions)
            for path, part in zip(paths, whole, strict=True):
                share[path[1]][:, k] += part / sum(whole) / len(questions)  # the species: asked on every way
                share[path[2]][:, k] += part / sum(whole)
    expected = torch.from_numpy(score).log_softmax(1)
    torch.testing.assert_close(head.predictions(x)["log_probs"], expected)
    assert head.loss(x, torch.tensor([3, 5])).item() == pytest.approx(-expected[[0, 1], [3, 5]].mean().item())
    for i, v in enumerate(coarse, len(labels)):
        taught = -np.log((expected.exp().numpy() * share[v]).sum(1)).mean()
        assert head.loss(x, torch.tensor([i, i]), is_coarse=True).item() == pytest.approx(taught)


@settings(max_examples=40, deadline=None)
@given(random_graphs())
def test_agreement_gives_a_coarse_label_what_the_labels_below_give_it(graph):
    """A coarse label has the probability of the labels that are certain of it, and some of those that leave it open."""
    labels, n_fine = fine_and_coarse(graph)
    nodes = labels[:n_fine] + [v for v in graph.nodes[1:] if v not in labels[:n_fine]]
    torch.manual_seed(0)
    head, x = neighbours.AgreementHead(graph, nodes, n_fine, 3, PathSettings(6)).double(), inputs(1)
    p = head.predictions(x)["log_probs"].exp()[0]
    torch.testing.assert_close(p.sum().item(), 1.0)
    for k, v in enumerate(nodes):
        y = torch.tensor([k])
        found = head.loss(x, y, is_coarse=True).neg().exp()
        if k < n_fine:
            torch.testing.assert_close(found, p[k])
            continue
        below = [i for i, u in enumerate(nodes[:n_fine]) if v in on(graph, u)]
        certain = [i for i in below if not any(graph.group[u] == graph.group[v] for u in on(graph, nodes[i]) - {v})]
        assert p[certain].sum() - 1e-9 <= found <= p[below].sum() + 1e-9
        gradient = torch.autograd.grad(head.loss(x, y, is_coarse=True), head.decoder.score.bias, allow_unused=True)[0]
        assert gradient is None or gradient.isfinite().all()


def test_hierarchicalsoftmax_is_species_then_breed(graph):
    labels = graph.label_nodes("critters")
    head = neighbours.HierarchicalSoftmaxHead(graph, [*labels, "cat"], len(labels), 3)
    x = torch.randn(2, 3)
    logp = head.predictions(x)["log_probs"]
    cat = logp[:, :7].exp().sum(1)
    torch.testing.assert_close(logp.exp().sum(1), torch.ones(2))
    assert head.loss(x, torch.tensor([14, 14]), is_coarse=True).item() == pytest.approx(
        -cat.log().mean().item(), abs=1e-5
    )
    assert head.loss(x, torch.tensor([3, 9])).item() == pytest.approx(-logp[[0, 1], [3, 9]].mean().item(), abs=1e-5)


def test_hierarchicalsoftmax_refuses_evaluated_labels_above_others():
    with pytest.raises(GraphError, match="lie below 'dog'"):
        neighbours.HierarchicalSoftmaxHead(*nested(), 3)


def test_hiclass_refuses_labels_that_do_not_fit_two_levels():
    with pytest.raises(GraphError, match="no place for 'dog'"):
        HiclassHead(*nested(), 3)
    HiclassHead(build(), ["Brit", "Coon", "Pug", "cat", "dog"], 3, 3)


# -- labels that no fine label answers ------


@pytest.mark.parametrize("method", ["flat-marginal", "hex", "agreement"])
def test_a_coarse_label_that_no_fine_label_answers_is_named_and_its_samples_are_left_out(method):
    graph, labels, n_fine = with_a_fox()
    x = np.zeros((6, 3), dtype=np.float32)
    split = Split(x, np.array([0, 1, 2, 0, 1, 2]), list("abcdef"))
    task = Task(graph, labels, n_fine, split, split, replace(split, y=np.array([3, 4, 5, 5, 3, 0])))
    make_head, used = OneLabel().build_head(METHODS[method], task, {}, 0)
    assert used.coarse.ids == list("abef") and used.coarse.y.tolist() == [3, 4, 3, 0]
    head = make_head(3)
    assert head.loss(torch.zeros(4, 3), torch.from_numpy(used.coarse.y), True).isfinite()
    with pytest.raises(GraphError, match="no evaluated label lies below 'fox'"):
        head.loss(torch.zeros(2, 3), torch.tensor([3, 5]), is_coarse=True)
    with pytest.raises(DataError, match="cannot be trained on this fusion"):
        only = replace(task, coarse=replace(split, y=np.full(6, 5)))
        OneLabel().build_head(METHODS[method], only, {}, 0)


# -- baselines where evaluated labels nest ------


def test_below_an_evaluated_label_other_evaluated_labels_are_absent_and_the_rest_is_unknown():
    graph, labels, n_fine = nested()
    head = LabelSetHead(graph, labels, n_fine, 3)

    def told(label: str) -> tuple[set[str], set[str]]:
        """The nodes that are marked as present, and those that are left out."""
        row = labels.index(label)
        return {v for v in graph.nodes if head.target[row, graph.index[v]]}, {
            v for v in graph.nodes if not head.weight[row, graph.index[v]]
        }

    assert told("dog") == ({"animal", "dog"}, set())  # a dog, and no Pug
    assert told("Pug") == ({"animal", "dog", "Pug"}, set())
    assert told("cat") == ({"animal", "cat"}, {"Short", "Long", "Solid", "Tabby", "Brit", "Coon"})
    coarser = LabelSetHead(graph, ["dog", "Brit", "Pug"], 2, 3)  # Pug is a label of coarse data alone
    assert coarser.weight[0, graph.index["Pug"]] == 0


@pytest.mark.parametrize(
    "head", [LabelSetHead, FFNHead, neighbours.FlatMarginalHead, neighbours.HexHead, neighbours.AgreementHead]
)
def test_a_label_above_another_evaluated_one_can_be_learned(head):
    graph, labels, n_fine = nested()
    torch.manual_seed(0)
    model, y = head(graph, labels, n_fine, 4), torch.arange(4)
    learn(model, torch.eye(4), y, steps=100, lr=0.1)
    logp = model.predictions(torch.eye(4))["log_probs"]
    torch.testing.assert_close(logp.exp().sum(1), torch.ones(4))
    assert logp.argmax(1).tolist() == y.tolist() and logp.exp().diagonal().min() > 0.6


def test_pseudo_labels_that_contradict_the_coarse_label_are_dropped():
    graph, labels, n_fine = nested()
    split = Split(np.zeros((4, 2)), np.array([2, 3, 3, 3]), list("abcd"))
    coarse = replace(split, y=np.array([3, 3, 4, 4]))  # dog (evaluated: no Pug), dog, cat, cat
    guess = np.log(np.eye(4)[[2, 3, 0, 2]] + 1e-9)  # Pug, dog, Brit, Pug
    joined = pseudo_label(Task(graph, labels, n_fine, split, split, coarse), guess)
    assert joined.coarse.ids == ["b", "c"] and joined.coarse.y.tolist() == [3, 0]
    assert joined.sizes["pseudo labels kept"] == "2 of 4"


BITS = """
import torch
from companion.heads import baselines, neighbours
from labelaug_core.graph_file import load_graph
from labelaug_core.label_aug import PathHead

graph = load_graph("critters")
labels = graph.label_nodes("critters") + ["cat", "dog", "Shorthair", "Thin Tail"]
heads = baselines.LabelSetHead, neighbours.FlatMarginalHead, neighbours.HexHead, neighbours.AgreementHead, PathHead
for head in heads:
    torch.manual_seed(0)
    model, x = head(graph, labels, 14, 8), torch.randn(14, 8)
    loss = model.loss(x, torch.arange(14)) + model.loss(x[:4], torch.arange(14, 18), is_coarse=True)
    loss.backward()
    print(head.__name__, loss.item(), *(p.grad.double().sum().item() for p in model.parameters() if p.grad is not None))
"""


def test_a_seed_gives_the_same_bits_in_every_process():
    """The order in which Python walks through a set of names differs from process to process."""
    found = [
        subprocess.run([sys.executable, "-c", BITS], env=os.environ | {"PYTHONHASHSEED": seed}, capture_output=True)
        for seed in ("1", "2")
    ]
    assert found[0].stdout and found[0].stdout == found[1].stdout, found[0].stderr.decode()[-2000:]
