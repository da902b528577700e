"""What a dataset is here: a Split of inputs and labels; what a run needs: a Task; and images read from files."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from labelaug_core.graph import LabelGraph

NARROWEST = 100  # an image may be at most so many times as long as wide
IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"}


class DataError(ValueError):
    """Data is missing or unreadable; the message says what, where it was looked for and what to do."""


@dataclass(frozen=True)
class Split:
    """inputs[i] has class y[i], an index into Task.labels, and the name ids[i]; inputs takes an index array.

    Multi-label: y is bool [N, K], and sample i has every label k with y[i, k].
    """

    inputs: object
    y: np.ndarray
    ids: list[str]
    truth: list[dict[str, str]] | None = None  # group -> node for every sample, where the attributes are known

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: np.ndarray) -> Split:
        truth = [self.truth[i] for i in rows] if self.truth else None
        return Split(Rows(self.inputs, rows), self.y[rows], [self.ids[i] for i in rows], truth)


class Rows:
    """A view of some rows of an array or of image files; nothing is copied before it is asked for."""

    def __init__(self, inputs, rows: np.ndarray):
        self.inputs, self.rows = (inputs.inputs, inputs.rows[rows]) if isinstance(inputs, Rows) else (inputs, rows)
        self.key = getattr(inputs, "key", "array")

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index):
        return self.inputs[self.rows[index]]


@dataclass(frozen=True)
class Task:
    """One cell's data. labels[:n_fine] are evaluated; the rest are labels that only the coarse part has."""

    graph: LabelGraph
    labels: list[str]
    n_fine: int
    train: Split
    test: Split
    coarse: Split | None = None
    sizes: dict[str, str] = field(default_factory=dict)  # "n of N" where a release is only partly here
    content_hash: str = ""
    head_first: Task | None = None  # where the encoder's last stage is trained: the same task as frozen features

    def fine_only(self) -> Task:
        head_first = self.head_first and self.head_first.fine_only()
        return replace(self, coarse=None, labels=self.labels[: self.n_fine], head_first=head_first)


class ImageFiles:
    """Images read when asked: an index array -> uint8 [n, S, S, 3] (shorter side to S, centre crop, RGB).

    Files of any kind that Pillow opens will do (GIF, PNG, CMYK or grey behind `.jpg` too); an image is turned the
    way its EXIF note says. Raises DataError naming the file where one is truncated or no image.
    """

    def __init__(self, paths: list[Path], size: int):
        self.paths, self.size, self.key = np.asarray(paths, dtype=object), size, f"rgb-{size}-centre"

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index) -> np.ndarray:
        return np.stack([fit(open_image(p), self.size) for p in np.atleast_1d(self.paths[index])])


class Texts:
    """Texts in memory: an index array -> list[str]. In an arXiv text the title is the first line."""

    key = "text"

    def __init__(self, texts: list[str]):
        self.texts = np.empty(len(texts), dtype=object)
        self.texts[:] = texts

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index) -> list[str]:
        return list(np.atleast_1d(self.texts[index]))


def open_image(path: Path) -> Image.Image:
    """The whole image as RGB, turned the way its EXIF note says. Raises DataError naming a file that is truncated, no
    image, or larger or narrower than any photograph (it would ask for all memory)."""
    try:
        with Image.open(path) as image:
            if image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise ValueError(f"more than {Image.MAX_IMAGE_PIXELS} pixels")
            if max(image.size) > NARROWEST * min(image.size):
                raise ValueError(f"more than {NARROWEST} times as long as wide")
            return ImageOps.exif_transpose(image).convert("RGB")
    except Exception as error:  # Pillow's readers raise many kinds
        what = str(error) or type(error).__name__
        raise DataError(f"{path.name}: cannot be read as an image ({what}); replace or delete {path}") from None


def fit(image: Image.Image, size: int) -> np.ndarray:
    """Shorter side to `size` (bicubic), centre crop: uint8 [size, size, 3]."""
    scale = size / min(image.size)
    w, h = (max(size, round(side * scale)) for side in image.size)
    left, top = (w - size) // 2, (h - size) // 2
    return np.asarray(image.resize((w, h), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size)))


def data_folder(name: str, what: str, how: str) -> Path:
    """$LABELAUG_DATA/name (default: the user cache directory). Raises DataError saying what to put there."""
    base = os.environ.get("LABELAUG_DATA") or Path.home() / ".cache" / "labelaug" / "data"
    folder = Path(base) / name
    if not folder.is_dir():
        raise DataError(
            f"{what} is missing: no folder {folder}; {how}, or point LABELAUG_DATA at the folder that holds {name}/"
        )
    return folder


def class_folders(folder: Path, what: str) -> tuple[list[Path], list[str]]:
    """Images in class subfolders, sorted by name: files, and each one's class (its subfolder's name).

    Other files (lists, licences) are left out. Raises DataError for no class folder or an empty one.
    """
    classes = sorted(d for d in folder.iterdir() if d.is_dir() and not d.name.startswith("."))
    if not classes:
        raise DataError(f"{what}: no class folder in {folder}; give every class a folder with its images")
    found = {
        d: [f for f in sorted(d.rglob("*")) if f.suffix.lower() in IMAGE_SUFFIXES and f.name[0] != "."] for d in classes
    }
    if empty := [d.name for d in classes if not found[d]]:
        raise DataError(f"{what}: class folder {empty[0]!r} in {folder} holds no image; fill or remove it")
    return [f for fs in found.values() for f in fs], [d.name for d, fs in found.items() for _ in fs]


def content_hash(*items) -> str:
    """sha256 over files' bytes, arrays and texts, short form: what a run's data were."""
    h = hashlib.sha256()
    for item in items:
        if isinstance(item, Path):
            h.update(item.name.encode(errors="surrogatepass") + item.read_bytes())
        else:  # surrogates: a name that is no text, half an emoji
            h.update(item.tobytes() if isinstance(item, np.ndarray) else str(item).encode(errors="surrogatepass"))
    return h.hexdigest()[:16]


def joint_labels(graph: LabelGraph, fine: str, coarse: str | None) -> tuple[list[str], int]:
    """Label nodes of the fine dataset, then those that only the coarse one has; and how many are fine."""
    nodes = graph.label_nodes(fine)
    return nodes + [v for v in (graph.label_nodes(coarse) if coarse else []) if v not in nodes], len(nodes)


def class_indices(graph: LabelGraph, dataset: str, labels: list[str], names: list[str]) -> np.ndarray:
    """Class names -> indices into labels; GraphError names a class that the graph does not have."""
    index = {v: i for i, v in enumerate(labels)}
    known = {c: index[graph.node_of(dataset, c)] for c in dict.fromkeys(names)}
    return np.array([known[c] for c in names], dtype=np.int64)


def require_classes(labels: list[str], y: np.ndarray, what: str) -> None:
    """Raises DataError naming a class without a sample."""
    if empty := [v for i, v in enumerate(labels) if not (y == i).any()]:
        raise DataError(f"{what}: {len(empty)} of {len(labels)} classes have no sample, the first is {empty[0]!r}")
