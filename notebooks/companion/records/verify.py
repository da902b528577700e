"""Is a run that was trained again the recorded one: the same bits, the same within noise, or different?

python -m companion.records.verify PROFILE FOLDER    # FOLDER: where the cells were trained again
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from companion.records import profiles, store
from companion.records.store import Record
from companion.tables.statistics import holm

BITS, NOISE, DIFFERENT, NOTHING = "the same bits", "the same within noise", "different", "nothing to compare with"


def mistakes(record: Record, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Of every test sample its prediction, and how many of its labels are wrong (one label: 0 or 1)."""
    found = record.of(seed)
    if "predicted" in found:
        return found["predicted"], np.unpackbits(found["predicted"] ^ found["y"], axis=1).sum(1, dtype=int)
    chosen = found["greedy" if record.runs[seed]["decode"] == "greedy" else "exact"]
    return chosen, (chosen != found["y"]).astype(int)


def compare(old: Record, new: Record, seed: int) -> dict:
    """One seed of a cell, as recorded and as trained again. -> a row of `verify`, its verdict open unless all is equal.

    changed: test samples with another prediction; better, worse: samples with fewer, with more mistakes than before;
    p: of the exact two-sided binomial test (McNemar's) that better and worse are equally likely.
    """
    a, b = old.of(seed), new.of(seed)
    arrays = a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a)
    said = all(old.runs[seed].get(k) == new.runs[seed].get(k) for k in ("history", "validation", "test"))
    (was, before), (now, after) = mistakes(old, seed), mistakes(new, seed)
    better, worse = int((after < before).sum()), int((after > before).sum())
    return {
        "cell": new.name,
        "verdict": BITS if arrays and said else "",
        "n_test": len(was),
        "changed": int((was != now).reshape(len(was), -1).any(1).sum()),
        "better": better,
        "worse": worse,
        "p": float(binomtest(better, better + worse).pvalue) if better + worse else 1.0,
        "why": "",
    }


def verify(recorded: Path, again: Path, cells: dict[str, dict], profile: str) -> pd.DataFrame:
    """The first seed of these cells, as recorded and as trained again: one row a cell with its verdict.

    The rule: where not all bits are equal, a cell is the same within noise unless its p of `compare` is below 0.05
    after Holm's correction over all such cells, and different if it is. A cell that cannot be compared says why.
    """
    rows = []
    for name, cell in cells.items():
        try:
            old, new = store.read(recorded, name), store.read(again, name)
            why = store.stale(old, profiles.cell_settings(profile, **cell), new.runs[0]["data"]["content_hash"])
            if why or 0 not in old.runs:
                raise profiles.RecordError(f"{name}: {why or old.damaged.get(0, 'no first seed')}")
            rows.append(compare(old, new, 0))
        except (profiles.RecordError, KeyError) as error:
            rows.append({"cell": name, "verdict": NOTHING, "why": str(error)})
    columns = ["cell", "verdict", "n_test", "changed", "better", "worse", "p", "why"]
    frame = pd.DataFrame(rows).reindex(columns=columns)
    open_ = frame["verdict"] == ""
    adjusted = np.array(holm(frame.loc[open_, "p"]))
    frame.loc[open_, "verdict"] = np.where(adjusted < 0.05, DIFFERENT, NOISE)
    return frame


def summary(frame: pd.DataFrame) -> str:
    """What `verify` found, in lines: how many of each verdict, and every cell that is not the same bits."""
    counts = [
        f"{n} {what}" for what in (BITS, NOISE, DIFFERENT, NOTHING) if (n := int((frame["verdict"] == what).sum()))
    ]
    lines = [f"{len(frame)} cells trained again: {', '.join(counts) or 'none'}"]
    for row in frame[~frame["verdict"].isin([BITS, NOTHING])].itertuples():
        lines.append(
            f"  {row.cell}: {row.verdict} ({row.changed:.0f} of {row.n_test:.0f} predictions differ, "
            f"{row.better:.0f} better, {row.worse:.0f} worse, p = {row.p:.3g})"
        )
    lines += [f"  {row.cell}: {row.why}" for row in frame[frame["verdict"] == NOTHING].itertuples()]
    return "\n".join(lines)


def main(profile: str, folder: str) -> int:
    """Print the summary. -> 1 where a cell is different or no cell could be compared, else 0."""
    again = Path(folder)
    names = sorted(p.stem for p in (again / "runs").glob("*.json"))
    cells = {name: cell for name, cell in store.recorded_cells(profile).items() if name in names}
    frame = verify(profiles.OUT / "results" / profile, again, cells, profile)
    print(summary(frame))
    return int((frame["verdict"] == DIFFERENT).any() or not frame["verdict"].isin([BITS, NOISE]).any())


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
