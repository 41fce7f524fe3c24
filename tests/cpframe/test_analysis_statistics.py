"""Intervals against scipy's t tests."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cpframe.analysis.statistics import Estimate, estimate


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
    with pytest.raises(ValueError, match="comparisons is 0"):
        estimate([0.1, 0.2], comparisons=0)
