"""What the paper claims, what we find, and the verdict: the table and the figure of the README (notebook 90)."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from companion.tables.engine import paper_values
from companion.tables.figures import colour, draw_intervals
from companion.tables.writing import interval, plain, read_table

CELL = ["group", "dataset", "method", "option"]
CLAIMS = {  # the claim: its table, the row that checks it
    "The label graph alone lifts pets": (3, ("pet", "fine", "label-aug", "")),
    "Joining Dogs vs. Cats lifts pets": (3, ("pet", "fusion", "label-aug", "")),
    "The label graph alone lifts flowers": (3, ("flower", "fine", "label-aug", "")),
    "Joining 17 flowers lifts 102 flowers": (3, ("flower", "fusion", "label-aug", "")),
    "Joining lifts arXiv papers": (2, ("arxiv-bert", "fusion", "label-aug", "")),
    "Fewer augmented nodes are worse": (4, ("pet", "fine", "label-aug", "graph=small")),
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


def in_words(found: pd.DataFrame) -> pd.DataFrame:
    """The claims as people read them: `the paper claims`, `we find`, `verdict`."""
    rows = []
    for r in found.itertuples():
        other = "the whole graph" if r.table == 4 else "FFN"
        theirs = f"{r.claim}: {r.paper_delta:+.2f} points (Table {r.table})"
        ours, verdict = "not run", "not run"
        if r.n_seeds and not np.isnan(r.delta):
            ours = f"{r.mean:.1f} %: {interval(r)} points against {other}"
            verdict = r.paper_verdict
        rows.append({"the paper claims": theirs, "we find": plain(ours), "verdict": verdict})
    return pd.DataFrame(rows)


def draw_claims(found: pd.DataFrame) -> plt.Figure | None:
    """Our differences with their intervals, and the paper's as diamonds. None where nothing was run."""
    rows = found[found["delta"].notna()]
    if rows.empty:
        return None
    shown = {"label": rows["claim"], "value": rows["delta"], "low": rows["delta_ci_low"], "high": rows["delta_ci_high"]}
    drawn = pd.DataFrame(shown | {"paper": rows["paper_delta"], "colour": [colour(m) for m in rows["method"]]})
    counts = rows["paper_verdict"].value_counts()
    message = f"{len(rows)} claims: " + ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    return draw_intervals(drawn, "points of accuracy or micro-F1 (95 % intervals)", message)
