"""The critical period: up to which removal epoch a network recovers, and at which onsets it is sensitive.

A drop is *beyond* a threshold if its simultaneous interval lies above the threshold, *within* it if the interval does
not reach above the threshold, and *undecided* otherwise. The simultaneous intervals are Student's intervals of the
paired drops, each at 1 - 0.05 / m for m epochs (Bonferroni), so they hold for all epochs at once at 95 %. They are
preferred to a bootstrap over seeds because they keep their coverage with three to five seeds. The method is our own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from scipy.optimize import isotonic_regression

from cpframe.analysis.comparisons import Curve, Point
from cpframe.analysis.statistics import ENOUGH_SEEDS, Estimate, estimate

THRESHOLD = 0.01
"""The default threshold: a drop of one percentage point of accuracy."""

RecoveryKind = Literal["found", "before the first", "after the last", "not monotone", "not enough seeds"]
OnsetsKind = Literal["found", "up to the last onset", "none", "not enough seeds"]


@dataclass(frozen=True)
class RecoveryLimit:
    """The latest removal of a deficit after which the drop stays within the threshold.

    A longer deficit is assumed to cause no smaller drop: the drop is the non-decreasing curve nearest to the mean drops
    (isotonic regression, least squares), and for the interval the true drop is taken to be non-decreasing. An epoch
    whose interval lies beyond or within the threshold counts as such whatever the fitted curve is there. If the drops
    contradict the assumption, the kind is ``not monotone``.

    Attributes:
        kind: ``found``: the drop passes the threshold between two epochs of removal. ``before the first``: it is
            beyond the threshold at the earliest removal. ``after the last``: it is within the threshold at the last
            removal. ``not monotone``: the mean drop is beyond the threshold at some epoch and within it at a later
            one, and their intervals do not overlap. ``not enough seeds``: no epoch has three paired seeds. For the last
            two kinds all epochs but `last` are nan.
        threshold: the threshold, as a fraction of 1 of the test accuracy.
        recovers_until: the last epoch of removal with a drop within the threshold; 0 if the first has a larger one.
        persists_from: the first epoch of removal with a drop beyond the threshold; nan if there is none.
        interpolated: the epoch at which the drop passes the threshold on straight lines between the epochs of removal,
            starting from no drop at epoch 0: an estimate for epochs that were not tried. nan if it does not pass.
        earliest: the last epoch of removal up to which every interval lies within the threshold; 0 if the first one
            does not.
        latest: the first epoch of removal whose interval lies beyond the threshold; infinite if there is none. The
            drop passes the threshold in (earliest, latest] at 95 %.
        last: the last epoch of removal judged; 0 if there is none.
        seeds: the smallest number of paired seeds at the epochs judged.
    """

    kind: RecoveryKind
    threshold: float
    recovers_until: float
    persists_from: float
    interpolated: float
    earliest: float
    latest: float
    last: int
    seeds: int


@dataclass(frozen=True)
class SensitiveOnsets:
    """The onsets at which a deficit of one length causes a drop beyond the threshold.

    Attributes:
        kind: ``found``: the network is sensitive at some onset and not at a later one. ``up to the last onset``: it is
            sensitive at the last onset, so the period may continue. ``none``: it is sensitive at no onset. ``not
            enough seeds``: no onset has three paired seeds.
        threshold: the threshold, as a fraction of 1 of the test accuracy.
        sensitive: the onsets whose mean sensitivity is above the threshold.
        surely: the onsets whose interval lies above the threshold (an inner bound of the set).
        possibly: the onsets whose interval reaches above the threshold (an outer bound of the set).
        last: the last sensitive onset; nan if there is none.
        earliest: the lower end of the 95 % interval of the last sensitive onset: the last of `surely`; -inf if there
            is none.
        latest: the upper end: the last of `possibly`; -inf if there is none.
        seeds: the smallest number of paired seeds at the onsets judged.
    """

    kind: OnsetsKind
    threshold: float
    sensitive: tuple[int, ...]
    surely: tuple[int, ...]
    possibly: tuple[int, ...]
    last: float
    earliest: float
    latest: float
    seeds: int


def simultaneous_drops(points: Sequence[Point]) -> tuple[tuple[Point, Estimate], ...]:
    """Return the points with enough seeds and their mean drops, with intervals that hold for all at once at 95 %."""
    enough = [point for point in points if len(point.drops) >= ENOUGH_SEEDS]
    return tuple((point, estimate(point.drops.values(), len(enough))) for point in enough)


def recovery_limit(curve: Curve, threshold: float = THRESHOLD) -> RecoveryLimit:
    """Find the latest removal of a deficit after which the drop stays within the threshold.

    Args:
        curve: a curve of a `cpframe.analysis.comparisons.RemovalGroup`.
        threshold: the largest drop that counts as recovered, as a fraction of 1.

    Raises:
        ValueError: if the threshold is negative or not finite.
    """
    _check(threshold)
    judged = simultaneous_drops(curve.points)
    nan = math.nan
    if not judged:
        return RecoveryLimit("not enough seeds", threshold, nan, nan, nan, nan, nan, 0, _fewest_seeds(curve.points))
    seeds, last = min(drop.n for _, drop in judged), judged[-1][0].at
    drops = [drop for _, drop in judged]
    if _is_not_monotone(drops, threshold):
        return RecoveryLimit("not monotone", threshold, nan, nan, nan, nan, nan, last, seeds)
    at = np.array([0, *(point.at for point, _ in judged)], dtype=np.float64)
    fitted = np.concatenate([[0.0], isotonic_regression([drop.mean for drop in drops]).x])
    surely = [i for i, drop in enumerate(drops, 1) if drop.low > threshold]
    within = next((i for i, drop in enumerate(drops) if not drop.high <= threshold), len(drops))
    beyond = sorted({i for i in range(within + 1, fitted.size) if fitted[i] > threshold} | set(surely))
    first = beyond[0] if beyond else 0
    if first:
        # The curve may begin below no deficit; a straight line from there passes the threshold as well. A pooled
        # stretch that an interval cuts in two is level: the drop then passes the threshold at that interval's epoch.
        step = fitted[first] - fitted[first - 1]
        part = min(max((threshold - fitted[first - 1]) / step, 0.0), 1.0) if step > 0 else 1.0
        interpolated = float(at[first - 1] + part * (at[first] - at[first - 1]))
    return RecoveryLimit(
        kind="after the last" if not first else "before the first" if first == 1 else "found",
        threshold=threshold,
        recovers_until=float(at[first - 1]) if first else float(last),
        persists_from=float(at[first]) if first else math.nan,
        interpolated=interpolated if first else math.nan,
        earliest=float(at[within]),
        latest=float(at[surely[0]]) if surely else math.inf,
        last=last,
        seeds=seeds,
    )


def _is_not_monotone(drops: Sequence[Estimate], threshold: float) -> bool:
    """Return whether a mean drop beyond the threshold precedes one within it, and their intervals do not overlap."""
    pairs = combinations(drops, 2)
    return any(early.mean > threshold >= late.mean and early.low > late.high for early, late in pairs)


def sensitive_onsets(curve: Curve, threshold: float = THRESHOLD) -> SensitiveOnsets:
    """Find the onsets at which a deficit of one length causes a drop beyond the threshold.

    Args:
        curve: a curve of a `cpframe.analysis.comparisons.SlidingGroup`.
        threshold: the largest sensitivity that does not count, as a fraction of 1.

    Raises:
        ValueError: if the threshold is negative or not finite.
    """
    _check(threshold)
    judged = simultaneous_drops(curve.points)
    if not judged:
        nan = math.nan
        return SensitiveOnsets("not enough seeds", threshold, (), (), (), nan, nan, nan, _fewest_seeds(curve.points))
    sensitive = tuple(point.at for point, drop in judged if drop.mean > threshold)
    surely = tuple(point.at for point, drop in judged if drop.low > threshold)
    possibly = tuple(point.at for point, drop in judged if drop.high > threshold)
    to_the_last = bool(sensitive) and sensitive[-1] == judged[-1][0].at
    return SensitiveOnsets(
        kind="none" if not sensitive else "up to the last onset" if to_the_last else "found",
        threshold=threshold,
        sensitive=sensitive,
        surely=surely,
        possibly=possibly,
        last=float(sensitive[-1]) if sensitive else math.nan,
        earliest=float(surely[-1]) if surely else -math.inf,
        latest=float(possibly[-1]) if possibly else -math.inf,
        seeds=min(drop.n for _, drop in judged),
    )


def _check(threshold: float) -> None:
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"threshold must be a drop of at least 0, as a fraction of 1, not {threshold}")


def _fewest_seeds(points: Sequence[Point]) -> int:
    return min((len(point.drops) for point in points), default=0)
