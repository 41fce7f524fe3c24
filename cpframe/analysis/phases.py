"""The phases of a curve of Fisher information: it rises, peaks, and falls while learning consolidates."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cpframe.records import Floats, Integers

WINDOW = 5
"""Measurements in the running median, and at least this many make a curve."""
RISEN = 0.9
"""The rise is over when this part of the way from the first value to the peak is done."""
NOTICEABLE = 0.1
"""A rise or a fall by less than this part of the peak is none; a plateau stays within this part of its end."""


@dataclass(frozen=True)
class Phases:
    """Rise, peak and consolidation of a curve; epochs are epochs completed, as in the curve.

    Attributes:
        shape: ``peak``: it rises and falls. ``rising``: it rises and does not fall again. ``falling``: it falls from
            its beginning. ``none``: neither.
        rise_epoch: when 90 % of the way from the first value to the peak was done; nan without a rise.
        peak_epoch: when it was largest.
        peak: its largest value.
        half_epoch: when it had fallen halfway from the peak to the end; nan without a fall.
        end: its last value.
        plateau_epoch: from when on it stayed near its end; nan if it never did, for a tenth of the time at least.
    """

    shape: Literal["peak", "rising", "falling", "none"]
    rise_epoch: float
    peak_epoch: int
    peak: float
    half_epoch: float
    end: float
    plateau_epoch: float


def running_median(values: Floats, window: int = WINDOW) -> Floats:
    """Median over a centred window, which is cut off at the ends of the curve; of the same length (M,)."""
    half = window // 2
    return np.array([np.median(values[max(0, i - half) : i + half + 1]) for i in range(values.size)], dtype=np.float64)


def phases(epoch: Integers, values: Floats) -> Phases | None:
    """Find the phases of a curve.

    All values are those of the running median over five measurements, which a single outlier does not move and which
    leaves a kink where it is. A rise (from the first value) or a fall (to the last) counts if it exceeds a tenth of
    the peak and four times the noise. The noise is twice the median absolute residual from the running median: of
    independent Gaussian noise, which the median in part follows, that is the standard deviation. A level curve then
    shows a rise or a fall in about 3 % of cases if it has 20 measurements, in under 1 % if it has 60.

    The plateau is the longest end of the curve within a tenth of its last value, or within three times the noise of
    that end itself. It counts if it has five measurements and a tenth of the curve's epochs, so a level curve is all
    plateau and one that still falls by more has none. The paper describes the phases and gives no rule: this one is
    ours.

    Args:
        epoch: (M,) increasing.
        values: (M,) finite and not negative.

    Returns:
        None for fewer than five measurements.
    """
    if values.size < WINDOW:
        return None
    smooth = running_median(values)
    top = int(smooth.argmax())
    start, peak, end = float(smooth[0]), float(smooth[top]), float(smooth[-1])
    noise = 2 * float(np.median(np.abs(values - smooth)))
    least = max(NOTICEABLE * abs(peak), 4 * noise)
    rises, falls = peak - start > least, peak - end > least
    risen = int((smooth >= start + RISEN * (peak - start)).argmax())
    fallen = top + int((smooth[top:] <= (peak + end) / 2).argmax())
    return Phases(
        shape="peak" if rises and falls else "rising" if rises else "falling" if falls else "none",
        rise_epoch=float(epoch[risen]) if rises else math.nan,
        peak_epoch=int(epoch[top]),
        peak=peak,
        half_epoch=float(epoch[fallen]) if falls else math.nan,
        end=end,
        plateau_epoch=_plateau(epoch, values, smooth),
    )


def _plateau(epoch: Integers, values: Floats, smooth: Floats) -> float:
    """The first epoch of the plateau, or nan."""
    away, residuals = np.abs(smooth - smooth[-1]), np.abs(values - smooth)
    least = 0.1 * (epoch[-1] - epoch[0])
    for first in range(values.size - WINDOW + 1):
        if epoch[-1] - epoch[first] < least:
            break
        noise = 2 * float(np.median(residuals[first:]))
        if away[first:].max() <= max(NOTICEABLE * abs(smooth[-1]), 3 * noise):
            return float(epoch[first])
    return math.nan
