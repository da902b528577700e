"""What the tables say, out of their CSV files alone: the short table, a sentence a row, the picture of the gains."""

from __future__ import annotations

from html import unescape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.records import files
from companion.records import store as records
from companion.methods import METHODS
from companion.tables.engine import FINE, interval, number, plain, title

OTHER = {2: "its reference", 3: "the reference FFN", 4: "the same method without the option"}


def short(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of Table 3 that the README shows: the paper's, the question likelihood, the joins and the controls."""
    join, control = ~frame["dataset"].isin(FINE), frame["method"].eq("ffn")
    likewise = frame["method"].isin(["label-aug", "label-aug-question"]) & frame["dataset"].ne("fine-same-compute")
    others = frame["method"].isin(["pseudo-labels", "wordtree", "label-aug-shuffled", "label-aug-untold"]) & join
    kept = control | likewise | others | frame["paper"].notna()
    return frame[kept & frame.groupby("group")["n_seeds"].transform("max").gt(0)]


def read_table(profile: str, table: int) -> pd.DataFrame:
    """results/<profile>/table<n>.csv, or an empty frame where there is none."""
    path = records.OUT / "results" / profile / f"table{table}.csv"
    return pd.read_csv(path).fillna({"option": "", "primary": ""}) if path.is_file() else pd.DataFrame()


def not_in(frame: pd.DataFrame, table: int) -> pd.DataFrame:
    """The rows of the paper's table (results/expected.csv) that the frame has no row for."""
    expected = files.expected(table).dropna(subset=["paper"])
    if table == 1 or frame.empty:  # Table 1 lists the paper's rows itself
        return expected.iloc[: 0 if table == 1 else None]
    shown = set(zip(frame["dataset"], frame["paper_delta" if table == 4 else "paper"].round(2), strict=True))
    return expected[[key not in shown for key in zip(expected["column"], expected["paper"].round(2), strict=True)]]


def sentence(row, table: int) -> str:
    """One row of Table 2, 3 or 4 in words: what was measured, what it means, what the paper has, the verdict."""
    what = f"{title(row)} on {plain(row.dataset)} of {plain(row.group)}"
    paper = "" if pd.isna(row.paper) else f"the paper has {row.paper:.2f}"
    if not pd.isna(row.paper_delta):
        paper += (" and a difference of " if paper else "the paper has a difference of ") + f"{row.paper_delta:+.2f}"
    if not row.n_seeds:
        return "; ".join(filter(None, [f"{what}: {plain(row.verdict)}", paper])) + "."
    clauses = [f"{what}: {row.metric} {row.mean:.2f}{number(row.std, ' ± {:.2f}')} ({row.n_seeds} seeds)"]
    if not pd.isna(row.delta):
        won = getattr(row, "gained", np.nan)  # of several labels a sample none is won or lost
        samples = "" if pd.isna(won) else f", {won:.1f} test samples won and {row.lost:.1f} lost of {row.n_test:.0f}"
        clauses += [
            f"{interval(row)} points against {OTHER[table]}{samples}",
            meaning(row.delta, row.delta_ci_low, row.delta_ci_high, row.p_holm, OTHER[table]),
        ]
    if not pd.isna(getattr(row, "joining", np.nan)):
        side = "may be chance" if row.joining_ci_low <= 0 <= row.joining_ci_high else "its interval excludes zero"
        clauses.append(f"the join alone makes {interval(row, 'joining')}, {side}")
    return "; ".join(filter(None, [*clauses, paper, plain(row.verdict)])) + "."


def meaning(delta: float, low: float, high: float, p_holm: float, other: str) -> str:
    """A difference with its interval and corrected p, in plain words."""
    if low <= 0 <= high:
        return f"so it cannot be told from {other}"
    side = f"{'better' if delta > 0 else 'worse'} than {other}"
    return f"so it is {side}" if p_holm < 0.05 else f"so it is probably {side}, but not for certain among so many rows"


def counts(row) -> str:
    """One row of Table 1 in words."""
    parts = []
    for name, key in (("training samples", "train"), ("test samples", "test"), ("labels", "K")):
        if not pd.isna(here := getattr(row, key)):
            of = getattr(row, f"{key}_release", np.nan)
            part = f"{here:,.0f}" + ("" if pd.isna(of) or of <= here else f" of {of:,.0f}") + f" {name}"
            paper = getattr(row, f"{key}_paper")
            parts.append(part + ("" if pd.isna(paper) else f" (the paper: {paper:,.0f})"))
    return f"{plain(row.dataset)} of {plain(row.group)}: {'; '.join([*parts, plain(row.verdict)])}."


def command(profile: str, row) -> str:
    """What trains one row of Tables 2 to 4 again; a decoding (`decode=...`) is read from the run without an option."""
    option, seeds = row.option.partition("decode=")[0], list(range(records.seed_count(profile, row.group)))
    cell = f"profile: {profile}, group: {row.group}, dataset: {row.dataset}, method: {row.method}"
    option = f', option: "{option}"' if option else ""
    return f"papermill notebooks/20_train_cell.ipynb out.ipynb -y '{{{cell}{option}, seeds: {seeds}}}'"


def sentences(profile: str, table: int, frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Every row of a table, then the paper's rows that it lacks: (numbered sentence, the command behind it or '')."""
    if table == 1:
        said = [
            (counts(r), f"papermill notebooks/10_table1.ipynb out.ipynb -p profile {profile}")
            for r in frame.itertuples()
        ]
    else:
        said = [(sentence(r, table), command(profile, r)) for r in frame.itertuples()]
    for r in not_in(frame, table).itertuples():
        home = next((p for p in ("cpu", "paper") if r.group in records.load_profile(p)["groups"]), None)
        what = METHODS[r.row].title if r.row in METHODS else plain(r.row)
        paper = f"the paper has {'a difference of ' if table == 4 else ''}{r.paper:g}"
        text = f"{what} on {plain(r.column)} of {plain(r.group)}: not run: no cell of this profile; {paper}."
        said.append((text, f"make reproduce PROFILE={home} GROUP={r.group}" if home and home != profile else ""))
    return [(f"**{table}.{i}** {text}", run) for i, (text, run) in enumerate(said, start=1)]


def draw_gains(frame: pd.DataFrame, label: str) -> plt.Figure:
    """Every row's difference with its interval, the paper's as a diamond: what a claim must clear is zero."""
    shown = frame[frame["delta"].notna() | frame["paper_delta"].notna()].iloc[::-1]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.27 * max(len(shown), 1)))
    colours = plt.get_cmap("tab10").colors
    colour = dict(zip(dict.fromkeys([*FINE, "fusion", *frame["dataset"]]), colours, strict=False))
    several = shown["group"].nunique() > 1
    for i, r in enumerate(shown.itertuples()):
        axes.plot([r.delta_ci_low, r.delta_ci_high], [i, i], color=colour[r.dataset], lw=2)
        axes.plot(r.delta, i, "o", color=colour[r.dataset], ms=5)
        axes.plot(r.paper_delta, i, "D", color="black", mfc="none", ms=6)
    axes.axvline(0, color="0.4", lw=1)
    names = [
        f"{r.group}: " * several + f"{unescape(title(r))}, {r.dataset}" + " (not run)" * (not r.n_seeds)
        for r in shown.itertuples()
    ]
    axes.set_yticks(range(len(shown)), names, fontsize=8)
    axes.set_ylim(-0.6, len(shown) - 0.4)
    marks = [
        plt.Line2D([], [], color=colour[d], marker="o", lw=2, ms=5, label=d)
        for d in colour
        if d in set(shown["dataset"])
    ]
    marks.append(plt.Line2D([], [], color="black", marker="D", mfc="none", lw=0, label="the paper"))
    axes.legend(
        handles=marks if shown["paper_delta"].notna().any() else marks[:-1],
        fontsize=8,
        frameon=False,
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    axes.set_xlabel(f"{label} (95 % interval over seeds and test samples)", fontsize=9)
    axes.grid(axis="y", color="0.93")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
