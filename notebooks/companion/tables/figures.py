"""The figures of the tables: differences with intervals, and curves. One colour a method, the message as the title."""

from __future__ import annotations

from collections.abc import Iterable
from html import unescape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.methods import METHODS
from companion.tables.writing import interval, key_rows, title

COLOURS = {  # blues and greens: label-aug; warm and grey: everything else
    "ffn": "#555555",
    "pseudo-labels": "#8c564b",
    "label-set": "#ff7f0e",
    "label-set-ignore": "#ffbb78",
    "wordtree": "#bcbd22",
    "flat-marginal": "#e377c2",
    "hex": "#9467bd",
    "hierarchicalsoftmax": "#c5b0d5",
    "hiclass": "#c49c94",
    "label-aug": "#1f77b4",
    "label-aug-expected": "#17becf",
    "label-aug-marginal": "#6baed6",
    "label-aug-question": "#2ca02c",
    "agreement": "#006d2c",
    "label-aug-shuffled": "#d62728",
    "label-aug-untold": "#f7a6a6",
}


def colour(method: str) -> str:
    """The colour of a method, the same in every figure; one of a few more for a method that is not listed."""
    others = [m for m in METHODS if m not in COLOURS]
    shades = plt.get_cmap("Dark2").colors
    return COLOURS.get(method) or shades[others.index(method) % len(shades) if method in others else 0]


def bare(axes: plt.Axes) -> None:
    """No frame at the top and at the right."""
    axes.spines[["top", "right"]].set_visible(False)


def draw_intervals(rows: pd.DataFrame, xlabel: str, message: str) -> plt.Figure:
    """Values with their intervals, one below the other, with a line at zero.

    rows, at most ten (ValueError otherwise), from top to bottom: label, value, low, high, colour; and if wanted
    `section` (a heading where it changes) and `paper` (a diamond).
    """
    if len(rows) > 10:
        raise ValueError(f"draw_intervals: {len(rows)} rows; a figure has at most ten, choose or split them")
    rows = rows.assign(**{c: v for c, v in (("section", ""), ("paper", np.nan)) if c not in rows}).reset_index(
        drop=True
    )
    new = rows["section"].ne(rows["section"].shift(fill_value=""))
    at = -(np.arange(len(rows)) + 0.9 * new.cumsum()).to_numpy(dtype=float)
    figure, axes = plt.subplots(figsize=(7.5, 1.3 + 0.3 * (len(rows) + new.sum())))
    axes.hlines(at, rows["low"], rows["high"], colors=list(rows["colour"]), lw=2.5)
    axes.scatter(rows["value"], at, c=list(rows["colour"]), s=36, zorder=3)
    axes.scatter(rows["paper"], at, marker="D", s=34, facecolors="white", edgecolors="black", zorder=4)
    axes.axvline(0, color="0.4", lw=1)
    axes.set_yticks(at, [unescape(v) for v in rows["label"]], parse_math=False)
    axes.set_ylim(at[-1] - 0.7, 0.4 if not new.any() else -0.2)
    for y, section in zip(at[new], rows["section"][new], strict=True):
        place = dict(xycoords=("axes fraction", "data"), xytext=(-6, 0), textcoords="offset points")
        style = dict(ha="right", va="center", weight="bold", fontsize=9, parse_math=False)
        axes.annotate(unescape(section), (0, y + 0.75), **place, **style)
    if rows["paper"].notna().any():
        axes.scatter([], [], marker="D", s=34, facecolors="white", edgecolors="black", label="the paper")
        axes.legend(
            frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1, 1), borderaxespad=0, handletextpad=0.1
        )
    axes.set_xlabel(xlabel, fontsize=9)
    axes.tick_params(labelsize=9)
    figure.suptitle(message, x=0.02, ha="left", fontsize=10.5, parse_math=False)
    bare(axes)
    figure.tight_layout()
    return figure


def draw_deltas(frame: pd.DataFrame, against: str, by: str = "dataset") -> plt.Figure | None:
    """The differences of a table's key rows, at most ten in all, under headings, the largest first.

    frame: rows of companion.tables.engine.results_table; against: what delta is compared with, as text; by: the
    column whose values are headings. The title is `message_of`. None where no row is compared.
    """
    groups = frame.loc[frame["delta"].notna(), "group"].nunique()
    rows = key_rows(frame, 10 // min(max(groups, 1), 10)).head(10)
    if rows.empty:
        return None
    rows = rows.sort_values("delta", ascending=False, kind="stable")
    rows = rows.sort_values(by, key=lambda v: v.map(list(dict.fromkeys(frame[by])).index), kind="stable")
    drawn = pd.DataFrame(
        {
            "label": [title(r) + f", {r.dataset}" * (by != "dataset") for r in rows.itertuples()],
            "value": rows["delta"],
            "low": rows["delta_ci_low"],
            "high": rows["delta_ci_high"],
            "paper": rows["paper_delta"],
            "section": rows[by].astype(str),
            "colour": [colour(m) for m in rows["method"]],
        }
    )
    metric = {"accuracy": "accuracy", "micro-F1": "micro-F1"}.get(rows["metric"].iloc[0], "the metric")
    xlabel = f"points of {metric} against {against} (95 % intervals)"
    return draw_intervals(drawn, xlabel, message_of(rows, against))


def message_of(rows: pd.DataFrame, against: str) -> str:
    """What compared rows say, as a title: how many differ from what; of one group, its primary rows."""
    better, worse = (int(rows["verdict"].str.startswith(v).sum()) for v in ("better", "worse"))
    found = f"{better} of {len(rows)} rows better than {against}, {worse} worse"
    lines = [found if better + worse else f"none of {len(rows)} rows is shown to differ from {against}"]
    for r in rows[rows["role"].eq("primary") & (rows["group"].nunique() == 1)].itertuples():
        lines.append(f"Primary: {unescape(title(r))}, {r.dataset}: {interval(r)}, {r.verdict}")
    return f"{', '.join(dict.fromkeys(rows['group']))}: " + "\n".join(lines)


def pages(frame: pd.DataFrame, n: int = 10) -> list[pd.DataFrame]:
    """A table's compared rows cut for figures of at most n rows: whole families (dataset, method) where they fit."""
    found: list[pd.DataFrame] = []
    for _, family in frame[frame["delta"].notna()].groupby(["dataset", "method"], sort=False):
        for part in (family.iloc[i : i + n] for i in range(0, len(family), n)):
            if found and len(found[-1]) + len(part) <= n:
                found[-1] = pd.concat([found[-1], part])
            else:
                found.append(part)
    return found


def draw_curves(
    axes: plt.Axes, frame: pd.DataFrame, x: str, y: str = "delta", dashed: str | None = None, names: Iterable = ()
) -> None:
    """One line a method with its 95 % intervals: a number `x` over `delta`, `mean` or `joining`, on axes of one scale.

    The points of one x are drawn beside each other. dashed: a column of truth values; its rows get a line of their own,
    dashed and not in the legend. names: the text of each x, ascending, by default the number.
    """
    ends = ("ci_low", "ci_high") if y == "mean" else (f"{y}_ci_low", f"{y}_ci_high")
    known = frame[frame[y].notna()]
    places = {v: i for i, v in enumerate(sorted(known[x].unique()))}
    order = [*COLOURS, *(m for m in METHODS if m not in COLOURS)]
    keys = ["method", *([dashed] if dashed else [])]
    lines = sorted(known.groupby(keys), key=lambda k: (order.index(k[0][0]), k[0][1:]))
    for i, (key, part) in enumerate(lines):
        part = part.sort_values(x)
        at = part[x].map(places) + (0.02 if y == "mean" else 0.04) * (i - (len(lines) - 1) / 2)
        error = [part[y] - part[ends[0]], part[ends[1]] - part[y]]
        twin = key[1:] == (True,)
        style = {"color": colour(key[0]), "ls": "--" if twin else "-", "label": None if twin else METHODS[key[0]].title}
        axes.errorbar(at, part[y], error, marker="o", ms=4, lw=1.5, capsize=2, **style)
    axes.set_xticks(range(len(places)), list(names) or [f"{v:,g}" for v in places])
    if y != "mean":
        axes.axhline(0, color="0.6", lw=1)
    bare(axes)
