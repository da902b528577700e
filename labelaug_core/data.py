"""What a dataset is here: a Split of inputs and labels; what a run needs: a Task; errors that name all offenders."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from labelaug_core.graph import GraphError, LabelGraph, normalise

MOST_NAMED = 50  # an error names so many offenders and counts the rest


class DataError(ValueError):
    """Data is missing or unreadable; the message says what, where it was looked for and what to do."""


def printable(name: str | Path) -> str:
    """The name as text that every screen and file takes, composed (NFC); a byte that is not UTF-8 becomes `\\xe9`."""
    return unicodedata.normalize("NFC", os.fsencode(str(name)).decode("utf-8", "backslashreplace"))


def listed(names: Iterable[str], between: str = ", ") -> str:
    """All names in one line; of more than MOST_NAMED, the first ones and the number of the others."""
    names = list(names)
    more = f"{between}and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return between.join(names[:MOST_NAMED]) + more


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
        """The samples of these rows, in this order."""
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
        """The same task without its coarse part and the labels that only this part has."""
        head_first = self.head_first and self.head_first.fine_only()
        return replace(self, coarse=None, labels=self.labels[: self.n_fine], head_first=head_first)


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
    """Class names -> indices into labels; GraphError names all classes that the graph does not have."""
    index = {v: i for i, v in enumerate(labels)}
    known = {normalise(c): v for c, v in graph.labels.get(dataset, {}).items()}
    unknown = [c for c in dict.fromkeys(names) if normalise(c) not in known]
    if unknown:
        raise GraphError(
            f"{graph.name}: the graph has no label {listed(map(repr, unknown))} of dataset {dataset!r}; "
            f"add it below `labels`, or take its samples out of the data"
        )
    table = {c: index[known[normalise(c)]] for c in dict.fromkeys(names)}
    return np.array([table[c] for c in names], dtype=np.int64)


def require_classes(labels: list[str], y: np.ndarray, what: str) -> None:
    """Raises DataError naming all classes without a sample."""
    present = set(np.unique(y).tolist())
    if empty := [repr(v) for i, v in enumerate(labels) if i not in present]:
        raise DataError(f"{what}: {len(empty)} of {len(labels)} classes have no sample: {listed(empty)}")
