"""What Table 2 says of each archive of the texts: the gain by joining, and which archives are confused."""

from __future__ import annotations

import numpy as np
import pandas as pd

from companion.tables.engine import Scores, f1_values, taxonomy
from companion.tables.statistics import crossed, paired


def unpacked(scores: Scores, k: int) -> tuple[np.ndarray, np.ndarray]:
    """predicted [S, N, k] and y [N, k] of a record, bool. k: the number of categories."""
    found = scores.record.predictions
    return tuple(np.unpackbits(found[name], axis=-1, count=k).astype(bool) for name in ("predicted", "y"))


def archive_gains(source: str, fine: Scores, fusion: Scores) -> pd.DataFrame:
    """Micro-F1 inside each archive, without and with the joined papers, and the gain with its interval, in points.

    Rows from the largest gain to the smallest. Archives that no test paper has are left out.
    """
    labels, below, archives = taxonomy(source)
    (x, y), (z, _) = (unpacked(s, len(labels)) for s in (fusion, fine))
    seeds = [[s.record.seeds.index(k) for k in fusion.seeds if k in fine.seeds] for s in (fusion, fine)]
    rows = []
    for a, inside in zip(archives, below.T > 0, strict=True):
        if not (papers := int(y[:, inside].any(1).sum())):
            continue
        joined, alone = (f1_values(p[s][..., inside], y[:, inside]) for p, s in zip((x, z), seeds, strict=True))
        gain = paired(joined, alone)
        row = {"archive": a.removeprefix("archive "), "papers": papers, "fine": crossed(alone).mean}
        rows.append(row | {"fusion": crossed(joined).mean, "gain": gain.mean, "low": gain.low, "high": gain.high})
    return pd.DataFrame(rows).sort_values("gain", ascending=False)


def confusion(source: str, scores: Scores) -> pd.DataFrame:
    """Archives that a paper has and the prediction lacks (rows) against those guessed that it has not (columns):
    papers, the mean over seeds."""
    labels, below, archives = taxonomy(source)
    predicted, y = (x @ below > 0 for x in unpacked(scores, len(labels)))
    table = np.mean([(y & ~g).T.astype(float) @ (g & ~y) for g in predicted], axis=0)
    names = [a.removeprefix("archive ") for a in archives]
    return pd.DataFrame(table, names, names)
