"""The paper's datasets and our own toys, each read in its official layout; and where they lie."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

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
from labelaug_core.files.cache import computed_once, progress
from labelaug_core.files.images import ImageFiles, open_image
from labelaug_core.graph import LabelGraph


def data_root() -> Path:
    """$LABELAUG_DATA, by default in the user's cache directory."""
    return Path(os.environ.get("LABELAUG_DATA") or os.path.expanduser("~/.cache/labelaug/data"))


def data_folder(name: str, what: str, how: str) -> Path:
    """$LABELAUG_DATA/name (default: the user's cache directory). Raises DataError saying what to put there."""
    folder = data_root() / name
    if not folder.is_dir():
        raise DataError(
            f"{what} is missing: no folder {folder}; {how}, or point LABELAUG_DATA at the folder that holds {name}/"
        )
    return folder


def fetch(what: str, last: str, download: Callable[[Path], object]) -> None:
    """Let torchvision download a dataset into $LABELAUG_DATA, unless `last` is there, the file that it writes last.

    Raises DataError saying what to do where that fails.
    """
    root = data_root().resolve()
    if (root / last).exists():
        return
    try:
        root.mkdir(parents=True, exist_ok=True)
        download(root)
    except (OSError, RuntimeError) as error:
        folder = root / Path(last).parts[0]
        raise DataError(
            f"{what} could not be downloaded ({error}); connect to a network, or copy it to {folder}"
        ) from None


def how_many(n: int, official: int) -> str:
    """`1020`, or `400 of 1020` where a part of the official release is here."""
    return str(n) if n == official else f"{n} of {official}"


def present(images: dict[Path, str], what: str, folder: Path, source: str) -> tuple[list[Path], list[str]]:
    """Those of the images that are there: files and class names. Raises DataError if none is."""
    files = [f for f in images if f.is_file()]
    if not files:
        raise DataError(f"{what}: none of the {len(images)} images is in {folder}; get them from {source}")
    return files, [images[f] for f in files]


def looks_tested(key: str, images: Sequence, tested: Sequence) -> np.ndarray:
    """Which images look like a test image, bool [N]: their perceptual hashes differ in few bits.

    images, tested: files, or arrays uint8 [S, S, 3]. Such copies would show the model a test image, often with its
    label. They differ in size and compression, so bytes do not tell; strong crops and mirrored images are missed (see
    labelaug_core.joining.duplicates). What was found is kept in cache_folder() under `key`. Raises DataError naming a
    file that cannot be read.
    """
    from labelaug_core.joining import duplicates  # here: the toys wait for no pandas

    def found() -> Iterator[np.ndarray]:
        pictures = progress([*images, *tested], "hashing images")
        hashes = [duplicates.phash(open_image(i) if isinstance(i, Path) else Image.fromarray(i)) for i in pictures]
        hashes, tests = np.split(np.array(hashes, dtype=np.uint64), [len(images)])
        yield np.isin(np.arange(len(images)), duplicates.close(hashes, tests, duplicates.THRESHOLD)[0])

    name = f"copies-{content_hash(key, len(images), len(tested), duplicates.THRESHOLD)}"
    return computed_once(name, (len(images),), np.bool_, found)


def without_copies(files: list[Path], names: list[str], tested: list[Path]) -> tuple[list[Path], list[str]]:
    """Those of the coarse images that look like no test image: files and class names (see looks_tested)."""
    stats = [(f.parent.parent.name, f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in (*files, *tested)]
    kept = np.flatnonzero(~looks_tested(content_hash(*stats), files, tested))
    return [files[i] for i in kept], [names[i] for i in kept]


def image_task(
    graph: LabelGraph, fine: str, coarse: str, parts: dict, coarse_classes: list[str], settings: dict
) -> Task:
    """The task of two datasets of image files.

    parts: `train`, `test`, `coarse` -> (files, class names, number of images in the official release).
    coarse_classes: the classes of the coarse dataset that the coarse part has.
    settings: image_size (pixels, default 224); squash or shrink (pixels or null: what ImageFiles does first with every
    image of both datasets). The copies that people have of two datasets differ in form, and a model could tell the
    datasets apart by it. Where one of them is squashed to squares of 128 pixels, `squash: 128` brings the other to the
    same form; where both keep their aspect ratio and one is sharper, `shrink: 128` does.
    Raises DataError naming all classes without an image, GraphError naming the classes that the graph does not have.
    """
    if missing := [repr(c) for c in coarse_classes if c not in set(parts["coarse"][1])]:
        raise DataError(f"{coarse}: {len(missing)} of {len(coarse_classes)} classes have no image: {listed(missing)}")
    labels, n_fine = joint_labels(graph, fine, coarse)
    shown = {graph.node_of(coarse, c) for c in coarse_classes}
    labels = labels[:n_fine] + [v for v in labels[n_fine:] if v in shown]
    splits, sizes, hashed = {}, {}, []
    for part, (files, names, official) in parts.items():
        y = class_indices(graph, coarse if part == "coarse" else fine, labels, names)
        images = ImageFiles(files, settings.get("image_size", 224), settings.get("squash"), settings.get("shrink"))
        splits[part] = Split(images, y, [f.name for f in files])
        sizes[part] = how_many(len(files), official)
        hashed += [*files, y]
    require_classes(labels[:n_fine], splits["train"].y, f"{fine}, training part")
    train, test, extra = (splits[part] for part in ("train", "test", "coarse"))
    return Task(graph, labels, n_fine, train, test, extra, sizes, content_hash(*hashed))
