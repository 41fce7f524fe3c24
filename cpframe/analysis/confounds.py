"""The learning-rate confound: does lost training alone reproduce a removal curve?

With a falling learning rate, the clean epochs after a late removal run at low rates, so a network that was idle until
then performs badly as well. The check compares the curve of the idle control with that of the deficit: which fraction
of the deficit's drop does the idle control have? The check and its limits are our own; arXiv 2510.09687 describes the
confound.
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
"""Idle reproduces a curve if the interval of its fraction lies above this value, and does not if it lies below."""

ConfoundKind = Literal[
    "idle reproduces the curve",
    "partly",
    "not",
    "undecided",
    "no drop",
    "no idle",
    "rates match",
    "unknown yet",
    "not enough seeds",
]


@dataclass(frozen=True)
class Confound:
    """The part of a deficit's removal curve that the idle control explains.

    Attributes:
        group: the trajectories compared.
        deficit: the name of the deficit in the study; never an idle control.
        kind: ``idle reproduces the curve``: the interval of `fraction` lies above a half and reaches 1. ``partly``: it
            lies between 0 and 1. ``not``: it lies below a half and reaches 0. ``undecided``: it is too wide for any of
            these. ``no drop``: the interval of `drop` does not lie above 0, so there is nothing to explain. ``not
            enough seeds``: fewer than three seeds have all trajectories compared. The other kinds are those of a group
            without an idle control: ``no idle``: the learning rate changes. ``rates match``: the rate is constant or
            restarts at removal, so lost training is an unlikely cause. ``unknown yet``: no clean epoch after the
            deficit is recorded. The last four kinds have no numbers.
        at: the epochs of removal that both curves have.
        drop: the drop of the deficit, as the mean over these epochs; a fraction of 1 of the test accuracy.
        idle: the mean drop of the idle control over the same epochs.
        excess: the drop of the deficit minus that of the idle control, paired by seed.
        fraction: idle / drop, with its 95 % interval by Fieller's theorem; its ends are nan if `drop` is not above 0.
    """

    group: RemovalGroup
    deficit: str
    kind: ConfoundKind
    at: tuple[int, ...]
    drop: Estimate
    idle: Estimate
    excess: Estimate
    fraction: Interval


def ratio_interval(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """Estimate the ratio of two means from pairs, with its 95 % interval by Fieller's theorem.

    The interval contains every r for which the paired t test does not reject that numerator - r * denominator has mean
    0 (Fieller, J. R. Stat. Soc. B 16, 1954). Its ends are the roots of a quadratic.

    Args:
        numerators: the numerators, one per seed.
        denominators: the denominators, in the same order.

    Returns:
        The ratio of the means. The ends are nan for fewer than two pairs, or if the mean denominator does not differ
        significantly from 0, because the interval is then unbounded.
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
    quadratic = float(y.mean() ** 2 - reach * yy)
    linear = float(x.mean() * y.mean() - reach * xy)
    constant = float(x.mean() ** 2 - reach * xx)
    if quadratic <= 0:
        return Interval(ratio, math.nan, math.nan, n)
    root = math.sqrt(max(0.0, linear**2 - quadratic * constant))
    return Interval(ratio, (linear - root) / quadratic, (linear + root) / quadratic, n)


def confounds(study: StudyRecord, groups: Iterable[RemovalGroup | SlidingGroup]) -> tuple[Confound, ...]:
    """Compare every deficit of every removal group with the idle control of the group.

    Drops are averaged over the epochs of removal for which deficit and idle control share at least one seed, so
    `Confound.fraction` is a ratio of areas under the curves. The seeds are those that have all of these epochs.

    Args:
        study: the study that the groups are taken from.
        groups: the groups of `cpframe.analysis.comparisons.all_groups`; sliding groups are ignored.
    """
    found = []
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
                found.append(_compare(group, curve.deficit, drops, idle))
            else:
                found.append(_without_numbers(group, curve.deficit, _kind_without_idle(curve)))
    return tuple(found)


def _kind_without_idle(curve: Curve) -> ConfoundKind:
    known = [point.rate_matched for point in curve.points if point.rate_matched is not None]
    return "unknown yet" if not known else "rates match" if all(known) else "no idle"


def _without_numbers(group: RemovalGroup, deficit: str, kind: ConfoundKind) -> Confound:
    nothing, no_ratio = estimate(()), Interval(math.nan, math.nan, math.nan, 0)
    return Confound(group, deficit, kind, (), nothing, nothing, nothing, no_ratio)


def _compare(
    group: RemovalGroup, deficit: str, drops: Mapping[int, Mapping[int, float]], idle: Mapping[int, Mapping[int, float]]
) -> Confound:
    at = tuple(epoch for epoch in sorted(drops) if len(drops[epoch].keys() & idle.get(epoch, {}).keys()) > 0)
    seeds = set.intersection(*(drops[e].keys() & idle[e].keys() for e in at)) if at else set()
    if len(seeds) < ENOUGH_SEEDS:
        return _without_numbers(group, deficit, "not enough seeds")
    means = {seed: float(np.mean([drops[epoch][seed] for epoch in at])) for seed in sorted(seeds)}
    control = {seed: float(np.mean([idle[epoch][seed] for epoch in at])) for seed in sorted(seeds)}
    drop, excess = estimate(means.values()), estimate(difference(means, control).values())
    fraction = ratio_interval(list(control.values()), list(means.values()))
    return Confound(group, deficit, _kind(drop, fraction), at, drop, estimate(control.values()), excess, fraction)


def _kind(drop: Estimate, fraction: Interval) -> ConfoundKind:
    if not drop.positive:
        return "no drop"
    if fraction.low > HALF and fraction.high >= 1:
        return "idle reproduces the curve"
    if fraction.low > 0 and fraction.high < 1:
        return "partly"
    if fraction.high < HALF:
        return "not"
    return "undecided"
