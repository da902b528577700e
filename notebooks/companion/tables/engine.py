"""Tables as functions of the records alone, and how tables and figures are written: nothing is trained here."""

from __future__ import annotations

import io
import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.records import files
from companion.records import store as records
from companion.tables.statistics import compare, hierarchical_bootstrap, holm
from companion.methods import METHODS

COLUMNS = [
    "group",
    "dataset",
    "method",
    "option",
    "metric",
    "n_seeds",
    "mean",
    "std",
    "ci_low",
    "ci_high",
    "paper",
    "paper_delta",
    "delta",
    "delta_ci_low",
    "delta_ci_high",
    "p_value",
    "p_holm",
    "primary",
    "gained",
    "lost",
    "mcnemar_p",
    "mcnemar_seeds",
    "joining",
    "joining_ci_low",
    "joining_ci_high",
    "mean_per_class",
    "n_test",
    "n_train",
    "seeds",
    "device",
    "verdict",
]
FINE = ("fine", "fine-same-compute")
CHANGE = {3: "gain over FFN", 4: "change by the option"}  # what delta is, by table


def table_cells(profile: str, table: int) -> list[dict]:
    """The rows of Table 2 (text) and 3 (images): the profile's `cells`; of Table 4: the images' `ablations`.

    Each ablation stands under the method it departs from. Every path decoder of Table 4 also gets the row of its other
    decoding: both are in its records, nothing is run.
    """
    groups = records.load_profile(profile)["groups"]
    text = {g for g, spec in groups.items() if "multi_label" in records.GROUPS[spec.get("of", g)][1]}
    found = records.cells(profile, part="ablations" if table == 4 else "cells")
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
            family.append(family[0] | {"option": f"decode={'exact' if method.decode == 'greedy' else 'greedy'}"})
    return [cell for family in rows.values() for cell in family]


def valid_records(results: Path, profile: str, cell: dict) -> tuple[list[tuple[dict, dict]], str]:
    """The cell's valid records as (record, predictions), all of one test set; and why there are none, or not all."""
    spec = records.load_profile(profile)
    settings, name = records.cell_settings(profile, **cell), records.cell_name(**cell)
    needs = spec["groups"][cell["group"]].get("needs", spec.get("needs"))
    why, found = f"needs {needs}" if needs else "no record", []
    for seed in range(records.seed_count(profile, cell["group"])):
        path = records.record_path(results, name, seed)
        if path.is_file():
            try:
                record = records.read_record(path)
                if reason := records.stale(record, settings):
                    why = f"record is stale: {reason}"
                else:
                    found.append((record, records.read_predictions(path)))
            except records.RecordError as error:  # the other rows are shown; this cell's seed runs again
                why = str(error)
    return [(r, p) for r, p in found if np.array_equal(p["y"], found[0][1]["y"])], why


def load_cell(results: Path, profile: str, cell: dict) -> dict | str:
    """The cell's valid records -> {seeds, correct [seeds, samples], y [samples], ...}; or a text: why there are none.

    The option `decode=exact` or `decode=greedy` reads the other decoding of the records without an option.
    """
    option, _, decode = cell["option"].partition("decode=")
    found, why = valid_records(results, profile, cell | {"option": option})
    if not found:
        return why
    y = found[0][1]["y"]
    correct = np.stack([p["greedy" if (decode or r["decode"]) == "greedy" else "exact"] == y for r, p in found])
    return {
        "seeds": [r["seed"] for r, _ in found],
        "correct": correct,
        "y": y,
        "validation": np.mean([r["validation"]["val_accuracy"] for r, _ in found]),
        "n_train": found[0][0]["data"]["n_train"],
        "device": found[0][0]["device"],
        "planned": records.seed_count(profile, cell["group"]),
    }


def better_fine(loaded: dict[str, dict | str], group: str, method: str) -> str | None:
    """The name of a method's cell on the fine data alone, at the compute that is better on *validation* data."""
    names = [records.cell_name(group, d, method) for d in FINE]
    names = [n for n in names if isinstance(loaded.get(n), dict)]
    return max(names, default=None, key=lambda n: loaded[n]["validation"])


def paired(a: dict, b: dict | str | None) -> dict:
    """`compare` on the seeds that both cells have; {} where they share none or were tested on different samples."""
    if not isinstance(b, dict) or a is b or not np.array_equal(a["y"], b["y"]):
        return {}
    both = sorted(set(a["seeds"]) & set(b["seeds"]))
    picked = [x["correct"][[x["seeds"].index(s) for s in both]] for x in (a, b)]
    return compare(*picked) if both else {}


def paper_values(group: str, cell: dict, table: int) -> dict[str, float]:
    """{paper, paper_delta}: the paper's value and its difference, to its FFN (Table 3) or as printed (Table 4).

    Table 4 of the paper is about label-aug (Algorithm 1) alone.
    """
    value = files.expected(table).query("group == @group").set_index(["row", "column"])["paper"]
    if table == 4:
        key = (cell["option"], cell["dataset"])
        return {"paper_delta": value.get(key, np.nan) if cell["method"] == "label-aug" else np.nan}
    key = (cell["method"], cell["dataset"])
    paper = np.nan if cell["option"] else value.get(key, np.nan)
    return {
        "paper": paper,
        "paper_delta": np.nan if key == ("ffn", "fine") else paper - value.get(("ffn", "fine"), np.nan),
    }


def results_table(profile: str, table: int = 3, cells: list[dict] | None = None) -> pd.DataFrame:
    """One row a cell, in points of accuracy, paired by seed and test sample with what it is compared with.

    delta: Table 3, against the group's better FFN on the fine data (`better_fine`); Table 4, against the same method
    without the option. joining: what the fusion adds to the same method without it (Pseudo Labels: to FFN).
    p_holm: the profile's `primary` comparisons, fixed by the paper's claim, are a family of their own; every other
    row is corrected for all comparisons of the table. A cell without records says why; one with fewer seeds how many.
    """
    cells = table_cells(profile, table) if cells is None else cells
    results, groups = records.OUT / "results" / profile, records.load_profile(profile)["groups"]
    loaded = {records.cell_name(**c): load_cell(results, profile, c) for c in cells}
    primary = {records.cell_name(**c) for c in records.cells(profile, part="primary")} if table == 3 else set()
    rows, control = [], []
    for cell in cells:
        name, group, method = records.cell_name(**cell), cell["group"], cell["method"]
        found, reference = loaded[name], better_fine(loaded, group, "ffn")
        if table == 4:
            reference = records.cell_name(**cell | {"option": ""})
        control.append(table == 3 and method == "ffn" and cell["dataset"] in FINE)
        row = cell | {"metric": "accuracy", "primary": "primary" if name in primary else ""}
        row |= paper_values(groups[group].get("of", group), cell, table)
        if isinstance(found, str):
            rows.append(row | {"n_seeds": 0, "verdict": f"not run: {found}"})
            continue
        row |= summary(found) | paired(found, loaded.get(reference))
        if table == 3 and cell["dataset"] not in FINE:
            alone = better_fine(loaded, group, "ffn" if method == "pseudo-labels" else method)
            joining = paired(found, loaded.get(alone))
            row |= {f"joining{end}": joining.get(f"delta{end}", np.nan) for end in ("", "_ci_low", "_ci_high")}
        rows.append(row | ({"verdict": "the reference"} if name == reference else {}))
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS).astype({"verdict": object})
    p, first = frame["p_value"].mask(np.array(control, dtype=bool)), frame["primary"].eq("primary")
    frame["p_holm"] = holm(p)  # FFN on the fine data is a control, not a claim
    frame.loc[first, "p_holm"] = holm(p[first])
    for i, cell in enumerate(cells):
        found = loaded[records.cell_name(**cell)]
        if pd.isna(frame.loc[i, "verdict"]):
            frame.loc[i, "verdict"] = (
                "control" if control[i] else verdict(frame.loc[i], ["its reference", "FFN"][table == 3])
            )
        if isinstance(found, dict) and len(found["seeds"]) < found["planned"]:
            frame.loc[i, "verdict"] += f" ({len(found['seeds'])} of {found['planned']} seeds)"
    return frame


def summary(found: dict) -> dict:
    """What a row says of its own cell: mean, spread, interval, mean per class, every seed's value."""
    value = 100 * found["correct"].mean(1)
    low, high = hierarchical_bootstrap(100.0 * found["correct"])
    return {
        "n_seeds": len(value),
        "mean": value.mean(),
        "std": value.std(ddof=1) if len(value) > 1 else np.nan,
        "ci_low": low,
        "ci_high": high,
        "mean_per_class": 100 * np.mean([found["correct"][:, found["y"] == k].mean() for k in np.unique(found["y"])]),
        "n_test": len(found["y"]),
        "n_train": found["n_train"],
        "device": found["device"],
        "seeds": " ".join(f"{v:.2f}" for v in value),
    }


def verdict(row: pd.Series, other: str) -> str:
    """The paper's difference against ours: reproduced, direction only, or not reproduced.

    Reproduced: our interval excludes zero on the paper's side after Holm and holds the paper's difference or more.
    Direction only: our difference has the paper's sign, but may be chance or is smaller. Without a number of the
    paper's: what the interval says.
    """
    if np.isnan(row["delta"]):
        return "no reference"
    clear = row["delta_ci_low"] * row["delta_ci_high"] > 0
    sure = clear and row["p_holm"] < 0.05
    if np.isnan(row["paper_delta"]):
        side = ("above " if row["delta"] > 0 else "below ") + other
        return side if sure else f"{side} by its interval, not after Holm" if clear else "no difference shown"
    if np.sign(row["paper_delta"]) != np.sign(row["delta"]):
        return "not reproduced"
    end = row["delta_ci_high"] if row["paper_delta"] > 0 else row["delta_ci_low"]
    return "reproduced" if sure and abs(end) >= abs(row["paper_delta"]) else "direction only"


def number(value: float, form: str = "{:.2f}") -> str:
    return "" if pd.isna(value) else form.format(value)


def interval(row, name: str = "delta") -> str:
    """'+0.12 [-0.28, +0.51]', or '' where there is none."""
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_ci_low", "_ci_high"))
    return "" if pd.isna(value) else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def title(row) -> str:
    name = METHODS[row.method].title if row.method in METHODS else plain(row.method)
    return name + (f" ({plain(row.option)})" if isinstance(row.option, str) and row.option else "")


def markdown(frame: pd.DataFrame, table: int = 3) -> str:
    """A table as people read it: value ± spread, difference with its interval, p after Holm, the paper's, verdict."""
    rows = list(frame.itertuples())
    shown = {
        "group": frame["group"].map(plain),
        "data": frame["dataset"].map(plain),
        "method": [title(r) for r in rows],
        "accuracy": ["" if pd.isna(r.mean) else f"{r.mean:.2f}" + number(r.std, " ± {:.2f}") for r in rows],
        f"{CHANGE[table]} [95 %]": [interval(r) for r in rows],
        "p (Holm)": [number(r.p_holm, "{:.3f}" + " (primary)" * (r.primary == "primary")) for r in rows],
        "images won, lost": [number(r.gained, "+{:.1f} ") + number(r.lost, "-{:.1f}") for r in rows],
        "joining alone [95 %]": [interval(r, "joining") for r in rows],
        "paper": [number(r.paper) for r in rows],
        "its difference": [number(r.paper_delta, "{:+.2f}") for r in rows],
        "seeds": frame["n_seeds"],
        "verdict": frame["verdict"].map(plain),
    }
    if table == 4:
        del shown["joining alone [95 %]"], shown["paper"]
    return as_markdown(pd.DataFrame(shown))


def as_markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, its cells as they are: escape names from data with `plain` before."""
    rows = [frame.columns, ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "".join("| " + " | ".join(map(str, row)) + " |\n" for row in rows)


def plain(text: str) -> str:
    """Names from data as text in Markdown and HTML, on one line: what could be markup is escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|&$~\n\r])", lambda m: f"&#{ord(m[1])};", str(text))


def write_table(frame: pd.DataFrame, profile: str, table: int, text: str | None = None) -> None:
    """results/<profile>/table<n>.csv and .md (text, by default as `markdown` has it): both or neither."""
    start, csv = records.OUT / "results" / profile / f"table{table}", frame.to_csv(index=False, float_format="%.4f")
    text = markdown(frame, table) if text is None else text
    files.write_files({start.with_suffix(".csv"): csv.encode(), start.with_suffix(".md"): text.encode()})


def write_figure(figure: plt.Figure, profile: str, name: str) -> None:
    """figures/<profile>/<name>.png at 200 dpi and .pdf; no dates inside, so equal pictures are equal files."""
    png, pdf, start = io.BytesIO(), io.BytesIO(), records.OUT / "figures" / profile
    figure.savefig(png, format="png", dpi=200, bbox_inches="tight", metadata={"Software": None})
    figure.savefig(pdf, format="pdf", bbox_inches="tight", metadata={"CreationDate": None, "Producer": None})
    files.write_files({start / f"{name}.png": png.getvalue(), start / f"{name}.pdf": pdf.getvalue()})
