"""Controls: data whose labels were made coarser or wrong, and other graphs for the same labels."""

import numpy as np
import pytest
from companion import controls
from companion.methods import METHODS
from companion.records.profiles import cell_settings, cells
from companion.runs import check_settings, fit_cell
from companion.tables import beyond

from labelaug_core.data import DataError, Split, Task
from labelaug_core.graph_file import load_graph
from labelaug_core.training import predict


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


def test_relabelling_keeps_classes_even_and_tells_no_more_than_the_answers(graph, task):
    out = controls.relabel(task, 0.8, 0, ["species"])
    assert np.bincount(out.train.y).tolist() == [2] * 14 and len(out.coarse) == 112
    assert sorted(out.train.ids + out.coarse.ids, key=int) == task.train.ids
    for i, k in zip(out.coarse.ids, out.coarse.y, strict=True):
        assert out.labels[k] in graph.ancestors(task.labels[task.train.y[int(i)]])
    assert controls.relabel(task, 0.0, 0, ["species"]).coarse is None
    with pytest.raises(DataError, match="'cat hare'"):
        controls.relabel(task, 0.8, 0, ["cat hare"])


def test_an_answer_that_the_breed_leaves_open_stays_unknown(graph, task):
    asked = controls.attributes(graph)
    assert asked == [
        f"{a} {q}" for a, qs in (("cat", "hair color ears tail"), ("dog", "hair coat ears tail")) for q in qs.split()
    ]
    out = controls.relabel(task, 0.8, 0, asked)
    told = {v: {out.labels[k] for i, k in zip(out.coarse.ids, out.coarse.y, strict=True) if task.train.y[int(i)] == n}
            for n, v in enumerate(task.labels)}  # fmt: skip
    assert told["Brackenpaw"] == {"Shorthair", "Tabby-Color", "Upright Ears", "Thin Tail"}
    assert told["Duskmask"] == {"Point-Color", "Upright Ears", "Thin Tail"}
    assert not set(out.graph.augmented) & set(out.labels)
    few = controls.fewer_coarse(out, 0.25, 0)
    kept = set(few.coarse.ids)
    assert len(kept) == 28 and len(few.coarse) == sum(i in kept for i in out.coarse.ids)
    assert controls.fewer_coarse(out, 0, 0).coarse is None


def test_a_wrong_answer_is_another_answer_to_the_same_question(graph, task):
    joined = controls.relabel(task, 0.8, 0, controls.attributes(graph))
    out = controls.wrong_answers(joined, 0.3, 0)
    before, after = ([out.labels[k] for k in t.coarse.y] for t in (joined, out))
    assert [graph.group[v] for v in before] == [graph.group[v] for v in after] and out.coarse.ids == joined.coarse.ids
    assert np.mean([a != b for a, b in zip(before, after, strict=True)]) == pytest.approx(0.3, abs=0.05)
    everything = controls.wrong_answers(joined, 1.0, 0).coarse.y
    assert (everything != joined.coarse.y).all() and (out.train.y == joined.train.y).all()


def test_a_random_tree_has_the_labels_and_none_of_the_knowledge(graph):
    tree = controls.random_tree(graph, 0)
    assert tree.label_nodes("critters") == graph.label_nodes("critters")
    assert not set(graph.augmented) & set(tree.nodes)
    for species in ("cat", "dog"):
        parts = tree.children(species)
        assert len(parts) == 3 and sorted(len(tree.children(v)) for v in parts) == [2, 2, 3]
        assert {u for v in parts for u in tree.children(v)} == graph.descendants(species) & set(graph.label_nodes())
    assert tree.parents != controls.random_tree(graph, 1).parents


def test_without_a_group_its_nodes_its_labels_and_its_coarse_samples_go(graph, task):
    joined = controls.relabel(task, 0.8, 0, controls.attributes(graph))
    assert controls.attributes(joined.graph) == controls.attributes(graph)
    assert controls.on_graph(joined, "without-attributes", 0).coarse is None
    assert controls.shuffled(joined.graph, 0).parents == controls.shuffled(graph, 0).parents != graph.parents
    out = controls.without_groups(joined, ["cat hair"])
    assert {"Shorthair", "Longhair"} == set(joined.graph.nodes) - set(out.graph.nodes)
    names = lambda t: [t.labels[k] for k in t.coarse.y]  # noqa: E731
    assert names(out) == [v for v in names(joined) if v not in ("Shorthair", "Longhair")]


def test_hiclass_learns_breeds_also_beside_samples_of_which_the_species_is_all_that_is_known(task):
    settings = cell_settings("toy", "critters", "fusion", "hiclass")
    settings["encoder"] = {"name": "none", "tune": "frozen"}
    for data in ({}, {"join": True, "share": 0.5, "questions": ["species"]}):
        fitted = fit_cell(settings | {"data": data}, task, 0)
        found = predict(fitted.model, task.test)
        assert (found["greedy"] == task.test.y).mean() > 0.95 and fitted.history[-1]["val_accuracy"] > 0.95
        assert (found["log_probs"] <= 0).all()


@pytest.mark.parametrize("profile", ["toy", "cpu"])
def test_every_cell_beyond_the_paper_can_be_trained_as_its_settings_say(profile):
    """Settings, questions and graphs exist; the fine part of the data is what the controls ask for."""
    for cell in cells(profile, part="beyond"):
        settings = cell_settings(profile, **cell)
        check_settings(settings)
        graph = load_graph(settings["source"])
        fine = graph.label_nodes(next(iter(graph.labels)))
        y = np.repeat(np.arange(len(fine)), 20)
        split = Split(np.zeros((len(y), 1), dtype=np.float32), y, [str(i) for i in range(len(y))])
        whole = Task(graph, fine, len(fine), split, split, content_hash="zeros")
        task = controls.controlled(whole, settings["data"], 0)
        assert len(task.train) == round(len(y) * (1 - settings["data"].get("share", 0)))
        assert (task.coarse is not None) == ("share" in settings["data"] and "join" in settings["data"])
        drawn = controls.on_graph(task, settings["head"].get("graph", METHODS[cell["method"]].graph), 0)
        assert drawn.graph.label_nodes(next(iter(graph.labels))) == fine


@pytest.mark.parametrize("profile", ["toy", "cpu"])
def test_what_a_question_compares_with_is_a_cell_of_the_question_or_of_the_tables(profile):
    of = {q: cells(profile, part="beyond", question=q) for q in "estimators neighbours when which knowledge".split()}
    assert sum(map(len, of.values())) >= len(cells(profile, part="beyond")) > 0
    for question, reference in beyond.REFERENCE.items():
        for cell in of[question]:
            other = reference(cell)
            assert other | {"option": other["option"].replace("decode=exact", "")} in of[question]
    for question in ("neighbours", "when", "which"):
        for cell in of[question]:
            data, every = cell_settings(profile, **cell)["data"], of[question] + cells(profile, part="cells")
            assert any(
                c["method"] == "ffn"
                and not (d := cell_settings(profile, **c)["data"]).get("join")
                and (d.get("share"), d.get("questions")) == (data.get("share"), data.get("questions"))
                for c in every
                if c["group"] == cell["group"]
            )


@pytest.mark.parametrize("name", ["pet", "cifar100", "critters", "flower"])
def test_in_a_word_tree_every_node_asks_one_question_so_each_label_can_be_certain(name):
    whole = load_graph(name)
    bare = whole.without(*whole.augmented)
    for tree in (controls.word_tree(bare), controls.random_tree(whole, 0)):
        assert all(len(tree.blocks(v)) < 2 for v in tree.nodes) and len(tree.blocks(tree.root)) == 1
    assert (controls.word_tree(bare) == bare) == (name != "flower")  # there genera and species are children of the root
