"""The statistics of the tables: identities by hand, and coverage and error rate on simulated tables like ours."""

import numpy as np
import pytest
from companion.tables.statistics import crossed, gained_lost, holm, influence, paired
from scipy import stats


def test_a_tiny_table_by_hand():
    # means of seeds 1, 3; of samples 1, 2, 3; grand mean 2. MS_s = 3 * 2 / 1 = 6, MS_i = 2 * 2 / 2 = 2; the rest is
    # [[1, 0, -1], [-1, 0, 1]], so MS_e = 4 / 2 = 2. Variance (6 + 2 - 2) / 6 = 1, df = 36 / (36 + 4 / 2 + 4 / 2) = 0.9
    found = crossed(np.array([[1.0, 1.0, 1.0], [1.0, 3.0, 5.0]]))
    assert (found.mean, found.df) == pytest.approx((2, 0.9))
    half = stats.t.ppf(0.975, 0.9)
    assert (found.low, found.high) == pytest.approx((2 - half, 2 + half))
    assert found.p == pytest.approx(2 * stats.t.sf(2, 0.9))


def test_interval_and_p_are_of_one_model():
    rng = np.random.default_rng(0)
    for mean in (0.0, 0.3, 1.0):
        for _ in range(30):
            found = crossed(rng.normal(mean, 3, (4, 50)) + rng.normal(0, 0.3, (4, 1)))
            assert (found.p < 0.05) == (found.low > 0 or found.high < 0)
            assert found.low < found.mean < found.high


def test_degenerate_tables_are_the_classical_one_sample_test():
    rng = np.random.default_rng(1)
    x = rng.normal(0.4, 1, 12)
    classical = stats.ttest_1samp(x, 0)
    low, high = classical.confidence_interval()
    of_seeds_alone = np.tile(x[:, None], (1, 30))  # no effect of the samples, no rest: the test over seeds
    of_samples_alone = np.tile(x, (5, 1))  # all seeds agree: the test over samples
    for table in (x[None], x[:, None], of_seeds_alone, of_samples_alone):
        found = crossed(table)
        assert (found.p, found.low, found.high, found.df) == pytest.approx((classical.pvalue, low, high, 11))
    assert crossed(np.zeros((3, 4))).p == 1 and crossed(np.ones((3, 4))).p == 0
    for bad in (np.ones((1, 1)), np.ones(5), np.array([[1.0, np.nan]])):
        with pytest.raises(ValueError, match="seeds, samples"):
            crossed(bad)


def test_the_variance_never_falls_below_that_of_the_rest():
    values = np.array([[1.0, -1.0, 2.0], [-1.0, 1.0, -2.0]]) + 0.5  # seeds cancel on each sample: MS_i = 0
    found = crossed(values)
    assert found.df == 2 and found.high > found.mean


def simulated(rng, seeds: int, samples: int, spread: float, delta: float) -> np.ndarray:
    """Correctness of two arms, one less the other, in points [S, N]: the true difference is `delta`.

    An answer is right where a sum of normal effects is positive: the sample's difficulty for both arms, for this arm,
    and a rest (so samples are alike across seeds and arms), and an effect of seed and arm of `spread` points.
    """
    sizes, right = np.array([1.2, 0.5, 0.9]), []
    at = stats.norm.ppf(np.array([0.8 + delta / 100, 0.8]))  # the share right, 80 % as in our tables
    slope = 100 * stats.norm.pdf(at)  # points a unit of the sum in standard deviations
    total = np.sqrt((sizes**2).sum())
    both = sizes[0] * rng.standard_normal((1, samples), dtype=np.float32)
    for mean, s in zip(at, slope, strict=True):
        tau = spread / s  # the seed's effect makes the sum wider: the mean moves so that the share right does not
        arm = both + sizes[1] * rng.standard_normal((1, samples), dtype=np.float32)
        arm = arm + total * tau * rng.standard_normal((seeds, 1), dtype=np.float32)
        rest = sizes[2] * rng.standard_normal((seeds, samples), dtype=np.float32)
        right.append(arm + rest > -mean * total * np.sqrt(1 + tau**2))
    return 100.0 * (right[0].astype(np.int8) - right[1])


@pytest.mark.parametrize("delta", [0.0, 2.0])
def test_the_interval_covers_and_a_true_null_is_rejected_as_often_as_promised(delta):
    rng = np.random.default_rng(0)
    for seeds, samples, spread, repeats in ((6, 500, 1.5, 1500), (6, 2000, 0.3, 800), (10, 4000, 0.8, 500)):
        found = [crossed(simulated(rng, seeds, samples, spread, delta)) for _ in range(repeats)]
        covered = np.mean([f.low <= delta <= f.high for f in found])
        assert 0.93 <= covered <= 0.97, (seeds, samples, spread, covered)
        if delta == 0:
            assert 0.03 <= np.mean([f.p < 0.05 for f in found]) <= 0.07


def test_influence_values_have_the_ratio_as_their_mean():
    rng = np.random.default_rng(2)
    true = rng.integers(1, 4, (3, 200))
    guessed = rng.integers(1, 4, (3, 200))
    found = rng.integers(0, np.minimum(true, guessed) + 1)
    f1 = 2 * found.sum(1) / (guessed + true).sum(1)
    values = influence(2 * found, guessed + true)
    assert values.mean(1) == pytest.approx(f1, abs=1e-12)
    pooled = influence(2 * found, guessed + true, pooled=True)
    assert pooled.mean() == pytest.approx(2 * found.sum() / (guessed + true).sum(), abs=1e-12)
    more = np.ones(200)
    more[17] += 1e-6  # one sample counted more: the first-order change is its influence
    moved = 2 * (found @ more) / ((guessed + true) @ more)
    assert (moved - f1) / 1e-6 * 200 == pytest.approx(values[:, 17] - f1, rel=1e-3, abs=1e-5)
    right = rng.random((3, 200)) < 0.8
    assert np.array_equal(influence(right, np.ones((3, 200))), right)  # accuracy is the ratio over 1
    with pytest.raises(ValueError, match="nothing is counted"):
        influence(np.zeros((2, 3)), np.zeros((2, 3)))


def test_the_interval_of_f1_covers():
    rng, inside, truth = np.random.default_rng(3), [], None
    for size in (400_000, *[300] * 600):  # the first: the value in the population
        hard = rng.normal(0, 1, (1, size))
        true = rng.integers(1, 4, (1, size)) + np.zeros((1 if size > 300 else 6, 1), dtype=int)
        p = 1 / (1 + np.exp(-hard - 0.3 + np.zeros(true.shape)))
        found, more = rng.binomial(true, p), rng.binomial(2, 0.3, true.shape)
        values = 100 * influence(2 * found, found + more + true)
        truth = values.mean() if truth is None else truth
        estimate = crossed(values)
        inside.append(estimate.low <= truth <= estimate.high)
    assert 0.93 <= np.mean(inside[1:]) <= 0.97


def test_paired_is_antisymmetric_and_counts_what_is_won_and_lost():
    rng = np.random.default_rng(4)
    a, b = (100.0 * (rng.random((6, 200)) < p) for p in (0.8, 0.7))
    ab, ba = paired(a, b), paired(b, a)
    assert ab.mean == pytest.approx(a.mean() - b.mean()) and (ab.low, ab.p) == pytest.approx((-ba.high, ba.p))
    gained, lost = gained_lost(a, b)
    assert (gained, lost) == gained_lost(b, a)[::-1] and gained - lost == pytest.approx(2 * ab.mean)
    assert paired(a, a).p == 1 and paired(a, a).high == 0
    with pytest.raises(ValueError, match="not paired"):
        paired(a, b[:, :10])


def test_holm_by_hand():
    assert holm([0.01, 0.04, float("nan"), 0.03])[:2] == pytest.approx([0.03, 0.06])
    assert np.isnan(holm([0.5, float("nan")])[1])
