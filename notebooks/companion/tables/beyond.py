"""The five questions beyond the paper (notebooks 41 to 45): their rows, from the records or as committed."""

from __future__ import annotations

from html import unescape

import pandas as pd

from companion.records import profiles
from companion.tables.engine import COLUMNS, results_table
from companion.tables.figures import colour, draw_intervals
from companion.tables.writing import as_markdown, interval, number, plain, said, title, write_figure
from labelaug_core.files.cache import write_files

REFERENCE = {  # what a question compares a row with; elsewhere FFN on as many fine labels
    "estimators": lambda cell: cell | {"method": "label-aug", "option": "decode=exact"},
    "knowledge": lambda c: c | {"method": "label-aug-question", "option": profiles.without(c["option"], "graph")},
}
RIVAL = "flat-marginal"  # the simplest model of the same joined data, with which `flat` compares
FLAT = ["flat", "flat_ci_low", "flat_ci_high", "flat_p_holm"]
TEXTS = ("option", "decode", "role", "verdict", "paper_verdict", "seeds", "device", "metric")


def question(profile: str, name: str) -> tuple[pd.DataFrame, list[str]]:
    """A question's rows, and of each group a sentence that says where they come from.

    Rows are those of companion.tables.engine.results_table, each group a family of its own, with columns more: `name`,
    `data` (texts), `flat...`, the difference to the flat softmax on the same joined data, and `profile`. A group with
    all its records is written to results/<profile>/beyond_<name>.csv. Of any other group the rows in that file are
    shown. Before the rows of another profile stand those of real photographs, as committed for the profile `cpu`.
    """
    every, kept = profiles.cells(profile, part="beyond", question=name), committed(profile, name)
    parts, notes = [], []
    for group in dict.fromkeys(cell["group"] for cell in every):
        cells = [cell for cell in every if cell["group"] == group]
        if name == "estimators":  # all are compared by the most probable label
            cells = [c | {"option": "decode=exact"} if c["method"] == "label-aug" else c for c in cells]
        frame = rows_of(profile, name, cells)
        planned = [profiles.seed_count(profile, cell) for cell in cells]
        lacking = int((frame["n_seeds"] < planned).sum())
        if not lacking:
            n = " or ".join(map(str, sorted(set(frame["n_seeds"]))))
            notes.append(f"{group}: {n} seeds, {int(frame['n_test'].max()):,} test images, from the records.")
            parts.append(frame)
        elif len(old := kept[kept["group"] == group]):
            notes.append(f"{group}: the committed table; {lacking} of {len(cells)} cells have no whole record here.")
            parts.append(old)
        else:
            notes.append(f"{group}: not run; {lacking} of {len(cells)} cells have no whole record.")
    found = pd.concat(parts, ignore_index=True) if parts else kept
    if any("from the records" in note for note in notes):
        write_files({table_path(profile, name): found.to_csv(index=False, float_format="%.4f").encode()})
    found = found.assign(profile=profile)
    if profile != "cpu" and len(real := committed("cpu", name)):
        notes = [f"{', '.join(real['group'].unique())}: as committed for the profile cpu.", *notes]
        found = pd.concat([real.assign(profile="cpu"), found], ignore_index=True)
    return found, notes


def committed(profile: str, name: str) -> pd.DataFrame:
    """The rows in results/<profile>/beyond_<name>.csv; none where there is no such file."""
    path = table_path(profile, name)
    if not path.is_file():
        return pd.DataFrame(columns=[*COLUMNS, *FLAT, "data", "name"])
    return pd.read_csv(path).fillna(dict.fromkeys(TEXTS, ""))


def table_path(profile: str, name: str):
    """results/<profile>/beyond_<name>.csv."""
    return profiles.OUT / "results" / profile / f"beyond_{name}.csv"


def rows_of(profile: str, name: str, cells: list[dict]) -> pd.DataFrame:
    """The rows of one group from its records."""
    frame = results_table(profile, cells=cells, against=REFERENCE.get(name))
    if name not in REFERENCE and any(cell["method"] == RIVAL for cell in cells):
        flat = results_table(profile, cells=cells, against=lambda cell: cell | {"method": RIVAL})
        frame[FLAT] = flat[["delta", "delta_ci_low", "delta_ci_high", "p_holm"]]
    frame["data"] = [data_name(profile, cell["group"], cell["dataset"]) for cell in cells]
    shown = [profiles.without(option, "coarse_weight") for option in frame["option"]]  # what all rows have
    frame["name"] = [unescape(title(r)) for r in frame.assign(option=shown).itertuples()]
    return frame.dropna(axis=1, how="all")


def data_name(profile: str, group: str, dataset: str) -> str:
    """What a dataset of a profile holds, in words."""
    said = profiles.load_profile(profile)["groups"][group]["datasets"][dataset] or {}
    asked = said.get("questions", [])
    if not said.get("join"):
        text = f"{100 - 100 * said.get('share', 0):g} % of the fine images"
    elif "share" in said:
        asked = asked if isinstance(asked, str) else ", ".join(asked)
        text = f"{100 * said['share']:g} % of the fine images with {asked} only"
    else:
        text = f"joined: images of known {said.get('coarse_kind', 'coarse label')}"
    text += f", {100 * said['coarse_share']:g} % of them" if "coarse_share" in said else ""
    text += f", {100 * said['wrong']:g} % wrong" if said.get("wrong") else ""
    return text + (", same compute" if said.get("same_compute") else "")


def compared(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that are compared: no reference and no control."""
    return frame[frame["delta"].notna() & ~frame["role"].isin(["reference", "control"])]


def markdown(frame: pd.DataFrame, against: str, first: str = "model") -> str:
    """A question's table as people read it, at most six columns; the reference in italics, controls left out."""
    rows = list(frame[frame["role"] != "control"].itertuples())
    if not rows:
        return ""
    italic = {True: "*{}*", False: "{}"}
    shown = {
        "data": [plain(r.data) for r in rows],
        first: [italic[r.role == "reference"].format(plain(r.name)) for r in rows],
        "accuracy": [number(r.mean, "{:.1f}") + number(r.std, " ± {:.1f}") for r in rows],
        f"difference to {against} [95 %]": [interval(r) for r in rows],
        "difference to the flat softmax [95 %]": [interval(r, "flat") if "flat" in frame else "" for r in rows],
        "verdict": [said(r) for r in rows],
    }
    return as_markdown(pd.DataFrame({k: v for k, v in shown.items() if any(v) and (k != "data" or len(set(v)) > 1)}))


def draw(rows: pd.DataFrame, against: str, message: str, file: str, profile: str) -> None:
    """The differences of at most ten rows, by data, the largest first; a figure of `profile` is written."""
    order = list(dict.fromkeys(rows["data"]))
    rows = rows.sort_values("delta", ascending=False, kind="stable")
    rows = rows.sort_values("data", key=lambda v: v.map(order.index), kind="stable")
    drawn = rows.rename(columns={"name": "label", "delta": "value", "delta_ci_low": "low", "delta_ci_high": "high"})
    drawn = drawn[["label", "value", "low", "high"]].assign(
        colour=[colour(m) for m in rows["method"]], section=rows["data"] if rows["data"].nunique() > 1 else ""
    )
    figure = draw_intervals(drawn, f"points of accuracy against {against} (95 % intervals)", message)
    if set(rows["profile"]) == {profile}:
        write_figure(figure, profile, file)


def gain(row, name: str = "delta") -> str:
    """'+1.2 points [-0.3, +2.7]' of a row."""
    value, low, high = (getattr(row, f"{name}{end}") for end in ("", "_ci_low", "_ci_high"))
    return f"{value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def says(row) -> str:
    """A row in words: its name, its accuracy, its difference, its verdict."""
    return f"**{plain(row.name)}** {row.mean:.1f} % ({gain(row)}; {row.verdict})"


def grid(rows: pd.DataFrame, down: str = "data", across: str = "name") -> str:
    """Differences as a small table, one row a `down` and one column an `across`; bold: shown at 5 % after Holm."""
    bold = {True: "**{}**", False: "{}"}
    cells = {
        (getattr(r, down), getattr(r, across)): bold[r.verdict.startswith(("better", "worse"))].format(
            f"{r.delta:+.1f} [{r.delta_ci_low:+.1f}, {r.delta_ci_high:+.1f}]"
        )
        for r in rows.itertuples()
    }
    columns = dict.fromkeys(rows[across])
    shown = [{"": plain(d)} | {plain(a): cells.get((d, a), "") for a in columns} for d in dict.fromkeys(rows[down])]
    return as_markdown(pd.DataFrame(shown))


def one(rows: pd.DataFrame, **wanted):
    """The only row with these values. Raises KeyError where there is none, or more than one."""
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    if len(rows) != 1:
        raise KeyError(f"{len(rows)} rows have {wanted}, one was asked for")
    return next(rows.itertuples())


def counted(rows: pd.DataFrame) -> str:
    """'2 better, 1 worse, 3 without a shown difference' of compared rows."""
    better, worse = (int(rows["verdict"].str.startswith(v).sum()) for v in ("better", "worse"))
    return f"{better} better, {worse} worse, {len(rows) - better - worse} without a shown difference"
