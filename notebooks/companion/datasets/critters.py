"""Critters, the toy group of images: drawn animals, cached, with a coarse part of the kind that is asked for."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np

from companion.datasets.critters_drawing import LOOKS, Critters, drawing_hash, generate, truth
from labelaug_core.data import DataError, Split, Task, content_hash
from labelaug_core.files.cache import cache_folder, write_files
from labelaug_core.graph import LabelGraph

COARSE_KINDS = ("species", "color", "attributes")
SEEDS = {"train": 1, "coarse": 2, "test": 3}  # one stream of drawings each


def drawn(part: str, n_per_breed: int, size: int) -> Critters:
    """generate(), its images kept on disk under a hash of the drawing code."""
    found = cache_folder() / f"critters-{drawing_hash()[:16]}-{part}-{n_per_breed}-{size}.npy"
    try:
        images = np.load(found, allow_pickle=False)
        if images.shape == (n_per_breed * len(LOOKS), size, size, 3):
            return Critters(images, *truth(n_per_breed, SEEDS[part]))
    except Exception:  # none, or damaged: numpy raises many kinds
        pass
    made, buffer = generate(n_per_breed, SEEDS[part], size), io.BytesIO()
    np.save(buffer, made.images, allow_pickle=False)
    write_files({found: buffer.getvalue()})
    return made


def load(graph: LabelGraph, settings: dict) -> Task:
    """settings: image_size, n_fine, n_coarse, n_test (images a breed), coarse_kind.

    coarse_kind: `species` names cat or dog; `color` the coat pattern alone; `attributes` every attribute, an image
    then stands in the coarse part once for each of its attributes. Raises DataError for another kind.
    """
    kind = settings.get("coarse_kind", "species")
    if kind not in COARSE_KINDS:
        raise DataError(f"critters: coarse_kind must be one of {', '.join(COARSE_KINDS)}, got {kind!r}")
    fine = graph.label_nodes("critters")
    asked = [g for g in graph.exclusive if not g.endswith("breed")]
    groups = {
        "species": ["species"],
        "color": ["cat color", "dog coat"],
        "attributes": [g for g in asked if g != "species"],
    }[kind]
    labels = fine + [v for v in graph.nodes if graph.group.get(v) in groups]
    index, parts, size = {v: i for i, v in enumerate(labels)}, {}, settings.get("image_size", 32)
    for part, key in (("train", "n_fine"), ("coarse", "n_coarse"), ("test", "n_test")):
        made = drawn(part, settings[key], size)
        ids = [f"{part}-{i}" for i in range(len(made.breeds))]
        y = np.array([index[b] for b in made.breeds])
        parts[part] = Split(made.images, y, ids, made.attributes)
    rows = [(i, index[image[g]]) for i, image in enumerate(parts["coarse"].truth) for g in groups if g in image]
    coarse = replace(parts["coarse"].take(np.array([i for i, _ in rows])), y=np.array([y for _, y in rows]))
    sizes = {part: str(len(split)) for part, split in parts.items()}
    hashed = content_hash(*(s.inputs for s in parts.values()), kind)
    return Task(graph, labels, len(fine), parts["train"], parts["test"], coarse, sizes, hashed)
