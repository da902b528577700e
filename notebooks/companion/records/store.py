"""Run records on disk: one JSON and one NPZ of predictions for every cell and seed (light imports: no torch).

A record is written to a temporary name and renamed, so a killed run leaves nothing half-written; a seed that is
recorded is not run again, unless its settings, its data or the code that decides its numbers have changed. Changed
code that gives the same numbers (`make verify`: a seed of each cell trained again, equal bit for bit) is no reason.
"""

from __future__ import annotations

import ast
import csv
import functools
import hashlib
import io
import json
import os
import re
from pathlib import Path

import numpy as np
import yaml

from labelaug_core.cache import write_files
from companion.records.files import ROOT, RecordError, of_a_profile, read_yaml

SCHEMA = 1
CORE = ROOT / "labelaug_core"
OUT = Path(os.environ.get("LABELAUG_OUT") or ROOT)  # holds results/ and figures/; the tests send theirs elsewhere
DECIDING = [
    "graph",
    "graph_file",
    "block_softmax",
    "prefix_tree",
    "decoder",
    "losses",
    "label_aug",
    "encoders",
    "baselines",
    "methods",
    "single_label",
    "training",
    "cell",
    "datasets/base",
]
GROUPS = {  # group -> the function that loads its data, and the files of the core that decide its numbers
    "critters": ("toy.load", ["datasets/toy", "datasets/critters", "small_cnn"]),
    "pet": ("pet.load", ["datasets/pet"]),
    "flower": ("flower.load_flower", ["datasets/flower"]),
    "flower17": ("flower.load_flower17", ["datasets/flower"]),
    "arxiv": ("arxiv.load", ["datasets/arxiv", "text_encoders", "multi_label"]),
    "notes": ("notes.load", ["datasets/notes", "text_encoders", "multi_label"]),
}


def short_hash(value) -> str:
    """Twelve hexadecimal digits that stand for a value of plain types."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


@functools.cache
def code_hash(source: str, *more: str) -> str:
    """Hash of the code that decides the numbers of a group (and of more files of the core): comments, docstrings and
    layout do not count."""
    trees = []
    for name in [*DECIDING, *GROUPS.get(source, ("", []))[1], *more]:
        tree = ast.parse((CORE / f"{name}.py").read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if (
                isinstance(body, list)
                and body
                and isinstance(body[0], ast.Expr)
                and isinstance(body[0].value, ast.Constant)
            ):
                body[0].value = ast.Constant("")  # the docstring
        trees.append(ast.dump(tree))
    return short_hash(trees)


def load_profile(name: str) -> dict:
    """notebooks/profiles/<name>.yaml. Raises RecordError for an unknown profile, or one that is damaged or unsafe."""
    files = {p.stem: p for p in sorted((ROOT / "notebooks" / "profiles").glob("*.yaml"))}
    if name not in files:
        raise RecordError(f"there is no profile {name!r} (known: {', '.join(files)})")
    path = files[name]
    spec = read_yaml(path)
    for key, kind in (("seeds", int), ("training", dict), ("groups", dict), ("reports", dict)):
        if not isinstance(spec, dict) or not isinstance(spec.get(key), kind):
            raise RecordError(f"{path.name}: {key!r} is missing or is no {kind.__name__}; restore the file")
    for group, table in spec["groups"].items():
        if not isinstance(table, dict) or table.get("of", group) not in GROUPS:
            raise RecordError(f"{path.name}: group {group!r}: no such data (known: {', '.join(GROUPS)})")
    return spec


def parse_option(option: str) -> dict:
    """'minibatch=sum,r_tf=0.5' -> {'minibatch': 'sum', 'r_tf': 0.5}. Raises RecordError for anything else."""
    pairs = [part.partition("=") for part in option.split(",")] if option else []
    if bad := [p for p in pairs if not (p[0] and p[1] and p[2])]:
        raise RecordError(f"option {''.join(bad[0])!r}: write key=value, several with commas")
    try:
        return {key: yaml.safe_load(value) for key, _, value in pairs}
    except Exception as error:  # yaml raises many kinds
        raise RecordError(f"option {option!r}: not YAML values ({type(error).__name__})") from None


@of_a_profile
def cell_settings(profile: str, group: str, dataset: str, method: str, option: str = "") -> dict:
    """Everything that decides a cell's numbers, but its seed: the profile's settings, overridden by the option.

    A group `of` another has that one's data and graph, and settings of its own (`source` says whose data they are).

    Raises RecordError naming an unknown group, dataset, method or option.
    """
    spec = load_profile(profile)
    for what, value, known in (
        ("group", group, spec["groups"]),
        ("dataset", dataset, spec["groups"].get(group, {}).get("datasets", {})),
        ("method", method, spec["groups"].get(group, {}).get("methods", {})),
    ):
        if value not in known:
            raise RecordError(f"profile {profile}: there is no {what} {value!r} (known: {', '.join(known)})")
    cell_name(group, dataset, method, option)
    g = spec["groups"][group]
    training = spec["training"] | g.get("training", {})
    head = dict(spec.get("head", {}))
    for key, value in ((g["methods"][method] or {}) | parse_option(option)).items():
        (training if key in training else head)[key] = value
    data = g["data"] | (g["datasets"][dataset] or {})
    if data.pop("same_compute", False):  # as many images a step as the fusion has
        training["batch"] += training["coarse_batch"]
    source = g.get("of", group)
    graph = read_yaml(CORE / "graphs" / f"{source}.yaml")
    return {
        "group": group,
        "source": source,
        "dataset": dataset,
        "method": method,
        "option": option,
        "encoder": g["encoder"],
        "data": data,
        "training": training,
        "head": head,
        "graph": short_hash({k: graph[k] for k in ("root", "groups", "labels")}),
    }


def cell_name(group: str, dataset: str, method: str, option: str = "") -> str:
    """The cell's part of file names. Raises RecordError for what could leave the folder or mean more to a shell."""
    parts = [group, dataset, method, *([option] if option else [])]
    if bad := [p for p in parts if not re.fullmatch(r"\w[\w.,+=-]*", p)]:
        rule = "use letters, digits and . , + - = _, first a letter or a digit"
        raise RecordError(f"{bad[0]!r} cannot be part of a file name: {rule}")
    return "__".join(parts)


def record_path(results: Path, name: str, seed: int) -> Path:
    return Path(results) / "runs" / f"{name}__seed{seed}.json"


def write_record(path: Path, record: dict, predictions: dict[str, np.ndarray]) -> None:
    """Write the predictions (.npz), then the record (.json) with a checksum of what it says."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **predictions)
    record = json.loads(json.dumps(record | {"schema": SCHEMA}))
    text = json.dumps(record | {"checksum": short_hash(record)}, indent=1, sort_keys=True)
    write_files({path.with_suffix(".npz"): buffer.getvalue(), path: text.encode()})


def read_record(path: Path) -> dict:
    """Raises RecordError for a file that is damaged or of another version. (Older records have no checksum.)"""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        schema, checksum = record["schema"], record.pop("checksum", None)
        if schema == SCHEMA and not {"settings", "code_hash", "data", "seed"} <= record.keys():
            raise KeyError("parts are missing")
        if schema == SCHEMA and checksum not in (None, short_hash(record)):
            raise ValueError("a value has changed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(
            f"{path.name}: damaged record ({type(error).__name__}); delete it and run its cell again"
        ) from None
    if schema != SCHEMA:
        raise RecordError(
            f"{path.name}: record version {schema}, this code reads {SCHEMA}; delete it and run its cell again"
        )
    return record


def read_predictions(path: Path) -> dict[str, np.ndarray]:
    """The arrays beside a record. Raises RecordError for a damaged file."""
    try:
        with np.load(path.with_suffix(".npz"), allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except Exception as error:  # zipfile, zlib and numpy each raise their own kinds here
        raise RecordError(
            f"{path.stem}.npz: damaged predictions ({type(error).__name__}); delete it and run its cell again"
        ) from None


def experiment(settings: dict) -> str:
    """A hash of the settings, the code left out."""
    return short_hash({k: v for k, v in settings.items() if k != "code"})


def code_of(settings: dict, group_code: str) -> str:
    """The code behind a record: that of its group and, in settings["code"], that of files that only it needs."""
    return "+".join([group_code, *([settings["code"]] if "code" in settings else [])])


@functools.cache
def verified(results: Path) -> set[tuple[str, str, str]]:
    """(experiment, code of its records, later code) where `make verify` found the same numbers, bit for bit.

    Raises RecordError for a damaged verified.csv.
    """
    try:
        texts = [path.read_text(encoding="utf-8") for path in sorted(results.glob("*/verified.csv"))]
        rows = [row for text in texts for row in csv.DictReader(text.splitlines(), strict=True)]
        return {(row["experiment"], row["recorded"], row["today"]) for row in rows if row["same"] == "True"}
    except (ValueError, KeyError, csv.Error) as error:
        raise RecordError(f"verified.csv: damaged ({type(error).__name__}); delete it and verify again") from None


def stale(record: dict, settings: dict, content_hash: str | None = None) -> str:
    """Why a record no longer stands for these settings, this code and this data; '' if it does."""
    if experiment(record["settings"]) != (wanted := experiment(settings)):
        return "its settings have changed"
    then, now = code_of(record["settings"], record["code_hash"]), code_of(settings, code_hash(settings["source"]))
    if then != now and (wanted, then, now) not in verified(OUT / "results"):
        return "the code that decides it has changed"
    if content_hash is not None and record["data"]["content_hash"] != content_hash:
        return "its data have changed"
    return ""


def missing_seeds(results: Path, settings: dict, seeds: list[int], content_hash: str | None = None) -> list[int]:
    """The seeds of a cell that have no valid record."""
    name = cell_name(*(settings[k] for k in ("group", "dataset", "method", "option")))
    out = []
    for seed in seeds:
        path = record_path(results, name, seed)
        try:
            if stale(read_record(path), settings, content_hash) or not path.with_suffix(".npz").is_file():
                out.append(seed)
        except RecordError:
            out.append(seed)
    return out


@of_a_profile
def cells(profile: str, group: str | None = None, part: str = "cells") -> list[dict]:
    """All cells of a profile's batch (of one group): {group, dataset, method, option}, in the profile's order.

    part: `cells`, those of Tables 2 and 3, `ablations`, those of Table 4, `tuning`, those on which settings were
    chosen (validation data only), or `primary`, the comparisons that the paper's claim asks for, a family of their own
    in the statistics.
    """
    spec = load_profile(profile)
    if group and group not in spec["groups"]:
        raise RecordError(f"profile {profile}: there is no group {group!r} (known: {', '.join(spec['groups'])})")
    return [
        {"group": g, "dataset": d, "method": m, "option": o}
        for g, table in spec["groups"].items()
        if not group or g == group
        for d, m, o in expand(table.get(part, []))
    ]


@of_a_profile
def seed_count(profile: str, group: str) -> int:
    """How many seeds a cell of this group is trained with: the group's number, or else the profile's."""
    spec = load_profile(profile)
    return spec["groups"][group].get("seeds", spec["seeds"])


def expand(rows: list[dict]):
    """Rows {datasets: [...], methods: [...], options: [...]} -> (dataset, method, option) of each cell."""
    for row in rows:
        for dataset in row["datasets"]:
            for method in row["methods"]:
                for option in row.get("options", [""]):
                    yield dataset, method, option


def check_parameters(namespace: dict, known: list[str]) -> None:
    """Call it first in a notebook, with globals(): papermill only warns of parameters that a notebook does not have.

    Raises RecordError naming a name that is no parameter.
    """
    ours = {"In", "Out", "exit", "quit", "open", "get_ipython", "records"}
    unknown = [
        n
        for n, v in namespace.items()
        if not n.startswith("_")
        and n not in ours
        and n not in known
        and isinstance(v, (str, int, float, bool, list, dict, type(None)))
    ]
    if unknown:
        raise RecordError(f"unknown parameter {unknown[0]!r}; this notebook has: {', '.join(known)}")
