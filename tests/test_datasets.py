"""Loaders on drawn miniatures in the official layouts: counts, splits, odd files, one clear error each."""

import gzip
import json

import numpy as np
import pytest
from companion.datasets import arxiv, flower, pet
from PIL import Image
from scipy.io import loadmat, savemat

from labelaug_core.data import DataError
from labelaug_core.graph_file import load_graph
from labelaug_core.joining.report import join_report, teaching_report


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_DATA", str(tmp_path))
    return tmp_path


def draw(path, seed=0, size=(14, 12), mode="RGB", kind="JPEG"):
    """A small image of noise blocks, saved as `kind` whatever the suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC).convert(mode).save(path, kind)


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


def test_reports_tell_open_questions_apart(pets):
    task = pet.load(load_graph("pet"), {"image_size": 8})
    teaches = teaching_report(task).set_index("node")
    names = list(teaches.columns[1:])
    assert names == ["oxford-iiit-pet sure", "oxford-iiit-pet open", "dogs-vs-cats sure", "dogs-vs-cats open"]
    assert teaches.loc["cat", names].tolist() == [24, 0, 2, 0]
    assert teaches.loc["Longhair", names].tolist() == [2 * 4, 0, 0, 0]  # Birman, Maine Coon, Persian, Ragdoll
    assert teaches.loc["Point-Color", names[1]] > 0  # a British Shorthair may be pointed, or not
    report = join_report(task).set_index("label")
    assert report.loc["British Shorthair", "deterministic"] < report.loc["British Shorthair", "paths"]
    assert report.loc["cat", "relation"] == "coarser"
