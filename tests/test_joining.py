"""Two datasets of the reader's own: the draft of a graph, the task, how the label sets meet, near-duplicates."""

import json
import os
import tempfile
import time
import unicodedata

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from companion.drawing import draw_graph
from companion.fonts import characters, drawable, use_fonts_for
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import font_manager
from PIL import Image
from test_joining_images import draw

from labelaug_core.data import DataError, Split, Task, Texts
from labelaug_core.files.cache import cache_folder
from labelaug_core.files.images import ImageFiles
from labelaug_core.graph import GraphError
from labelaug_core.graph_file import graph_from_dict, load_graph
from labelaug_core.joining import duplicates, folder
from labelaug_core.joining.draft import draft_graph, is_vague, match_names
from labelaug_core.joining.report import describe_join, join_report, nested_labels, teaching_report

FINE, COARSE = ["persian cat", "Siamese_cat", "beagle", "tulip"], ["Cats", "Tulip", "siam tulip", "horse"]


# ---- the draft --------------------------------------------------------------------------------------------------


def test_draft_places_what_names_say_and_never_overwrites(tmp_path):
    path = tmp_path / "mine.yaml"
    graph = draft_graph([*FINE, "sunflower", "yes", "7", "a: b # c"], [*COARSE, "flower"], path)
    assert load_graph(path) == graph
    assert graph.parents["persian cat"] == graph.parents["Siamese_cat"] == ("Cats",)
    assert graph.parents["sunflower"] == ("flower",) and graph.parents["tulip"] == (graph.root,)
    assert graph.labels["coarse"]["Tulip"] == "tulip"
    assert graph.descendants("unplaced") == {"beagle", "horse", "yes", "7", "a: b # c", "siam tulip"}
    before = path.read_text()
    with pytest.raises(DataError, match="exists"):
        draft_graph(FINE, COARSE, path)
    assert path.read_text() == before
    for fine, message in ((["a", "A", "b", "B", "c"], "twice: 'a', 'b'"), ([], "no class"), (["unplaced"], "unplaced")):
        with pytest.raises(DataError, match=message):
            draft_graph(fine, COARSE, tmp_path / "other.yaml")
    assert not (tmp_path / "other.yaml").exists()


OPPOSITES = [
    ("normal", "abnormal"), ("male", "female"), ("spam", "not spam"), ("mask", "no mask"), ("ripe", "unripe"),
    ("valid", "invalid"), ("mask", "without_mask"), ("toxic", "non-toxic"), ("pure", "impure"), ("like", "dislike"),
    ("sugar", "sugar free"), ("man", "woman"), ("regular", "irregular"), ("typical", "atypical"),
]  # fmt: skip


@pytest.mark.parametrize(("one", "other"), OPPOSITES)
def test_opposites_are_never_below_each_other(tmp_path, one, other):
    both = draft_graph([one, other], [other, one], tmp_path / "both.yaml")
    apart = draft_graph([one], [other], tmp_path / "apart.yaml")
    turned = draft_graph([other], [one], tmp_path / "turned.yaml")
    for graph in (both, apart, turned):
        assert graph.descendants(one) == graph.descendants(other) == set()
    assert nested_labels(both, "fine") == {} and set(both.children(both.root)) == {one, other}


def test_classes_of_one_dataset_are_never_nested_not_even_through_the_other_one(tmp_path):
    graph = draft_graph(["dog", "hot dog stand"], ["hot dog", "cat"], tmp_path / "a.yaml")
    assert graph.parents["hot dog stand"] == ("hot dog",) and graph.parents["hot dog"] == (graph.root,)
    graph = draft_graph(["persian cat", "dog"], ["cat", "black persian cat", "horse"], tmp_path / "b.yaml")
    assert graph.parents["persian cat"] == ("cat",) and "black persian cat" in graph.descendants("unplaced")
    graph = draft_graph(["dog", "beagle dog"], ["dog", "cat"], tmp_path / "c.yaml")  # both have dog
    assert graph.labels["coarse"]["dog"] == "dog" and "beagle dog" in graph.descendants("unplaced")


WORDS = st.lists(
    st.sampled_from("cat dog wild sun flower sunflower un no mask other 1 ripe unripe cats".split()), min_size=1
)
NAMES = st.lists(WORDS.map(" ".join), min_size=1, max_size=6, unique=True)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(fine=NAMES, coarse=NAMES)
def test_whatever_the_names_no_two_classes_of_one_dataset_are_nested(fine, coarse):
    node, parent, _ = match_names(fine, coarse)
    for nodes in ({*fine}, {*node.values()}):
        for v in nodes:
            above = parent.get(v)
            while above is not None:
                assert above not in nodes, (v, above)
                above = parent.get(above)


def test_names_that_say_nothing_are_a_question_not_a_fact(tmp_path):
    fine, coarse = ["0", "1", "other", "beagle"], ["0", "1", "2", "Other", "dog"]
    graph = draft_graph(fine, coarse, tmp_path / "mine.yaml")
    assert graph.labels["coarse"] == {
        "0": "0 (coarse)",
        "1": "1 (coarse)",
        "2": "2",
        "Other": "Other (coarse)",
        "dog": "dog",
    }
    assert set(fine) | {"0 (coarse)", "Other (coarse)"} < graph.descendants("unplaced")
    assert "0 (coarse)   # a question: is it the '0' of fine?" in (tmp_path / "mine.yaml").read_text().replace('"', "")
    task = task_of(graph)
    assert "-> question: is 'other' of fine the same as 'Other' of coarse?" in describe_join(task)
    assert describe_join(task).count("-> question") == 3
    assert is_vague("class 3") and is_vague("MISC") and not is_vague("other dogs") and not is_vague("b52")


def task_of(graph, n=2):
    """A task with n samples of each label of the graph; nothing is in them."""
    fine, coarse = list(graph.labels)
    labels = graph.label_nodes(fine, coarse)

    def split(nodes):
        y = np.repeat([labels.index(v) for v in nodes], n)
        return Split(np.zeros((len(y), 1)), y, [str(i) for i in range(len(y))])

    own = graph.label_nodes(fine)
    return Task(graph, labels, len(own), split(own), split(own), split(graph.label_nodes(coarse)))


def test_every_fine_label_above_another_one_is_a_warning():
    def graph_with(dog):
        groups = {
            "kind": {"below": "r", "nodes": ["dog", "cat"]},
            "breed": {"below": "dog", "nodes": ["beagle", "pug"]},
        }
        groups["breed"]["nodes"] += [dog] * (dog != "dog")
        fine = {"dog": dog, "beagle": "beagle", "pug": "pug"}
        labels = {"mine": {"nodes": fine}, "theirs": {"nodes": ["dog", "cat"]}}
        return graph_from_dict({"root": "r", "groups": groups, "labels": labels}, "mine.yaml")

    graph = graph_with("dog")
    assert nested_labels(graph, "mine") == {"dog": ["beagle", "pug"]} and nested_labels(graph, "theirs") == {}
    said = describe_join(task_of(graph))
    assert "-> warning: the fine label 'dog' lies above 'beagle', 'pug'" in said
    assert (
        "theirs has 'dog', too: its samples teach the model to stop there, also those that show 'beagle', 'pug'" in said
    )
    assert "give the class of mine a node of its own below 'dog'" in said
    assert "warning" not in describe_join(task_of(graph_with("another dog")))  # as it says


def test_a_name_composed_in_one_set_and_decomposed_in_the_other_is_one_class(tmp_path):
    graph = draft_graph(
        ["Épagneul", "Bärin"], [unicodedata.normalize("NFD", "Épagneul"), "Bär"], tmp_path / "mine.yaml"
    )
    assert set(graph.labels["fine"].values()) & set(graph.labels["coarse"].values()) == {"Épagneul"}
    assert graph.node_of("coarse", unicodedata.normalize("NFD", "ÉPAGNEUL")) == "Épagneul"
    text = (tmp_path / "mine.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(unicodedata.normalize("NFD", text), encoding="utf-8")
    assert load_graph(tmp_path / "mine.yaml") == graph


# ---- the task ---------------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path):
    for part, classes, n in (("fine", FINE, 5), ("coarse", COARSE, 3)):
        for k, c in enumerate(classes):
            for i in range(n):
                draw(tmp_path / part / c / f"{i}.jpg", seed=100 * k + i)
    (tmp_path / "fine/beagle/Thumbs.db").write_text("")
    return tmp_path


def settings_of(root, **more):
    return {"fine": root / "fine", "coarse": root / "coarse", "image_size": 8, **more}


def small_graph(**labels):
    nodes = sorted({v for table in labels.values() for v in table.values()})
    groups, labels = {"g": {"below": "r", "nodes": nodes}}, {d: {"nodes": table} for d, table in labels.items()}
    return graph_from_dict({"root": "r", "groups": groups, "labels": labels}, "mine.yaml")


def same(*names):
    return {n: n for n in names}


GOOD = small_graph(fine=same(*FINE), coarse=same("Cats", "siam tulip", "horse") | {"Tulip": "tulip"})


def test_images_from_draft_to_report(mine):
    graph = folder.graph_for(mine / "mine.yaml", settings_of(mine))
    task = folder.load(graph, settings_of(mine))
    assert [len(s) for s in (task.train, task.test, task.coarse)] == [16, 4, 12]
    assert sorted(task.test.y) == [0, 1, 2, 3] and not set(task.train.ids) & set(task.test.ids)
    assert task.train.inputs[np.array([0, 3])].shape == (2, 8, 8, 3)
    again, other = folder.load(graph, settings_of(mine)), folder.load(graph, settings_of(mine, seed=1))
    assert again.test.ids == task.test.ids != other.test.ids and again.content_hash == task.content_hash

    report = join_report(task).set_index("label")
    relations = {"Siamese_cat": "only fine", "persian cat": "only fine", "beagle": "unplaced", "tulip": "shared"}
    relations |= {"Cats": "coarser", "siam tulip": "unplaced", "horse": "unplaced"}
    assert report["relation"].to_dict() == relations
    assert report.loc["tulip", ["fine (n)", "coarse (n)", "paths", "deterministic"]].tolist() == [4, 3, 1, 1]
    assert report.loc["Cats", "to"] == "Siamese_cat, persian cat" and report.loc["persian cat", "to"] == "Cats"
    teaches = teaching_report(task).set_index("node")
    assert teaches.loc["Cats", ["fine sure", "coarse sure"]].tolist() == [8, 3]
    assert "unplaced (3)" in describe_join(task) and "Cats (of" in describe_join(task)
    assert join_report(task.fine_only())["coarse (n)"].sum() == 0


def test_the_graph_of_other_datasets_is_an_error_with_its_age_and_all_classes(mine):
    path = mine / "label_graph.yaml"
    graph = folder.graph_for(path, settings_of(mine))
    assert folder.graph_for(path, settings_of(mine)) == graph  # the file is read, not drafted again
    os.utime(path, (time.time() - 3 * 86_400 - 60,) * 2)
    draw(mine / "fine/lynx/1.jpg")
    draw(mine / "fine/puma/1.jpg")
    draw(mine / "coarse/fish/1.jpg")
    message = (
        r"label_graph.yaml \(last changed .*, 3 days ago\).*'lynx', 'puma' of the fine data and 'fish' of the coarse"
    )
    with pytest.raises(GraphError, match=message):
        folder.graph_for(path, settings_of(mine))


def test_errors_of_the_join_name_all_classes(mine):
    assert len(folder.load(GOOD, settings_of(mine)).train) == 16
    with pytest.raises(GraphError, match="'horse', 'siam tulip' of dataset 'coarse'"):  # unknown to the graph
        folder.load(small_graph(fine=same(*FINE), coarse=same("Cats") | {"Tulip": "tulip"}), settings_of(mine))
    with pytest.raises(DataError, match="2 of 6 classes have no sample: 'lynx', 'puma'"):
        folder.load(small_graph(fine=same(*FINE, "lynx", "puma"), coarse=GOOD.labels["coarse"]), settings_of(mine))
    with pytest.raises(GraphError, match="'Tulip' and 'tulip'"):  # one class of both, spelled apart
        folder.load(small_graph(fine=same(*FINE), coarse=same(*COARSE)), settings_of(mine))
    with pytest.raises(GraphError, match="two datasets"):
        folder.load(small_graph(fine=same(*FINE)), settings_of(mine))
    with pytest.raises(DataError, match="no such file"):
        folder.load(GOOD, settings_of(mine, test=mine / "nowhere"))
    with pytest.raises(DataError, match="test_fraction"):
        folder.load(GOOD, settings_of(mine, test_fraction=1.0))
    with pytest.raises(DataError, match="'coarse' is missing"):
        folder.load(GOOD, {"fine": mine / "fine"})
    draw(mine / "coarse/TULIP/1.jpg")
    draw(mine / "coarse/cats/1.jpg")
    with pytest.raises(DataError, match="'TULIP' and 'Tulip'; 'Cats' and 'cats' are one class in two spellings"):
        folder.load(GOOD, settings_of(mine))


def test_all_broken_images_of_both_sets_are_named_before_training(mine):
    broken = [mine / "fine/beagle/0.jpg", mine / "fine/tulip/4.jpg", mine / "coarse/Cats/1.jpg"]
    for path in broken:
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(DataError, match="3 images of 32") as error:
        folder.load(GOOD, settings_of(mine))
    assert all(str(path) in str(error.value) for path in broken)


def test_classes_of_one_sample_are_all_named(mine):
    for c in ("beagle", "tulip"):
        for i in range(1, 5):
            (mine / "fine" / c / f"{i}.jpg").unlink()
    with pytest.raises(DataError, match="'beagle', 'tulip' has one sample"):
        folder.load(GOOD, settings_of(mine))


def test_a_single_fine_class_is_an_error(mine):
    graph = small_graph(fine=same("beagle"), coarse=GOOD.labels["coarse"])
    for c in FINE:
        if c != "beagle":
            (mine / "fine" / c).rename(mine / c)
    with pytest.raises(DataError, match="one class only, 'beagle'"):
        folder.load(graph, settings_of(mine))


def test_folders_named_by_a_number_are_found(mine, monkeypatch):
    monkeypatch.chdir(mine)
    (mine / "fine").rename(mine / "2023")
    (mine / "coarse").rename(mine / "0")
    (mine / "2023/beagle").rename(mine / "2023/1999")  # a class, too
    given = {"fine": 2023, "coarse": 0, "image_size": 8}  # papermill reads `-p fine_data 2023` as a number
    graph = folder.graph_for("graph.yaml", given)
    assert "1999" in graph.labels["fine"] and load_graph("graph.yaml") == graph
    assert len(folder.load(graph, given).train) == 16


def test_texts_are_joined_too(tmp_path):
    rows = [("one", "x"), ("two", "y"), ("three", "x"), ("four", "y"), ("five", "x")]
    (tmp_path / "t.csv").write_text("text,label\n" + "".join(f"{t},{y}\n" for t, y in rows))
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in rows))
    graph = small_graph(fine=same("x", "y"), coarse={"X": "x", "y": "y"})
    task = folder.load(graph, {"fine": tmp_path / "t.csv", "coarse": tmp_path / "t.jsonl", "test_fraction": 0.4})
    assert len(task.train) == 3 and all(isinstance(t, str) for t in task.train.inputs[np.arange(3)])
    assert len(duplicates.pairs(task)) == 5


def test_images_and_texts_are_not_mixed(mine):
    (mine / "t.csv").write_text("text,label\n" + "".join(f"a,{c}\n" for c in COARSE))
    with pytest.raises(DataError, match="all images or all texts"):
        folder.load(GOOD, settings_of(mine, coarse=mine / "t.csv"))


# ---- near-duplicates --------------------------------------------------------------------------------------------


@pytest.fixture
def photos(tmp_path):
    """-> split(names, classes): a part of 0.png ... 11.png, which all differ, and copy.jpg, a copy of 3.png."""
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((96, 96)) for _ in range(12)]
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    images[3].resize((48, 48)).save(tmp_path / "copy.jpg", quality=40)

    def split(names, classes=None):
        y = np.array(classes if classes is not None else [0] * len(names))
        return Split(ImageFiles([tmp_path / n for n in names], 32), y, list(names))

    return split


def test_near_duplicates_of_images_across_the_join(photos):
    coarse = photos(["copy.jpg", *(f"{i}.png" for i in range(4, 12)), "1.png"])
    task = Task(None, ["x"], 1, photos(["0.png", "1.png"]), photos(["2.png", "3.png"]), coarse)
    found = duplicates.pairs(task)
    expected = [["copy.jpg", "3.png", "test"], ["1.png", "1.png", "train"]]
    assert found[["coarse", "fine", "split"]].values.tolist() == expected
    assert duplicates.pairs_within(task).empty
    assert "1 of 2 test samples look like a coarse sample: 3.png = copy.jpg" in duplicates.describe_duplicates(task)
    hashes = duplicates.phashes(task.coarse)
    every = duplicates.close(hashes, hashes, 64)[2].reshape(len(hashes), -1)
    slow = [[bin(int(a) ^ int(b)).count("1") for b in hashes] for a in hashes]
    assert every.tolist() == slow


def test_near_duplicates_within_the_fine_set_and_in_two_classes(photos):
    train, test = (
        photos(["0.png", "3.png", "5.png", "5.png"], [0, 1, 0, 1]),
        photos(["1.png", "copy.jpg", "0.png"], [0, 1, 0]),
    )
    task = Task(None, ["x", "y"], 2, train, test)
    found = duplicates.pairs_within(task)
    assert sorted(found[["parts", "one", "other"]].values.tolist()) == [
        ["train, test", "0.png", "0.png"],
        ["train, test", "3.png", "copy.jpg"],
        ["train, train", "5.png", "5.png"],
    ]
    said = duplicates.describe_duplicates(task)
    assert "2 of 3 test samples look like a training sample" in said and "copy.jpg = 3.png" in said
    assert "1 pair looks alike and has two classes: 5.png (x) = 5.png (y)" in said
    clean = Task(None, ["x"], 1, photos(["0.png"]), photos(["1.png"]))
    assert duplicates.describe_duplicates(clean) == "no near-duplicates were found"


def test_near_duplicates_of_texts():
    def split(ids, texts):
        return Split(Texts(texts), np.zeros(len(ids), dtype=int), ids)

    fine = split(["1"], ["A\nx"]), split(["2", "3"], ["On Joining Sets\nx", "Other\ny"])
    coarse = split(["3", "4", "5", "6"], ["Renamed\nz", "on  joining sets\nw", "\nno title", "Other\nz"])
    found = duplicates.pairs(Task(None, ["x"], 1, *fine, coarse))  # a first line of one word is no title
    assert found[["coarse", "fine", "split"]].values.tolist() == [["3", "3", "test"], ["4", "2", "test"]]


def test_rows_of_two_files_of_one_name_are_no_duplicates(tmp_path):
    for place, word in (("a", "one"), ("b", "two")):
        (tmp_path / place).mkdir()
        rows = "".join(f"{word} {i},{'xy'[i % 2]}\n" for i in range(6))
        (tmp_path / place / "t.csv").write_text("text,label\n" + rows)
    graph = small_graph(fine=same("x", "y"), coarse=same("x", "y"))
    task = folder.load(graph, {"fine": tmp_path / "a/t.csv", "coarse": tmp_path / "b/t.csv"})
    assert duplicates.pairs(task).empty


# ---- places -----------------------------------------------------------------------------------------------------


def test_the_cache_needs_no_home(tmp_path, monkeypatch):
    for name in ("LABELAUG_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/proc")  # nobody can write there
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.warns(UserWarning, match="set LABELAUG_CACHE"):
        assert cache_folder().parent == tmp_path
    monkeypatch.delenv("HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "labelaug"
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    monkeypatch.setenv("LABELAUG_CACHE", "/proc/mine")
    with pytest.raises(OSError, match="/proc/mine"):
        cache_folder()


# ---- figures ----------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_of_any_script_get_an_installed_font_or_a_note():
    with matplotlib.rc_context():
        before = list(matplotlib.rcParams["font.family"])
        usual = drawable(before)
        assert use_fonts_for(["Épagneul", "naïve"]) == "" and matplotlib.rcParams["font.family"] == before
        elsewhere = set().union(*(characters(f.fname) for f in font_manager.fontManager.ttflist)) - usual
        here = next(chr(c) for c in sorted(elsewhere) if chr(c).isprintable())
        assert use_fonts_for([f"a {here}"]) == "" and len(matplotlib.rcParams["font.family"]) == len(before) + 1
        assert ord(here) in drawable(list(matplotlib.rcParams["font.family"]))
        nowhere = next(chr(c) for c in range(0x12000, 0x13000) if c not in elsewhere)  # cuneiform
        with pytest.warns(UserWarning, match=f"no installed font has '.*{nowhere}'.*install one"):
            draw_graph(small_graph(fine=same(nowhere, "猫"), coarse=same("b")))
    plt.close("all")
