"""The label graph: its file's every rule, its paths, Definitions 3.1 to 3.3, trim and join."""

from __future__ import annotations

import networkx as nx
import pytest
import yaml
from companion.controls import shuffled, trim, untold
from helpers import SHIPPED, TEN, build, random_graphs, simple_paths, ten
from hypothesis import given, settings
from hypothesis import strategies as st

from labelaug_core.graph import GraphError, LabelGraph
from labelaug_core.graph_file import GRAPHS, _validate, load_graph
from labelaug_core.joining.report import label_relations

# -- the file ------


def load(tmp_path, data) -> LabelGraph:
    """Write the dict (or the text) to my.yaml and load that: the way a reader's graph comes in."""
    file = tmp_path / "my.yaml"
    file.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return load_graph(file)


def put(*keys_and_value):
    """put("groups", "hair", "nodes", []) -> a mistake that sets data["groups"]["hair"]["nodes"] = []."""
    *keys, last, value = keys_and_value

    def mistake(data: dict) -> None:
        for key in keys:
            data = data[key]
        data[last] = value

    return mistake


def drop(*keys):
    def mistake(data: dict) -> None:
        *path, last = keys
        for key in path:
            data = data[key]
        del data[last]

    return mistake


BREED = ("groups", "cat breed", "nodes")
MISTAKES = {
    # rule: (mistake, what the message says beside the file)
    "cycle": (put("groups", "species", "below", ["animal", "Short"]), ["cat", "Short", "cycle"]),
    "own parent": (put("groups", "hair", "below", ["cat", "Long"]), ["Long -> Long", "cycle"]),
    "orphan in a list": (drop("groups", "dog breed", "below"), ["'Pug'", "orphan"]),
    "orphan in a table": (put("groups", "tail", {"nodes": {"Thin": []}}), ["'Thin'", "orphan"]),
    "dead end": (put("groups", "tail", {"below": "cat", "nodes": ["Bushy"]}), ["'Bushy'", "no label"]),
    "leads to dead ends only": (
        put("groups", "tail", {"nodes": {"Bushy": ["cat"], "Tip": ["Bushy"]}}),
        ["'Bushy'", "no label"],
    ),
    "in two groups": (
        put("groups", "color", "nodes", ["Solid", "Tabby", "Long"]),
        ["'Long'", "'hair'", "'color'"],
    ),
    "root in a group": (put("groups", "species", "nodes", ["cat", "dog", "animal"]), ["'animal'", "species"]),
    "parent in no group": (put("groups", "dog breed", "below", "wolf"), ["'Pug'", "'wolf'", "no group"]),
    "label absent": (put("labels", "coarse", "nodes", ["cat", "fox"]), ["'coarse'", "'fox'"]),
    "renamed label absent": (
        put("labels", "coarse", "nodes", {"Felis": "feline"}),
        ["'coarse'", "'Felis'", "'feline'"],
    ),
    "label is the root": (put("labels", "coarse", "nodes", ["animal"]), ["'coarse'", "'animal'"]),
    "label group absent": (put("labels", "fine", "groups", ["breed"]), ["'fine'", "'breed'"]),
    "dataset without labels": (put("labels", "coarse", {}), ["'coarse'", "no label"]),
    "no dataset": (put("labels", {}), ["'labels'", "missing"]),
    "class twice": (
        put("labels", "coarse", "nodes", {"Big_Cat": "cat", "big cat": "dog"}),
        ["'coarse'", "'big cat'", "twice"],
    ),
    "node of two classes": (
        put("labels", "coarse", "nodes", {"a": "cat", "b": "cat"}),
        ["'coarse'", "'cat'", "twice"],
    ),
    "empty group": (put("groups", "hair", "nodes", []), ["'hair'", "no nodes"]),
    "group without nodes": (drop("groups", "hair", "nodes"), ["'hair'", "no nodes"]),
    "group is a list": (put("groups", "hair", ["Short", "Long"]), ["'hair'", "key: value"]),
    "groups is a list": (put("groups", ["hair"]), ["groups"]),
    "wrong column": (put(*BREED, "Coon", ["Tabby", "Long"]), ["'Coon'", "'Tabby'", "'hair'"]),
    "column is no group": (put("groups", "cat breed", "columns", ["hair", "colour"]), ["'Brit'", "'colour'"]),
    "short row": (put(*BREED, "Coon", ["Long"]), ["'Coon'", "1 cells", "hair, color"]),
    "long row": (put(*BREED, "Coon", ["Long", "Tabby", "Solid"]), ["'Coon'", "3 cells"]),
    "bare row": (put(*BREED, "Coon", "Long"), ["'Coon'", "1 cells"]),
    "empty cell": (put(*BREED, "Coon", ["Long", None]), ["'Coon'", "None"]),
    "unknown key": (put("lables", {}), ["'lables'"]),
    "unknown key of a group": (put("groups", "hair", "nods", []), ["'hair'", "'nods'"]),
    "unknown key of a dataset": (put("labels", "fine", "group", []), ["'fine'", "'group'"]),
    "exclusive is no yes or no": (put("groups", "hair", "exclusive", "yes please"), ["'hair'", "exclusive"]),
    "no root": (drop("root"), ["'root'", "missing"]),
    "no groups": (drop("groups"), ["'groups'", "missing"]),
    "number for a node": (put("groups", "hair", "nodes", ["Short", "Long", 7]), ["'hair'", "7"]),
    "truth value for a node": (put("groups", "hair", "nodes", ["Short", "Long", False]), ["'hair'", "False"]),
    "number for a parent": (put("groups", "hair", "below", 7), ["'hair'", "7"]),
    "blank name": (put("groups", "hair", "nodes", ["Short", "Long", " "]), ["'hair'", "' '"]),
    "listed twice": (put("groups", "species", "nodes", ["cat", "dog", "cat"]), ["'cat'", "twice"]),
    "truth value for a row": (put("groups", "dog breed", "nodes", {"Pug": False}), ["'Pug'", "False"]),
    "two roots": (put("root", ["animal", "plant"]), ["root"]),
    "an empty list for a root": (put("root", [[]]), ["root", "names 0"]),
    "the reserved name": (put("groups", "dog breed", "nodes", ["Pug", "<eop>"]), ["'<eop>'"]),
    "a group of the reserved name": (put("groups", "<eop>", {"below": "cat", "nodes": ["Manx"]}), ["'<eop>'"]),
    "sources is a number": (put("sources", 7), ["sources"]),
}


@pytest.mark.parametrize("rule", MISTAKES)
def test_each_mistake_gets_one_clear_error(tmp_path, rule):
    mistake, says = MISTAKES[rule]
    data = ten()
    mistake(data)
    with pytest.raises(GraphError) as error:
        load(tmp_path, data)
    message = str(error.value)
    assert message.startswith("my.yaml") and "\n" not in message
    for words in says:
        assert words in message
    assert load(tmp_path, TEN).nodes == build().nodes  # and it is the mistake that was refused


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("root: animal\ngroups:\n  a: {nodes: [x}\n", ["line 3"]),
        ("root: animal\nroot: plant\n", ["line 2", "'root'", "twice"]),
        (
            "root: r\ngroups:\n  a:\n    below: r\n    nodes:\n      x: [r]\n      x: [r]\n",
            ["line 7", "'x'", "twice"],
        ),
        ("root: r\ngroups:\n  a:\n    nodes:\n      no: [r]\n", ["line 5", "False", "not a text"]),
        ("root: r\ngroups:\n  a:\n    nodes:\n      2024: [r]\n", ["line 5", "2024", "not a text"]),
        ("root: !!python/object/apply:os.getcwd []\n", ["line 1", "not valid YAML"]),
        ("a: &a [x, x]\nb: [*a, *a]\nroot: *a\n", ["line 2", "*a is an alias"]),
        ("root: r\ngroups: " + "[" * 100_000, ["line 2", "more than 20 levels"]),
        ("", ["key: value"]),
        ("- a\n- b\n", ["key: value"]),
    ],
)
def test_bad_yaml_is_told_by_line(tmp_path, text, says):
    with pytest.raises(GraphError) as error:
        load(tmp_path, text)
    assert str(error.value).startswith("my.yaml") and all(words in str(error.value) for words in says)


def test_a_file_that_is_no_text_or_not_there(tmp_path):
    (tmp_path / "my.yaml").write_bytes(b"root: \xff\xfe\x00")
    with pytest.raises(GraphError, match=r"^my\.yaml"):
        load_graph(tmp_path / "my.yaml")
    with pytest.raises(GraphError, match=r"gone\.yaml: no such file; known graphs:.*critters.*pet"):
        load_graph(tmp_path / "gone.yaml")
    with pytest.raises(GraphError, match="^'pets': neither the path of a .yaml file nor a known name; known"):
        load_graph("pets")
    with pytest.raises(GraphError, match="neither the path of a .yaml file nor"):
        load_graph(build())


def test_what_a_file_says_is_what_the_graph_holds(tmp_path):
    data = ten()
    data["groups"]["color"] |= {"exclusive": False, "question": "What colour?"}
    data["labels"]["coarse"] = {"nodes": {"Felis_catus": "cat", "Canis": "dog"}}
    data["sources"] = ["a book"]
    graph = load(tmp_path, data)
    assert graph.nodes == "animal cat dog Short Long Solid Tabby Brit Coon Pug".split()
    assert graph.parents["Brit"] == ("Short", "Solid", "Tabby") and graph.parents["Short"] == ("cat",)
    assert graph.children("cat") == ("Short", "Long", "Solid", "Tabby")
    assert graph.blocks("cat") == {"hair": ("Short", "Long"), "color": ("Solid", "Tabby")}
    assert graph.exclusive == {
        "species": True,
        "hair": True,
        "color": False,
        "cat breed": True,
        "dog breed": True,
    }
    assert graph.question["color"] == "What colour?" and graph.sources == ("a book",)
    assert graph.labels["coarse"] == {"Felis_catus": "cat", "Canis": "dog"}
    assert graph.node_of("coarse", "felis-catus") == "cat"  # any spelling of the class's name
    assert graph.label_nodes() == ["Brit", "Coon", "Pug", "cat", "dog"] and graph.label_nodes("coarse") == [
        "cat",
        "dog",
    ]
    assert graph.augmented == ["Short", "Long", "Solid", "Tabby"]
    assert graph.compete("Short", "Long") and graph.compete("cat", "dog")
    assert not graph.compete("Solid", "Tabby")  # not exclusive
    assert (
        not graph.compete("Short", "Tabby") and not graph.compete("cat", "cat") and not graph.compete("animal", "cat")
    )


def test_unknown_names_are_told():
    graph = build()
    with pytest.raises(GraphError, match="'fox' of dataset 'coarse'"):
        graph.node_of("coarse", "fox")
    with pytest.raises(GraphError, match="'birds'.*coarse, fine"):
        graph.label_nodes("birds")
    with pytest.raises(GraphError, match="'fox'"):
        graph.paths("fox")


# -- paths and their determinism ------


@settings(max_examples=60, deadline=None)
@given(random_graphs())
def test_paths_are_all_simple_paths(graph):
    for v in graph.nodes[1:]:
        expected = simple_paths(graph, v)
        assert len(expected) == len(set(expected)) == graph.count_paths(v)
        assert sorted(graph.paths(v)) == sorted(expected)


def ladder(rungs: int) -> dict:
    """2 ** rungs paths to the one label."""
    groups, above = {}, ["root"]
    for i in range(rungs):
        groups[f"g{i}"] = {"nodes": {f"a{i}": above, f"b{i}": above}}
        above = [f"a{i}", f"b{i}"]
    groups["end"] = {"nodes": {"end": above}}
    return {"root": "root", "groups": groups, "labels": {"d": {"nodes": ["end"]}}}


def test_too_many_paths_are_counted_not_listed():
    graph = build(ladder(60))
    assert graph.count_paths("end") == 2**60
    with pytest.raises(GraphError, match=f"'end'.*{2**60}.*cap=10000"):
        graph.paths("end")
    small = build(ladder(3))
    assert len(small.paths("end", cap=8)) == 8
    with pytest.raises(GraphError, match="cap=7"):
        small.paths("end", cap=7)


def test_a_chain_of_thousands_of_nodes_is_one_path():
    names = [f"v{i}" for i in range(3_000)]
    groups = {v: {"nodes": {v: [above]}} for above, v in zip(["root", *names], names, strict=False)}
    graph = build({"root": "root", "groups": groups, "labels": {"d": {"nodes": [names[-1]]}}})
    assert graph.paths(names[-1]) == [("root", *names)]


def split_by_definition(graph: LabelGraph, label: str):
    """Def. 3.2 and 3.3, word by word, with Def. 3.1 read as: different members of one exclusive group."""
    paths = simple_paths(graph, label)

    def competing(u, w):
        return u != graph.root != w and graph.group[u] == graph.group[w] and graph.exclusive[graph.group[u]]

    def exists_another(path):
        return any(competing(u, w) and u != w for other in paths if other != path for u in path for w in other)

    return {p for p in paths if not exists_another(p)}, {p for p in paths if exists_another(p)}


@settings(max_examples=150, deadline=None)
@given(random_graphs(exclusive=False))
def test_determinism_is_the_definition(graph):
    for v in graph.nodes[1:]:
        deterministic, nondeterministic = graph.split_paths(v)
        assert (set(deterministic), set(nondeterministic)) == split_by_definition(graph, v)


@pytest.mark.parametrize("name", SHIPPED)
def test_determinism_is_the_definition_on_shipped_graphs(name):
    graph = load_graph(name)
    for v in graph.label_nodes():
        assert tuple(map(set, graph.split_paths(v))) == split_by_definition(graph, v)


def test_the_papers_examples_come_out():
    """Sec. 3.2.3 and 4.4: British Shorthair is short-haired for certain; Tabby is so of some cats only."""
    pet = load_graph("pet")

    def through(node, breed):
        deterministic, nondeterministic = pet.split_paths(breed)
        return [p for p in deterministic if node in p], [p for p in nondeterministic if node in p]

    for breed in ("Abyssinian", "Egyptian Mau", "Bengal"):
        assert through("Tabby-Color", breed) == ([("animal", "cat", "Tabby-Color", breed)], [])
    for breed in ("Maine Coon", "British Shorthair"):
        assert through("Tabby-Color", breed) == ([], [("animal", "cat", "Tabby-Color", breed)])
    short = ("animal", "cat", "Shorthair", "British Shorthair")
    certain, uncertain = pet.split_paths("British Shorthair")
    assert short in certain
    colors = [("animal", "cat", c, "British Shorthair") for c in ("Solid-Color", "Tabby-Color", "Point-Color")]
    assert set(colors) <= set(uncertain)
    assert pet.compete("Shorthair", "Longhair") and pet.compete("Solid-Color", "Tabby-Color")
    assert not pet.compete("Shorthair", "Tabby-Color")


# -- shipped graphs ------


def check_whole(graph: LabelGraph) -> None:
    """Valid by the file's own rules and, from the edges alone, every label is reachable."""
    _validate(graph, "shipped.yaml")
    reached = nx.descendants(nx.DiGraph([(p, v) for v, ps in graph.parents.items() for p in ps]), graph.root)
    assert reached == set(graph.nodes[1:]) == set(graph.group)
    assert set(graph.label_nodes()) <= reached
    assert set(graph.exclusive) == set(graph.group.values())


def test_sizes_of_the_label_sets():
    sizes = {name: {d: len(c) for d, c in load_graph(name).labels.items()} for name in SHIPPED}
    assert sizes["pet"] == {"oxford-iiit-pet": 37, "dogs-vs-cats": 2}
    assert sizes["flower"] == {"flowers-102": 102, "flowers-17": 17}


@pytest.mark.parametrize("name", sorted(p.stem for p in GRAPHS.glob("*.yaml")))
def test_shipped_graphs_are_whole_and_say_where_they_come_from(name):
    graph = load_graph(name)
    check_whole(graph)
    assert graph.name == name and graph.sources
    assert all(graph.question[g].endswith("?") for g in graph.exclusive)


@pytest.mark.parametrize("fraction", [0.0, 0.36, 0.63, 1.0])
@pytest.mark.parametrize("name", SHIPPED)
def test_trim_takes_its_share_and_breaks_nothing(name, fraction):
    graph = load_graph(name)
    small = trim(graph, fraction)
    assert len(graph.augmented) - len(small.augmented) == round(fraction * len(graph.augmented))
    assert set(small.augmented) <= set(graph.augmented)
    assert small.labels == graph.labels and set(graph.label_nodes()) <= set(small.nodes)
    check_whole(small)
    assert trim(graph, fraction).nodes == small.nodes  # no chance in it
    for v in small.nodes[1:]:  # who was below whom still is
        assert small.ancestors(v) == graph.ancestors(v) & set(small.nodes)


@settings(max_examples=60, deadline=None)
@given(random_graphs())
def test_trim_leaves_random_graphs_whole(graph):
    for fraction in (0.36, 0.63, 1.0):
        small = trim(graph, fraction)
        assert len(small.augmented) == len(graph.augmented) - round(fraction * len(graph.augmented))
        assert small.labels == graph.labels
        check_whole(small)
    assert small.augmented == []


def test_trim_leaves_no_dead_end():
    """A > B > y and root > y: without B, A would lead to nothing."""
    groups = {
        "a": {"nodes": {"A": ["root"]}},
        "b": {"nodes": {"B": ["A"]}},
        "c": {"nodes": {"y": ["root", "B"]}},
    }
    graph = build({"root": "root", "groups": groups, "labels": {"d": {"nodes": ["y"]}}})
    check_whole(trim(graph, 0.5))


def test_trim_refuses_what_is_no_fraction():
    for fraction in (-0.1, 36):
        with pytest.raises(ValueError, match="fraction"):
            trim(build(), fraction)


@settings(max_examples=150, deadline=None)
@given(random_graphs(), st.data())
def test_without_keeps_who_is_below_whom(graph, data):
    """No coarse-to-fine relation is lost, whatever the order of the nodes; and none appears."""
    drop = data.draw(st.lists(st.sampled_from(graph.nodes[1:]), unique=True))
    smaller = graph.without(*drop)
    assert set(smaller.nodes) == set(graph.nodes) - set(drop)
    for v in smaller.nodes:
        assert smaller.ancestors(v) == graph.ancestors(v) - set(drop)
    assert {v: set(ps) for v, ps in graph.without(*drop[::-1]).parents.items()} == {
        v: set(ps) for v, ps in smaller.parents.items()
    }


def test_nodes_below_a_dropped_node_move_up():
    graph = build().without("Solid", "Long")
    assert graph.parents["Brit"] == ("Short", "Tabby") and graph.parents["Coon"] == ("Tabby",)
    data = ten()
    data["groups"]["variety"] = {"below": "Brit", "nodes": ["Old", "New"]}
    data["labels"]["fine"] = {"nodes": ["Coon", "Pug", "Old", "New"]}
    graph = build(data).without("Brit")
    assert graph.parents["Old"] == graph.parents["New"] == ("Short", "Solid", "Tabby")
    assert graph.labels["fine"] == {v: v for v in ("Coon", "Pug", "Old", "New")}
    with pytest.raises(GraphError, match="no nodes that can be dropped: 'animal', 'Tiger'"):
        graph.without("cat", "animal", "Tiger")
    graph = build().without("Short", "Long", "Solid", "Tabby")
    assert graph.parents["Brit"] == graph.parents["Coon"] == ("cat",)
    assert graph.exclusive == {"species": True, "cat breed": True, "dog breed": True}


@pytest.mark.parametrize("name", SHIPPED)
def test_shuffled_keeps_every_count(name):
    graph = load_graph(name)
    wrong = shuffled(graph, seed=1)
    check_whole(wrong)
    assert wrong.parents != graph.parents and wrong.parents == shuffled(graph, seed=1).parents
    assert wrong.parents != shuffled(graph, seed=2).parents
    assert wrong.group == graph.group and wrong.labels == graph.labels
    assert {v: len(wrong.children(v)) for v in graph.nodes} == {v: len(graph.children(v)) for v in graph.nodes}


def test_join_of_pet():
    report = label_relations(load_graph("pet"), "oxford-iiit-pet", "dogs-vs-cats")
    assert report["shared"] == report["unrelated"] == [] and report["finer"] == {}
    assert report["only dogs-vs-cats"] == ["cat", "dog"] and len(report["only oxford-iiit-pet"]) == 37
    assert {y: len(xs) for y, xs in report["coarser"].items()} == {"cat": 12, "dog": 25}
    assert "Siamese" in report["coarser"]["cat"] and "Pug" in report["coarser"]["dog"]


def test_join_of_flowers():
    report = label_relations(load_graph("flower"), "flowers-102", "flowers-17")
    shared = "buttercup, colt's foot, daffodil, fritillary, sunflower, tiger lily, windflower, common dandelion"
    assert set(report["shared"]) == set(shared.split(", ")) and len(report["shared"]) == 8
    assert len(report["only flowers-102"]) == 94 and len(report["only flowers-17"]) == 9
    assert {"daisy"} < set(report["coarser"]) and len(report["coarser"]) == 4  # iris, crocus and pansy are genera
    assert set(report["coarser"]) | set(report["unrelated"]) == set(report["only flowers-17"])
    assert not any("siam tulip" in xs for xs in report["coarser"].values())  # a Curcuma, no tulip


def test_join_counts_both_ways():
    data = ten()
    data["labels"] = {"a": {"nodes": ["Brit", "cat", "Pug"]}, "b": {"nodes": ["Coon", "Pug", "Short", "dog"]}}
    data["groups"]["dog breed"]["nodes"] = ["Pug", "Boxer"]
    data["labels"]["b"]["nodes"].append("Boxer")
    assert label_relations(build(data), "a", "b") == {
        "shared": ["Pug"], "only a": ["Brit", "cat"], "only b": ["Coon", "Short", "dog", "Boxer"],
        "coarser": {"Short": ["Brit"], "dog": ["Pug"]}, "finer": {"Coon": ["cat"], "Short": ["cat"]},
        "unrelated": ["Boxer"],
    }  # fmt: skip


@pytest.mark.parametrize("name, fine, coarse", [("arxiv", 149, 20), ("notes", 14, 4)])
def test_the_text_graphs_have_one_deterministic_path_a_label_and_nobody_competes(name, fine, coarse):
    graph = load_graph(name)
    assert [len(table) for table in graph.labels.values()] == [fine, coarse]
    assert all(graph.split_paths(v) == (graph.paths(v), []) and graph.count_paths(v) == 1 for v in graph.label_nodes())
    assert not any(graph.compete(u, w) for u in graph.nodes for w in graph.children(graph.root))


def test_an_untold_graph_says_nothing_of_any_breed():
    graph = load_graph("critters")
    without = untold(graph)
    for breed in graph.label_nodes("critters"):
        assert set(graph.parents[breed]) <= set(without.parents[breed])
        attributes = [p for p in without.parents[breed] if p in graph.augmented]
        for p in attributes:  # every answer to every question that is asked of its species
            assert {u for u in graph.nodes if graph.group.get(u) == graph.group[p]} <= set(attributes)
        assert not [path for path in without.split_paths(breed)[0] if set(path) & set(graph.augmented) - {"cat", "dog"}]
    assert without.nodes == graph.nodes
