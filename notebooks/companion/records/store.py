"""Run records: one JSON and one NPZ file for each cell, with all its seeds (light imports: no torch).

`runs/<cell>.json` holds the settings once and what every seed's run says; `runs/<cell>.npz` the predictions, stacked by
seed. Both are written anew after each seed, under a lock of the folder, to temporary names that are then renamed: first
the arrays, then the JSON file with a checksum of each seed's arrays and of itself. So a run that is killed leaves every
recorded seed as it was, or a seed whose arrays are not its own: that one counts as damaged and is run again.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock

from companion.records import profiles
from companion.records.profiles import RecordError, short_hash
from labelaug_core.files.cache import write_files

SCHEMA = 2
AGAIN = "delete it and run its cell again"


@dataclass
class Record:
    """One cell: its settings, what each seed's run says, and the predictions."""

    name: str
    settings: dict
    seeds: list[int] = field(default_factory=list)  # those that are whole, ascending
    runs: dict[int, dict] = field(default_factory=dict)  # of each: history, validation, test, data, device, ...
    predictions: dict[str, np.ndarray] = field(default_factory=dict)  # y [N]; every other array [S, ...] as `seeds`
    damaged: dict[int, str] = field(default_factory=dict)  # seeds left out, and why

    def of(self, seed: int) -> dict[str, np.ndarray]:
        """The predictions of one seed: y [N], exact [N], ..."""
        row = self.seeds.index(seed)
        return {k: v if k == "y" else v[row] for k, v in self.predictions.items()}


def paths(results: Path, name: str) -> tuple[Path, Path]:
    """The two files of a cell: JSON and NPZ."""
    return (start := Path(results) / "runs" / f"{name}.json"), start.with_suffix(".npz")


def checksum(predictions: dict[str, np.ndarray]) -> str:
    """Of the names, kinds, shapes and bytes of one seed's arrays."""
    h = hashlib.sha256()
    for name in sorted(predictions):
        value = np.ascontiguousarray(predictions[name])
        h.update(f"{name} {value.dtype.str} {value.shape} ".encode() + value.tobytes())
    return h.hexdigest()[:16]


def read(results: Path, name: str) -> Record:
    """The record of a cell. A seed whose arrays are not those that its run left is in `damaged`, not in `seeds`.

    Raises RecordError where there is none, or where the JSON file is damaged or of another version.
    """
    path, npz = paths(results, name)
    said = read_json(path)
    record = Record(name, said["settings"])
    runs = {int(seed): run for seed, run in said["runs"].items()}
    try:
        with np.load(npz, allow_pickle=False) as file:
            arrays = {key: file[key] for key in file.files}
        rows = {int(seed): row for row, seed in enumerate(arrays.pop("seeds"))}
        of = {s: {k: v if k == "y" else v[rows[s]] for k, v in arrays.items()} for s in runs if s in rows}
    except Exception as error:  # zipfile, zlib and numpy each raise their own kinds here
        why = f"{npz.name}: damaged predictions ({type(error).__name__}); run its cell again"
        record.damaged = dict.fromkeys(sorted(runs), why)
        return record
    for seed, run in sorted(runs.items()):
        if seed in of and run.pop("arrays") == checksum(of[seed]):
            record.runs[seed] = run
        else:
            record.damaged[seed] = f"{npz.name}: the predictions of seed {seed} are not its own; run its cell again"
    record.seeds = list(record.runs)
    kept = [rows[seed] for seed in record.seeds]
    record.predictions = {k: v if k == "y" else v[kept] for k, v in arrays.items()} if kept else {}
    return record


def read_json(path: Path) -> dict:
    """What the JSON file of a record says. Raises RecordError where it is missing, damaged or of another version."""
    if not path.is_file():
        raise RecordError(f"{path.name}: no record; run its cell")
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        schema, found = said["schema"], said.pop("checksum", None)
        if schema == SCHEMA and found != short_hash(said):
            raise ValueError("a value has changed")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RecordError(f"{path.name}: damaged record ({type(error).__name__}); {AGAIN}") from None
    if schema != SCHEMA:
        raise RecordError(f"{path.name}: record version {schema}, this code reads {SCHEMA}; {AGAIN}")
    return said


def add(results: Path, name: str, settings: dict, seed: int, run: dict, predictions: dict[str, np.ndarray]) -> None:
    """Write one seed into its cell's record: run, of plain types with run["data"]["content_hash"], and its arrays.

    Seeds that are stale or damaged, and those that were tested on other samples, leave the record. Two processes may
    add seeds of one cell at once. Raises OSError naming the file that cannot be written; the record is then as before.
    """
    path, npz = paths(results, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.parent / ".lock"):
        try:
            old = read(results, name)
        except RecordError:
            old = Record(name, settings)
        fits = not stale(old, settings, run["data"]["content_hash"]) and same_form(old.predictions, predictions)
        of = {s: (old.runs[s], old.of(s)) for s in (old.seeds if fits else [])} | {seed: (run, predictions)}
        of = dict(sorted(of.items()))
        arrays = {k: predictions["y"] if k == "y" else np.stack([p[k] for _, p in of.values()]) for k in predictions}
        runs = {str(s): r | {"arrays": checksum(p)} for s, (r, p) in of.items()}
        said = json.loads(json.dumps({"schema": SCHEMA, "name": name, "settings": settings, "runs": runs}))
        text = json.dumps(said | {"checksum": short_hash(said)}, indent=1, sort_keys=True)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, seeds=np.array(list(of)), **arrays)
        write_files({npz: buffer.getvalue(), path: text.encode()})


def same_form(stacked: dict[str, np.ndarray], predictions: dict[str, np.ndarray]) -> bool:
    """Can this seed's arrays be stacked with those that are there: the same names, kinds, shapes and truth?"""
    if not stacked:
        return True
    rows = {k: v if k == "y" else v[0] for k, v in stacked.items()}
    return (
        rows.keys() == predictions.keys()
        and all((v.shape, v.dtype) == (predictions[k].shape, predictions[k].dtype) for k, v in rows.items())
        and np.array_equal(rows["y"], predictions["y"])
    )


def stale(record: Record | dict, settings: dict, content_hash: str | None = None) -> str:
    """Why a record (or a record's settings) is no longer that of these settings and these data; '' if it is."""
    then = record.settings if isinstance(record, Record) else record
    changed = [k for k in {**then, **settings} if short_hash(then.get(k)) != short_hash(settings.get(k))]
    if changed == ["graph"]:
        return "its graph has changed"
    if changed:
        return f"its settings have changed ({', '.join(changed)})"
    runs = record.runs.values() if isinstance(record, Record) else ()
    if content_hash is not None and any(run["data"]["content_hash"] != content_hash for run in runs):
        return "its data have changed"
    return ""


def missing_seeds(
    results: Path, name: str, settings: dict, seeds: list[int], content_hash: str | None = None
) -> list[int]:
    """The seeds of a cell that have no valid record."""
    try:
        record = read(results, name)
    except RecordError:
        return list(seeds)
    found = [] if stale(record, settings, content_hash) else record.seeds
    return [seed for seed in seeds if seed not in found]


def recorded_cells(profile: str, group: str | None = None, n: int = 0) -> dict[str, dict]:
    """The cells of a profile whose first seed has a valid record, by name; n: at most so many, drawn with a fixed
    seed (0: all)."""
    every = {
        profiles.cell_name(**c): c
        for part in ("cells", "ablations", "beyond")
        for c in profiles.cells(profile, group, part)
    }
    folder = profiles.OUT / "results" / profile
    found = [
        name for name, c in every.items() if not missing_seeds(folder, name, profiles.cell_settings(profile, **c), [0])
    ]
    drawn = random.Random(0).sample(found, n) if 0 < n < len(found) else found
    return {name: every[name] for name in found if name in drawn}
