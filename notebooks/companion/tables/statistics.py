"""Paired statistics: is one arm of a table better than another, on the same seeds and the same test samples?"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import permutation_test
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests


def hierarchical_bootstrap(delta: np.ndarray, n: int = 2000, level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Interval of a mean over seeds and test samples, both drawn again. delta [seeds, samples] -> (low, high).

    For one fixed train/test split and several initialisations: seeds are drawn first, then test samples, the same
    samples for every drawn seed, since all seeds are tested on them.
    """
    rng = np.random.default_rng(seed)
    n_seeds, n_samples = delta.shape
    means = []
    for size in np.diff(np.append(np.arange(0, n, 200), n)):  # 200 draws at once: quick, and small at 20,000 samples
        seeds = rng.integers(n_seeds, size=(size, n_seeds))
        samples = rng.integers(n_samples, size=(size, n_samples))
        times = np.stack([(seeds == s).sum(1) for s in range(n_seeds)], axis=1)  # how often each seed was drawn
        means.append(np.take_along_axis(times @ delta / n_seeds, samples, axis=1).mean(1))
    tail = (1 - level) / 2
    low, high = np.quantile(np.concatenate(means), [tail, 1 - tail])
    return float(low), float(high)


def sign_flip_p(per_seed: np.ndarray) -> float:
    """Two-sided sign-flip permutation p of paired differences over seeds [seeds], exact where it can be.

    Its smallest value is `smallest_p(seeds)`: 0.03 at 6 seeds, 0.002 at 10. All differences zero give 1.
    """
    if len(per_seed) < 2 or not np.any(per_seed):
        return 1.0
    test = permutation_test(
        (np.asarray(per_seed),),
        lambda x, axis: np.mean(x, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**14,
        rng=np.random.default_rng(0),
    )
    return float(test.pvalue)


def smallest_p(seeds: int, comparisons: int = 1) -> float:
    """The smallest p that a sign-flip test over so many seeds can give, after Holm over so many comparisons.

    All seeds agree: 2 of the 2^seeds ways to set the signs are as extreme. Holm multiplies the smallest p of a
    table by the number of its comparisons. Where this is above 0.05, no difference, however large, can pass.
    """
    return min(1.0, comparisons * 2.0 / 2**seeds)


def seeds_needed(comparisons: int, level: float = 0.05) -> int:
    """The fewest seeds with which one of so many comparisons can pass Holm at this level."""
    return math.floor(math.log2(2 * comparisons / level)) + 1


def compare(a: np.ndarray, b: np.ndarray) -> dict[str, float | str]:
    """Arm a against arm b: correctness [seeds, samples] (bool) of both on the same seeds and samples, in points.

    gained and lost: test samples a seed, on average, that only a (only b) gets right; mcnemar_p: the median over
    seeds of the exact McNemar p, mcnemar_seeds: every seed's. Raises ValueError when the shapes differ.
    """
    if a.shape != b.shape:
        raise ValueError(f"compare: the arms are not paired, their shapes are {a.shape} and {b.shape}")
    delta = 100.0 * (a.astype(float) - b.astype(float))
    low, high = hierarchical_bootstrap(delta)
    gained, lost = (a & ~b).sum(1), (~a & b).sum(1)
    per_seed = [mcnemar([[0, int(g)], [int(w), 0]], exact=True).pvalue for g, w in zip(gained, lost, strict=True)]
    return {
        "delta": float(delta.mean()),
        "delta_ci_low": low,
        "delta_ci_high": high,
        "p_value": sign_flip_p(delta.mean(1)),
        "gained": float(gained.mean()),
        "lost": float(lost.mean()),
        "mcnemar_p": float(np.median(per_seed)),
        "mcnemar_seeds": " ".join(f"{p:.3f}" for p in per_seed),
    }


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction over the comparisons of one table; nan stays nan."""
    p = np.array(p_values, dtype=float)
    known = ~np.isnan(p)
    if known.any():
        p[known] = multipletests(p[known], method="holm")[1]
    return p.tolist()
