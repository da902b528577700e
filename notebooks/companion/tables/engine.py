"""One engine for Tables 2, 3 and 4: rows as functions of the records alone. Nothing is trained here.

Accuracy and F1 differ in one place, `read_scores`: it makes of each record a table of values, seeds x test samples,
whose mean over the samples is the seed's metric. Means, intervals, tests and verdicts are the same for both.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import numpy as np
import pandas as pd

from companion.methods import METHODS, SEVERAL_LABELS
from companion.records import profiles, store
from companion.records.profiles import RecordError, cell_name, load_profile
from companion.tables.statistics import Estimate, crossed, gained_lost, holm, influence, paired
from labelaug_core.graph_file import load_graph

COLUMNS = """
    group dataset method option decode metric role n_seeds mean std ci_low ci_high paper paper_delta
    delta delta_ci_low delta_ci_high p_value p_holm joining joining_ci_low joining_ci_high gained lost
    mean_per_class mean_exact mean_greedy f1_macro f1_samples f1_archive f1_archive_ci_low f1_archive_ci_high
    n_test n_train seeds device verdict paper_verdict
""".split()
NOT_OF_THE_FINE_PART = {"join", "same_compute", "coarse_kind", "coarse_part", "coarse_share", "use_coarse", "wrong"}


@dataclass(frozen=True)
class Scores:
    """A cell's record, and of each seed and test sample a value in points."""

    record: store.Record
    seeds: list[int]  # the planned seeds that are recorded, ascending
    values: np.ndarray  # [S, N]; the mean of a row is the seed's accuracy or micro-F1
    metric: str
    validation: float  # of the score by which models are chosen, the mean over seeds
    decode: str = ""  # exact or greedy, where the record has both
    more: dict = field(default_factory=dict)  # further columns of the row


def table_cells(profile: str, table: int) -> list[dict]:
    """The rows of Table 2 (texts) and 3 (images): the profile's `cells`; of Table 4: the images' `ablations`.

    Each ablation is listed under the method that it changes. A path decoder of Table 4 also gets a row of its other
    decoding, `decode=exact` or `decode=greedy`, on the whole graph and on each smaller one: the same trained models,
    nothing is run.
    """
    groups = load_profile(profile)["groups"]
    text = {g for g, spec in groups.items() if spec.get("of", g) in SEVERAL_LABELS}
    found = profiles.cells(profile, part="ablations" if table == 4 else "cells")
    found = [c for c in found if (c["group"] in text) == (table == 2)]
    if table != 4:
        return found
    rows: dict[tuple, list[dict]] = {}
    for cell in found:
        base = cell | {"option": ""}
        rows.setdefault(tuple(base.values()), [base]).append(cell)
    for family in rows.values():
        method = METHODS[family[0]["method"]]
        if method.head == "path":
            other = f"decode={'exact' if method.decode == 'greedy' else 'greedy'}"
            graphs = ["", *(c["option"] for c in family if c["option"].startswith("graph="))]
            family += [family[0] | {"option": f"{graph},{other}".lstrip(",")} for graph in graphs]
    return [cell for family in rows.values() for cell in family]


def without_the_change(cell: dict) -> dict:
    """The reference of a row of Table 4: the cell without its option; on a smaller graph with the same decoding."""
    option = profiles.without(cell["option"], "graph")
    return cell | {"option": option if option.startswith("decode=") and option != cell["option"] else ""}


def read_scores(profile: str, cell: dict) -> Scores | str:
    """The cell's record as scores, or a text: why there are none.

    cell: {group, dataset, method, option}; the option `decode=...` reads the other decoding of the run without one.
    """
    decode = cell["option"].partition("decode=")[2]
    results, run = profiles.OUT / "results" / profile, cell | {"option": profiles.without(cell["option"], "decode")}
    try:
        settings, name = profiles.cell_settings(profile, **run), cell_name(**run)
        spec = load_profile(profile)
        needs = spec["groups"][cell["group"]].get("needs", spec.get("needs"))
        if not store.paths(results, name)[0].is_file():
            return f"needs {needs}" if needs else "no record"
        record = store.read(results, name)
    except RecordError as error:  # the other rows are shown
        return str(error)
    if why := store.stale(record, settings):
        return f"its record is stale: {why}"
    seeds = [s for s in record.seeds if s < profiles.seed_count(profile, cell)]
    if not seeds:
        return next(iter(record.damaged.values()), "no seed of this profile is recorded")
    rows = np.array([record.seeds.index(s) for s in seeds])
    found = {k: v if k == "y" else v[rows] for k, v in record.predictions.items()}
    scored = several_labels if settings["source"] in SEVERAL_LABELS else one_label
    return scored(record, seeds, found, settings["source"], decode or METHODS[cell["method"]].decode)


def one_label(record: store.Record, seeds: list[int], found: dict, source: str, decode: str) -> Scores | str:
    """Accuracy: a value is 100 where the predicted class is right. found: y [N], exact and maybe greedy [S, N]."""
    right = {way: 100.0 * (found[way] == found["y"]) for way in ("exact", "greedy") if way in found}
    if decode not in right:
        return f"its record has no {decode} decoding"
    values, y = right[decode], found["y"]
    more = {"mean_per_class": np.mean([values[:, y == k].mean() for k in np.unique(y)])}
    more |= {f"mean_{way}": v.mean() for way, v in right.items()}
    validation = np.mean([record.runs[s]["validation"]["val_accuracy"] for s in seeds])
    return Scores(record, seeds, values, "accuracy", validation, decode if len(right) > 1 else "", more)


def several_labels(record: store.Record, seeds: list[int], found: dict, source: str, decode: str) -> Scores:
    """Micro-F1: a value is a sample's influence on it. found: bits, y [N, ceil(K/8)], predicted [S, N, ceil(K/8)]."""
    labels, below, _ = taxonomy(source)
    y, predicted = (np.unpackbits(found[k], axis=-1, count=len(labels)) for k in ("y", "predicted"))
    archive = crossed(f1_values(predicted @ below > 0, y @ below > 0))
    runs = [record.runs[s] for s in seeds]
    more = {k: 100 * np.mean([r["test"][k] for r in runs]) for k in ("f1_macro", "f1_samples")}
    more |= estimate("f1_archive", archive)
    validation = np.mean([r["validation"]["val_f1"] for r in runs])
    return Scores(record, seeds, f1_values(predicted, y), "micro-F1", validation, "", more)


def f1_values(predicted: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Each sample's influence on the seed's micro-F1, in points: predicted [S, N, K], y [N, K] of 0/1 -> [S, N]."""
    predicted, y = predicted.astype(bool), y.astype(bool)
    return 100 * influence(2 * (predicted & y).sum(2), predicted.sum(2) + y.sum(1))


@cache
def taxonomy(source: str) -> tuple[list[str], np.ndarray, list[str]]:
    """Of a group of texts: its categories [K]; which archive each is in, [K, A] of 0/1; its archives [A]."""
    graph = load_graph(source)
    labels, archives = graph.label_nodes(source), graph.label_nodes(f"{source}-archives")
    return labels, np.array([[float(a in graph.ancestors(c)) for a in archives] for c in labels]), archives


def estimate(name: str, found: Estimate) -> dict[str, float]:
    """Three columns of a row: the mean and its 95 % interval."""
    return {name: found.mean, f"{name}_ci_low": found.low, f"{name}_ci_high": found.high}


def shared_values(a: Scores, b: Scores) -> tuple[np.ndarray, np.ndarray] | None:
    """The values of both on the seeds that both have; None where they share none or were tested on other samples."""
    seeds = sorted(set(a.seeds) & set(b.seeds))
    if not seeds or not np.array_equal(a.record.predictions["y"], b.record.predictions["y"]):
        return None
    return tuple(x.values[[x.seeds.index(s) for s in seeds]] for x in (a, b))


class Reader:
    """Reads the cells of one profile, each once."""

    def __init__(self, profile: str):
        self.profile, self.found = profile, {}

    def __call__(self, cell: dict) -> Scores | str:
        """The scores of a cell, or why it has none."""
        key = tuple(sorted(cell.items()))
        if key not in self.found:
            self.found[key] = read_scores(self.profile, cell)
        return self.found[key]

    def best(self, cells: list[dict]) -> dict | None:
        """Of these cells the one that is best on *validation* data; None where none has a record."""
        known = [c for c in cells if isinstance(self(c), Scores)]
        return max(known, key=lambda c: self(c).validation, default=None)

    def alone(self, cell: dict, method: str, option: str = "") -> dict | None:
        """A method on the fine part of a cell's data alone, at the compute that is better on validation data.

        That is a dataset without `join` and with the same settings of the fine part (as few samples, the same labels).
        """
        datasets = load_profile(self.profile)["groups"][cell["group"]]["datasets"]
        fine = {d: {k: v for k, v in (s or {}).items() if k not in NOT_OF_THE_FINE_PART} for d, s in datasets.items()}
        same = [d for d in datasets if fine[d] == fine.get(cell["dataset"]) and not self.joined(cell | {"dataset": d})]
        return self.best([cell | {"dataset": d, "method": method, "option": option} for d in same])

    def joined(self, cell: dict) -> bool:
        """Has the cell's dataset a coarse part?"""
        datasets = load_profile(self.profile)["groups"][cell["group"]]["datasets"]
        return bool((datasets.get(cell["dataset"]) or {}).get("join"))


def results_table(
    profile: str,
    table: int = 3,
    cells: list[dict] | None = None,
    against: Callable[[dict], dict | None] | None = None,
) -> pd.DataFrame:
    """One row a cell (COLUMNS), in points, each compared with its reference on the same seeds and test samples.

    delta is the difference to the reference: in Tables 2 and 3 FFN on the fine data, at the compute that is better on
    validation data; in Table 4 the same method without the option (`without_the_change`); with `against`, the cell that
    it returns.
    joining: what a join adds to the same method on the fine data alone (Pseudo Labels: to FFN).
    p_holm: the profile's `primary` cells, fixed by the paper's claim, are a family of their own; every other row is
    corrected for all comparisons of the table. FFN on the fine data is a control and no claim: it is not corrected.
    A cell without a record says why, one with fewer seeds than planned how many. cells: by default those of the table;
    against: a cell -> its reference.
    """
    cells = table_cells(profile, table) if cells is None else cells
    read = Reader(profile)
    if against is None:
        against = without_the_change if table == 4 else (lambda cell: read.alone(cell, "ffn"))
    primary = [] if table == 4 else profiles.cells(profile, part="primary")
    rows = []
    for cell in cells:
        scores, reference = read(cell), against(cell)
        control = table != 4 and cell["method"] == "ffn" and not read.joined(cell)
        role = "reference" if cell == reference else "control" if control else "primary" if cell in primary else ""
        row = cell | {"role": role, "n_seeds": 0} | paper_values(profile, cell, table)
        if isinstance(scores, str):
            rows.append(row | {"verdict": f"not run: {scores}"})
            continue
        row |= own_columns(scores)
        if role != "reference" and reference is not None and isinstance(other := read(reference), Scores):
            row |= compared(scores, other)
        if table != 4 and read.joined(cell):
            method = "ffn" if cell["method"] == "pseudo-labels" else cell["method"]
            alone = read.alone(cell, method, cell["option"]) or read.alone(cell, method)
            if alone and (both := shared_values(scores, read(alone))):
                row |= estimate("joining", paired(*both))
        rows.append(row)
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS).astype({"verdict": object, "decode": object})
    return judged(frame, [profiles.seed_count(profile, cell) for cell in cells])


def own_columns(scores: Scores) -> dict:
    """What a row says of its own cell."""
    by_seed, found, run = scores.values.mean(1), crossed(scores.values), scores.record.runs[scores.seeds[0]]
    return {
        "decode": scores.decode,
        "metric": scores.metric,
        "n_seeds": len(by_seed),
        "mean": found.mean,
        "std": by_seed.std(ddof=1) if len(by_seed) > 1 else np.nan,
        "ci_low": found.low,
        "ci_high": found.high,
        "n_test": scores.values.shape[1],
        "n_train": run["data"]["n_train"],
        "device": run["device"],
        "seeds": " ".join(f"{v:.2f}" for v in by_seed),
    } | scores.more


def compared(scores: Scores, reference: Scores) -> dict:
    """What a row says of the difference to its reference; {} where the two cannot be paired."""
    both = shared_values(scores, reference)
    if both is None:
        return {}
    found = paired(*both)
    row = estimate("delta", found) | {"p_value": found.p}
    if scores.metric == "accuracy":
        row["gained"], row["lost"] = gained_lost(*both)
    return row


def judged(frame: pd.DataFrame, planned: list[int]) -> pd.DataFrame:
    """The frame with p_holm and the verdicts. planned: the seeds of each row's cell."""
    p, first = frame["p_value"].mask(frame["role"].eq("control")), frame["role"].eq("primary")
    frame["p_holm"] = holm(p)
    frame.loc[first, "p_holm"] = holm(p[first])
    there = frame["n_seeds"] > 0
    short = [f" ({n} of {all_} seeds)" * (n < all_) for n, all_ in zip(frame["n_seeds"], planned, strict=True)]
    verdicts = [verdict(row) + text for (_, row), text in zip(frame.iterrows(), short, strict=True)]
    frame["verdict"] = frame["verdict"].where(~there, verdicts)
    frame["paper_verdict"] = [paper_verdict(r) for _, r in frame.iterrows()]
    return frame.fillna({"decode": ""})


def verdict(row: pd.Series) -> str:
    """`better`, `worse` or `no difference shown`: the difference to the reference, at 5 % after Holm."""
    if row["role"] == "reference":
        return "the reference"
    if np.isnan(row["delta"]):
        return "no reference"
    p = row["p_value"] if row["role"] == "control" else row["p_holm"]
    return "no difference shown" if p >= 0.05 else "better" if row["delta"] > 0 else "worse"


def paper_verdict(row: pd.Series) -> str:
    """The paper's difference against ours; '' where one of the two is missing.

    reproduced: ours is on the paper's side, at 5 % after Holm, and its interval reaches the paper's difference.
    direction only: on the paper's side, but it may be chance or is smaller. not reproduced: on the other side, but it
    may be chance. reversed: on the other side, at 5 % after Holm.
    """
    if np.isnan(row["paper_delta"]) or np.isnan(row["delta"]):
        return ""
    sure = row["p_holm"] < 0.05
    if row["paper_delta"] * row["delta"] <= 0:
        return "reversed" if sure else "not reproduced"
    end = row["delta_ci_high"] if row["paper_delta"] > 0 else -row["delta_ci_low"]
    reaches = end >= abs(row["paper_delta"])
    return "reproduced" if sure and reaches else "direction only"


def paper_key(profile: str, cell: dict, table: int) -> tuple[str, str, str]:
    """Where the paper's number of a cell is in results/expected.csv: (group, row, column).

    The paper's Table 2 has a part for each encoder; its Table 4 is about label-aug (Algorithm 1) alone.
    """
    spec = load_profile(profile)["groups"][cell["group"]]
    group = spec.get("of", cell["group"])
    if table == 2:
        group += f"-{spec['encoder']['name']}"
    if table == 4:
        return group, cell["option"] if cell["method"] == "label-aug" else "", cell["dataset"]
    return group, "" if cell["option"] else cell["method"], cell["dataset"]


def paper_values(profile: str, cell: dict, table: int) -> dict[str, float]:
    """{paper, paper_delta}: the paper's value and its difference, to its FFN (Tables 2, 3) or as printed (Table 4)."""
    value = profiles.expected(table).set_index(["group", "row", "column"])["paper"]
    group, row, column = key = paper_key(profile, cell, table)
    if table == 4:
        return {"paper": np.nan, "paper_delta": value.get(key, np.nan)}
    paper, ffn = value.get(key, np.nan), value.get((group, "ffn", "fine"), np.nan)
    return {"paper": paper, "paper_delta": np.nan if (row, column) == ("ffn", "fine") else paper - ffn}
