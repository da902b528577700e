"""Oxford-IIIT Pet (37 breeds, fine) and Dogs vs. Cats (2 species, coarse), in their official layouts."""

from __future__ import annotations

import csv
from dataclasses import replace
from functools import partial
from pathlib import Path

from companion.datasets import data_folder, fetch, image_task, present, without_copies
from companion.records.profiles import ROOT
from labelaug_core.data import DataError, Task
from labelaug_core.graph import LabelGraph

RATINGS = ROOT / "results" / "cpu" / "ratings_pet.csv"
OFFICIAL = {"trainval": 3680, "test": 3669, "dogs-vs-cats": 25000}


def oxford_pet(split: str) -> tuple[list[Path], list[str]]:
    """Image files and class names of one official split (`trainval` or `test`); missing files are skipped."""
    folder = data_folder("oxford-iiit-pet", "Oxford-IIIT Pet", "torchvision downloads it (set `download: true`)")
    listing = folder / "annotations" / f"{split}.txt"
    if not listing.is_file():
        raise DataError(f"Oxford-IIIT Pet: the list {listing} is missing; unpack annotations.tar.gz beside images/")
    names = [line.split()[0] for line in listing.read_text().splitlines() if line.strip() and not line.startswith("#")]
    images = {folder / "images" / f"{n}.jpg": n.rsplit("_", 1)[0] for n in names}
    return present(images, f"Oxford-IIIT Pet, {split}", folder / "images", "images.tar.gz")


def dogs_vs_cats() -> tuple[list[Path], list[str]]:
    """All labelled images `train/cat.N.jpg` and `train/dog.N.jpg`, in the order of class and number."""
    folder = data_folder(
        "dogs-vs-cats",
        "Dogs vs. Cats",
        "accept the rules at kaggle.com/c/dogs-vs-cats/rules, then in dogs-vs-cats/: kaggle competitions download -c "
        "dogs-vs-cats -f train.zip && unzip train.zip (it makes train/)",
    )
    files = [f for f in (folder / "train").glob("*.jpg") if f.name.split(".")[0] in ("cat", "dog")]
    if not files:
        raise DataError(f"Dogs vs. Cats: no cat.N.jpg or dog.N.jpg in {folder / 'train'}")
    files.sort(key=lambda f: (f.name.split(".")[0], int(f.name.split(".")[1])))
    return files, [f.name.split(".")[0] for f in files]


def rated() -> dict[str, dict[str, str]]:
    """The coat pattern of the test images of which both passes of results/cpu/ratings_pet.csv say the same.

    image -> the true node of each group, as far as it is known; an image rated `unclear` is left out.
    """
    if not RATINGS.is_file():
        return {}
    with open(RATINGS, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["first"] == row["second"] != "unclear"]
    return {row["image"]: {"species": "cat", "cat color": row["first"]} for row in rows}


def load(graph: LabelGraph, settings: dict) -> Task:
    """The PetFusion task: fine = Oxford-IIIT Pet (trainval trains, test tests), coarse = Dogs vs. Cats.

    settings: image_size, squash, shrink (see image_task), download, keep_copies. Images of Dogs vs. Cats that look
    like a test image are dropped, unless keep_copies is true. Task.fine_only() drops Dogs vs. Cats. The truth of the
    test images is what was rated by eye. Raises DataError.
    """
    if settings.get("download"):
        from torchvision.datasets import OxfordIIITPet

        fetch("Oxford-IIIT Pet", "oxford-iiit-pet/annotations/test.txt", partial(OxfordIIITPet, download=True))
    train, test, extra = oxford_pet("trainval"), oxford_pet("test"), dogs_vs_cats()
    if not settings.get("keep_copies"):
        extra = without_copies(*extra, test[0])
    parts = {
        "train": (*train, OFFICIAL["trainval"]),
        "test": (*test, OFFICIAL["test"]),
        "coarse": (*extra, OFFICIAL["dogs-vs-cats"]),
    }
    task, known = image_task(graph, "oxford-iiit-pet", "dogs-vs-cats", parts, ["cat", "dog"], settings), rated()
    return replace(task, test=replace(task.test, truth=[known.get(image, {}) for image in task.test.ids]))
