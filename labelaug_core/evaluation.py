"""Paired statistics: is one arm of a table better than another, on the same seeds and the same test samples?"""

from __future__ import annotations

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
    means = []
    for _ in range(n):
        seeds = rng.integers(len(delta), size=len(delta))
        samples = rng.integers(delta.shape[1], size=delta.shape[1])
        means.append(delta[seeds].mean(0)[samples].mean())
    tail = (1 - level) / 2
    return float(np.quantile(means, tail)), float(np.quantile(means, 1 - tail))


def sign_flip_p(per_seed: np.ndarray) -> float:
    """Two-sided sign-flip permutation p of paired differences over seeds [seeds], exact where it can be.

    Its smallest value is 2 / 2^seeds: 0.03 at 6 seeds, 0.002 at 10. All differences zero give 1.
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


def compare(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Arm a against arm b: correctness [seeds, samples] (bool) of both on the same seeds and samples, in points.

    gained and lost: test samples a seed, on average, that only a (only b) gets right; mcnemar_p: the median over
    seeds of the exact McNemar p. Raises ValueError when the shapes differ.
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
    }


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction over the comparisons of one table; nan stays nan."""
    p = np.asarray(p_values, dtype=float)
    known = ~np.isnan(p)
    if known.any():
        p[known] = multipletests(p[known], method="holm")[1]
    return p.tolist()
