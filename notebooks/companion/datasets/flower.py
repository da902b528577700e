"""102 Category Flower, 17 Category Flower and tf_flowers, in their official layouts, and their two fusions.

FlowerFusion joins the 102 (fine) with the 17 (coarse); Flower17Fusion, ours, the 17 (fine) with tf_flowers
(coarse).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.io import loadmat

from companion.datasets import data_folder
from labelaug_core.data import (
    DataError,
    ImageFiles,
    Split,
    Task,
    class_folders,
    class_indices,
    content_hash,
    joint_labels,
    require_classes,
)
from labelaug_core.graph import LabelGraph
from labelaug_core.joining.report import label_relations

VGG = "https://www.robots.ox.ac.uk/~vgg/data/flowers"
PER_CLASS_17 = 80  # images 1-80 are the first class, 81-160 the second, ...
SHARED_IMAGES = 20  # of each shared label in the paper's FlowerFusion: 1,020 + 8 x 20 = 1,180
COARSE_PARTS = ("all", "trn1", "shared")
PLURALS = {"roses": "rose", "sunflowers": "sunflower", "tulips": "tulip"}  # the folders of flower_photos.tgz


def read_mat(path: Path, key: str) -> np.ndarray:
    """One integer vector of a .mat file, int64 [n]. Raises DataError: no file, unreadable, no such key."""
    if not path.is_file():
        raise DataError(f"{path.parent.name}: {path} is missing; get {path.name} from {VGG}")
    try:
        return loadmat(path, variable_names=[key])[key].astype(np.int64).ravel()
    except KeyError:
        raise DataError(f"{path.name} has no variable {key!r}; get it anew from {VGG} ({path})") from None
    except Exception as error:  # loadmat raises whatever its parsing of a broken file runs into
        reason = f"{type(error).__name__}: {error}"
        raise DataError(f"{path.name} cannot be read ({reason}); get it anew from {VGG} ({path})") from None


def present(images: dict[Path, str], what: str, folder: Path) -> tuple[list[Path], list[str]]:
    """Those of the images that are there: files and class names. Raises DataError if none is."""
    files = [f for f in images if f.is_file()]
    if not files:
        raise DataError(f"{what}: none of the {len(images)} images is in {folder}; get them from {VGG}")
    return files, [images[f] for f in files]


def flowers_102(classes: list[str], part: str) -> tuple[list[Path], list[str]]:
    """Image files and class names of one official part of 102 Category Flower: trnid, valid or tstid.

    classes: the 102 names in the official order. Files that are not there are skipped. Raises DataError.
    """
    what = "102 Category Flower"
    folder = data_folder("flowers-102", what, "torchvision downloads it (set `download: true`)")
    labels, ids = read_mat(folder / "imagelabels.mat", "labels"), read_mat(folder / "setid.mat", part)
    in_range = ids.min(initial=1) >= 1 and ids.max(initial=1) <= len(labels)
    if not in_range or set(labels) != set(range(1, len(classes) + 1)):
        raise DataError(f"{what}: setid.mat, imagelabels.mat and the graph's {len(classes)} classes differ")
    named = {folder / "jpg" / f"image_{i:05d}.jpg": classes[labels[i - 1] - 1] for i in ids}
    return present(named, f"{what}, {part}", folder / "jpg")


def flowers_17(classes: list[str], parts: tuple[str, ...] = ()) -> tuple[list[Path], list[str]]:
    """Image files and class names of 17 Category Flower: of these parts of datasplits.mat (trn1, ...).

    No part: all 1,360 images, and no datasplits.mat is needed. classes: the 17 names in the official order.
    Files that are not there are skipped. Raises DataError.
    """
    what = "17 Category Flower"
    folder = data_folder("flowers-17", what, f"unpack 17flowers.tgz from {VGG}/17 to flowers-17/jpg")
    total = PER_CLASS_17 * len(classes)
    ids = [i for p in parts for i in read_mat(folder / "datasplits.mat", p)] if parts else range(1, total + 1)
    if outside := [i for i in ids if not 1 <= i <= total]:
        raise DataError(f"{what}: datasplits.mat names image {outside[0]}, but there are {total}")
    named = {folder / "jpg" / f"image_{i:04d}.jpg": classes[(i - 1) // PER_CLASS_17] for i in sorted(ids)}
    return present(named, ", ".join((what, *parts)), folder / "jpg")


def tf_flowers() -> tuple[list[Path], list[str]]:
    """All images of tf_flowers and their class names, from class folders (`roses` is `rose`)."""
    what = "tf_flowers"
    folder = data_folder(what, what, "unpack flower_photos.tgz of TensorFlow's example images to it")
    inner = folder / "flower_photos"
    files, names = class_folders(inner if inner.is_dir() else folder, what)
    return files, [PLURALS.get(n, n) for n in names]


def how_many(n: int, official: int) -> str:
    """`1020`, `400 of 1020`, or, where a release holds more, both numbers."""
    more = f"{n} (another release; the best known has {official})"
    return str(n) if n == official else f"{n} of {official}" if n < official else more


def make_task(graph: LabelGraph, fine: str, coarse: str, parts: dict, settings: dict) -> Task:
    """parts: `train`, `test`, `coarse` -> (files, class names, images of the official release).

    Raises DataError naming an empty class (of the training or the coarse part), GraphError a class unknown to
    the graph. Labels that only the coarse dataset has are left out where its part here shows none of them.
    """
    labels, n_fine = joint_labels(graph, fine, coarse)
    seen = {graph.node_of(coarse, c) for c in parts["coarse"][1]}
    labels = labels[:n_fine] + [v for v in labels[n_fine:] if v in seen]
    splits, sizes, hashed = {}, {}, []
    for part, (files, names, official) in parts.items():
        y = class_indices(graph, coarse if part == "coarse" else fine, labels, names)
        ids = [f.name if f.parent.name == "jpg" else f"{f.parent.name}/{f.name}" for f in files]
        splits[part] = Split(ImageFiles(files, settings.get("image_size", 224)), y, ids)
        sizes[part] = how_many(len(files), official)
        hashed += [*files, y]
    require_classes(labels[:n_fine], splits["train"].y, f"{fine}, training part")
    train, test, extra = (splits[p] for p in ("train", "test", "coarse"))
    return Task(graph, labels, n_fine, train, test, extra, sizes, content_hash(*hashed))


def load_flower(graph: LabelGraph, settings: dict) -> Task:
    """The FlowerFusion task: fine = 102 Category Flower (trnid trains, tstid tests), coarse = the 17.

    Its part `valid` is not used. settings: image_size, download, coarse_part. coarse_part: `all` 1,360
    images; `trn1` the 680 of Table 1; `shared` the paper's 1,180 - 1,020 = 160 as we read them, of the 8
    labels that both sets have the first 20 images of trn1 each. Task.fine_only() drops the 17. Raises
    DataError.
    """
    chosen = settings.get("coarse_part", "all")
    if chosen not in COARSE_PARTS:
        raise DataError(f"flower: coarse_part must be one of {', '.join(COARSE_PARTS)}, got {chosen!r}")
    if settings.get("download"):
        from torchvision.datasets import Flowers102

        Flowers102(data_folder("", "The data folder", "make it").resolve(), split="train", download=True)
    classes, classes_17 = list(graph.labels["flowers-102"]), list(graph.labels["flowers-17"])
    train, test = flowers_102(classes, "trnid"), flowers_102(classes, "tstid")
    files, names = flowers_17(classes_17, () if chosen == "all" else ("trn1",))
    official = len(classes_17) * (PER_CLASS_17 if chosen == "all" else PER_CLASS_17 // 2)
    if chosen == "shared":
        shared = label_relations(graph, "flowers-102", "flowers-17")["shared"]
        classes_17 = [c for c in classes_17 if graph.node_of("flowers-17", c) in shared]
        rows = [i for c in classes_17 for i in [i for i, n in enumerate(names) if n == c][:SHARED_IMAGES]]
        files, names = [files[i] for i in rows], [names[i] for i in rows]
        official = SHARED_IMAGES * len(shared)
    require_coarse(classes_17, names, "17 Category Flower")
    parts = {"train": (*train, 1020), "test": (*test, 6149), "coarse": (files, names, official)}
    return make_task(graph, "flowers-102", "flowers-17", parts, settings)


def load_flower17(graph: LabelGraph, settings: dict) -> Task:
    """The Flower17Fusion task, ours: fine = 17 Category Flower (split 1), coarse = tf_flowers.

    settings: image_size, train_with_val. tst1 (20 a class) tests. Training data are trn1 and val1, 60 a
    class: a run holds out validation images of its own from them, anew for each seed, so val1 would lie
    unused; `train_with_val: false` leaves it out (40 a class, as the authors trained). Raises DataError.
    """
    classes, with_val = list(graph.labels["flowers-17"]), settings.get("train_with_val", True)
    train = flowers_17(classes, ("trn1", "val1") if with_val else ("trn1",))
    coarse = tf_flowers()
    require_coarse(list(graph.labels["tf-flowers"]), coarse[1], "tf_flowers")
    parts = {
        "train": (*train, len(classes) * (60 if with_val else 40)),
        "test": (*flowers_17(classes, ("tst1",)), 20 * len(classes)),
        "coarse": (*coarse, 3670),
    }
    return make_task(graph, "flowers-17", "tf-flowers", parts, settings)


def require_coarse(classes: list[str], names: list[str], what: str) -> None:
    """Raises DataError naming a class of the coarse set without an image."""
    if empty := [c for c in classes if c not in names]:
        raise DataError(f"{what}: {len(empty)} of {len(classes)} classes have no image, first {empty[0]!r}")
