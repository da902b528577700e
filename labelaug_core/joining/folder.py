"""The reader's own data: two image folders or two text sets with labels that do not match, and a label graph.

The graph file names two label sets under `labels`: the first is the fine one, the second the coarse one.
graph_for reads it, or drafts a first one out of the class names; report.describe_join shows how the two meet.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import numpy as np

from labelaug_core.data import (
    DataError,
    Split,
    Task,
    Texts,
    class_indices,
    content_hash,
    joint_labels,
    listed,
    printable,
    require_classes,
)
from labelaug_core.files.images import ImageFiles, check_images
from labelaug_core.graph import GraphError, LabelGraph, normalise
from labelaug_core.graph_file import load_graph
from labelaug_core.joining.class_folders import class_folders
from labelaug_core.joining.draft import draft_graph
from labelaug_core.joining.texts import TEXT_SUFFIXES, read_texts


def is_text(path: Path) -> bool:
    """A text file, or the folder of a saved Hugging Face dataset; another folder holds images."""
    saved = (path / "dataset_info.json", path / "dataset_dict.json")
    return path.suffix.lower() in TEXT_SUFFIXES or any(f.is_file() for f in saved)


def read_any(path: str | Path, settings: dict) -> tuple[object, list[str], list[str]]:
    """One of the reader's datasets, recognised by what lies at the path: inputs, class names, ids.

    settings: image_size for images, text_column and label_column for texts. Raises DataError: nothing there,
    classes spelled in two ways, or as the readers of the kind say.
    """
    path = Path(os.path.expanduser(str(path)))  # papermill makes a number of a folder's name `2023`
    if not path.exists() or not (path.is_dir() or is_text(path)):
        kinds = f"a folder of class folders with images, a {', '.join(TEXT_SUFFIXES)} file or a saved dataset"
        found = "no dataset" if path.exists() else "no such file or folder"
        raise DataError(f"{printable(path)}: {found}; expected {kinds}")
    if is_text(path):
        columns = settings.get("text_column", "text"), settings.get("label_column", "label")
        texts, names = read_texts(path, *columns)
        inputs, ids = Texts(texts), [f"{path.name}:{i}" for i in range(1, len(texts) + 1)]
    else:
        files, names = class_folders(path, path.name)
        inputs = ImageFiles(files, settings.get("image_size", 224))
        ids = [printable(f.relative_to(path).as_posix()) for f in files]
    if twice := spelled_twice(names):
        raise DataError(f"{path.name}: {twice} are one class in two spellings; choose one")
    return inputs, names, ids


def spelled_twice(names: Iterable[str]) -> str:
    """All pairs of names that differ in spelling alone, in one line; '' if there is none."""
    first: dict[str, str] = {}
    pairs = [(first.setdefault(normalise(name), name), name) for name in dict.fromkeys(names)]
    return listed((f"{one!r} and {other!r}" for one, other in pairs if one != other), "; ")


def class_names(path: str | Path, settings: dict | None = None) -> list[str]:
    """The class names of one of the reader's datasets, each once, sorted."""
    return sorted(set(read_any(path, settings or {})[1]))


def label_sets(graph: LabelGraph) -> tuple[str, str]:
    """The names of the graph's two label sets, fine and coarse.

    Raises GraphError if there are not two, or naming all nodes that differ in spelling alone.
    """
    if len(graph.labels) != 2:
        known = ", ".join(graph.labels)
        raise GraphError(f"{graph.name}: expected two datasets under `labels`, fine first; it has {known}")
    if twice := spelled_twice(graph.nodes):
        rule = "put both classes on one node, or give two meanings two names"
        raise GraphError(f"{graph.name}: nodes {twice} are one name in two spellings; {rule}")
    return tuple(graph.labels)


def both_given(settings: dict) -> dict:
    """The places that are given, by part. Raises DataError naming the part without one, fine or coarse."""
    given = {key: settings[key] for key in ("fine", "coarse", "test") if settings.get(key) not in (None, "")}
    if missing := [key for key in ("fine", "coarse") if key not in given]:
        raise DataError(f"folder: {listed(map(repr, missing))} is missing in the settings: the path of a dataset")
    return given


def graph_for(path: str | Path, settings: dict) -> LabelGraph:
    """The label graph of the reader's two datasets: the file at `path` if there is one, else a draft, written there.

    settings: as load takes them. Raises GraphError naming the file, its age and all classes of the data that it does
    not know: a file that was left by other datasets is not used for these.
    """
    path, given = Path(os.path.expanduser(str(path))), both_given(settings)
    names = [class_names(given[key], settings) for key in ("fine", "coarse")]
    if not path.exists():
        return draft_graph(*names, path)
    graph = load_graph(path)
    unknown = []
    for dataset, classes in zip(label_sets(graph), names, strict=True):
        known = {normalise(c) for c in graph.labels[dataset]}
        if missing := [repr(c) for c in classes if normalise(c) not in known]:
            unknown.append(f"{listed(missing)} of the {dataset} data")
    if unknown:
        changed = datetime.fromtimestamp(path.stat().st_mtime)
        days = (datetime.now() - changed).days
        raise GraphError(
            f"{path} (last changed {changed:%Y-%m-%d %H:%M}, {days} days ago) does not know these classes: "
            f"{' and '.join(unknown)}. If it belongs to other datasets, rename it, and a new one is drafted; "
            "else add the classes"
        )
    return graph


def stratified_split(names: list[str], fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers that train and that test: of every class this fraction tests, at least one sample.

    Raises DataError naming all classes of one sample, which cannot do both.
    """
    if not 0 < fraction < 1:
        raise DataError(f"test_fraction must lie between 0 and 1, got {fraction}")
    rng, named, test = np.random.default_rng(seed), np.array(names), []
    if single := [repr(name) for name, n in sorted(Counter(names).items()) if n < 2]:
        raise DataError(f"class {listed(single)} has one sample; it needs two, or set `test` to a test set")
    for name in sorted(set(names)):
        rows = rng.permutation(np.flatnonzero(named == name))
        test += list(rows[: min(max(round(fraction * len(rows)), 1), len(rows) - 1)])
    return np.setdiff1d(np.arange(len(names)), test), np.sort(test)


def load(graph: LabelGraph, settings: dict) -> Task:
    """The reader's fusion. Task.fine_only() drops the coarse part.

    settings: fine, coarse (paths, see read_any); test (a path), or test_fraction (default 0.2) of the fine
    data, drawn class by class with `seed` (default 0); image_size; text_column, label_column. Every image is read
    once before anything is trained. Raises GraphError for classes that the graph does not have, DataError for data
    that cannot be used: each names the classes, the files or the lines.
    """
    fine, coarse = label_sets(graph)
    labels, n_fine = joint_labels(graph, fine, coarse)
    given = both_given(settings)
    splits, hashed = {}, []
    for part, key, dataset in (("train", "fine", fine), ("coarse", "coarse", coarse), ("test", "test", fine)):
        if key in given:
            inputs, names, ids = read_any(given[key], settings)
            y, where = class_indices(graph, dataset, labels, names), Path(str(given[key])).name
            splits[part] = Split(inputs, y, ids if isinstance(inputs, ImageFiles) else [f"{key} {i}" for i in ids])
            hashed += [*(inputs.paths if isinstance(inputs, ImageFiles) else inputs.texts), y]
            if part != "test":
                own = graph.label_nodes(dataset)
                seen = np.array([own.index(labels[k]) for k in np.unique(y)])
                require_classes(own, seen, f"{dataset} in {where}")
            if part == "train" and len(set(names)) < 2:
                raise DataError(f"{where}: one class only, {names[0]!r}; two are needed. Is it the right folder?")
    if len({isinstance(split.inputs, Texts) for split in splits.values()}) > 1:
        raise DataError("folder: fine, coarse and test must be all images or all texts")
    check_images(f for s in splits.values() if isinstance(s.inputs, ImageFiles) for f in s.inputs.paths)
    if "test" not in splits:
        seed, fraction = settings.get("seed", 0), settings.get("test_fraction", 0.2)
        names = [labels[k] for k in splits["train"].y]
        train, test = stratified_split(names, fraction, seed)
        splits |= {"train": splits["train"].take(train), "test": splits["train"].take(test)}
        hashed += [train]
    sizes = {part: str(len(split)) for part, split in splits.items()}
    parts = (splits[p] for p in ("train", "test", "coarse"))
    return Task(graph, labels, n_fine, *parts, sizes, content_hash(*hashed))
