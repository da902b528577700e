"""Loaders on drawn miniatures in the official layouts: counts, splits, odd files, one clear error each."""

import gzip
import json
import warnings

import numpy as np
import pandas as pd
import pytest
from companion.datasets import arxiv, flower, pet
from PIL import Image
from scipy.io import loadmat, savemat

from labelaug_core.data import DataError, ImageFiles, Split, Task, Texts, content_hash
from labelaug_core.graph import GraphError
from labelaug_core.graph_file import graph_from_dict, load_graph
from labelaug_core.joining import draft as join
from labelaug_core.joining import duplicates as near_duplicates
from labelaug_core.joining import folder


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_DATA", str(tmp_path))
    return tmp_path


def draw(path, seed=0, size=(14, 12), mode="RGB", kind="JPEG"):
    """A small image of noise blocks, saved as `kind` whatever the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, kind)


# ---- odd image files ------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("CMYK", "JPEG"),
        ("P", "GIF"),
        ("L", "JPEG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("1", "PNG"),
        ("RGB", "WEBP"),
    ],
)
def test_any_image_behind_jpg_is_read_as_rgb(tmp_path, mode, kind):
    draw(tmp_path / "a.jpg", mode=mode, kind=kind)
    out = ImageFiles([tmp_path / "a.jpg"], 8)[np.array([0])]
    assert out.shape == (1, 8, 8, 3) and out.dtype == np.uint8 and out.std() > 0


def test_image_is_turned_as_its_exif_says(tmp_path):
    half = np.zeros((8, 8, 3), dtype=np.uint8)
    half[:4] = 255  # light above, dark below
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(half).save(tmp_path / "a.png", exif=exif)
    out = ImageFiles([tmp_path / "a.png"], 8)[np.array([0])][0]
    assert out[0].mean() < 50 and out[-1].mean() > 200


def test_broken_image_is_one_error_that_names_it(tmp_path):
    draw(tmp_path / "whole.jpg", size=(200, 200))
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:600])
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    (tmp_path / "empty.jpg").touch()
    Image.new("1", (20_000, 15_001)).save(tmp_path / "huge.png")  # 300 million pixels in 40 kB
    Image.new("L", (1, 101)).save(tmp_path / "narrow.png")
    for name in ("cut.jpg", "text.jpg", "empty.jpg", "huge.png: .*pixels", "narrow.png: .*100 times as long as wide"):
        with warnings.catch_warnings(), pytest.raises(DataError, match=name):
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            ImageFiles([tmp_path / name.split(":")[0]], 8)[np.array([0])]


def test_half_an_emoji_is_content_like_any_other():
    assert content_hash("a \ud83d") != content_hash("a ") and content_hash("a") == content_hash("a")


# ---- pets ------------------------------------------------------------


@pytest.fixture
def pets(data):
    graph, lines = load_graph("pet"), {"trainval": [], "test": []}
    for k, c in enumerate(graph.label_nodes("oxford-iiit-pet")):
        for i in range(1, 4):
            name = f"{c.replace(' ', '_')}_{i}"
            draw(data / "oxford-iiit-pet/images" / f"{name}.jpg", seed=3 * k + i)
            lines["test" if i == 3 else "trainval"].append(f"{name} {k + 1} 1 1")
    (data / "oxford-iiit-pet/annotations").mkdir()
    for part, names in lines.items():
        (data / f"oxford-iiit-pet/annotations/{part}.txt").write_text("\n".join(names) + "\n")
    for i, animal in enumerate(["cat.2", "cat.10", "dog.1"]):
        draw(data / "dogs-vs-cats/train" / f"{animal}.jpg", seed=1000 + i)
    return data


def test_pet_full_and_partial(pets):
    task = pet.load(load_graph("pet"), {"image_size": 8})
    assert [len(s) for s in (task.train, task.test, task.coarse)] == [74, 37, 3]
    assert (task.n_fine, task.labels[37:]) == (37, ["cat", "dog"])
    assert task.coarse.y.tolist() == [37, 37, 38] and task.coarse.ids == [
        "cat.2.jpg",
        "cat.10.jpg",
        "dog.1.jpg",
    ]
    assert task.sizes["train"] == "74 of 3680" and task.train.inputs[np.arange(2)].shape == (2, 8, 8, 3)
    (pets / "oxford-iiit-pet/images/Abyssinian_1.jpg").unlink()
    partial = pet.load(load_graph("pet"), {"image_size": 8})
    assert len(partial.train) == 73 and partial.content_hash != task.content_hash
    (pets / "oxford-iiit-pet/images/Abyssinian_2.jpg").unlink()
    with pytest.raises(DataError, match="Abyssinian"):
        pet.load(load_graph("pet"), {})
    (pets / "dogs-vs-cats/train/dog.1.jpg").unlink()
    draw(pets / "oxford-iiit-pet/images/Abyssinian_2.jpg")
    with pytest.raises(DataError, match="'dog'"):
        pet.load(load_graph("pet"), {})


def test_missing_folder_says_what_where_and_how(data):
    for graph, load in (
        ("pet", pet.load),
        ("flower", flower.load_flower),
        ("flower17", flower.load_flower17),
        ("arxiv", arxiv.load),
    ):
        with pytest.raises(DataError, match="LABELAUG_DATA") as error:
            load(load_graph(graph), {})
        assert str(data) in str(error.value) and "\n" not in str(error.value)


# ---- flowers ------------------------------------------------------------


@pytest.fixture
def flowers(data):
    """102: an image a class and part (train, valid, test); 17: all 1,360 (one drawing, linked)."""
    labels = np.tile(np.arange(1, 103), 3)
    savemat_in(data / "flowers-102/imagelabels.mat", labels=labels)
    ids = np.arange(1, 307)
    savemat_in(data / "flowers-102/setid.mat", trnid=ids[:102], valid=ids[102:204], tstid=ids[204:])
    for i in ids:
        draw(data / f"flowers-102/jpg/image_{i:05d}.jpg", seed=i)
    place = (np.arange(1, 1361) - 1) % 80
    numbers = np.arange(1, 1361)
    savemat_in(
        data / "flowers-17/datasplits.mat",
        trn1=numbers[place < 40],
        tst1=numbers[place >= 60],
        val1=numbers[(place >= 40) & (place < 60)],
    )
    draw(data / "flowers-17/jpg/image_0001.jpg", seed=9)
    for i in range(2, 1361):
        (data / f"flowers-17/jpg/image_{i:04d}.jpg").hardlink_to(data / "flowers-17/jpg/image_0001.jpg")
    for i, c in enumerate(["daisy", "dandelion", "roses", "sunflowers", "tulips"]):  # as flower_photos.tgz names them
        draw(data / f"tf_flowers/flower_photos/{c}/1.jpg", seed=2000 + i)
    (data / "tf_flowers/flower_photos/LICENSE.txt").write_text("not an image")
    return data


def savemat_in(path, **vectors):
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, vectors)


def test_flower_fusion(flowers):
    graph = load_graph("flower")
    task = flower.load_flower(graph, {"image_size": 8})
    assert [len(s) for s in (task.train, task.test, task.coarse)] == [102, 102, 1360]
    assert (task.n_fine, len(task.labels)) == (102, 111) and task.sizes["coarse"] == "1360"
    assert task.train.ids[0] == "image_00001.jpg" and task.test.ids[0] == "image_00205.jpg"  # valid is never used
    assert task.labels[task.train.y[20]] == "fire lily"  # the 21st class
    assert len(flower.load_flower(graph, {"coarse_part": "trn1"}).coarse) == 680
    shared = flower.load_flower(graph, {"coarse_part": "shared"})
    assert len(shared.coarse) == 160 and len(shared.labels) == 102  # 1,020 + 160 = the paper's 1,180
    assert np.bincount(shared.coarse.y).max() == 20 and len(set(shared.coarse.y)) == 8
    with pytest.raises(DataError, match="coarse_part"):
        flower.load_flower(graph, {"coarse_part": "half"})


def test_class_order_is_the_official_one():
    from torchvision.datasets import Flowers102

    assert list(load_graph("flower").labels["flowers-102"]) == Flowers102.classes
    assert len(load_graph("flower").labels["flowers-17"]) == len(load_graph("flower17").labels["flowers-17"]) == 17


def test_flower17_fusion(flowers):
    graph = load_graph("flower17")
    task = flower.load_flower17(graph, {})
    assert [len(s) for s in (task.train, task.test, task.coarse)] == [1020, 340, 5]
    assert (np.bincount(task.train.y) == 60).all() and (np.bincount(task.test.y) == 20).all()
    assert not set(task.train.ids) & set(task.test.ids) and task.labels[17:] == ["rose"]
    assert len(flower.load_flower17(graph, {"train_with_val": False}).train) == 680
    (flowers / "tf_flowers/flower_photos/roses/1.jpg").unlink()
    with pytest.raises(DataError, match="roses"):
        flower.load_flower17(graph, {})


def test_flower_errors(flowers):
    graph, folder_102 = load_graph("flower"), flowers / "flowers-102"
    (folder_102 / "jpg/image_00007.jpg").unlink()
    with pytest.raises(DataError, match="moon orchid"):  # the only training image of class 7
        flower.load_flower(graph, {})
    for image in (folder_102 / "jpg").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="none of the 102 images"):
        flower.load_flower(graph, {})
    whole = (folder_102 / "setid.mat").read_bytes()
    for broken in (whole[:150], b"no mat file at all", b""):
        (folder_102 / "setid.mat").write_bytes(broken)
        with pytest.raises(DataError, match="setid.mat cannot be read"):
            flower.load_flower(graph, {})
    savemat_in(folder_102 / "setid.mat", trnid=[1, 999], valid=[2], tstid=[3])
    with pytest.raises(DataError, match="setid.mat"):
        flower.load_flower(graph, {})
    savemat_in(folder_102 / "setid.mat", other=[1])
    with pytest.raises(DataError, match="trnid"):
        flower.load_flower(graph, {})
    (folder_102 / "setid.mat").unlink()
    with pytest.raises(DataError, match="setid.mat is missing"):
        flower.load_flower(graph, {})
    assert loadmat(folder_102 / "imagelabels.mat")["labels"].size == 306  # nothing else was touched


# ---- near-duplicates ----------------------------------------------------------


def test_near_duplicates_of_images(tmp_path):
    rng = np.random.default_rng(0)
    images = [Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)).resize((96, 96)) for _ in range(12)]
    for i, image in enumerate(images):
        image.save(tmp_path / f"{i}.png")
    images[3].resize((48, 48)).save(tmp_path / "copy.jpg", quality=40)

    def split(names):
        return Split(ImageFiles([tmp_path / n for n in names], 32), np.zeros(len(names), dtype=int), names)

    task = Task(
        None,
        ["x"],
        1,
        split(["0.png", "1.png"]),
        split(["2.png", "3.png"]),
        split(["copy.jpg", *(f"{i}.png" for i in range(4, 12)), "1.png"]),
    )
    found = near_duplicates.pairs(task)
    assert found[["coarse", "fine", "split"]].values.tolist() == [
        ["copy.jpg", "3.png", "test"],
        ["1.png", "1.png", "train"],
    ]
    assert near_duplicates.pairs_within(task).empty
    hashes = near_duplicates.phashes(task.coarse)
    every = near_duplicates.close(hashes, hashes, 64)[2].reshape(len(hashes), -1)
    slow = [[bin(int(a) ^ int(b)).count("1") for b in hashes] for a in hashes]
    assert every.tolist() == slow


def test_near_duplicates_of_texts():
    def split(ids, texts):
        return Split(Texts(texts), np.zeros(len(ids), dtype=int), ids)

    task = Task(
        None,
        ["x"],
        1,
        split(["1"], ["A\nx"]),
        split(["2", "3"], ["On Joins\nx", "Other\ny"]),
        split(["3", "4", "5"], ["Renamed\nz", "on  joins\nw", "\nno title"]),
    )
    found = near_duplicates.pairs(task)
    assert found[["coarse", "fine", "split"]].values.tolist() == [["3", "3", "test"], ["4", "2", "test"]]


# ---- arXiv ------------------------------------------------------------


def paper(i, categories, title="A title", abstract="An abstract."):
    return json.dumps({"id": f"{i}", "title": title, "abstract": abstract, "categories": categories})


@pytest.fixture
def snapshot(data):
    rows = [
        paper(1, "math-ph math.MP hep-th", title="Two\n  lines"),
        paper(2, "cond-mat"),  # a bare archive: not for fine
        paper(3, "cs.LG stat.ML"),
        paper(4, "astro-ph gr-qc"),  # coarse
        paper(3, "cs.AI"),  # an id again
        paper(5, "alg-geom", abstract=""),  # coarse
        paper(6, "q-bio"),  # not for test
        paper(7, "cs.SY cond-mat cond-mat.soft", abstract="x" * 100_000),  # test: the bare archive is refined
        "this line is never reached",
    ]
    (data / "arxiv").mkdir()
    with gzip.open(data / "arxiv" / f"{arxiv.SNAPSHOT}.gz", "wt") as file:
        file.write("\n".join(rows) + "\n")
    return data / "arxiv"


def test_arxiv_graph_has_the_canonical_taxonomy():
    graph = load_graph("arxiv")
    assert [len(graph.label_nodes(d)) for d in ("arxiv", "arxiv-archives")] == [149, 20]
    assert not any(graph.exclusive.values()) and len(graph.augmented) == 8
    assert all(graph.count_paths(v) == 1 and len(graph.split_paths(v)[0]) == 1 for v in graph.label_nodes())
    known = set(graph.labels["arxiv"])
    assert {*arxiv.ALIASES.values(), *arxiv.SUBSUMED.values()} <= known
    assert not known & {*arxiv.ALIASES, *arxiv.SUBSUMED, *arxiv.BARE}
    assert set(arxiv.BARE) <= set(graph.labels["arxiv-archives"])
    for category, node in graph.labels["arxiv"].items():
        assert graph.parents[node] == (f"archive {category.split('.')[0]}",)


def test_arxiv_rows_in_order_disjoint_and_no_further_than_needed(snapshot):
    task = arxiv.load(load_graph("arxiv"), {"n_fine": 2, "n_coarse": 2, "n_test": 1})
    assert [s.ids for s in (task.train, task.coarse, task.test)] == [["1", "3"], ["4", "5"], ["7"]]
    assert task.train.inputs[np.array([0])] == ["Two lines\nAn abstract."]

    def named(row):
        return {task.labels[k] for k in np.flatnonzero(row)}

    assert task.train.y.dtype == np.bool_ and task.train.y.shape == (2, 149) and task.coarse.y.shape == (2, 169)
    assert [named(r) for r in task.train.y] == [{"math-ph", "hep-th"}, {"cs.LG", "stat.ML"}]
    assert [named(r) for r in task.coarse.y] == [{"archive astro-ph", "archive gr-qc"}, {"archive math"}]
    assert named(task.test.y[0]) == {"eess.SY", "cond-mat.soft"}
    fewer = arxiv.load(load_graph("arxiv"), {"n_fine": 2, "n_coarse": 2, "n_test": 1, "use_fine": 1})
    assert fewer.train.ids == ["1"] and fewer.test.ids == ["7"]


def test_arxiv_errors(snapshot):
    graph, settings = load_graph("arxiv"), {"n_fine": 1, "n_coarse": 1, "n_test": 1}
    plain = snapshot / arxiv.SNAPSHOT
    good = [paper(1, "cs.LG"), paper(2, "cs.LG")]
    for third, message in (
        (paper(3, "cs.XX"), "paper 3.*'cs.XX'"),
        ('{"id": "3", "tit', "line 3"),
        ("[]", "line 3"),
        ('{"id": "3", "title": "t"}', "line 3.*abstract"),
        (paper(3, ""), "paper 3 has no category"),
    ):
        plain.write_text("\n".join([*good, third]) + "\n")
        with pytest.raises(DataError, match=message):
            arxiv.load(graph, settings)
    plain.write_text("\n".join(good) + "\n")
    with pytest.raises(DataError, match="test"):
        arxiv.load(graph, settings)
    plain.unlink()
    packed = snapshot / f"{arxiv.SNAPSHOT}.gz"
    packed.write_bytes(
        gzip.compress(
            "\n".join(paper(i, "cs.LG", str(np.random.default_rng(i).random(50))) for i in range(500)).encode()
        )[:-2000]
    )
    with pytest.raises(DataError, match=r"line \d+"):
        arxiv.load(graph, {"n_fine": 200, "n_coarse": 200, "n_test": 100})
    packed.unlink()
    with pytest.raises(DataError, match="is missing"):
        arxiv.load(graph, settings)


# ---- the reader's own ------------------------------------------------------------

FINE, COARSE = ["persian cat", "Siamese_cat", "beagle", "tulip"], ["Cats", "Tulip", "siam tulip", "horse"]


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


def test_draft_places_what_names_tell_and_never_overwrites(tmp_path):
    path = tmp_path / "mine.yaml"
    graph = join.draft_graph(
        [*FINE, "sunflower", "yes", "7", "a: b # c"], [*COARSE, "flower"], path, hypernyms=lambda name: set()
    )
    assert load_graph(path) == graph
    assert graph.parents["persian cat"] == graph.parents["Siamese_cat"] == ("Cats",)
    assert graph.parents["sunflower"] == ("flower",) and graph.parents["siam tulip"] == ("tulip",)
    assert graph.labels["coarse"]["Tulip"] == "tulip" and graph.parents["tulip"] == (graph.root,)
    assert graph.descendants("unplaced") == {"beagle", "horse", "yes", "7", "a: b # c"}
    before = path.read_text()
    with pytest.raises(DataError, match="exists"):
        join.draft_graph(FINE, COARSE, path)
    assert path.read_text() == before
    for fine, message in ((["a", "A"], "twice"), ([], "no class"), (["unplaced", "b"], "unplaced")):
        with pytest.raises(DataError, match=message):
            join.draft_graph(fine, COARSE, tmp_path / "other.yaml")
    assert not (tmp_path / "other.yaml").exists()
    above = join.draft_graph(["beagle"], ["dog"], tmp_path / "w.yaml", hypernyms=lambda name: {"hound", "dog"})
    assert above.parents["beagle"] == ("dog",)


def test_folder_of_images_from_draft_to_report(mine):
    names = [folder.class_names(mine / part) for part in ("fine", "coarse")]
    graph = join.draft_graph(*names, mine / "mine.yaml", hypernyms=lambda name: set())
    task = folder.load(graph, settings_of(mine))
    assert [len(s) for s in (task.train, task.test, task.coarse)] == [16, 4, 12]
    assert sorted(task.test.y) == [0, 1, 2, 3] and not set(task.train.ids) & set(task.test.ids)
    assert task.train.inputs[np.array([0, 3])].shape == (2, 8, 8, 3)
    again, other = folder.load(graph, settings_of(mine)), folder.load(graph, settings_of(mine, seed=1))
    assert again.test.ids == task.test.ids != other.test.ids and again.content_hash == task.content_hash

    report = join.join_report(task).set_index("label")
    assert report["relation"].to_dict() == {
        "Siamese_cat": "only fine",
        "persian cat": "only fine",
        "beagle": "unplaced",
        "tulip": "shared",
        "Cats": "coarser",
        "siam tulip": "finer",
        "horse": "unplaced",
    }
    assert report.loc["tulip", ["fine (n)", "coarse (n)", "paths", "deterministic"]].tolist() == [4, 3, 1, 1]
    assert report.loc["Cats", "to"] == "Siamese_cat, persian cat" and report.loc["persian cat", "to"] == "Cats"
    teaches = join.teaching_report(task).set_index("node")
    assert teaches.loc["Cats", ["fine sure", "coarse sure"]].tolist() == [8, 3]
    assert "unplaced (2)" in join.describe_join(task) and "Cats (of" in join.describe_join(task)
    assert join.join_report(task.fine_only())["coarse (n)"].sum() == 0


def test_reports_tell_open_questions_apart(pets):
    task = pet.load(load_graph("pet"), {"image_size": 8})
    teaches = join.teaching_report(task).set_index("node")
    names = list(teaches.columns[1:])
    assert names == ["oxford-iiit-pet sure", "oxford-iiit-pet open", "dogs-vs-cats sure", "dogs-vs-cats open"]
    assert teaches.loc["cat", names].tolist() == [24, 0, 2, 0]
    assert teaches.loc["Longhair", names].tolist() == [2 * 4, 0, 0, 0]  # Birman, Maine Coon, Persian, Ragdoll
    assert teaches.loc["Point-Color", names[1]] > 0  # a British Shorthair may be pointed, or not
    report = join.join_report(task).set_index("label")
    assert report.loc["British Shorthair", "deterministic"] < report.loc["British Shorthair", "paths"]
    assert report.loc["cat", "relation"] == "coarser"


def small_graph(**labels):
    nodes = sorted({v for table in labels.values() for v in table.values()})
    return graph_from_dict(
        {
            "root": "r",
            "groups": {"g": {"below": "r", "nodes": nodes}},
            "labels": {d: {"nodes": table} for d, table in labels.items()},
        },
        "mine.yaml",
    )


def same(*names):
    return {n: n for n in names}


def test_folder_errors(mine):
    good = small_graph(fine=same(*FINE), coarse=same("Cats", "siam tulip", "horse") | {"Tulip": "tulip"})
    assert len(folder.load(good, settings_of(mine)).train) == 16
    with pytest.raises(GraphError, match="'horse'"):  # a class unknown to the graph
        folder.load(small_graph(fine=same(*FINE), coarse=same("Cats") | {"Tulip": "tulip"}), settings_of(mine))
    with pytest.raises(DataError, match="'lynx'"):  # a class of the graph without a sample
        folder.load(small_graph(fine=same(*FINE, "lynx"), coarse=good.labels["coarse"]), settings_of(mine))
    with pytest.raises(GraphError, match="'Tulip' and 'tulip'"):  # one class of both, spelled apart
        folder.load(small_graph(fine=same(*FINE), coarse=same(*COARSE)), settings_of(mine))
    with pytest.raises(GraphError, match="two datasets"):
        folder.load(small_graph(fine=same(*FINE)), settings_of(mine))
    with pytest.raises(DataError, match="no such file"):
        folder.load(good, settings_of(mine, test=mine / "nowhere"))
    with pytest.raises(DataError, match="test_fraction"):
        folder.load(good, settings_of(mine, test_fraction=1.0))
    (mine / "coarse/empty").mkdir()
    with pytest.raises(DataError, match="'empty'"):
        folder.load(good, settings_of(mine))
    (mine / "coarse/empty").rmdir()
    draw(mine / "coarse/TULIP/1.jpg")
    with pytest.raises(DataError, match="two spellings"):
        folder.load(good, settings_of(mine))
    with pytest.raises(DataError, match="no class folder"):
        folder.load(good, settings_of(mine, coarse=mine / "fine/beagle"))


def test_texts_of_every_kind(tmp_path):
    from datasets import ClassLabel, Dataset, Features, Value

    rows = [("a, b", "x"), ("c\nd", "y"), ("", "x"), ("é", "y"), ("w", "x")]
    pd.DataFrame(rows, columns=["text", "label"]).to_csv(tmp_path / "t.csv", index=False)
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps({"text": t, "label": y}) for t, y in rows) + "\n\n")
    features = Features(text=Value("string"), label=ClassLabel(names=["x", "y"]))
    Dataset.from_dict(
        {"text": [t for t, _ in rows], "label": [y == "y" for _, y in rows]}, features=features
    ).save_to_disk(tmp_path / "saved")
    for name in ("t.csv", "t.jsonl", "saved"):
        texts, names = folder.read_texts(tmp_path / name)
        assert list(zip(texts, names, strict=True)) == rows, name
    graph = small_graph(fine=same("x", "y"), coarse={"X": "x", "y": "y"})
    task = folder.load(graph, {"fine": tmp_path / "t.csv", "coarse": tmp_path / "t.jsonl", "test_fraction": 0.4})
    assert len(task.train) == 3 and all(isinstance(t, str) for t in task.train.inputs[np.arange(3)])
    assert len(near_duplicates.pairs(task)) > 0


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "text,label\na,x\nb,y,z\n", "line 3: 3 cells"),
        ("t.csv", 'text,label\na,x\n"b,y\n', "line 3"),
        ("t.csv", "text,class\na,x\n", "no column 'label'.*'class'"),
        ("t.csv", "text,label\na,\n", "line 2: the label is empty"),
        ("t.csv", "text,label\n", "no rows"),
        ("t.csv", b"text,label\n\xff\xfe,x\n", "cannot be read"),
        ("t.jsonl", '{"text": "a", "label": "x"}\n{"text": \n', "line 2: not valid JSON"),
        ("t.jsonl", '["a", "x"]\n', "line 1: expected a JSON object"),
        ("t.jsonl", '{"text": "a"}\n', "line 1: no column 'label'"),
    ],
)
def test_bad_text_files_are_one_error_with_the_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=message):
        folder.read_texts(tmp_path / name)


def test_mixed_kinds_and_missing_settings(mine):
    (mine / "t.csv").write_text("text,label\n" + "".join(f"a,{c}\n" for c in COARSE))
    graph = small_graph(fine=same(*FINE), coarse=same("Cats", "siam tulip", "horse") | {"Tulip": "tulip"})
    with pytest.raises(DataError, match="all images or all texts"):
        folder.load(graph, settings_of(mine, coarse=mine / "t.csv"))
    with pytest.raises(DataError, match="'coarse' is missing"):
        folder.load(graph, {"fine": mine / "fine"})
