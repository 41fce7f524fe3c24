"""A mean over seeds and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.special import stdtrit

from cpframe.records.model import Integers

ERROR_RATE = 0.05
"""Of every interval and of every verdict: intervals are at 95 %."""

ENOUGH_SEEDS = 3
"""Fewer paired seeds than this carry no verdict."""

ENOUGH_TO_RESAMPLE = 5
"""Fewer values than this have no bootstrap interval: too many resamples are of one value alone."""

RESAMPLES = 9999


@dataclass(frozen=True)
class Estimate:
    """A mean with its two-sided interval.

    Attributes:
        mean: of the values; nan without any.
        half_width: of the interval around the mean, in the same units; nan for fewer than two values.
        n: the number of values.
    """

    mean: float
    half_width: float
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width

    @property
    def positive(self) -> bool:
        """Whether the whole interval lies above 0; False without an interval."""
        return self.low > 0

    @property
    def negative(self) -> bool:
        """Whether the whole interval lies below 0; False without an interval."""
        return self.high < 0


def estimate(values: Iterable[float], comparisons: int = 1) -> Estimate:
    """Estimate a mean from independent values, one a seed.

    The interval is Student's: mean +- t * s / sqrt(n), with s the sample standard deviation (n - 1) and t the
    quantile of the t distribution with n - 1 degrees of freedom. Of paired differences, it is the interval that
    belongs to the paired t test.

    Args:
        values: finite ones count, others are left out.
        comparisons: how many intervals must hold at once; each is then taken at 1 - 0.05 / comparisons, so that all
            of them together hold at 95 % (Bonferroni).

    Raises:
        ValueError: if `comparisons` is not positive.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons is {comparisons}: it must be at least 1")
    sample = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    n = int(sample.size)
    if n < 2:
        return Estimate(float(sample[0]) if n else math.nan, math.nan, n)
    quantile = float(stdtrit(n - 1, 1 - ERROR_RATE / (2 * comparisons)))
    return Estimate(float(sample.mean()), quantile * float(sample.std(ddof=1)) / math.sqrt(n), n)


@dataclass(frozen=True)
class Interval:
    """A mean with a two-sided interval that need not be symmetric.

    Attributes:
        mean: of the values; nan without any.
        low: lower end; nan where there is none.
        high: upper end; nan where there is none.
        n: the number of values.
    """

    mean: float
    low: float
    high: float
    n: int

    @property
    def positive(self) -> bool:
        """Whether the whole interval lies above 0; False without an interval."""
        return self.low > 0

    @property
    def negative(self) -> bool:
        """Whether the whole interval lies below 0; False without an interval."""
        return self.high < 0


def bootstrap_interval(values: Iterable[float], comparisons: int = 1, seed: int = 0) -> Interval:
    """Estimate a mean as `estimate` does, with an interval that assumes no normal distribution.

    The interval is the percentile-t one (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, 12.5): each of
    9,999 resamples has a t value, (its mean - mean) / its standard error, and the quantiles of these take the place
    of Student's. The usual bias-corrected accelerated interval is not offered, for it is not honest with few seeds: of
    five normal values it covers the mean in 83 % of cases, of five exponential ones in 80 %, where this one covers it
    in 95 and 92 % and Student's in 95 and 88 % (1,500 simulated samples each; at least as wide as Student's, by a
    third for n = 5). A resample of one value alone, one in 625 for n = 5, counts as an infinite t of its sign.

    Args:
        values: finite ones count, others are left out.
        comparisons: as for `estimate`.
        seed: of the resamples.

    Returns:
        The mean; its ends are nan for fewer than five values, and where the resamples do not bound it.

    Raises:
        ValueError: if `comparisons` is not positive.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons is {comparisons}: it must be at least 1")
    sample = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    n = int(sample.size)
    mean = float(sample.mean()) if n else math.nan
    if n < ENOUGH_TO_RESAMPLE:
        return Interval(mean, math.nan, math.nan, n)
    error = float(sample.std(ddof=1)) / math.sqrt(n)
    if error == 0:
        return Interval(mean, mean, mean, n)
    drawn = sample[_resamples(n, seed)]  # (n, RESAMPLES)
    means = drawn.sum(axis=0) / n
    differences, errors = means - mean, np.sqrt(((drawn - means) ** 2).sum(axis=0) / (n - 1) / n)
    alone = (drawn == drawn[0]).all(axis=0)  # their standard error is 0, up to rounding
    t = np.where(alone, np.copysign(np.inf, differences), differences / np.where(alone, 1.0, errors))
    tail = ERROR_RATE / (2 * comparisons)
    lower, upper = np.quantile(t, [tail, 1 - tail], method="inverted_cdf")
    low, high = mean - float(upper) * error, mean - float(lower) * error
    return Interval(mean, low if math.isfinite(low) else math.nan, high if math.isfinite(high) else math.nan, n)


@lru_cache(maxsize=8)
def _resamples(n: int, seed: int) -> Integers:
    """(n, RESAMPLES) which values each resample has; many intervals are of as many seeds."""
    return np.ascontiguousarray(np.random.default_rng(seed).integers(0, n, (RESAMPLES, n)).T)
