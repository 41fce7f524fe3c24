"""Intervals against scipy's t tests."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from cpframe.analysis.statistics import Estimate, bootstrap_interval, estimate


@pytest.mark.parametrize("n", [2, 3, 5, 30])
@pytest.mark.parametrize("comparisons", [1, 7])
def test_interval_is_that_of_the_t_test(n: int, comparisons: int) -> None:
    values = np.random.default_rng(n).normal(0.02, 0.01, n)
    expected = stats.ttest_1samp(values, 0.0).confidence_interval(1 - 0.05 / comparisons)
    found = estimate(values, comparisons)
    # Both compute the same closed form in double precision: rounding only.
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-10)
    assert found.mean == pytest.approx(values.mean(), rel=1e-12)
    assert found.n == n


def test_interval_of_differences_is_that_of_the_paired_test() -> None:
    rng = np.random.default_rng(0)
    with_deficit, without = rng.normal(0.90, 0.02, 6), rng.normal(0.92, 0.02, 6)
    expected = stats.ttest_rel(without, with_deficit).confidence_interval(0.95)
    found = estimate(without - with_deficit)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-10)


def test_values_that_are_not_finite_are_not_counted() -> None:
    assert estimate([0.1, math.nan, 0.3, math.inf]) == estimate([0.1, 0.3])


@pytest.mark.parametrize("values", [[], [math.nan]])
def test_without_values_there_is_no_mean(values: list[float]) -> None:
    found = estimate(values)
    assert math.isnan(found.mean)
    assert found.n == 0
    assert not found.positive
    assert not found.negative


def test_one_value_has_no_interval_and_no_sign() -> None:
    found = estimate([0.5])
    assert found.mean == 0.5
    assert math.isnan(found.half_width)
    assert not found.positive
    assert not found.negative


@pytest.mark.parametrize(
    ("found", "positive", "negative"),
    [
        (Estimate(0.2, 0.1, 3), True, False),
        (Estimate(0.1, 0.1, 3), False, False),  # an interval that touches 0 does not exclude it
        (Estimate(-0.2, 0.1, 3), False, True),
        (Estimate(0.2, 0.0, 3), True, False),
    ],
)
def test_sign_needs_the_whole_interval(found: Estimate, positive: bool, negative: bool) -> None:
    assert (found.positive, found.negative) == (positive, negative)


def test_comparisons_below_one_are_refused() -> None:
    with pytest.raises(ValueError, match="comparisons must be at least 1, not 0"):
        estimate([0.1, 0.2], comparisons=0)


def test_bootstrap_quantiles_by_all_resamples() -> None:
    # All 5^5 resamples of five values, by brute force, instead of 9,999 drawn ones.
    values = np.array([0.8, 1.0, 1.3, 2.0, 4.0])
    t = []
    for picks in itertools.product(range(5), repeat=5):
        drawn = values[list(picks)]
        spread = drawn.std(ddof=1) / math.sqrt(5) if len(set(picks)) > 1 else 0.0
        distance = drawn.mean() - values.mean()
        t.append(distance / spread if spread else math.copysign(math.inf, distance))
    lower, upper = np.quantile(t, [0.025, 0.975], method="inverted_cdf")
    error = values.std(ddof=1) / math.sqrt(5)
    found = bootstrap_interval(values)
    assert found.mean == pytest.approx(values.mean())
    # Of 9,999 draws the quantiles of 2.5 % are known to about +-0.3 % of the resamples, whose t values there are some
    # 10 % apart.
    assert found.low == pytest.approx(values.mean() - upper * error, rel=0.1, abs=0.1 * error)
    assert found.high == pytest.approx(values.mean() - lower * error, rel=0.1, abs=0.1 * error)
    assert found.high - found.mean > found.mean - found.low  # the long tail is on that side


@pytest.mark.parametrize(("draw", "truth"), [("normal", 0.0), ("exponential", 1.0)])
def test_bootstrap_covers_the_mean_with_five_seeds(draw: str, truth: float) -> None:
    covered = 0
    for seed in range(300):
        found = bootstrap_interval(getattr(np.random.default_rng(seed), draw)(size=5))
        covered += found.low <= truth <= found.high
    # 95 and 92 % are expected; 300 samples know that to 1.5 %. The bias-corrected accelerated interval has 80 %.
    assert covered >= 0.88 * 300


def test_bootstrap_of_few_values_has_no_interval() -> None:
    found = bootstrap_interval([0.1, 0.2, math.nan, 0.3, 0.4])
    assert (found.mean, found.n) == (0.25, 4)
    assert math.isnan(found.low)
    assert not found.positive
    assert not found.negative
    assert math.isnan(bootstrap_interval([]).mean)


def test_bootstrap_repeats_and_knows_signs() -> None:
    values = [0.020, 0.021, 0.019, 0.022, 0.018]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values).positive
    assert bootstrap_interval([-v for v in values]).negative
    wider = bootstrap_interval(values, comparisons=4)
    assert wider.low < bootstrap_interval(values).low
    assert bootstrap_interval([0.5] * 5).low == 0.5


def test_bootstrap_says_where_it_has_no_bounds() -> None:
    # One resample in 1,250 lies alone at each end: a tail of 0.05 % is beyond them.
    found = bootstrap_interval([0.1, 0.2, 0.3, 0.4, 0.5], comparisons=50)
    assert math.isnan(found.low)
    with pytest.raises(ValueError, match="comparisons must be at least 1, not 0"):
        bootstrap_interval([0.1] * 5, comparisons=0)
