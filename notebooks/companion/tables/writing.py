"""How tables and figures are written, and what a table says: Markdown, CSV, a sentence a row. No number is typed."""

from __future__ import annotations

import io
import re

import matplotlib.pyplot as plt
import pandas as pd

from companion.methods import METHODS
from companion.records import profiles
from companion.tables.engine import paper_key
from labelaug_core.files.cache import write_files

OTHER = {2: "the reference FFN", 3: "the reference FFN", 4: "the same method without the option"}
CHANGE = {2: "gain over FFN", 3: "gain over FFN", 4: "change by the option"}  # what delta is, by table


def plain(text: str) -> str:
    """Names from data as text in Markdown and HTML, on one line: what could be markup is escaped."""
    return re.sub(r"([\\`*_{}\[\]<>#|&$~\n\r])", lambda m: f"&#{ord(m[1])};", str(text))


def as_markdown(frame: pd.DataFrame) -> str:
    """A frame as a Markdown table, its cells as they are: escape names from data with `plain` before."""
    rows = [frame.columns, ["---"] * len(frame.columns), *frame.itertuples(index=False)]
    return "".join("| " + " | ".join(map(str, row)) + " |\n" for row in rows)


def folded(summary: str, text: str) -> str:
    """Markdown that is shown when the reader opens it."""
    return f"<details><summary>{plain(summary)}</summary>\n\n{text}\n\n</details>"


def number(value: float, form: str = "{:.2f}") -> str:
    """A number as text, '' for NaN."""
    return "" if pd.isna(value) else form.format(value)


def interval(row, name: str = "delta") -> str:
    """'+0.12 [-0.28, +0.51]' of a row of the engine's tables, or '' where there is none."""
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_ci_low", "_ci_high"))
    return "" if pd.isna(value) else f"{value:+.2f} [{low:+.2f}, {high:+.2f}]"


def title(row) -> str:
    """A row's method as text for Markdown: its name, its decoding where there are two, its option."""
    name = METHODS[row.method].title if row.method in METHODS else row.method
    parts = (name, row.decode, profiles.without(row.option, "decode") if isinstance(row.option, str) else "")
    return plain(" · ".join(v for v in parts if isinstance(v, str) and v))


def corrected_p(p: float) -> str:
    """' (p 0.012)'; nothing where there is none."""
    return number(p, " (p {:.3f})").replace("p 0.000", "p < 0.001")


def said(row) -> str:
    """A row's verdict with its p-value and, where the paper has a number, the verdict on that."""
    p = row.p_value if row.role == "control" else row.p_holm
    role = row.role if row.role in ("control", "primary") and row.n_seeds else ""
    return plain("; ".join(filter(None, [row.verdict + corrected_p(p), role, row.paper_verdict])))


def markdown(frame: pd.DataFrame, table: int = 3) -> str:
    """A table as people read it, at most seven columns; the reference is in italics, primary rows are bold.

    '' for a table without a row.
    """
    rows = list(frame.itertuples())
    if not rows:
        return ""
    marks = {"reference": "*{}*", "primary": "**{}**"}
    metric = "micro-F1 (macro, archives)" if table == 2 else "accuracy"
    more = [f" ({r.f1_macro:.1f}, {r.f1_archive:.1f})" if pd.notna(r.f1_macro) else "" for r in rows]
    shown = {
        "data": [plain(f"{r.group}: {r.dataset}") for r in rows],
        "method": [marks.get(r.role, "{}").format(title(r)) for r in rows],
        metric: [number(r.mean) + number(r.std, " ± {:.2f}") + m for r, m in zip(rows, more, strict=True)],
        f"{CHANGE[table]} [95 %]": [interval(r) for r in rows],
        "joining alone [95 %]": [interval(r, "joining") for r in rows],
        "paper": [number(r.paper) + number(r.paper_delta, " ({:+.2f})") for r in rows],
        "verdict": [said(r) for r in rows],
    }
    if table == 4:  # the paper prints differences alone
        del shown["joining alone [95 %]"]
        shown["paper"] = [number(r.paper_delta, "{:+.2f}") for r in rows]
    return as_markdown(pd.DataFrame(shown))


def sizes(frame: pd.DataFrame) -> str:
    """What a table's rows are measured on, a sentence a group: seeds and test samples."""
    lines = []
    for group, part in frame[frame["n_seeds"] > 0].groupby("group", sort=False):
        seeds = sorted({int(n) for n in part["n_seeds"]})
        tests = sorted({int(n) for n in part["n_test"]})
        lines.append(
            f"{plain(group)}: {' or '.join(map(str, seeds))} seeds, {' or '.join(f'{n:,}' for n in tests)} test samples"
        )
    return "; ".join(lines) + "." if lines else "No cell of this table has a record."


def key_rows(frame: pd.DataFrame, n: int = 10) -> pd.DataFrame:
    """At most n rows of each group for a short table or a figure, by a rule that does not look at results.

    First the profile's primary rows, then those that the paper has, then joins by other methods, then the rest, in the
    order of the table; no controls, no reference, nothing that is not compared.
    """
    shown = frame[frame["delta"].notna() & ~frame["role"].isin(["reference", "control"])]
    rank = 3 - shown["dataset"].str.startswith("fusion").astype(int)
    rank = rank.mask(shown["paper_delta"].notna(), 1).mask(shown["role"].eq("primary"), 0)
    order = shown.assign(rank=rank).sort_values("rank", kind="stable")
    return frame.loc[order.groupby("group").head(n).index.sort_values()]


def short(frame: pd.DataFrame) -> pd.DataFrame:
    """The key rows, and the reference and controls beside them, of the groups that were run."""
    beside = frame["role"].isin(["reference", "control"]) & frame["n_seeds"].gt(0)
    return frame[beside | frame.index.isin(key_rows(frame).index)]


def write_table(frame: pd.DataFrame, profile: str, table: int) -> None:
    """results/<profile>/table<n>.csv (all columns) and .md: both or neither."""
    start, csv = profiles.OUT / "results" / profile / f"table{table}", frame.to_csv(index=False, float_format="%.4f")
    write_files({start.with_suffix(".csv"): csv.encode(), start.with_suffix(".md"): markdown(frame, table).encode()})


def read_table(profile: str, table: int) -> pd.DataFrame:
    """results/<profile>/table<n>.csv, or an empty frame where there is none."""
    path = profiles.OUT / "results" / profile / f"table{table}.csv"
    empty = dict.fromkeys(("option", "role", "decode", "paper_verdict"), "")
    return pd.read_csv(path).fillna(empty) if path.is_file() else pd.DataFrame()


def write_figure(figure: plt.Figure, profile: str, name: str) -> None:
    """figures/<profile>/<name>.png at 200 dpi and .pdf; no dates inside, so equal pictures are equal files."""
    png, pdf, start = io.BytesIO(), io.BytesIO(), profiles.OUT / "figures" / profile
    figure.savefig(png, format="png", dpi=200, bbox_inches="tight", metadata={"Software": None})
    figure.savefig(pdf, format="pdf", bbox_inches="tight", metadata={"CreationDate": None, "Producer": None})
    write_files({start / f"{name}.png": png.getvalue(), start / f"{name}.pdf": pdf.getvalue()})


# -- a sentence a row (notebook 90) ------------------------------------------------------------------------------------


def sentence(row, table: int) -> str:
    """One row of Table 2, 3 or 4 in words: what was measured, what it means, what the paper has."""
    what = f"{title(row)} on {plain(row.dataset)} of {plain(row.group)}"
    paper = "" if pd.isna(row.paper) else f"the paper has {row.paper:.2f}"
    if not pd.isna(row.paper_delta):
        paper += (" and a difference of " if paper else "the paper has a difference of ") + f"{row.paper_delta:+.2f}"
    if not row.n_seeds:
        return "; ".join(filter(None, [f"{what}: {plain(row.verdict)}", paper])) + "."
    clauses = [f"{what}: {row.metric} {row.mean:.2f}{number(row.std, ' ± {:.2f}')} ({row.n_seeds} seeds)"]
    if row.role == "reference":
        clauses.append("it is the reference")
    if not pd.isna(row.delta):
        clauses += [f"{interval(row)} points against {OTHER[table]}", meaning(row, OTHER[table])]
    if not pd.isna(row.joining):
        clauses.append(f"joining changes the same method by {interval(row, 'joining')} points")
    if row.paper_verdict:
        paper += f": {row.paper_verdict}"
    return "; ".join(filter(None, [*clauses, paper])) + "."


def meaning(row, other: str) -> str:
    """A row's difference in plain words."""
    if row.verdict.startswith(("better", "worse")):
        return f"so it is {row.verdict.split(' (')[0]} than {other}"
    if row.delta_ci_low <= 0 <= row.delta_ci_high:
        return f"so no difference from {other} is shown"
    return (
        f"its own interval leaves out zero, but among all comparisons of its family no difference from {other} is shown"
    )


def counts(row) -> str:
    """One row of Table 1 in words."""
    parts = []
    for name, key in (("training samples", "train"), ("test samples", "test"), ("labels", "K")):
        if not pd.isna(here := getattr(row, key)):
            of = getattr(row, f"{key}_release", float("nan"))
            part = f"{here:,.0f}" + ("" if pd.isna(of) or of <= here else f" of {of:,.0f}") + f" {name}"
            paper = getattr(row, f"{key}_paper")
            parts.append(part + ("" if pd.isna(paper) else f" (the paper: {paper:,.0f})"))
    return f"{plain(row.dataset)} of {plain(row.group)}: {'; '.join([*parts, plain(row.verdict)])}."


def command(profile: str, row) -> str:
    """What trains one row of Tables 2 to 4 again; a decoding (`decode=...`) is read from the run without an option."""
    own = {k: getattr(row, k) for k in ("group", "dataset", "method", "option")}
    option, seeds = profiles.without(row.option, "decode"), list(range(profiles.seed_count(profile, own)))
    cell = f"profile: {profile}, group: {row.group}, dataset: {row.dataset}, method: {row.method}"
    option = f', option: "{option}"' if option else ""
    return f"papermill notebooks/20_train_cell.ipynb out.ipynb -y '{{{cell}{option}, seeds: {seeds}}}'"


def missing_rows(profile: str, table: int, frame: pd.DataFrame) -> pd.DataFrame:
    """The paper's numbers (results/expected.csv) without a row in the frame; Table 1 lists the paper's rows itself."""
    expected = profiles.expected(table).dropna(subset=["paper"])
    if table == 1:
        return expected.iloc[: 0 if len(frame) else None]
    shown = {paper_key(profile, row, table) for row in frame.to_dict("records")}
    return expected[
        [key not in shown for key in zip(expected["group"], expected["row"], expected["column"], strict=True)]
    ]


def sentences(profile: str, table: int, frame: pd.DataFrame) -> list[tuple[str, str]]:
    """Every row of a table, then the paper's rows that it lacks: (numbered sentence, the command behind it or '')."""
    if table == 1:
        run = f"papermill notebooks/10_table1.ipynb out.ipynb -p profile {profile}"
        found = [(counts(r), run) for r in frame.itertuples()]
    else:
        found = [(sentence(r, table), command(profile, r)) for r in frame.itertuples()]
    for r in missing_rows(profile, table, frame).itertuples():
        home = next((p for p in ("cpu", "paper") if r.group in profiles.load_profile(p)["groups"]), None)
        what = METHODS[r.row].title if r.row in METHODS else plain(r.row)
        paper = f"the paper has {'a difference of ' if table == 4 else ''}{r.paper:g}"
        text = f"{what} on {plain(r.column)} of {plain(r.group)}: not run: no cell of this profile; {paper}."
        found.append((text, f"make reproduce PROFILE={home} GROUP={r.group}" if home and home != profile else ""))
    return [(f"**{table}.{i}** {text}", run) for i, (text, run) in enumerate(found, start=1)]
