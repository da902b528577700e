"""CIFAR-100 in its official binary layout: a few images of each of 100 classes, many known by 20 superclasses.

The layout (cs.toronto.edu/~kriz/cifar.html): `train.bin` and `test.bin` are rows of 3,074 bytes: the number of the
superclass, the number of the class, then 32 x 32 red, green and blue pixels. `fine_label_names.txt` and
`coarse_label_names.txt` name them. A part of the release reads alike. The other layout, `cifar-100-python`, is
pickles, and no pickle is read here.

About a tenth of the official test images look much like some of the 50,000 training images (Barz and Denzler, 2019),
ten of them pixel by pixel. Training images whose perceptual hash is close to that of a test image are dropped, which
finds a part of these pairs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from companion.datasets import data_folder, how_many, looks_tested
from labelaug_core.data import (
    DataError,
    Split,
    Task,
    class_indices,
    content_hash,
    joint_labels,
    listed,
    require_classes,
)
from labelaug_core.graph import LabelGraph

ARCHIVE, MD5 = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"
HOW = "unpack cifar-100-binary.tar.gz of cs.toronto.edu/~kriz (set `download: true`); cifar-100-python is not read"
OFFICIAL = {"train": 50_000, "test": 10_000}
PIXELS = 3 * 32 * 32
FINE, COARSE = "cifar100", "cifar100-superclasses"


class Enlarged:
    """Small images, enlarged when asked (bicubic): an index array -> uint8 [n, S, S, 3], one index -> [S, S, 3]."""

    def __init__(self, images: np.ndarray, size: int):
        self.images, self.size, self.key = images, size, f"rgb8-{images.shape[1]}-to-{size}"

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index) -> np.ndarray:
        if np.ndim(index) == 0 and not isinstance(index, slice):
            image = Image.fromarray(self.images[index])
            return np.asarray(image.resize((self.size, self.size), Image.Resampling.BICUBIC))
        return np.stack([self[i] for i in np.arange(len(self))[index]])


def read_names(path: Path, known: list[str], faults: list[str]) -> list[str]:
    """The names of a label file, a line each; what is wrong with them goes to `faults`."""
    try:
        names = path.read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"{path.name} cannot be read ({error})")
        return []
    if sorted(n.replace("_", " ") for n in names) != sorted(known):
        faults.append(f"{path.name} does not have the {len(known)} names of the label graph")
    return names


def read_records(path: Path, n_coarse: int, n_fine: int, faults: list[str]) -> np.ndarray:
    """Rows of a .bin file, uint8 [N, 3074]; what is wrong with them goes to `faults`."""
    empty = np.zeros((0, PIXELS + 2), dtype=np.uint8)
    try:
        raw = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        faults.append(f"{path.name} cannot be read ({error.strerror})")
        return empty
    if len(raw) == 0 or len(raw) % (PIXELS + 2):
        faults.append(f"{path.name} has {len(raw)} bytes, which are no rows of {PIXELS + 2}")
        return empty
    rows = raw.reshape(-1, PIXELS + 2)
    if wrong := np.flatnonzero((rows[:, 0] >= n_coarse) | (rows[:, 1] >= n_fine)).tolist():
        faults.append(f"{path.name} has {len(wrong)} rows with a label that there is not, the first is row {wrong[0]}")
        return empty
    return rows


def read_release(graph: LabelGraph) -> tuple[dict[str, np.ndarray], list[str], list[str]]:
    """Rows of `train` and `test`, uint8 [N, 3074], the class names and the superclass names by their numbers.

    Raises one DataError that names all faults of the four files, or the classes whose superclass is not that of the
    graph.
    """
    what, faults = "CIFAR-100", []
    folder = data_folder("cifar-100-binary", what, HOW)
    fine, coarse = (
        read_names(folder / f"{kind}_label_names.txt", graph.label_nodes(dataset), faults)
        for kind, dataset in (("fine", FINE), ("coarse", COARSE))
    )
    n_coarse, n_fine = len(graph.label_nodes(COARSE)), len(graph.label_nodes(FINE))
    rows = {part: read_records(folder / f"{part}.bin", n_coarse, n_fine, faults) for part in OFFICIAL}
    if faults:
        raise DataError(f"{what}: {'; '.join(faults)}; {HOW} ({folder})")
    seen = {pair for part in rows.values() for pair in np.unique(part[:, :2], axis=0).view("u1,u1").ravel().tolist()}
    if strange := [
        f"{fine[y]!r} as {coarse[c]!r}"
        for c, y in sorted(seen)
        if graph.node_of(COARSE, coarse[c]) not in graph.ancestors(graph.node_of(FINE, fine[y]))
    ]:
        raise DataError(f"{what}: classes have another superclass than in the label graph: {listed(strange)}; {HOW}")
    return rows, fine, coarse


def choose(classes: np.ndarray, n_fine: int, n_coarse: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of the fine part (n_fine of each class) and of the coarse part (n_coarse of the others), ascending.

    classes: the class of every row, [N]. Each class is shuffled; the fine part takes the first n_fine of it, the
    coarse part the last ones, evenly over the classes. So a smaller part lies within a larger one of the same seed,
    and the coarse part stays the same while n_fine changes, as long as there are images enough for both.
    """
    rng = np.random.default_rng(seed)
    place, tie = np.empty(len(classes), dtype=np.int64), rng.permutation(len(classes))
    for c in np.unique(classes):
        rows = np.flatnonzero(classes == c)
        place[rows] = rng.permutation(len(rows))
    others = np.flatnonzero(place >= n_fine)
    others = others[np.lexsort((tie[others], place[others]))]
    return np.flatnonzero(place < n_fine), np.sort(others[max(0, len(others) - n_coarse) :])


def load(graph: LabelGraph, settings: dict) -> Task:
    """The CIFAR-100 task: fine = a few training images of each class, coarse = other ones, known by superclass alone.

    settings: n_fine (images of each class, default 20); n_coarse (images in all, default 8,000; 0: no coarse part);
    sample_seed (which ones, default 0); image_size (pixels; null: 32, as they are); download; keep_copies. All of
    `test.bin` tests. Training images that look like a test image are dropped first, unless keep_copies is true.
    Raises DataError.
    """
    if settings.get("download"):
        from torchvision.datasets.utils import download_and_extract_archive

        folder = data_folder("", "The data folder", "make it").resolve()
        download_and_extract_archive(ARCHIVE, str(folder), md5=MD5)
    asked = {"n_fine": settings.get("n_fine", 20), "n_coarse": settings.get("n_coarse", 8000)}
    rows, fine_names, coarse_names = read_release(graph)
    labels, n_fine = joint_labels(graph, FINE, COARSE)
    images = {
        part: np.ascontiguousarray(r[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)) for part, r in rows.items()
    }
    kept = np.arange(len(images["train"]))
    if not settings.get("keep_copies"):
        kept = kept[~looks_tested(content_hash(*images.values()), images["train"], images["test"])]
    fine, coarse = choose(rows["train"][kept, 1], asked["n_fine"], asked["n_coarse"], settings.get("sample_seed", 0))
    if asked["n_coarse"] and not len(coarse):
        raise DataError(
            f"CIFAR-100: {asked['n_fine']} images of each class leave none for the coarse part: lower n_fine"
        )
    parts, splits, hashed = {"train": kept[fine], "test": np.arange(len(rows["test"])), "coarse": kept[coarse]}, {}, []
    for part, numbers in parts.items():
        source = "test" if part == "test" else "train"
        numbered = rows[source][numbers, :2].tolist()
        names = [coarse_names[c] if part == "coarse" else fine_names[y] for c, y in numbered]
        y = class_indices(graph, COARSE if part == "coarse" else FINE, labels, names)
        inputs = Enlarged(images[source][numbers], settings.get("image_size") or 32)
        splits[part] = Split(inputs, y, [f"{source}-{i}" for i in numbers])
        hashed += [inputs.images, y]
    require_classes(labels[:n_fine], splits["train"].y, "CIFAR-100, fine part")
    official = {"train": asked["n_fine"] * n_fine, "test": OFFICIAL["test"], "coarse": asked["n_coarse"]}
    sizes = {part: how_many(len(split), official[part]) for part, split in splits.items() if len(split)}
    extra = splits["coarse"] if len(splits["coarse"]) else None
    return Task(graph, labels, n_fine, splits["train"], splits["test"], extra, sizes, content_hash(*hashed))
