"""What the paper claims, what we find, and the verdict: the table of the README (notebook 90)."""

from __future__ import annotations

import pandas as pd

from companion.tables.engine import paper_values
from companion.tables.writing import interval, read_table

CELL = ["group", "dataset", "method", "option"]
# the claim; the table; the row that checks it; what it is compared with
CLAIMS = (
    ("The label graph alone lifts pets", 3, ("pet", "fine", "label-aug", ""), "FFN"),
    ("Joining Dogs vs. Cats lifts pets", 3, ("pet", "fusion", "label-aug", ""), "FFN"),
    ("The label graph alone lifts flowers", 3, ("flower", "fine", "label-aug", ""), "FFN"),
    ("Joining 17 flowers lifts 102 flowers", 3, ("flower", "fusion", "label-aug", ""), "FFN"),
    ("Joining lifts papers of arXiv", 2, ("arxiv-bert", "fusion", "label-aug", ""), "FFN"),
    ("Fewer augmented nodes are worse", 4, ("pet", "fine", "label-aug", "graph=small"), "the whole graph"),
)


def claims(profile: str = "cpu") -> pd.DataFrame:
    """A row for each of the paper's claims: what we find, the verdict, out of results/<profile>."""
    rows = []
    for claim, table, values, other in CLAIMS:
        cell, frame = dict(zip(CELL, values, strict=True)), read_table(profile, table)
        same = frame[(frame[CELL] == list(values)).all(axis=1)] if len(frame) else frame
        theirs = f"{paper_values(profile, cell, table)['paper_delta']:+.2f} points (Table {table})"
        rows.append({"the paper claims": f"{claim}: {theirs}"} | found(next(same.itertuples(), None), other))
    return pd.DataFrame(rows)


def found(row, other: str) -> dict[str, str]:
    """The other two columns of a row."""
    if row is None or not row.n_seeds or pd.isna(row.delta):
        return {"we find": "not run", "verdict": "not run"}
    return {
        "we find": f"{row.mean:.1f}, {interval(row)} points against {other} ({row.n_seeds} seeds)",
        "verdict": row.paper_verdict or row.verdict.split(" (")[0],
    }
