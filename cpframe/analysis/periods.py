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
from typing import Literal

import numpy as np
from scipy.optimize import isotonic_regression

from cpframe.analysis.comparisons import Curve, Point
from cpframe.analysis.statistics import ENOUGH_SEEDS, Estimate, estimate

THRESHOLD = 0.01
"""A loss of one percentage point of accuracy, unless another is asked for."""

HealingKind = Literal["found", "already at the first", "none up to the last", "not enough seeds"]
OnsetsKind = Literal["found", "up to the last onset", "none", "not enough seeds"]


@dataclass(frozen=True)
class Healing:
    """Until when a deficit can be removed without a lasting loss beyond the threshold.

    It is taken that a longer deficit costs no less: the loss is the non-decreasing curve nearest to the mean drops
    (isotonic regression, least squares), and its truth is non-decreasing where the interval is concerned.

    Attributes:
        kind: ``found``: the loss passes the threshold between two epochs of removal. ``already at the first``: it is
            beyond at the earliest removal. ``none up to the last``: it stays within. ``not enough seeds``: no epoch
            has three paired seeds; all else is then nan.
        threshold: as a fraction of 1 of the test accuracy.
        healed_until: the last epoch of removal whose loss is within the threshold, 0 where the first is not.
        lost_from: the first epoch of removal whose loss is beyond it; nan if none is.
        epoch: where the loss passes the threshold, on straight lines between epochs of removal, from no loss at 0;
            nan if it does not.
        earliest: lower end of the interval of that epoch, at 95 %: up to there every band lies within the threshold.
        latest: upper end: the first epoch whose band lies beyond it; infinite if none does.
        last: the last epoch of removal judged; 0 without any.
        seeds: paired seeds at the epochs judged, the fewest.
    """

    kind: HealingKind
    threshold: float
    healed_until: float
    lost_from: float
    epoch: float
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
        curve: of a `cpframe.analysis.comparisons.Removal`.
        threshold: a loss above this counts, as a fraction of 1.

    Raises:
        ValueError: if the threshold is negative or not finite.
    """
    _check(threshold)
    judged = bands(curve.points)
    if not judged:
        nan = math.nan
        return Healing("not enough seeds", threshold, nan, nan, nan, nan, nan, 0, _fewest(curve.points))
    at = np.array([0, *(point.at for point, _ in judged)], dtype=np.float64)
    means = np.array([drop.mean for _, drop in judged])
    loss = np.concatenate([[0.0], isotonic_regression(means).x])
    beyond = np.flatnonzero(loss > threshold)
    surely = [point.at for point, drop in judged if drop.low > threshold]
    within = 0
    for point, drop in judged:
        if not drop.high <= threshold:
            break
        within = point.at
    first = int(beyond[0]) if beyond.size else 0
    if first:
        # The curve may lie below no deficit at the start: a straight line from there passes the threshold as well.
        part = (threshold - loss[first - 1]) / (loss[first] - loss[first - 1])
        epoch = float(at[first - 1] + part * (at[first] - at[first - 1]))
    return Healing(
        kind="none up to the last" if not first else "already at the first" if first == 1 else "found",
        threshold=threshold,
        healed_until=float(at[first - 1]),
        lost_from=float(at[first]) if first else math.nan,
        epoch=epoch if first else math.nan,
        earliest=float(within),
        latest=float(surely[0]) if surely else math.inf,
        last=judged[-1][0].at,
        seeds=min(drop.n for _, drop in judged),
    )


def onsets(curve: Curve, threshold: float = THRESHOLD) -> Onsets:
    """The onsets at which a deficit of a sliding group hurts.

    Args:
        curve: of a `cpframe.analysis.comparisons.Sliding`.
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
