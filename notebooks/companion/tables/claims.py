"""What the paper claims, what we find, and the verdict: the table and the figure of the README (notebook 90)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.records import profiles
from companion.tables.engine import paper_values
from companion.tables.figures import colour, draw_intervals
from companion.tables.writing import corrected_p, interval, plain, read_table

CELL = ["group", "dataset", "method", "option"]
CLAIMS = {  # what the paper claims: its table, the row that checks it
    "label-aug beats FFN on pets": (3, ("pet", "fine", "label-aug", "")),
    "label-aug on PetFusion beats FFN": (3, ("pet", "fusion", "label-aug", "")),
    "label-aug beats FFN on flowers": (3, ("flower", "fine", "label-aug", "")),
    "label-aug on FlowerFusion beats FFN": (3, ("flower", "fusion", "label-aug", "")),
    "label-aug beats FFN on arXiv": (2, ("arxiv-bert", "fine", "label-aug", "")),
    "label-aug on the arXiv fusion beats FFN": (2, ("arxiv-bert", "fusion", "label-aug", "")),
    "label-aug beats FFN on arXiv, LSTM": (2, ("arxiv-lstm-long", "fine", "label-aug", "")),
    "36 % fewer augmented nodes are worse (pets)": (4, ("pet", "fine", "label-aug", "graph=medium")),
    "63 % fewer augmented nodes are worse (pets)": (4, ("pet", "fine", "label-aug", "graph=small")),
}


def claims(profile: str = "cpu") -> pd.DataFrame:
    """A row for each claim: the columns of its row in results/<profile>/table<n>.csv, `claim`, `table` and the paper's
    difference to FFN (Table 4: to the whole graph) in `paper_delta`. n_seeds is 0 where it was not run."""
    rows = []
    for claim, (table, values) in CLAIMS.items():
        cell, frame = dict(zip(CELL, values, strict=True)), read_table(profile, table)
        same = frame[(frame[CELL] == list(values)).all(axis=1)].to_dict("records") if len(frame) else []
        row = same[0] if same else {"n_seeds": 0, "delta": np.nan}
        rows.append(row | cell | {"claim": claim, "table": table} | paper_values(profile, cell, table))
    return pd.DataFrame(rows)


def in_words(found: pd.DataFrame, profile: str = "cpu") -> pd.DataFrame:
    """The claims as people read them: `the paper claims`, `we find`, `verdict`; at the end that of Sec. 4.4."""
    rows = []
    for r in found.itertuples():
        theirs = f"{r.claim}: {r.paper_delta:+.2f} (Table {r.table})"
        ours, verdict = "not run", "not run"
        if r.n_seeds and not np.isnan(r.delta):
            ours = f"{r.mean:.1f} %, {interval(r)}"
            ours += "" if np.isnan(r.joining) else f"; joining alone {interval(r, 'joining')}"
            verdict = plain(r.paper_verdict + corrected_p(r.p_holm))
        rows.append({"the paper claims": theirs, "we find": plain(ours), "verdict": verdict})
    return pd.DataFrame([*rows, right_paths(profile)])


def right_paths(profile: str) -> dict[str, str]:
    """Sec. 4.4 on the photographs that were rated by eye (results/<profile>/path_correctness.csv): of the images whose
    path of Algorithm 2 goes through Tabby-Color, how many show a tabby; and how many answers are right where the
    question of the coat pattern is asked of every image whose breed leaves it open."""
    row = {"the paper claims": "Paths through Tabby-Color are right: more than 90 % (Sec. 4.4)"}
    path = profiles.OUT / "results" / profile / "path_correctness.csv"
    wanted = {
        "group": "pet",
        "dataset": "fusion",
        "method": "label-aug",
        "question": "cat color",
        "verdict": "measured",
    }
    frame = pd.read_csv(path).fillna({"node": ""}) if path.is_file() else pd.DataFrame(columns=[*wanted, "node"])
    rows = frame[(frame[list(wanted)] == list(wanted.values())).all(axis=1)].set_index("node")
    if "Tabby-Color" not in rows.index:
        return row | {"we find": "not run", "verdict": "not run"}
    tabby, whole = rows.loc["Tabby-Color"], rows.loc[""]
    low, high = 100 * tabby["greedy_rate_low"], 100 * tabby["greedy_rate_high"]
    ours = (
        f"{100 * tabby['greedy_rate']:.0f} % [{low:.0f}, {high:.0f}] of only {tabby['greedy_rate_n']:.0f} images a "
        f"seed; asked of all rated images: {100 * whole['rate']:.0f} % (the breed's commonest pattern: "
        f"{100 * whole['majority']:.0f} %)"
    )
    verdict = "reproduced" if low > 90 else "not reproduced" if high < 90 else "too few to judge"
    return row | {"we find": plain(ours), "verdict": verdict}


def draw_claims(found: pd.DataFrame) -> plt.Figure | None:
    """Our differences with their intervals, and the paper's as diamonds. None where nothing was run."""
    rows = found[found["delta"].notna()]
    if rows.empty:
        return None
    shown = {"label": rows["claim"], "value": rows["delta"], "low": rows["delta_ci_low"], "high": rows["delta_ci_high"]}
    drawn = pd.DataFrame(shown | {"paper": rows["paper_delta"], "colour": [colour(m) for m in rows["method"]]})
    counts = rows["paper_verdict"].value_counts()
    message = f"{len(rows)} of the paper's differences: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    return draw_intervals(drawn, "points of accuracy or micro-F1 (95 % intervals)", message)
