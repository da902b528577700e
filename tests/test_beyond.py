"""The extra heads, estimators, data and runs of notebook 40; the heads are checked by enumeration."""

import itertools

import numpy as np
import pytest
import torch
from companion import controls as beyond_runs
from companion.heads import neighbours as beyond
from companion.records import store as records

from labelaug_core import losses
from labelaug_core.data import DataError, Split, Task
from labelaug_core.graph_file import load_graph


@pytest.fixture
def graph():
    return load_graph("critters")


@pytest.fixture
def task(graph):
    """Ten samples a breed whose features are the breed, one-hot and a little noisy."""
    y = np.repeat(np.arange(14), 10)
    x = np.eye(14, dtype=np.float32)[y] + np.random.default_rng(0).normal(0, 0.05, (140, 14)).astype(np.float32)
    split = Split(x, y, [str(i) for i in range(140)])
    return Task(graph, graph.label_nodes("critters"), 14, split, split, content_hash="one-hot")


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


def test_summed_coarse_labels_are_soft_pseudo_labels_with_the_coarse_filter(graph):
    """The gradient is that of a cross-entropy to the model's own p(breed), cut to the breeds that fit and rescaled."""
    labels = graph.label_nodes("critters")
    head = beyond.FlatMarginalHead(graph, [*labels, "Shorthair"], len(labels), 3).double()
    x, y = torch.randn(4, 3, dtype=torch.double), torch.full((4,), len(labels))
    head.loss(x, y, is_coarse=True).backward()
    found = head.score.weight.grad.clone()
    head.zero_grad()
    logp = head.score(x).log_softmax(1)
    fits = torch.tensor([float("Shorthair" in beyond._on(graph, v)) for v in labels], dtype=torch.double)
    soft = logp.exp().detach() * fits
    assert 0 < fits.sum() < len(labels)
    (-(soft / soft.sum(1, keepdim=True)) * logp).sum(1).mean().backward()
    torch.testing.assert_close(found, head.score.weight.grad)


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


def test_agreement_multiplies_the_answers_and_averages_what_is_below_them(graph):
    labels = graph.label_nodes("critters")
    torch.manual_seed(0)
    head = beyond.AgreementHead(graph, [*labels, "Shorthair"], len(labels), 3, 8).double().eval()
    x, tree = torch.randn(2, 3, dtype=torch.double), head.fine_tree
    p = head.decoder.slot_log_probs(x, tree).exp().detach().numpy()
    slot = {prefix: e for e, prefix in enumerate(tree.prefixes)}  # (root, cat, Shorthair): the slot of that answer
    score = np.zeros((2, len(labels)))
    for k, label in enumerate(labels):
        questions: dict[str, list] = {}
        for path in graph.paths(label):
            questions.setdefault(graph.group[path[2]], []).append(path)
        for paths in questions.values():
            way = [p[:, slot[path[:2]]] * p[:, slot[path[:3]]] for path in paths]
            whole = sum(w * p[:, slot[path]] for w, path in zip(way, paths, strict=True))
            score[:, k] += np.log(sum(way)) + np.log(whole / sum(way)) / len(questions)
    expected = torch.from_numpy(score).log_softmax(1)
    torch.testing.assert_close(head.predictions(x)["log_probs"], expected)
    assert head.loss(x, torch.tensor([3, 5])).item() == pytest.approx(-expected[[0, 1], [3, 5]].mean().item())
    taught = -np.log(p[:, slot["animal", "cat"]] * p[:, slot["animal", "cat", "Shorthair"]]).mean()
    assert head.loss(x, torch.tensor([14, 14]), is_coarse=True).item() == pytest.approx(taught)


def test_hierarchicalsoftmax_is_species_then_breed(graph):
    labels = graph.label_nodes("critters")
    head = beyond.HierarchicalSoftmaxHead(graph, [*labels, "cat"], len(labels), 3)
    x = torch.randn(2, 3)
    logp = head.predictions(x)["log_probs"]
    cat = logp[:, :7].exp().sum(1)
    torch.testing.assert_close(logp.exp().sum(1), torch.ones(2))
    assert head.loss(x, torch.tensor([14, 14]), is_coarse=True).item() == pytest.approx(
        -cat.log().mean().item(), abs=1e-5
    )
    assert head.loss(x, torch.tensor([3, 9])).item() == pytest.approx(-logp[[0, 1], [3, 9]].mean().item(), abs=1e-5)


def test_relabelling_keeps_classes_even_and_tells_no_more_than_the_answers(graph, task):
    out = beyond_runs.relabel(task, 0.8, 0, ["species"])
    assert np.bincount(out.train.y).tolist() == [2] * 14 and len(out.coarse) == 112
    assert sorted(out.train.ids + out.coarse.ids, key=int) == task.train.ids
    for i, k in zip(out.coarse.ids, out.coarse.y, strict=True):
        assert out.labels[k] in graph.ancestors(task.labels[task.train.y[int(i)]])
    assert beyond_runs.relabel(task, 0.0, 0, ["species"]).coarse is None
    with pytest.raises(DataError, match="'cat hare'"):
        beyond_runs.relabel(task, 0.8, 0, ["cat hare"])


def test_an_answer_that_the_breed_leaves_open_stays_unknown(graph, task):
    asked = beyond_runs.attributes(graph)
    assert asked == [
        f"{a} {q}" for a, qs in (("cat", "hair color ears tail"), ("dog", "hair coat ears tail")) for q in qs.split()
    ]
    out = beyond_runs.relabel(task, 0.8, 0, asked)
    told = {v: {out.labels[k] for i, k in zip(out.coarse.ids, out.coarse.y, strict=True) if task.train.y[int(i)] == n}
            for n, v in enumerate(task.labels)}  # fmt: skip
    assert told["Brackenpaw"] == {"Shorthair", "Tabby-Color", "Upright Ears", "Thin Tail"}
    assert told["Duskmask"] == {"Point-Color", "Upright Ears", "Thin Tail"}
    assert not set(out.graph.augmented) & set(out.labels)
    few = beyond_runs.fewer_coarse(out, 0.25, 0)
    kept = set(few.coarse.ids)
    assert len(kept) == 28 and len(few.coarse) == sum(i in kept for i in out.coarse.ids)
    assert beyond_runs.fewer_coarse(out, 0, 0).coarse is None


def test_a_wrong_answer_is_another_answer_to_the_same_question(graph, task):
    joined = beyond_runs.relabel(task, 0.8, 0, beyond_runs.attributes(graph))
    out = beyond_runs.wrong_answers(joined, 0.3, 0)
    before, after = ([out.labels[k] for k in t.coarse.y] for t in (joined, out))
    assert [graph.group[v] for v in before] == [graph.group[v] for v in after] and out.coarse.ids == joined.coarse.ids
    assert np.mean([a != b for a, b in zip(before, after, strict=True)]) == pytest.approx(0.3, abs=0.05)
    everything = beyond_runs.wrong_answers(joined, 1.0, 0).coarse.y
    assert (everything != joined.coarse.y).all() and (out.train.y == joined.train.y).all()


def test_a_random_tree_has_the_labels_and_none_of_the_knowledge(graph):
    tree = beyond_runs.random_tree(graph, 0)
    assert tree.label_nodes("critters") == graph.label_nodes("critters")
    assert not set(graph.augmented) & set(tree.nodes)
    for species in ("cat", "dog"):
        parts = tree.children(species)
        assert len(parts) == 3 and sorted(len(tree.children(v)) for v in parts) == [2, 2, 3]
        assert {u for v in parts for u in tree.children(v)} == graph.descendants(species) & set(graph.label_nodes())
    assert tree.parents != beyond_runs.random_tree(graph, 1).parents


def test_without_a_group_its_nodes_its_labels_and_its_coarse_samples_go(graph, task):
    joined = beyond_runs.relabel(task, 0.8, 0, beyond_runs.attributes(graph))
    out = beyond_runs.without_groups(joined, ["cat hair"])
    assert {"Shorthair", "Longhair"} == set(joined.graph.nodes) - set(out.graph.nodes)
    names = lambda t: [t.labels[k] for k in t.coarse.y]  # noqa: E731
    assert names(out) == [v for v in names(joined) if v not in ("Shorthair", "Longhair")]


def short(method: str, **training) -> dict:
    """Settings of the toy world on features that are given."""
    given = records.cell_settings("toy", "critters", "fusion", "label-aug-question") | {"method": method}
    few = {"steps": 40, "eval_every": 20, "trunk": 16, **training}
    return given | {"encoder": {"tune": "frozen"}, "training": given["training"] | few, "head": {"hidden": 8}}


def test_a_run_is_read_where_it_is_valid_and_made_anew_where_it_is_not(tmp_path, task, monkeypatch):
    first = beyond_runs.run(tmp_path, "x", short("agreement"), task, 0)
    assert first["right"].shape == (140,)
    made = []
    monkeypatch.setattr(beyond_runs, "fit", lambda *given: made.append(given) or 1 / 0)
    again = beyond_runs.run(tmp_path, "x", short("agreement"), task, 0)
    assert all(np.array_equal(first[key], again[key]) for key in first) and not made
    for name, given, seed in (
        ("x", short("agreement", lr=0.1), 0),
        ("y", short("agreement"), 0),
        ("x", short("agreement"), 1),
    ):
        with pytest.raises(ZeroDivisionError):
            beyond_runs.run(tmp_path, name, given, task, seed)
    monkeypatch.setattr(records, "code_hash", lambda *names: "another code")
    with pytest.raises(ZeroDivisionError):
        beyond_runs.run(tmp_path, "x", short("agreement"), task, 0)


def test_hiclass_learns_breeds_also_beside_samples_of_which_the_species_is_all_that_is_known(tmp_path, task):
    for which in (task, beyond_runs.relabel(task, 0.5, 0, ["species"])):
        found = beyond_runs.run(tmp_path, str(len(which.train)), short("hiclass"), which, 0)
        assert found["right"].mean() > 0.95 and found["validation"] > 0.95 and (found["p_exact"] <= 1).all()
