"""The phases of a curve of Fisher information: rise, peak, consolidation and plateau."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cpframe.analysis.metric_curves import MetricCurve
from cpframe.records.model import Floats, Integers

FEWEST = 5
"""The fewest measurements for which phases are determined."""
RISEN = 0.9
"""The rise ends when the curve has covered this fraction of the way from the first value to the peak."""
NOTICEABLE = 0.1
"""A rise or fall by less than this fraction of the peak does not count; a plateau stays within it of the last value."""
MULTIPLE = 3.5
"""A rise or fall by less than this many standard deviations of a difference of two values does not count."""
_SHORTEST = 3
_GAUSSIAN = 0.6745  # the median absolute value of a standard normal variable


@dataclass(frozen=True)
class Phases:
    """The phases of a curve. Epochs are epochs completed, as in the curve.

    Attributes:
        shape: ``peak``: the curve rises and falls. ``rising``: it rises and does not fall again. ``falling``: it only
            falls. ``none``: it does neither.
        rise_epoch: the first epoch at which 90 % of the way from the first value to the peak is covered; nan without
            a rise.
        peak_epoch: the epoch of the largest value.
        peak: the largest value.
        half_epoch: the first epoch at which half of the way from the peak to the last value is covered; nan without a
            fall.
        end: the last value.
        plateau_epoch: the first epoch from which on all values stay near the last value; nan if the curve has no such
            plateau of at least a tenth of its epochs.
        noise: the assumed standard deviation of one value, in the units of the values.
    """

    shape: Literal["peak", "rising", "falling", "none"]
    rise_epoch: float
    peak_epoch: int
    peak: float
    half_epoch: float
    end: float
    plateau_epoch: float
    noise: float

    @property
    def level(self) -> bool:
        """Whether the curve neither rises nor falls, nor dips in between."""
        return self.shape == "none" and not math.isnan(self.plateau_epoch)


def phases_of(curve: MetricCurve) -> Phases | None:
    """Find the phases of the mean over seeds of the total over layers; see `phases` and `noise_of`."""
    return phases(curve.epoch, curve.total, noise_of(curve)) if curve.epoch.size >= FEWEST else None


def phases(epoch: Integers, values: Floats, noise: float) -> Phases | None:
    """Find the phases of a curve.

    The values are not smoothed, so that neither a coarse nor a short curve loses its peak. A rise (from the first
    value) or a fall (to the last) counts if it exceeds a tenth of the peak and 3.5 times the noise of a difference of
    two values (sqrt(2) times the noise of one). In simulations of 1000 level curves each of 6, 9, 13, 20 and 60
    measurements, 1 to 3 % show a rise or a fall with three or five seeds, 3 to 5 % with two, 4 to 7 % with one. Curves
    that rise tenfold and fall again, with noise of 1 to 30 % on each value, are recognised as a peak in over 80 % of
    cases with two seeds or more, and with one seed in over 90 % with 13 measurements or more.

    The plateau begins at the first measurement from which on all values differ from the last one by no more than a
    tenth of it, or by no more than 3.5 times the noise of a difference; but not before the end of the rise. It counts
    if it has three measurements and a tenth of the epochs of the curve. The paper describes the phases but gives no
    rule; this one is our own.

    Args:
        epoch: the epochs, increasing, shape (M,).
        values: the finite, non-negative values, shape (M,).
        noise: the standard deviation of one value, at least 0.

    Returns:
        The phases; None for fewer than five measurements.
    """
    if values.size < FEWEST:
        return None
    top = int(values.argmax())
    start, peak, end = float(values[0]), float(values[top]), float(values[-1])
    significant = MULTIPLE * math.sqrt(2) * noise
    least = max(NOTICEABLE * peak, significant)
    rises, falls = peak - start > least, peak - end > least
    risen = int((values >= start + RISEN * (peak - start)).argmax()) if rises else 0
    fallen = top + int((values[top:] <= (peak + end) / 2).argmax())
    away = np.flatnonzero(np.abs(values - end) > max(NOTICEABLE * end, significant))
    first = max(risen, int(away[-1]) + 1 if away.size else 0)
    flat = values.size - first >= _SHORTEST and epoch[-1] - epoch[first] >= 0.1 * (epoch[-1] - epoch[0])
    return Phases(
        shape="peak" if rises and falls else "rising" if rises else "falling" if falls else "none",
        rise_epoch=float(epoch[risen]) if rises else math.nan,
        peak_epoch=int(epoch[top]),
        peak=peak,
        half_epoch=float(epoch[fallen]) if falls else math.nan,
        end=end,
        plateau_epoch=float(epoch[first]) if flat else math.nan,
        noise=noise,
    )


def noise_of(curve: MetricCurve) -> float:
    """Estimate the standard deviation of a value of `MetricCurve.total` about the true mean curve.

    For several seeds it comes from the residuals of the seeds' curves after fitting each by a multiple of the mean
    curve (seeds that differ only by a factor agree on the phases), divided by the root of the number of seeds; but it
    is at least the standard error of the metric itself, with independent layers. For one seed it is that standard
    error, or without one the estimate of `noise_of_steps`.
    """
    mean, by_seed = curve.total, curve.total_by_seed
    measurement_error = 0.0
    if curve.errors is not None and np.isfinite(curve.errors).all():
        by_measurement = (curve.errors.reshape(*by_seed.shape, -1) ** 2).sum(axis=(0, 2)) / curve.n**2
        measurement_error = math.sqrt(float(by_measurement.mean()))
    if curve.n == 1:
        return measurement_error or noise_of_steps(mean)
    power = float(mean @ mean)
    residuals = by_seed - np.outer(by_seed @ mean / power, mean) if power else by_seed
    return max(measurement_error, math.sqrt(float((residuals**2).sum()) / ((curve.n - 1) * (mean.size - 1)) / curve.n))


def noise_of_steps(values: Floats) -> float:
    """Estimate the standard deviation of independent Gaussian noise on a smooth curve from its second differences.

    The standard deviation of a second difference is sqrt(6) times that of the noise, and the median of the absolute
    values is 0.6745 of it. A straight stretch contributes nothing; a kink or an outlier changes three of the
    differences and so hardly the median.

    Args:
        values: the values, shape (M,), at least three.
    """
    return float(np.median(np.abs(np.diff(values, 2)))) / (_GAUSSIAN * math.sqrt(6))
