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
"""The error rate of every interval and of every verdict: intervals are 95 % intervals."""

ENOUGH_SEEDS = 3
"""The fewest paired seeds for which a verdict is given."""

ENOUGH_TO_RESAMPLE = 5
"""The fewest values that have a bootstrap interval: with fewer, too many resamples consist of one value alone."""

RESAMPLES = 9999
"""The number of bootstrap resamples."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its two-sided interval.

    Attributes:
        mean: the mean of the values; nan if there are none.
        half_width: half the width of the interval around the mean, in the units of the values; nan for fewer than two
            values.
        n: the number of values.
    """

    mean: float
    half_width: float
    n: int

    @property
    def low(self) -> float:
        """The lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """The upper end of the interval."""
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
    """Estimate a mean from independent values, one per seed.

    The interval is Student's: mean +- t * s / sqrt(n), with s the sample standard deviation (n - 1) and t the
    quantile of the t distribution with n - 1 degrees of freedom. For paired differences it is the interval of the
    paired t test.

    Args:
        values: the values; those that are not finite are left out.
        comparisons: the number of intervals that must hold at once. Each is computed at 1 - 0.05 / comparisons, so
            that all of them hold together at 95 % (Bonferroni).

    Raises:
        ValueError: if `comparisons` is not positive.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons must be at least 1, not {comparisons}")
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
        mean: the mean of the values; nan if there are none.
        low: the lower end; nan if there is no interval.
        high: the upper end; nan if there is no interval.
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
    """Estimate a mean with an interval that does not assume a normal distribution.

    The interval is the percentile-t (bootstrap-t) interval of Efron and Tibshirani (An Introduction to the Bootstrap,
    1993, 12.5): each of 9,999 resamples has a t value, (its mean - mean) / its standard error, and the quantiles of
    these t values replace the quantiles of Student's distribution. The more common bias-corrected accelerated interval
    is not offered because it is too narrow for few seeds: in 1,500 simulated samples it covered the mean of five
    normal values in 83 % of cases and of five exponential values in 80 %; the percentile-t interval covered them in
    95 % and 92 %, Student's interval in 95 % and 88 %. For n = 5 the percentile-t interval is wider than Student's by
    a third. A resample that consists of one value alone (one in 625 for n = 5) counts as an infinite t.

    Args:
        values: the values; those that are not finite are left out.
        comparisons: the number of intervals that must hold at once, as for `estimate`.
        seed: the seed of the resampling.

    Returns:
        The mean and its interval. The ends are nan for fewer than five values, or if the resamples do not bound them.

    Raises:
        ValueError: if `comparisons` is not positive.
    """
    if comparisons < 1:
        raise ValueError(f"comparisons must be at least 1, not {comparisons}")
    sample = np.array([value for value in values if math.isfinite(value)], dtype=np.float64)
    n = int(sample.size)
    mean = float(sample.mean()) if n else math.nan
    if n < ENOUGH_TO_RESAMPLE:
        return Interval(mean, math.nan, math.nan, n)
    error = float(sample.std(ddof=1)) / math.sqrt(n)
    if error == 0:
        return Interval(mean, mean, mean, n)
    resampled = sample[_resamples(n, seed)]  # (n, RESAMPLES)
    means = resampled.sum(axis=0) / n
    differences, errors = means - mean, np.sqrt(((resampled - means) ** 2).sum(axis=0) / (n - 1) / n)
    one_value = (resampled == resampled[0]).all(axis=0)  # the standard error is 0, up to rounding
    t = np.where(one_value, np.copysign(np.inf, differences), differences / np.where(one_value, 1.0, errors))
    tail = ERROR_RATE / (2 * comparisons)
    lower, upper = np.quantile(t, [tail, 1 - tail], method="inverted_cdf")
    low, high = mean - float(upper) * error, mean - float(lower) * error
    return Interval(mean, low if math.isfinite(low) else math.nan, high if math.isfinite(high) else math.nan, n)


@lru_cache(maxsize=8)
def _resamples(n: int, seed: int) -> Integers:
    """Return the (n, RESAMPLES) indices of the resamples; cached, because most intervals have the same n."""
    return np.ascontiguousarray(np.random.default_rng(seed).integers(0, n, (RESAMPLES, n)).T)
