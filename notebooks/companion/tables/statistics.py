"""Is one arm better than another? One model gives the mean, the interval and the p-value: crossed random effects.

All seeds are tested on the same samples. So a value v[s, i] of seed s on sample i is a mean plus an effect of the seed,
an effect of the sample and a rest, and all three are drawn at random. The interval is for the mean over all seeds and
all samples that could have been drawn, and not for these test samples alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats
from statsmodels.stats.multitest import multipletests


@dataclass(frozen=True)
class Estimate:
    """A mean with its interval and the two-sided p-value of the hypothesis that it is zero."""

    mean: float
    low: float
    high: float
    p: float
    df: float  # degrees of freedom of the t distribution


def crossed(values: np.ndarray) -> Estimate:
    """The mean of values [S, N] (seeds x test samples), its 95 % t interval and t test, seeds and samples both random.

    With the mean squares of the two-way table, MS_s (seeds), MS_i (samples) and MS_e (rest), the variance of the mean
    is (MS_s + MS_i - MS_e) / (S N), and Satterthwaite's formula gives the degrees of freedom. The sum can fall below
    MS_e by chance: then the variance is MS_e / (S N), with (S - 1)(N - 1) degrees of freedom.

    With one seed, S = 1, the spread over seeds is unknown: the interval then holds for this one trained model and says
    nothing of another seed. One sample, N = 1, is the same the other way round.
    Raises ValueError for a table of one value, or with values that are not finite.
    """
    values = np.asarray(values, dtype=float)
    if values.ndim != 2 or values.size < 2 or not np.isfinite(values).all():
        raise ValueError(f"crossed: needs a table [seeds, samples] of two finite values or more, got {values.shape}")
    mean, (s, n) = values.mean(), values.shape
    by_seed, by_sample = values.mean(1) - mean, values.mean(0) - mean
    if min(s, n) == 1:
        df = values.size - 1.0
        variance = values.var(ddof=1) / values.size
    else:
        dfs = np.array([s - 1, n - 1, (s - 1) * (n - 1)], dtype=float)
        rest = values - mean - by_seed[:, None] - by_sample
        squares = np.array([n * (by_seed**2).sum(), s * (by_sample**2).sum(), (rest**2).sum()]) / dfs
        total = squares[0] + squares[1] - squares[2]
        if total > squares[2]:
            df = total**2 / (squares**2 / dfs).sum()
        else:
            total, df = squares[2], dfs[2]
        variance = total / values.size
    error = np.sqrt(variance)
    half = stats.t.ppf(0.975, df) * error
    p = 2 * stats.t.sf(abs(mean) / error, df) if error > 0 else float(mean == 0)
    return Estimate(float(mean), float(mean - half), float(mean + half), float(p), float(df))


def paired(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Arm a less arm b: values [S, N] of both on the same seeds and the same test samples.

    Raises ValueError when the shapes differ.
    """
    if np.shape(a) != np.shape(b):
        raise ValueError(f"paired: the arms are not paired, their shapes are {np.shape(a)} and {np.shape(b)}")
    return crossed(np.asarray(a, dtype=float) - b)


def influence(above: np.ndarray, below: np.ndarray, pooled: bool = False) -> np.ndarray:
    """A ratio of sums over samples as one value a sample: above, below [S, N] -> values [S, N].

    The ratio of a seed is R = sum(above) / sum(below); a sample's value is R + (above - R below) / mean(below), the
    first-order change of R when that sample is counted more. The mean of a seed's values is its R exactly, so `crossed`
    and `paired` do for a ratio what they do for a mean. Micro-F1: above = 2 * labels found, below = guessed + true.
    pooled: one R for all seeds together, for counts so small that a seed may have none.
    Raises ValueError where a sum below is 0: there is no ratio.
    """
    above, below = (np.asarray(x, dtype=float) for x in (above, below))
    axis = None if pooled else 1
    total = below.sum(axis, keepdims=True)
    if (total == 0).any():
        raise ValueError("influence: nothing is counted, a ratio of sums over 0")
    ratio = above.sum(axis, keepdims=True) / total
    return ratio + (above - ratio * below) / below.mean(axis, keepdims=True)


def gained_lost(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Test samples that only a, and that only b gets right, the mean over seeds: values [S, N], 0 where wrong."""
    a, b = np.asarray(a) > 0, np.asarray(b) > 0
    return float((a & ~b).sum(1).mean()), float((b & ~a).sum(1).mean())


def holm(p_values) -> list[float]:
    """Holm's correction of the p-values of one family of comparisons; NaN is no comparison and stays NaN."""
    p = np.array(p_values, dtype=float)
    known = ~np.isnan(p)
    if known.any():
        p[known] = multipletests(p[known], method="holm")[1]
    return p.tolist()
