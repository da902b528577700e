"""The paper's datasets and CIFAR-100: miniatures in the official layouts, and, with LABELAUG_DATA, the real ones."""

import gzip
import json
import os

import numpy as np
import pytest
import torch
from companion.controls import shuffled
from companion.datasets import arxiv, cifar100, critters, critters_encoder, flower, notes, pet
from companion.methods import GROUPS
from PIL import Image
from scipy.io import loadmat, savemat
from test_joining_images import draw

from labelaug_core.data import DataError
from labelaug_core.encoders import SmallCNN
from labelaug_core.files.images import ImageFiles
from labelaug_core.graph_file import load_graph
from labelaug_core.joining.report import join_report, teaching_report

real = pytest.mark.skipif("LABELAUG_DATA" not in os.environ, reason="the real data are not here (LABELAUG_DATA)")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("LABELAUG_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("LABELAUG_CACHE", str(tmp_path / "cache"))
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


def rows(split):
    """All inputs of a split as one array."""
    return split.inputs[np.arange(len(split))]


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
    assert task.coarse.y.tolist() == [37, 37, 38] and task.coarse.ids == ["cat.2.jpg", "cat.10.jpg", "dog.1.jpg"]
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


def test_squash_brings_both_datasets_to_one_form(pets):
    """One picture, squashed to a square in the fine set and of another shape in the coarse one, is read alike."""
    noise = np.random.default_rng(5).integers(0, 255, (6, 6, 3), dtype=np.uint8)
    wide = Image.fromarray(noise).resize((240, 160), Image.Resampling.BICUBIC)
    fine, coarse = pets / "oxford-iiit-pet/images/Abyssinian_1.jpg", pets / "dogs-vs-cats/train/cat.2.jpg"
    wide.resize((32, 32), Image.Resampling.BICUBIC).save(fine, "PNG")
    wide.save(coarse, "PNG")
    plain, squashed = (pet.load(load_graph("pet"), {"image_size": 48, "squash": s}) for s in (None, 32))
    row = plain.train.ids.index("Abyssinian_1.jpg")

    def apart(task):
        one, other = (split.inputs[np.array([i])][0].astype(int) for split, i in ((task.train, row), (task.coarse, 0)))
        return np.abs(one - other).mean()

    assert apart(squashed) < 1 < 10 < apart(plain)
    assert plain.content_hash == squashed.content_hash  # the same files; their form is in the inputs' key
    forms = [{}, {"squash": 32}, {"squash": 64}, {"shrink": 32}]
    keys = {ImageFiles([fine], size, **form).key for size in (48, 64) for form in forms}
    assert len(keys) == 8 and {plain.train.inputs.key, squashed.train.inputs.key} <= keys


def test_shrink_gives_a_sharp_photograph_the_sharpness_of_a_small_one(tmp_path):
    noise = np.random.default_rng(5).integers(0, 255, (120, 180, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((360, 240), Image.Resampling.BICUBIC).save(tmp_path / "sharp.png")
    Image.open(tmp_path / "sharp.png").resize((48, 32), Image.Resampling.BICUBIC).save(tmp_path / "small.png")
    paths = [tmp_path / "sharp.png", tmp_path / "small.png"]
    plain, shrunk = (ImageFiles(paths, 64, shrink=s)[np.arange(2)].astype(int) for s in (None, 32))
    assert np.abs(shrunk[0] - shrunk[1]).mean() < 2 < 8 < np.abs(plain[0] - plain[1]).mean()
    assert shrunk.shape == (2, 64, 64, 3)


def test_coarse_images_that_look_like_a_test_image_are_dropped(pets):
    test = Image.open(pets / "oxford-iiit-pet/images/Abyssinian_3.jpg")
    test.resize((90, 70), Image.Resampling.BICUBIC).save(pets / "dogs-vs-cats/train/cat.7.jpg", quality=80)
    Image.open(pets / "oxford-iiit-pet/images/Abyssinian_1.jpg").save(pets / "dogs-vs-cats/train/cat.8.jpg")  # trains
    for _ in range(2):  # the second time from the cache
        task = pet.load(load_graph("pet"), {})
        assert task.coarse.ids == ["cat.2.jpg", "cat.8.jpg", "cat.10.jpg", "dog.1.jpg"]
    cached = next((pets.parent / "cache").glob("copies-*.npy"))
    cached.write_bytes(b"damaged")
    assert pet.load(load_graph("pet"), {}).coarse.ids == task.coarse.ids


@pytest.mark.parametrize("group", [g for g in GROUPS if g not in ("critters", "notes")])
def test_missing_folder_says_what_where_and_how(data, group):
    module = {"pet": pet, "flower": flower, "cifar100": cifar100, "arxiv": arxiv}[group]
    with pytest.raises(DataError, match="LABELAUG_DATA") as error:
        module.load(load_graph(group), {})
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
    return data


def savemat_in(path, **vectors):
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, vectors)


def test_flower_fusion(flowers):
    graph = load_graph("flower")
    task = flower.load(graph, {"image_size": 8})
    assert [len(s) for s in (task.train, task.test, task.coarse)] == [102, 102, 1360]
    assert (task.n_fine, len(task.labels)) == (102, 111) and task.sizes["coarse"] == "1360"
    assert task.train.ids[0] == "image_00001.jpg" and task.test.ids[0] == "image_00205.jpg"  # valid is never used
    assert task.labels[task.train.y[20]] == "fire lily"  # the 21st class
    assert len(flower.load(graph, {"coarse_part": "trn1"}).coarse) == 680
    shared = flower.load(graph, {"coarse_part": "shared"})
    assert len(shared.coarse) == 160 and len(shared.labels) == 102  # 1,020 + 160 = the paper's 1,180
    assert np.bincount(shared.coarse.y).max() == 20 and len(set(shared.coarse.y)) == 8
    with pytest.raises(DataError, match="coarse_part"):
        flower.load(graph, {"coarse_part": "half"})


def test_a_flower_that_is_tested_is_no_coarse_image(flowers):
    graph, buttercup = load_graph("flower"), 14 * 80 + 1  # the 15th of the 17 classes
    image = flowers / f"flowers-17/jpg/image_{buttercup:04d}.jpg"
    image.unlink()  # the link alone
    tested = Image.open(flowers / "flowers-102/jpg/image_00205.jpg")
    tested.resize((56, 48), Image.Resampling.BICUBIC).save(image)
    for part in flower.COARSE_PARTS:
        dropped, kept = (flower.load(graph, {"coarse_part": part, "keep_copies": k}) for k in (False, True))
        assert image.name in kept.coarse.ids and image.name not in dropped.coarse.ids
        assert len(kept.coarse) - len(dropped.coarse) == (part != "shared")  # there the next image takes its place


def test_class_order_is_the_official_one():
    from torchvision.datasets import Flowers102

    assert list(load_graph("flower").labels["flowers-102"]) == Flowers102.classes
    assert len(load_graph("flower").labels["flowers-17"]) == 17


def test_flower_errors(flowers):
    graph, folder_102 = load_graph("flower"), flowers / "flowers-102"
    (folder_102 / "jpg/image_00007.jpg").unlink()
    with pytest.raises(DataError, match="moon orchid"):  # the only training image of class 7
        flower.load(graph, {})
    for image in (folder_102 / "jpg").iterdir():
        image.unlink()
    with pytest.raises(DataError, match="none of the 102 images"):
        flower.load(graph, {})
    whole = (folder_102 / "setid.mat").read_bytes()
    for broken in (whole[:150], b"no mat file at all", b""):
        (folder_102 / "setid.mat").write_bytes(broken)
        with pytest.raises(DataError, match="setid.mat cannot be read"):
            flower.load(graph, {})
    savemat_in(folder_102 / "setid.mat", trnid=[1, 999], valid=[2], tstid=[3])
    with pytest.raises(DataError, match="setid.mat"):
        flower.load(graph, {})
    savemat_in(folder_102 / "setid.mat", other=[1])
    with pytest.raises(DataError, match="trnid"):
        flower.load(graph, {})
    (folder_102 / "setid.mat").unlink()
    with pytest.raises(DataError, match="setid.mat is missing"):
        flower.load(graph, {})
    assert loadmat(folder_102 / "imagelabels.mat")["labels"].size == 306  # nothing else was touched


# ---- CIFAR-100 ------------------------------------------------------------


@pytest.fixture
def cifar(data):
    """12 training images and one test image a class; the first training image of class 0 is its test image."""
    graph, folder = load_graph("cifar100"), data / "cifar-100-binary"
    folder.mkdir()
    fine, coarse = sorted(graph.label_nodes("cifar100")), sorted(graph.label_nodes("cifar100-superclasses"))
    for kind, names in (("fine", fine), ("coarse", coarse)):
        (folder / f"{kind}_label_names.txt").write_text("".join(n.replace(" ", "_") + "\n" for n in names))
    number = [next(coarse.index(p) for p in graph.parents[c] if p in coarse) for c in fine]
    rng = np.random.default_rng(0)
    pixels = {part: rng.integers(0, 256, (100 * n, 3072), dtype=np.uint8) for part, n in (("train", 12), ("test", 1))}
    pixels["train"][0] = pixels["test"][0]
    for part, images in pixels.items():
        y = np.arange(len(images)) % 100
        np.column_stack([np.array(number)[y], y, images]).astype(np.uint8).tofile(folder / f"{part}.bin")
    return folder


def test_cifar100_fine_coarse_and_test(cifar):
    graph, settings = load_graph("cifar100"), {"n_fine": 3, "n_coarse": 500}
    task = cifar100.load(graph, settings)
    assert [len(s) for s in (task.train, task.test, task.coarse)] == [300, 100, 500]
    assert (task.n_fine, len(task.labels)) == (100, 120) and task.sizes["test"] == "100 of 10000"
    assert (np.bincount(task.train.y) == 3).all() and task.coarse.y.min() == 100
    assert not set(task.train.ids) & set(task.coarse.ids)
    raw = np.fromfile(cifar / "train.bin", np.uint8).reshape(-1, 3074)
    for split in (task.train, task.coarse):  # pixels and names, read by hand
        i = int(split.ids[7].split("-")[1])
        np.testing.assert_array_equal(rows(split)[7, :, :, 1], raw[i, 2 + 1024 : 2 + 2048].reshape(32, 32))
        names = (cifar / f"{'fine' if split is task.train else 'coarse'}_label_names.txt").read_text().split()
        assert task.labels[split.y[7]] == names[raw[i, 1 if split is task.train else 0]].replace("_", " ")
    large = cifar100.load(graph, settings | {"image_size": 48})
    assert rows(large.train).shape == (300, 48, 48, 3) and large.train.inputs[3].shape == (48, 48, 3)
    assert large.content_hash == task.content_hash and large.train.inputs.key != task.train.inputs.key


def test_cifar100_samples_are_seeded_nested_and_disjoint_from_the_test_set(cifar):
    graph = load_graph("cifar100")

    def ids(**settings):
        task = cifar100.load(graph, {"n_fine": 3, "n_coarse": 500} | settings)
        return set(task.train.ids), set(task.coarse.ids) if task.coarse else None

    fine, coarse = ids()
    assert ids() == (fine, coarse) and ids(sample_seed=1)[0] != fine
    fewer, same = ids(n_fine=2)
    assert fewer < fine and same == coarse  # learning curves: smaller sets lie in larger ones
    assert ids(n_coarse=200)[1] < coarse and ids(n_coarse=0)[1] is None
    assert "train-0" in set().union(*ids(n_coarse=8000, keep_copies=True))
    every, left = ids(n_fine=11, n_coarse=8000)
    assert len(every) == 1100  # of 12 a class; class 0 has 11 without the copy
    assert "train-0" not in every | left and len(every | left) == 1199
    with pytest.raises(DataError, match="lower n_fine"):
        ids(n_fine=12)


def test_cifar100_errors_name_every_fault(cifar):
    graph, train = load_graph("cifar100"), (cifar / "train.bin").read_bytes()
    names = (cifar / "fine_label_names.txt").read_text()
    (cifar / "train.bin").write_bytes(train[:-5])
    (cifar / "fine_label_names.txt").write_text(names.replace("apple\n", "pomme\n"))
    with pytest.raises(DataError, match=r"fine_label_names\.txt.*train\.bin has .* no rows of 3074.*binary") as error:
        cifar100.load(graph, {})
    assert "\n" not in str(error.value)
    (cifar / "fine_label_names.txt").write_text(names)
    for broken, message in (
        (train[:3074] + b"\x00\xff" + train[3076:], "1 rows with a label that there is not, the first is row 1"),
        (b"", "0 bytes"),
        (bytes([19]) + train[1:], "'apple' as 'vehicles_2'"),
    ):
        (cifar / "train.bin").write_bytes(broken)
        with pytest.raises(DataError, match=message):
            cifar100.load(graph, {})
    (cifar / "train.bin").unlink()
    (cifar / "test.bin").unlink()
    with pytest.raises(DataError, match=r"train\.bin cannot be read.*test\.bin cannot be read"):
        cifar100.load(graph, {})


def test_the_cifar100_graph_answers_every_question_for_every_class():
    graph = load_graph("cifar100")
    fine = graph.label_nodes("cifar100")
    questions = list(graph.blocks(graph.root))
    assert len(fine) == 100 and questions == ["superclass", "place", "covering", "motion", "colour", "size"]
    for v in fine:
        assert {graph.group[p] for p in graph.parents[v]} == set(questions)
        assert graph.count_paths(v) == len(graph.parents[v])
        assert sum(graph.group[p] == "superclass" for p in graph.parents[v]) == 1
    assert all(len(graph.children(v)) == 5 for v in graph.label_nodes("cifar100-superclasses"))
    answers = {v: frozenset(p for p in graph.parents[v] if graph.group[p] != "superclass") for v in fine}
    for above in graph.label_nodes("cifar100-superclasses"):  # attributes say more than the superclass does
        assert len({answers[v] for v in graph.children(above)}) > 1
    assert all(len(graph.children(v)) > 1 for v in graph.augmented)


@pytest.mark.parametrize("group, coarse", [("cifar100", "cifar100-superclasses"), ("flower", "flowers-17")])
def test_shuffled_attributes_leave_the_coarse_labels_true(group, coarse):
    graph = load_graph(group)
    mixed = shuffled(graph, seed=1)
    for v in graph.label_nodes(coarse):
        assert mixed.descendants(v) == graph.descendants(v)
    moved = [v for v in graph.label_nodes() if set(mixed.parents[v]) != set(graph.parents[v])]
    assert len(moved) > 80 and sorted(map(len, mixed.parents.values())) == sorted(map(len, graph.parents.values()))


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
    assert not any(graph.exclusive.values()) and len(graph.augmented) == 8
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


# ---- our own toys ------------------------------------------------------------


@pytest.mark.parametrize("kind, n_labels, a_sample", [("species", 2, 1), ("color", 6, 1), ("attributes", 18, 4)])
def test_critters_know_the_coarse_label_of_every_kind(data, kind, n_labels, a_sample):
    settings = {"n_fine": 2, "n_coarse": 3, "n_test": 1, "coarse_kind": kind}
    task = critters.load(load_graph("critters"), settings)
    assert (task.n_fine, len(task.labels) - task.n_fine) == (14, n_labels)
    assert [len(s) for s in (task.train, task.test, task.coarse)] == [28, 14, 42 * a_sample]
    for i, y in enumerate(task.coarse.y):
        assert task.labels[y] in task.coarse.truth[i].values()
    again = critters.load(load_graph("critters"), settings)  # from the cache
    np.testing.assert_array_equal(rows(again.train), rows(task.train))
    with pytest.raises(DataError, match="coarse_kind"):
        critters.load(load_graph("critters"), settings | {"coarse_kind": "tail"})


def test_notes_are_the_same_when_more_are_asked_for(data):
    sizes = {"n_fine": 5, "n_coarse": 6, "n_test": 4}
    few, more = (notes.load(load_graph("notes"), s) for s in (sizes, sizes | {"n_fine": 9}))
    assert list(rows(few.train)) == list(rows(more.train))[:5]
    assert few.train.y.shape == (5, 14) and few.coarse.y.shape == (6, 18) and not few.coarse.y[:, :14].any()
    assert np.array_equal(few.train.y, more.train.y[:5]) and set(more.train.y.sum(1)) <= {1, 2, 3}


# ---- the real data ------------------------------------------------------------


@real
def test_the_official_split_of_the_pets():
    task = pet.load(load_graph("pet"), {"image_size": 32, "squash": 128})
    assert (len(task.train), len(task.test), task.n_fine) == (3680, 3669, 37)
    assert task.sizes["train"] == "3680" and np.bincount(task.test.y).min() > 80
    assert rows(task.coarse.take(np.arange(3))).shape == (3, 32, 32, 3)


@real
def test_the_official_split_of_the_flowers_and_the_copies_in_the_17():
    task, paper = (
        flower.load(load_graph("flower"), {"coarse_part": "shared", "keep_copies": k}) for k in (False, True)
    )
    assert (len(task.train), len(task.test), len(paper.coarse)) == (1020, 6149, 160)
    assert (np.bincount(task.train.y) == 10).all()
    dropped = set(paper.coarse.ids) - set(task.coarse.ids)
    assert len(dropped) > 50  # photographs of the 102's test set, with their labels


@real
def test_cifar100_as_it_is_here():
    task = cifar100.load(load_graph("cifar100"), {"image_size": 96})
    assert (len(task.train), task.n_fine, len(task.labels)) == (2000, 100, 120) and len(task.test) >= 5000
    tested = {image.tobytes() for image in task.test.inputs.images}
    assert not tested & {image.tobytes() for s in (task.train, task.coarse) for image in s.inputs.images}
    assert rows(task.train.take(np.arange(4))).shape == (4, 96, 96, 3)


@real
def test_arxiv_as_it_is_here():
    task = arxiv.load(load_graph("arxiv"), {"n_fine": 300, "n_coarse": 300, "n_test": 100})
    assert [len(s) for s in (task.train, task.coarse, task.test)] == [300, 300, 100]
    assert not set(task.train.ids) & {*task.coarse.ids, *task.test.ids} and task.train.y.any(1).all()


def test_the_encoder_of_the_toy_has_learned_other_drawings():
    """Its weights were made from the drawing code and the settings of today, and tell the combinations apart.

    It knows no image of the toy: those are drawn from other streams.
    """
    assert critters_encoder.made_from() == critters_encoder.settings_now()
    assert critters_encoder.SEED not in critters.SEEDS.values()
    images, classes = critters_encoder.other_drawings(480)
    encoder = critters_encoder.load_weights(SmallCNN(critters_encoder.WIDTH))
    assert not encoder.training and not any(p.requires_grad for p in encoder.parameters())
    untrained = critters_encoder.pretrain(n=48, steps=2)

    def by_nearest_mean(encoder):  # a class is the mean of its first half; how many of the second half are right?
        with torch.no_grad():
            f = torch.nn.functional.normalize(encoder(torch.from_numpy(images)))
        means = torch.stack([f[:240][classes[:240] == k].mean(0) for k in range(48)])
        return (torch.cdist(f[240:], means).argmin(1).numpy() == classes[240:]).mean()

    assert by_nearest_mean(encoder) > 0.4 > 4 * by_nearest_mean(untrained)
    with pytest.raises(ValueError, match="of width 8, not of width 4"):
        critters_encoder.load_weights(SmallCNN(4))
