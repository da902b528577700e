"""Tables and figures as functions of the records alone: nothing is trained here."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from labelaug_core import records
from labelaug_core.evaluation import compare, hierarchical_bootstrap, holm
from labelaug_core.methods import METHODS

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
    "delta",
    "delta_ci_low",
    "delta_ci_high",
    "p_value",
    "p_holm",
    "gained",
    "lost",
    "mcnemar_p",
    "mean_per_class",
    "n_test",
    "n_train",
    "seeds",
    "device",
    "verdict",
]
FINE = ("fine", "fine-same-compute")


def load_cell(results: Path, profile: str, cell: dict) -> dict | str:
    """The cell's valid records -> {records, correct [seeds, samples], seeds}; or a text: why there are none."""
    settings = records.cell_settings(profile, **cell)
    name, found, why = records.cell_name(**cell), [], "no record"
    for seed in range(records.load_profile(profile)["seeds"]):
        path = records.record_path(results, name, seed)
        if path.is_file():
            record = records.read_record(path)
            if reason := records.stale(record, settings):
                why = f"record is stale: {reason}"
            else:
                found.append((record, records.read_predictions(path)))
    if not found:
        return why
    correct = np.stack([p["greedy" if r["decode"] == "greedy" else "exact"] == p["y"] for r, p in found])
    return {
        "records": [r for r, _ in found],
        "predictions": [p for _, p in found],
        "correct": correct,
        "seeds": [r["seed"] for r, _ in found],
    }


def paper_value(group: str, dataset: str, row: str, table: int) -> float:
    expected = pd.read_csv(records.ROOT / "results" / "expected.csv")
    hit = expected.query("table == @table and group == @group and row == @row and column == @dataset")
    return float(hit["paper"].iloc[0]) if len(hit) else float("nan")


def results_table(profile: str, group: str, cells: list[dict], table: int = 3) -> pd.DataFrame:
    """One row a cell, in points of accuracy; delta against the better FFN on the fine data, paired by seed and sample.

    The reference of a group is the FFN of the higher mean *validation* accuracy among `fine` and
    `fine-same-compute`. Holm runs over the table's comparisons. A cell without records says why.
    """
    results = records.OUT / "results" / profile
    loaded = [load_cell(results, profile, c) for c in cells]
    references = {
        c["dataset"]: x
        for c, x in zip(cells, loaded, strict=True)
        if c["method"] == "ffn" and c["dataset"] in FINE and not c["option"] and not isinstance(x, str)
    }
    reference = max(
        references,
        default=None,
        key=lambda d: np.mean([r["validation"]["val_accuracy"] for r in references[d]["records"]]),
    )
    rows = []
    for cell, found in zip(cells, loaded, strict=True):
        row = cell | {"metric": "accuracy"}
        row["paper"] = paper_value(group, cell["dataset"], cell["method"], table) if not cell["option"] else np.nan
        if isinstance(found, str):
            rows.append(row | {"n_seeds": 0, "verdict": f"not run: {found}"})
            continue
        value = 100 * found["correct"].mean(1)
        low, high = hierarchical_bootstrap(100.0 * found["correct"])
        row |= {
            "n_seeds": len(value),
            "mean": value.mean(),
            "std": value.std(ddof=1) if len(value) > 1 else np.nan,
            "ci_low": low,
            "ci_high": high,
            "n_test": found["correct"].shape[1],
            "n_train": found["records"][0]["data"]["n_train"],
            "device": found["records"][0]["device"],
            "mean_per_class": 100 * np.mean([r["test"]["mean_per_class"] for r in found["records"]]),
            "seeds": " ".join(f"{v:.2f}" for v in value),
        }
        if reference and found is not (base := references[reference]):
            both = sorted(set(found["seeds"]) & set(base["seeds"]))
            pick = lambda x: x["correct"][[x["seeds"].index(s) for s in both]]  # noqa: B023, E731
            row |= compare(pick(found), pick(base))
        rows.append(row)
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS).astype({"verdict": object})
    frame["p_holm"] = holm(
        frame["p_value"].where(frame["method"] != "ffn").tolist()
    )  # FFN rows are controls, not claims
    measured = frame["verdict"].isna()
    frame.loc[measured, "verdict"] = [verdict(r, frame) for _, r in frame[measured].iterrows()]
    frame.loc[frame["dataset"].eq(reference) & frame["method"].eq("ffn") & frame["option"].eq(""), "verdict"] = (
        "the reference"
    )
    return frame


def verdict(row: pd.Series, frame: pd.DataFrame) -> str:
    """The paper's gain over its FFN against ours: reproduced, direction only, or not reproduced.

    Reproduced: our interval excludes zero on the paper's side after Holm and holds the paper's gain or more.
    Direction only: our gain has the paper's sign, but may be chance or is smaller. Without a number of the paper's:
    what the interval says.
    """
    baseline = frame.query("method == 'ffn' and dataset == 'fine' and option == ''")["paper"]
    gain = row["paper"] - (baseline.iloc[0] if len(baseline) else np.nan)
    if row["method"] == "ffn":
        return "control"
    if np.isnan(row["delta"]):
        return "no reference"
    clear = row["delta_ci_low"] * row["delta_ci_high"] > 0
    sure = clear and row["p_holm"] < 0.05
    if np.isnan(gain):
        side = ("above" if row["delta"] > 0 else "below") + " FFN"
        return side if sure else f"{side} by its interval, not after Holm" if clear else "no difference shown"
    if np.sign(gain) != np.sign(row["delta"]):
        return "not reproduced"
    return (
        "reproduced"
        if sure and abs(row["delta_ci_high"] if gain > 0 else row["delta_ci_low"]) >= abs(gain)
        else "direction only"
    )


def markdown(frame: pd.DataFrame) -> str:
    """The table as people read it: value ± spread, gain with its interval, p after Holm, the paper's value, verdict."""

    def number(v, form="{:.2f}"):
        return "" if pd.isna(v) else form.format(v)

    shown = pd.DataFrame(
        {
            "group": frame["group"],
            "data": frame["dataset"],
            "method": [
                METHODS[m].title + (f" ({plain(o)})" if o else "")
                for m, o in zip(frame["method"], frame["option"].fillna(""), strict=True)
            ],
            "accuracy": [
                f"{m:.2f} ± {s:.2f}" if not pd.isna(m) else "" for m, s in zip(frame["mean"], frame["std"], strict=True)
            ],
            "gain over FFN [95 %]": [
                "" if pd.isna(r.delta) else f"{r.delta:+.2f} [{r.delta_ci_low:+.2f}, {r.delta_ci_high:+.2f}]"
                for r in frame.itertuples()
            ],
            "p (Holm)": [number(p, "{:.3f}") for p in frame["p_holm"]],
            "paper": [number(p) for p in frame["paper"]],
            "seeds": frame["n_seeds"],
            "verdict": frame["verdict"],
        }
    )
    return as_markdown(shown)


def as_markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, its cells as they are: escape names from data with `plain` before."""
    rows = [frame.columns, ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "".join("| " + " | ".join(map(str, row)) + " |\n" for row in rows)


def plain(text: str) -> str:
    """Names from data as text in Markdown and HTML: what could be markup is escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|&])", lambda m: f"&#{ord(m[1])};", str(text))


def write_table(frame: pd.DataFrame, profile: str, name: str) -> None:
    """results/<profile>/<name>.csv and .md."""
    folder = records.OUT / "results" / profile
    folder.mkdir(parents=True, exist_ok=True)
    frame.to_csv(folder / f"{name}.csv", index=False, float_format="%.4f")
    (folder / f"{name}.md").write_text(markdown(frame), encoding="utf-8")


def write_figure(figure: plt.Figure, profile: str, name: str) -> None:
    """figures/<profile>/<name>.png at 200 dpi and .pdf; no dates inside, so equal pictures are equal files."""
    folder = records.OUT / "figures" / profile
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", dpi=200, bbox_inches="tight", metadata={"Software": None})
    figure.savefig(folder / f"{name}.pdf", bbox_inches="tight", metadata={"CreationDate": None, "Producer": None})


def draw_gains(frame: pd.DataFrame) -> plt.Figure:
    """Every arm's gain over the reference FFN with its interval: what a claim about joining must clear is zero."""
    shown = frame.dropna(subset=["delta"]).iloc[::-1]
    figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.3 * max(len(shown), 1)))
    colour = {d: c for d, c in zip(dict.fromkeys(frame["dataset"]), plt.get_cmap("tab10").colors, strict=False)}
    for i, r in enumerate(shown.itertuples()):
        axes.plot([r.delta_ci_low, r.delta_ci_high], [i, i], color=colour[r.dataset], lw=2)
        axes.plot(r.delta, i, "o", color=colour[r.dataset])
    axes.axvline(0, color="0.4", lw=1)
    axes.set_yticks(
        range(len(shown)),
        [f"{METHODS[r.method].title}{f' ({r.option})' if r.option else ''}: {r.dataset}" for r in shown.itertuples()],
    )
    axes.set_xlabel("points of accuracy above the reference FFN (95 % interval over seeds and test images)")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
