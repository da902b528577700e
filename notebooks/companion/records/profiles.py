"""Profiles (notebooks/profiles/*.yaml): which cells a batch has and the settings of each; the paper's own numbers.

A *cell* is one entry of a table: one method on one dataset of one group of a profile, trained with several seeds. This
module imports no torch, so that a batch can be planned in a moment.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from pathlib import Path

import yaml

from companion.methods import GROUPS
from labelaug_core.graph_file import GRAPHS

ROOT = Path(__file__).parents[3]
OUT = Path(os.environ.get("LABELAUG_OUT") or ROOT)  # holds results/ and figures/; the tests send theirs elsewhere
POWER = r"[+-]?[0-9]+(\.[0-9]*)?[eE][+-]?[0-9]+"  # 1e-3 is a number, which YAML 1.1 takes for a text
PARTS = ("cells", "ablations", "beyond", "tuning", "primary")


class RecordError(ValueError):
    """A record, profile or option cannot be read; the message names it and says what to do."""


def short_hash(value) -> str:
    """Twelve hexadecimal digits that stand for a value of plain types."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


load_yaml = functools.cache(yaml.safe_load)  # by its text: a table reads the same few files for every row


def read_yaml(path: Path):
    """What a YAML file says. Raises RecordError naming the file, and where it can the line, of a damaged one."""
    try:
        return load_yaml(path.read_text(encoding="utf-8"))
    except OSError:
        raise RecordError(f"{path.name}: there is no such file in {path.parent}; restore it") from None
    except Exception as error:  # yaml raises its own kinds, and for odd values KeyError, IndexError, ...
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise RecordError(f"{path.name}{line}: not valid YAML ({type(error).__name__}); restore the file") from None


def expected(table: int):
    """The paper's numbers of one table (results/expected.csv) as a frame. Raises RecordError for a damaged file."""
    import pandas as pd

    try:
        found = pd.read_csv(ROOT / "results" / "expected.csv", dtype={"table": int, "paper": float})
        return found[["table", "group", "row", "column", "metric", "paper"]].query("table == @table")
    except Exception as error:  # pandas raises many kinds
        raise RecordError(f"expected.csv: damaged ({type(error).__name__}: {error}); restore the file") from None


def of_a_profile(function):
    """What a damaged profile makes of function(profile, ...), a KeyError or so, is one RecordError that names it."""

    @functools.wraps(function)
    def called(profile: str, *args, **options):
        try:
            return function(profile, *args, **options)
        except RecordError as error:
            if profile in str(error):
                raise
            raise RecordError(f"profile {profile}: {error}") from None
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise RecordError(f"{profile}.yaml: damaged ({type(error).__name__}: {error}); restore the file") from None

    return called


def load_profile(name: str) -> dict:
    """notebooks/profiles/<name>.yaml. Raises RecordError for an unknown profile, or one that is damaged or unsafe."""
    files = {p.stem: p for p in sorted((ROOT / "notebooks" / "profiles").glob("*.yaml"))}
    base, _, trial = (name, "", "") if name in files else name.partition("-")
    if base not in files:
        raise RecordError(f"there is no profile {name!r} (known: {', '.join(files)})")
    path = files[base]
    spec = read_yaml(path)
    wanted = {"seeds": int, "training": dict, "groups": dict, "reports": dict}
    if not isinstance(spec, dict) or (bad := [k for k, kind in wanted.items() if not isinstance(spec.get(k), kind)]):
        rule = ", ".join(f"{k!r} ({wanted[k].__name__})" for k in (bad if isinstance(spec, dict) else wanted))
        raise RecordError(f"{path.name}: missing, or of another kind: {rule}; restore the file")
    if bad := [g for g, t in spec["groups"].items() if not isinstance(t, dict) or t.get("of", g) not in GROUPS]:
        raise RecordError(f"{path.name}: no such data: group {', '.join(map(repr, bad))} (known: {', '.join(GROUPS)})")
    if trial and trial not in spec.get("trials", {}):
        raise RecordError(f"{path.name} has no trial {trial!r} (known: {', '.join(spec.get('trials', {}))})")
    return tried(spec, base, trial) if trial else spec


def tried(spec: dict, base: str, trial: str) -> dict:
    """A profile as one of its trials runs it: one seed, and the trial's settings of each group in place of its own."""
    small, groups = spec["trials"][trial], {}
    for group, table in spec["groups"].items():
        own = small["groups"].get(group, {})
        changed = {part: table[part] | own.get(part, {}) for part in ("encoder", "data")}
        for part in ("cells", "ablations"):
            changed[part] = [{k: v for k, v in row.items() if k != "seeds"} for row in table.get(part, [])]
        groups[group] = table | changed | {"training": table.get("training", {}) | small["training"], "seeds": 1}
    reports = {n: [f.replace(f"/{base}/", f"/{base}-{trial}/") for f in files] for n, files in spec["reports"].items()}
    training = spec["training"] | small["training"]
    return spec | {
        "gpu": small.get("gpu", spec.get("gpu", 0)),
        "groups": groups,
        "reports": reports,
        "training": training,
    }


def parse_option(option: str) -> dict:
    """'minibatch=sum,r_tf=0.5' -> {'minibatch': 'sum', 'r_tf': 0.5}. Raises RecordError for anything else."""
    pairs = [part.partition("=") for part in option.split(",")] if option else []
    if bad := ["".join(p) for p in pairs if not all(p)]:
        raise RecordError(f"option {', '.join(map(repr, bad))}: write key=value, several with commas")
    try:
        return {key: float(v) if re.fullmatch(POWER, v) else yaml.safe_load(v) for key, _, v in pairs}
    except Exception as error:  # yaml raises many kinds
        raise RecordError(f"option {option!r}: not YAML values ({type(error).__name__})") from None


@of_a_profile
def cell_settings(profile: str, group: str, dataset: str, method: str, option: str = "") -> dict:
    """Everything that decides a cell's numbers, but its seed: the profile's settings, overridden by the option.

    A group `of` another has that one's data and graph, and settings of its own (`source` says whose data they are).
    `finetune` holds the training settings of the second phase where the encoder's last stage is trained.

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
    data = g["data"] | (g["datasets"][dataset] or {})
    for key, value in (g["methods"][method] or {}).items():
        (training if key in training else head)[key] = value
    for key, value in parse_option(option).items():
        if key in head and key in data:
            raise RecordError(f"option {key!r}: a setting of the data and of the head here; set it in the profile")
        (training if key in training else data if key in data else head)[key] = value
    if data.pop("same_compute", False):  # as many images a step as the fusion has
        training["batch"] += training["coarse_batch"]
    source = g.get("of", group)
    graph = read_yaml(GRAPHS / f"{source}.yaml")
    return {
        "group": group,
        "source": source,
        "dataset": dataset,
        "method": method,
        "option": option,
        "encoder": g["encoder"],
        "data": data,
        "training": training,
        "finetune": g.get("finetune", {}),
        "head": head,
        "graph": short_hash({k: graph[k] for k in ("root", "groups", "labels")}),
    }


def cell_name(group: str, dataset: str, method: str, option: str = "") -> str:
    """The cell's file names without their endings. Raises RecordError for what could leave the folder or mean more to
    a shell."""
    parts = [group, dataset, method, *([option] if option else [])]
    if bad := [p for p in parts if not re.fullmatch(r"\w[\w.,+=-]*", p)]:
        rule = "use letters, digits and . , + - = _, first a letter or a digit"
        raise RecordError(f"{', '.join(map(repr, bad))} cannot be part of a file name: {rule}")
    return "__".join(parts)


def without(option: str, part: str) -> str:
    """An option without one of its parts: `graph=small,decode=exact` without decode -> `graph=small`."""
    return ",".join(p for p in option.split(",") if not p.startswith(f"{part}="))


@of_a_profile
def cells(profile: str, group: str | None = None, part: str = "cells", question: str = "") -> list[dict]:
    """All cells of a part of the profile (of one group): {group, dataset, method, option}, in the profile's order.

    part: `cells`, those of Tables 2 and 3; `ablations`, those of Table 4; `beyond`, those of the questions beyond the
    paper (`question`: of that one alone); `tuning`, those on which settings were chosen (validation data only);
    `primary`, the comparisons that the paper's claim asks for, a family of their own in the statistics. Each cell is
    listed once.
    Raises RecordError for an unknown group or part.
    """
    spec = load_profile(profile)
    if group and group not in spec["groups"]:
        raise RecordError(f"profile {profile}: there is no group {group!r} (known: {', '.join(spec['groups'])})")
    if part not in PARTS:
        raise RecordError(f"profile {profile}: there is no part {part!r} (known: {', '.join(PARTS)})")
    found = [
        {"group": g, "dataset": d, "method": m, "option": o}
        for g, table in spec["groups"].items()
        if not group or g == group
        for row in table.get(part, [])
        if not question or row.get("question") == question
        for d in row["datasets"]
        for m in row["methods"]
        for o in row.get("options", [""])
    ]
    return list({tuple(cell.values()): cell for cell in found}.values())


@of_a_profile
def seed_count(profile: str, cell: dict) -> int:
    """How many seeds a cell is trained with: the largest number of its rows, or else the group's, or the profile's."""
    spec = load_profile(profile)
    table, option = spec["groups"][cell["group"]], without(cell["option"], "decode")
    rows = [row for part in ("cells", "ablations") for row in table.get(part, []) if option in row.get("options", [""])]
    rows = [row for row in rows if cell["dataset"] in row["datasets"] and cell["method"] in row["methods"]]
    return max((row["seeds"] for row in rows if "seeds" in row), default=table.get("seeds", spec["seeds"]))


def seed_list(seeds) -> list[int]:
    """Seeds as a reader types them, in order: 0, [0, 1], "0 1", "0,1" or "[0, 1]" -> [0, 1], each once.

    Raises RecordError naming everything that is no whole number from 0 on, and where there is none at all.
    """
    parts = re.sub(r"[\[\](),;]", " ", seeds).split() if isinstance(seeds, str) else seeds
    parts = list(parts) if isinstance(parts, (list, tuple, range)) else [parts]
    bad = [p for p in parts if isinstance(p, bool) or not re.fullmatch(r"[0-9]{1,9}", str(p))]
    if bad or not parts:
        what = ", ".join(map(repr, bad)) or repr(seeds)
        raise RecordError(f"seeds: {what} is no list of whole numbers from 0 on; write 0, [0, 1] or '0 1'")
    return list(dict.fromkeys(int(p) for p in parts))


def check_parameters(namespace: dict, known: list[str]) -> None:
    """Call it first in a notebook, with globals(): papermill only warns of parameters that a notebook does not have.

    Raises RecordError naming every name that is no parameter.
    """
    names, plain = {"In", "Out", "exit", "quit", "open", "get_ipython", *known}, str | int | float | list | dict | None
    if unknown := [n for n, v in namespace.items() if n not in names and n[:1] != "_" and isinstance(v, plain)]:
        named = ", ".join(map(repr, unknown))
        raise RecordError(f"unknown parameter {named}; this notebook has: {', '.join(known)}")
