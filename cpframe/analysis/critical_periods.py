"""The critical period itself: until when a deficit can be healed, and at which onsets it hurts.

The loss at an epoch is the paired drop below no deficit. An epoch is *beyond* a threshold if the loss is surely above
it, *within* if it is surely not, and *open* otherwise. "Surely" means by simultaneous bands: Student's intervals of the
paired drops, each at 1 - 0.05 / m for m epochs (Bonferroni), which hold for all of them at once at 95 %. The bands are
preferred to a bootstrap over seeds because they keep their promise with three to five seeds. The method is ours.
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
"""A loss of one percentage point of accuracy, unless another is asked for."""

HealingKind = Literal["found", "already at the first", "none up to the last", "not monotone", "not enough seeds"]
OnsetsKind = Literal["found", "up to the last onset", "none", "not enough seeds"]


@dataclass(frozen=True)
class Healing:
    """Until when a deficit can be removed without a lasting loss beyond the threshold.

    It is taken that a longer deficit costs no less: the loss is the non-decreasing curve nearest to the mean drops
    (isotonic regression, least squares), and its truth is non-decreasing where the interval is concerned. An epoch
    whose band lies beyond the threshold, or within it, counts so whatever that curve says. Where the drops contradict
    what is taken, that is the answer.

    Attributes:
        kind: ``found``: the loss passes the threshold between two epochs of removal. ``already at the first``: it is
            beyond at the earliest removal. ``none up to the last``: it stays within. ``not monotone``: the mean drop
            is beyond at some epoch, within at a later one, and their bands lie apart. ``not enough seeds``: no epoch
            has three paired seeds. All else is nan for the last two.
        threshold: as a fraction of 1 of the test accuracy.
        healed_until: the last epoch of removal whose loss is within the threshold, 0 where the first is not.
        lost_from: the first epoch of removal whose loss is beyond it; nan if none is.
        interpolated: where the loss passes the threshold on straight lines between epochs of removal, from no loss at
            0, which is a guess at what was not tried; nan if it does not.
        earliest: up to this epoch of removal every band lies within the threshold; 0 where the first does not.
        latest: the first epoch whose band lies beyond it; infinite if none does. The loss passes the threshold in
            (earliest, latest] at 95 %.
        last: the last epoch of removal judged; 0 without any.
        seeds: paired seeds at the epochs judged, the fewest.
    """

    kind: HealingKind
    threshold: float
    healed_until: float
    lost_from: float
    interpolated: float
    earliest: float
    latest: float
    last: int
    seeds: int


@dataclass(frozen=True)
class Onsets:
    """The onsets at which a deficit of one length hurts.

    Attributes:
        kind: ``found``: some onset hurts, and a later one does not. ``up to the last onset``: the last onset hurts:
            the period may go on. ``none``: no onset does. ``not enough seeds``: no onset has three paired seeds.
        threshold: as a fraction of 1 of the test accuracy.
        hurting: onsets whose mean sensitivity is beyond the threshold.
        surely: onsets whose band lies beyond it: the interval of the set, from inside.
        possibly: onsets whose band does not lie within it: from outside.
        last: the last of `hurting`; nan without any.
        earliest: lower end of the interval of the last onset that hurts, at 95 %: the last of `surely`; -inf without.
        latest: upper end: the last of `possibly`; -inf without any.
        seeds: paired seeds at the onsets judged, the fewest.
    """

    kind: OnsetsKind
    threshold: float
    hurting: tuple[int, ...]
    surely: tuple[int, ...]
    possibly: tuple[int, ...]
    last: float
    earliest: float
    latest: float
    seeds: int


def bands(points: Sequence[Point]) -> tuple[tuple[Point, Estimate], ...]:
    """The points with enough paired seeds, with intervals of their mean drops that hold for all at once at 95 %."""
    enough = [point for point in points if len(point.drops) >= ENOUGH_SEEDS]
    return tuple((point, estimate(point.drops.values(), len(enough))) for point in enough)


def healing(curve: Curve, threshold: float = THRESHOLD) -> Healing:
    """Until when a deficit of a removal group can be healed.

    Args:
        curve: of a `cpframe.analysis.comparisons.RemovalGroup`.
        threshold: a loss above this counts, as a fraction of 1.

    Raises:
        ValueError: if the threshold is negative or not finite.
    """
    _check(threshold)
    judged = bands(curve.points)
    nan = math.nan
    if not judged:
        return Healing("not enough seeds", threshold, nan, nan, nan, nan, nan, 0, _fewest(curve.points))
    seeds, last = min(drop.n for _, drop in judged), judged[-1][0].at
    drops = [drop for _, drop in judged]
    if _not_monotone(drops, threshold):
        return Healing("not monotone", threshold, nan, nan, nan, nan, nan, last, seeds)
    at = np.array([0, *(point.at for point, _ in judged)], dtype=np.float64)
    loss = np.concatenate([[0.0], isotonic_regression([drop.mean for drop in drops]).x])
    surely = [i for i, drop in enumerate(drops, 1) if drop.low > threshold]
    within = next((i for i, drop in enumerate(drops) if not drop.high <= threshold), len(drops))
    beyond = sorted({i for i in range(within + 1, loss.size) if loss[i] > threshold} | set(surely))
    first = beyond[0] if beyond else 0
    if first:
        # The curve may lie below no deficit at the start: a straight line from there passes the threshold as well.
        # A pooled stretch that a band cuts in two is level: what passes then does so at the epoch of that band.
        step = loss[first] - loss[first - 1]
        part = min(max((threshold - loss[first - 1]) / step, 0.0), 1.0) if step > 0 else 1.0
        interpolated = float(at[first - 1] + part * (at[first] - at[first - 1]))
    return Healing(
        kind="none up to the last" if not first else "already at the first" if first == 1 else "found",
        threshold=threshold,
        healed_until=float(at[first - 1]) if first else float(last),
        lost_from=float(at[first]) if first else math.nan,
        interpolated=interpolated if first else math.nan,
        earliest=float(at[within]),
        latest=float(at[surely[0]]) if surely else math.inf,
        last=last,
        seeds=seeds,
    )


def _not_monotone(drops: Sequence[Estimate], threshold: float) -> bool:
    """Whether a drop beyond the threshold is followed by one within it, and their bands lie apart."""
    pairs = combinations(drops, 2)
    return any(early.mean > threshold >= late.mean and early.low > late.high for early, late in pairs)


def onsets(curve: Curve, threshold: float = THRESHOLD) -> Onsets:
    """The onsets at which a deficit of a sliding group hurts.

    Args:
        curve: of a `cpframe.analysis.comparisons.SlidingGroup`.
        threshold: a sensitivity above this counts, as a fraction of 1.

    Raises:
        ValueError: if the threshold is negative or not finite.
    """
    _check(threshold)
    judged = bands(curve.points)
    if not judged:
        nan = math.nan
        return Onsets("not enough seeds", threshold, (), (), (), nan, nan, nan, _fewest(curve.points))
    hurting = tuple(point.at for point, drop in judged if drop.mean > threshold)
    surely = tuple(point.at for point, drop in judged if drop.low > threshold)
    possibly = tuple(point.at for point, drop in judged if drop.high > threshold)
    to_the_last = bool(hurting) and hurting[-1] == judged[-1][0].at
    return Onsets(
        kind="none" if not hurting else "up to the last onset" if to_the_last else "found",
        threshold=threshold,
        hurting=hurting,
        surely=surely,
        possibly=possibly,
        last=float(hurting[-1]) if hurting else math.nan,
        earliest=float(surely[-1]) if surely else -math.inf,
        latest=float(possibly[-1]) if possibly else -math.inf,
        seeds=min(drop.n for _, drop in judged),
    )


def _check(threshold: float) -> None:
    if not (math.isfinite(threshold) and threshold >= 0):
        raise ValueError(f"threshold is {threshold}: a loss of 0 or more, as a fraction of 1, is needed")


def _fewest(points: Sequence[Point]) -> int:
    return min((len(point.drops) for point in points), default=0)
