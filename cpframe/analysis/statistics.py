"""A mean over seeds and how far it can be trusted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit

ERROR_RATE = 0.05
"""Of every interval and of every verdict: intervals are at 95 %."""

ENOUGH_SEEDS = 3
"""Fewer paired seeds than this carry no verdict."""


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
