"""Does lost training alone reproduce a removal curve? The learning-rate confound check.

Under a falling rate a late removal leaves less of it, and a network that was idle until then does badly as well. The
check sets the curve of the idle control beside the deficit's: which fraction of the deficit's loss does idle lose?
The check and its limits are ours; the confound is described in arXiv 2510.09687.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtrit

from cpframe.analysis.comparisons import Curve, RemovalGroup, SlidingGroup, difference
from cpframe.analysis.statistics import ENOUGH_SEEDS, ERROR_RATE, Estimate, Interval, estimate
from cpframe.records.model import StudyRecord

HALF = 0.5
"""Idle reproduces a curve if it surely explains more than this fraction, and does not if it surely explains less."""

ConfoundKind = Literal[
    "idle reproduces the curve",
    "partly",
    "not",
    "undecided",
    "no loss",
    "no idle",
    "rates match",
    "unknown yet",
    "not enough seeds",
]


@dataclass(frozen=True)
class Confound:
    """How far the idle control explains one deficit's removal curve.

    Attributes:
        group: the trajectories compared.
        deficit: by its name in the study; never an idle control.
        kind: ``idle reproduces the curve``: the interval of `fraction` lies above a half and reaches 1. ``partly``: it
            lies between 0 and 1. ``not``: it lies below a half and reaches 0. ``undecided``: it is too wide to tell.
            ``no loss``: the interval of `loss` does not lie above 0, so there is nothing to explain. ``not enough
            seeds``: fewer than three have all that is compared. Without an idle control, ``no idle``: the rate
            changes. ``rates match``: a constant rate or a restart at removal, so lost training is an unlikely cause.
            ``unknown yet``: no clean epoch after the deficit is recorded. No numbers for the last four.
        at: the epochs of removal that both curves have.
        loss: the deficit's drop, as the mean over these epochs; a fraction of 1 of the test accuracy.
        idle: the idle control's.
        excess: loss minus idle, paired by seed.
        fraction: idle / loss, with its 95 % interval by Fieller's theorem; nan ends where the loss is not above 0.
    """

    group: RemovalGroup
    deficit: str
    kind: ConfoundKind
    at: tuple[int, ...]
    loss: Estimate
    idle: Estimate
    excess: Estimate
    fraction: Interval


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """The ratio of two means, from pairs, with its 95 % interval by Fieller's theorem.

    The interval has every r for which the paired t test does not reject that numerator - r * denominator has mean 0
    (Fieller, J. R. Stat. Soc. B 16, 1954): the roots of a quadratic.

    Args:
        numerators: one a seed.
        denominators: as many, in the same order.

    Returns:
        The ratio of the means; ends are nan for fewer than two pairs, or where the mean denominator is not told
        apart from 0, for the interval is then not bounded.
    """
    x, y = np.array(numerators, dtype=np.float64), np.array(denominators, dtype=np.float64)
    n = int(x.size)
    if n == 0 or y.mean() == 0:
        return Interval(math.nan, math.nan, math.nan, n)
    ratio = float(x.mean() / y.mean())
    if n < 2:
        return Interval(ratio, math.nan, math.nan, n)
    reach = float(stdtrit(n - 1, 1 - ERROR_RATE / 2)) ** 2 / n
    (xx, xy), (_, yy) = np.cov(x, y)
    # (mean x - r mean y)^2 = reach * (xx - 2 r xy + r^2 yy)
    square = float(y.mean() ** 2 - reach * yy)
    linear = float(x.mean() * y.mean() - reach * xy)
    free = float(x.mean() ** 2 - reach * xx)
    if square <= 0:
        return Interval(ratio, math.nan, math.nan, n)
    root = math.sqrt(max(0.0, linear**2 - square * free))
    return Interval(ratio, (linear - root) / square, (linear + root) / square, n)


def confounds(study: StudyRecord, groups: Iterable[RemovalGroup | SlidingGroup]) -> tuple[Confound, ...]:
    """Check every deficit of every removal group against the group's idle control.

    Losses are averaged over the epochs of removal at which deficit and idle have the same seeds in common, so the
    fraction is of the area under the curve; the seeds are those that have all of these epochs.

    Args:
        study: whose deficits these are.
        groups: of `cpframe.analysis.comparisons.all_groups`; those of the removal protocol count.
    """
    made = []
    for group in groups:
        if not isinstance(group, RemovalGroup):
            continue
        control = next((curve for curve in group.curves if curve.deficit in study.idle), None)
        idle = {point.at: point.drops for point in control.points} if control else {}
        for curve in group.curves:
            if curve.deficit in study.idle:
                continue
            drops = {point.at: point.drops for point in curve.points}
            if control is not None:
                made.append(_check(group, curve.deficit, drops, idle))
            else:
                made.append(_unchecked(group, curve.deficit, _without_idle(curve)))
    return tuple(made)


def _without_idle(curve: Curve) -> ConfoundKind:
    known = [point.rate_matched for point in curve.points if point.rate_matched is not None]
    return "unknown yet" if not known else "rates match" if all(known) else "no idle"


def _unchecked(group: RemovalGroup, deficit: str, kind: ConfoundKind) -> Confound:
    none, nothing = estimate(()), Interval(math.nan, math.nan, math.nan, 0)
    return Confound(group, deficit, kind, (), none, none, none, nothing)


def _check(
    group: RemovalGroup, deficit: str, drops: Mapping[int, Mapping[int, float]], idle: Mapping[int, Mapping[int, float]]
) -> Confound:
    at = tuple(epoch for epoch in sorted(drops) if len(drops[epoch].keys() & idle.get(epoch, {}).keys()) > 0)
    seeds = set.intersection(*(drops[e].keys() & idle[e].keys() for e in at)) if at else set()
    if len(seeds) < ENOUGH_SEEDS:
        return _unchecked(group, deficit, "not enough seeds")
    losses = {seed: float(np.mean([drops[epoch][seed] for epoch in at])) for seed in sorted(seeds)}
    control = {seed: float(np.mean([idle[epoch][seed] for epoch in at])) for seed in sorted(seeds)}
    loss, excess = estimate(losses.values()), estimate(difference(losses, control).values())
    fraction = ratio_interval(list(control.values()), list(losses.values()))
    return Confound(group, deficit, _kind(loss, fraction), at, loss, estimate(control.values()), excess, fraction)


def _kind(loss: Estimate, fraction: Interval) -> ConfoundKind:
    if not loss.positive:
        return "no loss"
    if fraction.low > HALF and fraction.high >= 1:
        return "idle reproduces the curve"
    if fraction.low > 0 and fraction.high < 1:
        return "partly"
    if fraction.high < HALF:
        return "not"
    return "undecided"
