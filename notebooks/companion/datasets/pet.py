"""Oxford-IIIT Pet (37 breeds, fine) and Dogs vs. Cats (2 species, coarse), in their official layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from companion.datasets import data_folder
from labelaug_core.data import (
    DataError,
    ImageFiles,
    Split,
    Task,
    class_indices,
    content_hash,
    joint_labels,
    require_classes,
)
from labelaug_core.graph import LabelGraph

OFFICIAL = {"trainval": 3680, "test": 3669, "dogs-vs-cats": 25000}


def oxford_pet(split: str) -> tuple[list[Path], list[str]]:
    """Image files and class names of one official split (`trainval` or `test`); missing files are skipped."""
    folder = data_folder("oxford-iiit-pet", "Oxford-IIIT Pet", "torchvision downloads it (set `download: true`)")
    listing = folder / "annotations" / f"{split}.txt"
    if not listing.is_file():
        raise DataError(f"Oxford-IIIT Pet: the list {listing} is missing; unpack annotations.tar.gz beside images/")
    names = [line.split()[0] for line in listing.read_text().splitlines() if line.strip() and not line.startswith("#")]
    files = [(folder / "images" / f"{n}.jpg", n.rsplit("_", 1)[0]) for n in names]
    files = [(f, c) for f, c in files if f.is_file()]
    if not files:
        raise DataError(f"Oxford-IIIT Pet: none of the {len(names)} images of {listing.name} is in {folder / 'images'}")
    return [f for f, _ in files], [c for _, c in files]


def dogs_vs_cats() -> tuple[list[Path], list[str]]:
    """All labelled images `train/cat.N.jpg` and `train/dog.N.jpg`, in the order of class and number."""
    folder = data_folder(
        "dogs-vs-cats",
        "Dogs vs. Cats",
        "get train.zip from kaggle.com/c/dogs-vs-cats and unpack it to dogs-vs-cats/train",
    )
    files = [f for f in (folder / "train").glob("*.jpg") if f.name.split(".")[0] in ("cat", "dog")]
    if not files:
        raise DataError(f"Dogs vs. Cats: no cat.N.jpg or dog.N.jpg in {folder / 'train'}")
    files.sort(key=lambda f: (f.name.split(".")[0], int(f.name.split(".")[1])))
    return files, [f.name.split(".")[0] for f in files]


def load(graph: LabelGraph, settings: dict) -> Task:
    """The PetFusion task (settings: image_size, download). Task.fine_only() drops Dogs vs. Cats."""
    if settings.get("download"):
        from torchvision.datasets import OxfordIIITPet

        root = data_folder("", "The data folder", "make it").resolve()
        for split in ("trainval", "test"):
            OxfordIIITPet(root, split=split, download=True)
    labels, n_fine = joint_labels(graph, "oxford-iiit-pet", "dogs-vs-cats")
    size, splits, sizes, hashed = settings.get("image_size", 224), {}, {}, []
    parts = {
        "train": (*oxford_pet("trainval"), "oxford-iiit-pet", "trainval"),
        "test": (*oxford_pet("test"), "oxford-iiit-pet", "test"),
        "coarse": (*dogs_vs_cats(), "dogs-vs-cats", "dogs-vs-cats"),
    }
    for part, (files, names, dataset, official) in parts.items():
        y = class_indices(graph, dataset, labels, names)
        splits[part] = Split(ImageFiles(files, size), y, [f.name for f in files])
        sizes[part] = f"{len(files)} of {OFFICIAL[official]}" if len(files) != OFFICIAL[official] else str(len(files))
        hashed += [*files, y]
    require_classes(labels[:n_fine], splits["train"].y, "Oxford-IIIT Pet, trainval")
    require_classes(["cat", "dog"], np.searchsorted([n_fine, n_fine + 1], splits["coarse"].y), "Dogs vs. Cats")
    return Task(graph, labels, n_fine, splits["train"], splits["test"], splits["coarse"], sizes, content_hash(*hashed))
