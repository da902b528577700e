"""The reader's own data: two image folders or two text sets with labels that do not match, and a label graph.

The graph file names two label sets under `labels`: the first is the fine one, the second the coarse one.
Without such a file, join.draft_graph writes a first one out of the class names; join.join_report shows how
the two meet.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from labelaug_core.data import (
    DataError,
    ImageFiles,
    Split,
    Task,
    Texts,
    class_folders,
    class_indices,
    content_hash,
    joint_labels,
    require_classes,
)
from labelaug_core.graph import GraphError, LabelGraph, normalise

TEXT_SUFFIXES = (".csv", ".tsv", ".jsonl")


def csv_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """(where, row) of a CSV or TSV file with a header. Raises DataError naming the line of a ragged row."""
    csv.field_size_limit(max(csv.field_size_limit(), 10_000_000))  # a text may be longer than csv's 131,072
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
        try:
            header = next(reader, [])
            for cells in reader:
                where = f"{path.name}, line {reader.line_num}"
                if cells and len(cells) != len(header):
                    rule = "quote a text that holds the separator"
                    raise DataError(f"{where}: {len(cells)} cells, but the header has {len(header)}; {rule}")
                if cells:
                    yield where, dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise DataError(f"{path.name}, line {reader.line_num}: not valid CSV ({error})") from None


def jsonl_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """(where, row) of a JSONL file. Raises DataError naming a line that is no JSON object."""
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            where = f"{path.name}, line {number}"
            try:
                row = json.loads(line) if line.strip() else None
            except (ValueError, RecursionError) as error:
                raise DataError(f"{where}: not valid JSON ({error})") from None
            if row is not None and not isinstance(row, dict):
                raise DataError(f"{where}: expected a JSON object, got {line.strip():.40}")
            if row is not None:
                yield where, row


def saved_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """(where, row) of a dataset saved by Hugging Face `datasets` (save_to_disk); of several splits, `train`."""
    from datasets import ClassLabel, DatasetDict, load_from_disk

    data = load_from_disk(str(path))
    if isinstance(data, DatasetDict):
        if "train" not in data:
            raise DataError(f"{path.name}: no split `train` among {', '.join(data)}; name one split's folder")
        data = data["train"]
    named = {c: f.int2str for c, f in data.features.items() if isinstance(f, ClassLabel)}
    for number, row in enumerate(data, 1):
        row |= {c: to_name(row[c]) for c, to_name in named.items() if row[c] is not None and row[c] >= 0}
        yield f"{path.name}, row {number}", row


def read_texts(path: Path, text: str = "text", label: str = "label") -> tuple[list[str], list[str]]:
    """Texts and class names (the columns `text`, `label`) of a .csv, .tsv or .jsonl file or a saved dataset.

    Raises DataError naming file and line: unreadable, ragged, a column missing, a row without a label, no
    row.
    """
    reader = {".csv": csv_rows, ".tsv": csv_rows, ".jsonl": jsonl_rows}.get(path.suffix.lower(), saved_rows)
    texts, names = [], []
    try:
        for where, row in reader(path):
            for column in (text, label):
                if column not in row:
                    raise DataError(f"{where}: no column {column!r}; it has {', '.join(map(repr, row))}")
            if row[label] is None or not str(row[label]).strip():
                raise DataError(f"{where}: the label is empty; fill it or remove the row")
            texts.append(str(row[text] or ""))
            names.append(str(row[label]).strip())
    except DataError:
        raise
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path.name}: cannot be read ({type(error).__name__}: {error})") from None
    if not texts:
        raise DataError(f"{path.name}: no rows")
    return texts, names


def is_text(path: Path) -> bool:
    """A text file, or the folder of a saved Hugging Face dataset; another folder holds images."""
    saved = (path / "dataset_info.json", path / "dataset_dict.json")
    return path.suffix.lower() in TEXT_SUFFIXES or any(f.is_file() for f in saved)


def read_any(path: str | Path, settings: dict) -> tuple[object, list[str], list[str]]:
    """One of the reader's datasets, recognised by what lies at the path: inputs, class names, ids.

    settings: image_size for images, text_column and label_column for texts. Raises DataError: nothing there,
    one class spelled in two ways, or as the readers of the kind say.
    """
    path = Path(path).expanduser()
    if not path.exists() or not (path.is_dir() or is_text(path)):
        kinds = f"a folder of class folders with images, a {', '.join(TEXT_SUFFIXES)} file or a saved dataset"
        found = "no dataset" if path.exists() else "no such file or folder"
        raise DataError(f"{path}: {found}; expected {kinds}")
    if is_text(path):
        columns = settings.get("text_column", "text"), settings.get("label_column", "label")
        texts, names = read_texts(path, *columns)
        inputs, ids = Texts(texts), [f"{path.name}:{i}" for i in range(1, len(texts) + 1)]
    else:
        files, names = class_folders(path, path.name)
        inputs = ImageFiles(files, settings.get("image_size", 224))
        ids = [f.relative_to(path).as_posix() for f in files]
    spelled: dict[str, str] = {}
    for name in dict.fromkeys(names):
        if (other := spelled.setdefault(normalise(name), name)) != name:
            raise DataError(f"{path.name}: {other!r} and {name!r} are one class in two spellings; choose one")
    return inputs, names, ids


def class_names(path: str | Path, settings: dict | None = None) -> list[str]:
    """The class names of one of the reader's datasets, each once, sorted."""
    return sorted(set(read_any(path, settings or {})[1]))


def label_sets(graph: LabelGraph) -> tuple[str, str]:
    """The names of the graph's two label sets, fine and coarse.

    Raises GraphError if there are not two, or if a class of both sits on two nodes that differ in spelling
    alone.
    """
    if len(graph.labels) != 2:
        known = ", ".join(graph.labels)
        raise GraphError(f"{graph.name}: expected two datasets under `labels`, fine first; it has {known}")
    spelled: dict[str, str] = {}
    for node in graph.nodes:
        if (other := spelled.setdefault(normalise(node), node)) != node:
            rule = "put both classes on one node, or give two meanings two names"
            raise GraphError(f"{graph.name}: nodes {other!r} and {node!r} are one name spelled twice; {rule}")
    return tuple(graph.labels)


def stratified_split(names: list[str], fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that train and that test: of every class this fraction tests, at least one sample.

    Raises DataError naming a class of one sample, which cannot do both.
    """
    if not 0 < fraction < 1:
        raise DataError(f"test_fraction must lie between 0 and 1, got {fraction}")
    rng, named, test = np.random.default_rng(seed), np.array(names), []
    for name in sorted(set(names)):
        rows = rng.permutation(np.flatnonzero(named == name))
        if len(rows) < 2:
            raise DataError(f"class {name!r} has one sample; it needs two, or set `test` to a test set")
        test += list(rows[: min(max(round(fraction * len(rows)), 1), len(rows) - 1)])
    return np.setdiff1d(np.arange(len(names)), test), np.sort(test)


def load(graph: LabelGraph, settings: dict) -> Task:
    """The reader's fusion. Task.fine_only() drops the coarse part.

    settings: fine, coarse (paths, see read_any); test (a path), or test_fraction (default 0.2) of the fine
    data, drawn class by class with `seed` (default 0); image_size; text_column, label_column. Raises
    GraphError for a class that the graph does not have, DataError for data that cannot be used: each names
    the class, the file or the line.
    """
    fine, coarse = label_sets(graph)
    labels, n_fine = joint_labels(graph, fine, coarse)
    for key in ("fine", "coarse"):
        if key not in settings:
            raise DataError(f"folder: the setting {key!r} is missing: the path of the {key} dataset")
    splits, hashed = {}, []
    for part, key, dataset in (("train", "fine", fine), ("coarse", "coarse", coarse), ("test", "test", fine)):
        if settings.get(key):
            inputs, names, ids = read_any(settings[key], settings)
            y = class_indices(graph, dataset, labels, names)
            splits[part] = Split(inputs, y, ids)
            hashed += [*(inputs.paths if isinstance(inputs, ImageFiles) else inputs.texts), y]
            if part != "test":
                own, where = graph.label_nodes(dataset), Path(settings[key]).name
                seen = np.array([own.index(labels[k]) for k in np.unique(y)])
                require_classes(own, seen, f"{dataset} in {where}")
    if len({isinstance(split.inputs, Texts) for split in splits.values()}) > 1:
        raise DataError("folder: fine, coarse and test must be all images or all texts")
    if "test" not in splits:
        seed, fraction = settings.get("seed", 0), settings.get("test_fraction", 0.2)
        names = [labels[k] for k in splits["train"].y]
        train, test = stratified_split(names, fraction, seed)
        splits |= {"train": splits["train"].take(train), "test": splits["train"].take(test)}
        hashed += [train]
    sizes = {part: str(len(split)) for part, split in splits.items()}
    parts = (splits[p] for p in ("train", "test", "coarse"))
    return Task(graph, labels, n_fine, *parts, sizes, content_hash(*hashed))
