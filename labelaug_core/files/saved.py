"""A model as a folder: weights (safetensors), settings (JSON) and label graph (YAML). Nothing in it is ever run."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import safetensors.torch
import torch
from torch import nn

from labelaug_core.data import DataError
from labelaug_core.files.cache import write_files
from labelaug_core.files.inputs import OwnEncoder, Reader, encoder_of, is_frozen
from labelaug_core.graph_file import graph_to_yaml, load_graph
from labelaug_core.label_aug import PathSettings
from labelaug_core.training import TrainingSettings

if TYPE_CHECKING:
    from labelaug_core.model import LabelAug

WEIGHTS, GRAPH, SETTINGS = "model.safetensors", "graph.yaml", "settings.json"
PACKAGES = "labelaug-core torch numpy safetensors timm transformers".split()  # whose versions are written down


def sha256(content: bytes) -> str:
    """The sha256 of some bytes, in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def save(model: LabelAug, folder: Path) -> None:
    """Write a fitted model. The settings, written last, hold a hash of each file: a half-written model is no model.

    Raises OSError naming a file that cannot be written.
    """
    parameters = model.get_params(deep=False)
    del parameters["graph"]
    own = isinstance(model.encoder, nn.Module)
    parameters |= {"encoder": type(model.encoder).__name__ if own else model.encoder}
    parameters |= {k: asdict(parameters[k]) for k in ("training", "head") if parameters[k] is not None}
    about = {
        "parameters": parameters,
        "own_encoder": {"dim": model.model_.encoder.dim, "frozen": is_frozen(model.encoder, model.tune)}
        if own
        else None,
        "reader": asdict(model.reader_),
        "classes": model.classes_.tolist(),
        "labels": model.labels_,
        "n_fine": model.n_fine_,
        "nodes": model.graph.nodes,
        "history": model.history_.to_dict("records"),
        "versions": {"python": platform.python_version()} | {p: metadata.version(p) for p in PACKAGES},
    }
    about = json.dumps(about, default=lambda value: value.item())  # a number of numpy as a number
    weights = {k: v.detach().cpu().clone().contiguous() for k, v in model.model_.state_dict().items()}
    contents = {WEIGHTS: safetensors.torch.save(weights), GRAPH: graph_to_yaml(model.graph).encode()}
    hashes = {name: sha256(content) for name, content in contents.items()} | {SETTINGS: sha256(about.encode())}
    settings = {"model": json.loads(about), "sha256": hashes}
    contents[SETTINGS] = json.dumps(settings, ensure_ascii=False, indent=1).encode()
    write_files({folder / name: content for name, content in contents.items()})


def read(folder: Path) -> tuple[dict, dict[str, bytes]]:
    """What the settings say of a saved model, and its files. Raises DataError naming all files missing or damaged."""
    found, faults = {}, []
    for name in (SETTINGS, GRAPH, WEIGHTS):
        try:
            found[name] = (folder / name).read_bytes()
        except OSError as error:
            faults.append(f"{name} cannot be read ({error.strerror})")
    if faults:
        raise DataError(f"{folder}: {'; '.join(faults)}; a saved model has {WEIGHTS}, {GRAPH} and {SETTINGS}")
    try:
        settings = json.loads(found[SETTINGS])
        about, hashes = settings["model"], settings["sha256"]
        found[SETTINGS] = json.dumps(about).encode()
        faults = [name for name, content in found.items() if sha256(content) != hashes[name]]
    except (ValueError, KeyError, TypeError, RecursionError):
        faults = [SETTINGS]
    if faults:
        raise DataError(f"{folder}: {', '.join(faults)} changed after the model was saved, or damaged; save it again")
    return about, found


def load(kind: type[LabelAug], folder: Path, encoder: nn.Module | None = None) -> LabelAug:
    """A model as it was saved. encoder: the user's own module, which the folder cannot hold; its weights are there.

    Raises DataError naming all files missing or damaged, ValueError where the module is missing.
    """
    about, found = read(folder)
    own, parameters = about["own_encoder"], about["parameters"]
    if own and not isinstance(encoder, nn.Module):
        name = parameters["encoder"]
        raise ValueError(f"{folder}: trained with an encoder of your own, {name}: load(folder, encoder={name}(...))")
    if not own and encoder is not None:
        raise ValueError(f"{folder}: trained with encoder={parameters['encoder']!r}; load it without `encoder`")
    graph = load_graph(folder / GRAPH)
    group = {v: graph.group[v] for v in about["nodes"] if v != graph.root}
    parameters["graph"] = replace(graph, parents={v: graph.parents[v] for v in about["nodes"]}, group=group)
    for name, settings in (("training", TrainingSettings), ("head", PathSettings)):
        parameters[name] = parameters[name] and settings(**parameters[name])
    model = kind(**parameters | ({"encoder": encoder} if own else {}))
    model.reader_, model.labels_, model.n_fine_ = Reader(**about["reader"]), about["labels"], about["n_fine"]
    model.classes_, model.history_ = np.array(about["classes"]), pd.DataFrame(about["history"])
    if model.reader_.n_features:
        model.n_features_in_ = model.reader_.n_features
    with torch.random.fork_rng():  # the first weights are drawn, and then replaced
        if own:
            built = OwnEncoder(encoder, **own)
        else:
            built = encoder_of(model.encoder, model.reader_, is_frozen(model.encoder, model.tune), pretrained=False)
        model.model_ = model.classifier(built, model.labels_, model.n_fine_)
    try:
        model.model_.load_state_dict(safetensors.torch.load(found[WEIGHTS]))
    except (RuntimeError, safetensors.SafetensorError) as error:
        versions = ", ".join(f"{p} {v}" for p, v in about["versions"].items())
        raise DataError(
            f"{folder}: {WEIGHTS} does not fit {kind.__name__} and the encoder; it was saved with {versions} ({error})"
        ) from None
    model.model_.eval()
    return model
