"""102 Category Flower (fine) and 17 Category Flower (coarse), in their official layouts, and their fusion."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from companion.datasets import data_folder, fetch, image_task, present, without_copies
from labelaug_core.data import DataError, Task
from labelaug_core.graph import LabelGraph
from labelaug_core.joining.report import label_relations

VGG = "https://www.robots.ox.ac.uk/~vgg/data/flowers"
PER_CLASS_17 = 80  # images 1-80 are the first class, 81-160 the second, ...
SHARED_IMAGES = 20  # of each shared label in the paper's FlowerFusion: 1,020 + 8 x 20 = 1,180
COARSE_PARTS = ("all", "trn1", "shared")
OFFICIAL = {"trnid": 1020, "valid": 1020, "tstid": 6149}


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
    return present(named, f"{what}, {part}", folder / "jpg", VGG)


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
    return present(named, ", ".join((what, *parts)), folder / "jpg", VGG)


def load(graph: LabelGraph, settings: dict) -> Task:
    """The FlowerFusion task: fine = 102 Category Flower (trnid trains, tstid tests), coarse = the 17.

    Its part `valid` is not used. settings: image_size, squash, shrink (see image_task), download, coarse_part and
    keep_copies. coarse_part: `all` 1,360 images; `trn1` the 680 of Table 1; `shared` the paper's 1,180 - 1,020 = 160
    as we read them, of the 8 labels that both sets have the first 20 images of trn1 each. Many photographs stand in
    both sets: images of the 17 that look like a test image of the 102 are dropped first, unless keep_copies is true,
    as in the paper. Task.fine_only() drops the 17. Raises DataError.
    """
    chosen = settings.get("coarse_part", "all")
    if chosen not in COARSE_PARTS:
        raise DataError(f"flower: coarse_part must be one of {', '.join(COARSE_PARTS)}, got {chosen!r}")
    if settings.get("download"):
        from torchvision.datasets import Flowers102

        fetch("102 Category Flower", "flowers-102/setid.mat", partial(Flowers102, download=True))
    classes, classes_17 = list(graph.labels["flowers-102"]), list(graph.labels["flowers-17"])
    train, test = flowers_102(classes, "trnid"), flowers_102(classes, "tstid")
    files, names = flowers_17(classes_17, () if chosen == "all" else ("trn1",))
    if not settings.get("keep_copies"):
        files, names = without_copies(files, names, test[0])
    official = len(classes_17) * (PER_CLASS_17 if chosen == "all" else PER_CLASS_17 // 2)
    if chosen == "shared":
        shared = label_relations(graph, "flowers-102", "flowers-17")["shared"]
        classes_17 = [c for c in classes_17 if graph.node_of("flowers-17", c) in shared]
        rows = [i for c in classes_17 for i in [i for i, n in enumerate(names) if n == c][:SHARED_IMAGES]]
        files, names = [files[i] for i in rows], [names[i] for i in rows]
        official = SHARED_IMAGES * len(shared)
    parts = {
        "train": (*train, OFFICIAL["trnid"]),
        "test": (*test, OFFICIAL["tstid"]),
        "coarse": (files, names, official),
    }
    return image_task(graph, "flowers-102", "flowers-17", parts, classes_17, settings)
