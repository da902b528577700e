"""Near-duplicates: does the join, or the split, leak test samples into training; is one photo in two classes?

Images are compared by 64-bit perceptual hashes (pHash: the signs of the lowest 8 x 8 DCT coefficients of the
grey image), texts by id and by title.
"""

from __future__ import annotations

from collections import defaultdict
from functools import lru_cache
from pathlib import Path

import imagehash
import numpy as np
import pandas as pd
from PIL import Image

from labelaug_core.data import Split, Task, Texts, listed
from labelaug_core.files.cache import progress
from labelaug_core.files.images import open_image
from labelaug_core.graph import normalise

# Bits of 64, chosen by looking at real pets and flowers: 99.5 % of copies that were scaled, recompressed or
# cropped by 2 % a side differ by at most 8; all pairs at 10 and 12 were strangers. Mirrored copies and most
# crops of 5 % a side are missed.
THRESHOLD = 8
TITLE = 3  # a first line of so many words is taken for a title; a shorter one ("Hello,") says nothing


def phashes(split: Split) -> np.ndarray:
    """64-bit perceptual hash of every image, uint64 [N]; from a file the whole image is hashed, not its crop.

    A file is read once, however often it is asked for. Raises DataError naming a file that cannot be read.
    """
    rows = getattr(split.inputs, "rows", np.arange(len(split)))
    inputs = getattr(split.inputs, "inputs", split.inputs)
    out = np.empty(len(rows), dtype=np.uint64)
    for i, row in enumerate(progress(rows, "hashing images")):
        if hasattr(inputs, "paths"):
            path = inputs.paths[row]
            out[i] = file_phash(path, path.stat().st_mtime_ns)
        else:
            out[i] = phash(Image.fromarray(inputs[row]))
    return out


def phash(image: Image.Image) -> int:
    """The image's pHash as one number of 64 bits."""
    return int.from_bytes(np.packbits(imagehash.phash(image).hash).tobytes(), "big")


@lru_cache(maxsize=200_000)
def file_phash(path: Path, changed: int) -> int:
    """phash of a file that was last changed then. Raises DataError naming a file that cannot be read."""
    return phash(open_image(path))


def close(a: np.ndarray, b: np.ndarray, threshold: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All pairs of hashes (uint64) a[i], b[j] that differ in at most `threshold` bits: i, j, distance, [P] each."""
    found = []
    for first in range(0, len(a), 1024):
        distance = np.bitwise_count(a[first : first + 1024, None] ^ b[None, :])
        i, j = np.nonzero(distance <= threshold)
        found.append((i + first, j, distance[i, j]))
    return tuple(np.concatenate(part).astype(np.int64) for part in zip(*found, strict=True))


def same_text(a: Split, b: Split) -> list[tuple[int, int]]:
    """All (i, j) whose ids are equal, or whose titles (first lines) or whole texts are, spelling normalised."""

    def titles(split: Split) -> list[str]:
        texts = [text.strip() for text in split.inputs[np.arange(len(split))]]
        firsts = [text.split("\n", 1)[0] for text in texts]
        return [normalise(f if len(f.split()) >= TITLE else t) for f, t in zip(firsts, texts, strict=True)]

    found = set()
    for keys in (lambda split: split.ids, titles):
        where = defaultdict(list)
        for j, key in enumerate(keys(b)):
            where[key].append(j)
        found |= {(i, j) for i, key in enumerate(keys(a)) if key.strip() for j in where.get(key, ())}
    return sorted(found)


def alike(a: Split, b: Split, threshold: int) -> list[tuple[int, int, int]]:
    """Near-duplicates of two parts: (row in a, row in b, distance), the closest first; texts: 0."""
    if isinstance(getattr(a.inputs, "inputs", a.inputs), Texts):
        found = [(i, j, 0) for i, j in same_text(a, b)]
    else:
        found = [tuple(map(int, pair)) for pair in zip(*close(phashes(a), phashes(b), threshold), strict=True)]
    return sorted(found, key=lambda pair: pair[2])


def class_of(task: Task, split: Split, row: int) -> str:
    """The name of a sample's class; of several labels all names."""
    y = split.y[row]
    return ", ".join(task.labels[k] for k in (np.flatnonzero(y) if np.ndim(y) else [y]))


def pairs(task: Task, threshold: int = THRESHOLD) -> pd.DataFrame:
    """Coarse samples that look like a fine one: columns coarse, fine (ids), split, distance (0 for texts).

    split is that of the fine sample: `test` (a leak of test data through the join; first) or `train`.
    """
    rows = [
        (task.coarse.ids[i], getattr(task, split).ids[j], split, d)
        for split in ("test", "train")
        for i, j, d in (alike(task.coarse, getattr(task, split), threshold) if task.coarse is not None else ())
    ]
    return pd.DataFrame(rows, columns=["coarse", "fine", "split", "distance"])


def pairs_within(task: Task, threshold: int = THRESHOLD) -> pd.DataFrame:
    """Samples of one dataset that look alike: columns parts, one, other (ids), class, other class, distance.

    parts: `train, test` (a leak, join or no join; first), `train, train`, `test, test`, `coarse, coarse`.
    """
    rows = []
    for one, other in (("train", "test"), ("train", "train"), ("test", "test"), ("coarse", "coarse")):
        a, b = getattr(task, one), getattr(task, other)
        for i, j, d in alike(a, b, threshold) if a is not None else ():
            if one != other or i < j:
                classes = class_of(task, a, i), class_of(task, b, j)
                rows.append((f"{one}, {other}", a.ids[i], b.ids[j], *classes, d))
    return pd.DataFrame(rows, columns=["parts", "one", "other", "class", "other class", "distance"])


def describe_duplicates(task: Task, threshold: int = THRESHOLD) -> str:
    """All near-duplicates in a few lines: test samples in training data, samples in two classes, copies."""
    inside, across, lines = pairs_within(task, threshold), pairs(task, threshold), []
    leaks = {
        "training": inside.loc[inside["parts"] == "train, test", ["other", "one"]],
        "coarse": across.loc[across["split"] == "test", ["fine", "coarse"]],
    }
    for part, found in leaks.items():
        if n := len(set(found.iloc[:, 0])):
            named = listed(f"{sample} = {copy}" for sample, copy in found.itertuples(index=False))
            lines.append(f"{n} of {len(task.test)} test samples look like a {part} sample: {named}")
    if lines:
        lines.append("-> copies make the test score too good: remove them, or put all copies of a photo into one part")
    differ = inside[inside["class"] != inside["other class"]]
    if len(differ):
        named = listed(f"{r[1]} ({r[3]}) = {r[2]} ({r[4]})" for r in differ.itertuples(index=False, name=None))
        count = "1 pair looks alike and has" if len(differ) == 1 else f"{len(differ)} pairs look alike and have"
        lines.append(f"{count} two classes: {named}")
        lines.append("-> look at each pair, and keep the sample in the right class only")
    copies = inside[(inside["parts"] != "train, test") & (inside["class"] == inside["other class"])]
    if len(copies):
        counts = ", ".join(f"{n} in {parts.split(', ')[0]}" for parts, n in copies["parts"].value_counts().items())
        lines.append(f"pairs that look alike, in one class and one part: {counts} (pairs_within lists them)")
    return "\n".join(lines) or "no near-duplicates were found"
