"""Verdicts: whether a deficit has an effect, and whether the study supports that claim.

Two claims are judged by one rule. *Scar*: a network that had the deficit until some epoch ends below the network that
never had it, after the same number of clean epochs. *Critical period*: a window of the deficit causes a drop at one
onset, and a larger one than at the last onset. Both can result from lost training alone, so a claim must also hold
against the idle control at the same epoch, wherever that was measured. Without an idle control a claim is supported
only if the clean epochs ran at the learning rates of the no-deficit training (a constant rate, or a restart at
removal), so that nothing but the deficit differs. The rule is our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from cpframe.analysis.comparisons import (
    BySeed,
    Curve,
    RemovalGroup,
    SlidingGroup,
    difference,
)
from cpframe.analysis.statistics import ENOUGH_SEEDS, Estimate, estimate
from cpframe.records.model import StudyRecord

Kind = Literal["supported", "not beyond idle", "confounded", "hint", "none", "not enough seeds"]


@dataclass(frozen=True)
class Candidate:
    """The drops at one epoch that might support a claim, as fractions of 1 of the test accuracy.

    Attributes:
        at: the epoch: an offset (removal) or an onset (sliding).
        drops: the drops to judge, by seed: below the no-deficit trajectory (scar), or in excess of the drop at the
            last onset (critical period).
        total_drops: the drops below the no-deficit trajectory, by seed; equal to `drops` for a scar.
        idle_drops: the same quantity as `drops` for the idle control at the same epoch; empty without a control.
        rate_matched: whether the learning rates rule out lost training as the cause, see
            `cpframe.analysis.comparisons.Point`.
    """

    at: int
    drops: BySeed
    total_drops: BySeed
    idle_drops: BySeed
    rate_matched: bool


@dataclass(frozen=True)
class Verdict:
    """The outcome of a claim.

    Attributes:
        kind: ``supported``: there is a drop, and lost training does not explain it. ``not beyond idle``: there is a
            drop, but it cannot be distinguished from that of the idle control. ``confounded``: there is a drop, but
            the learning rate may explain it and there is no idle control. ``hint``: there is a drop at 95 % for one
            epoch alone, but not when all epochs are compared at once. ``none``: no drop was found. ``not enough
            seeds``: fewer than three seeds are paired.
        at: the epoch judged: that of the largest drop among the epochs of this kind.
        compared: the number of epochs with enough seeds; all intervals hold for that many epochs at once.
        drop: the drop judged at that epoch, see `Candidate.drops`.
        excess: the drop minus that of the idle control, paired by seed; None without an idle control.
        rate_matched: whether the learning rates rule out lost training as the cause at that epoch.
        at_most: the upper limit of the drops at all epochs, at 95 %; nan if no epoch has enough seeds.
    """

    kind: Kind
    at: int
    compared: int
    drop: Estimate
    excess: Estimate | None
    rate_matched: bool
    at_most: float


@dataclass(frozen=True)
class Claim:
    """A verdict on one deficit in one group of trajectories.

    Attributes:
        group: the trajectories compared.
        deficit: the name of the deficit in the study; never an idle control.
        verdict: the outcome.
    """

    group: RemovalGroup | SlidingGroup
    deficit: str
    verdict: Verdict


def judge(candidates: tuple[Candidate, ...]) -> Verdict | None:
    """Judge a claim by the drops at several epochs.

    With m epochs to choose from, each interval is computed at 1 - 0.05 / m (Bonferroni), so that the whole verdict is
    wrong in at most 5 % of studies without any effect. If at least three seeds have the idle control as well, or if
    the learning rates differ, the excess over idle must be positive at the same epoch too.

    Returns:
        The verdict; None if no epoch has any drop because no trajectory and its reference are complete.
    """
    measured = [candidate for candidate in candidates if candidate.drops]
    if not measured:
        return None
    enough = [candidate for candidate in measured if len(candidate.drops) >= ENOUGH_SEEDS]
    compared = len(enough)

    def drop(candidate: Candidate) -> Estimate:
        return estimate(candidate.drops.values(), max(compared, 1))

    def excess(candidate: Candidate) -> Estimate | None:
        by_seed = difference(candidate.drops, candidate.idle_drops)
        return estimate(by_seed.values(), max(compared, 1)) if by_seed else None

    def is_unexplained(candidate: Candidate) -> bool:
        over_idle = excess(candidate)
        if over_idle is not None and over_idle.n >= ENOUGH_SEEDS:
            return over_idle.positive
        return candidate.rate_matched

    def has_drop(candidate: Candidate, comparisons: int) -> bool:
        both = (candidate.drops, candidate.total_drops)
        return all(estimate(values.values(), comparisons).positive for values in both)

    dropped = [candidate for candidate in enough if has_drop(candidate, max(compared, 1))]
    choices: tuple[tuple[Kind, list[Candidate]], ...] = (
        ("supported", [c for c in dropped if is_unexplained(c)]),
        ("not beyond idle", [c for c in dropped if excess(c) is not None]),
        ("confounded", dropped),
        ("hint", [c for c in enough if has_drop(c, 1)]),
        ("none", enough),
        ("not enough seeds", measured),
    )
    kind, chosen = next((kind, candidates) for kind, candidates in choices if candidates)
    largest = max(chosen, key=lambda candidate: drop(candidate).mean)
    at_most = max((drop(candidate).high for candidate in enough), default=float("nan"))
    return Verdict(kind, largest.at, compared, drop(largest), excess(largest), largest.rate_matched, at_most)


def claims(study: StudyRecord, groups: Iterable[RemovalGroup | SlidingGroup]) -> tuple[Claim, ...]:
    """Judge every deficit of every group, in the order of the groups.

    A deficit of a sliding group is judged only if it has at least two onsets.

    Args:
        study: the study that the groups are taken from.
        groups: the groups of `cpframe.analysis.comparisons.all_groups`.
    """
    found = []
    for group in groups:
        candidates = _scar if isinstance(group, RemovalGroup) else _critical_period
        idle = next((curve for curve in group.curves if curve.deficit in study.idle), None)
        for curve in group.curves:
            if curve.deficit not in study.idle:
                verdict = judge(candidates(curve, idle))
                if verdict is not None:
                    found.append(Claim(group, curve.deficit, verdict))
    return tuple(found)


def _scar(curve: Curve, idle: Curve | None) -> tuple[Candidate, ...]:
    control = _drops(idle)
    return tuple(Candidate(p.at, p.drops, p.drops, control.get(p.at, {}), p.rate_matched is True) for p in curve.points)


def _critical_period(curve: Curve, idle: Curve | None) -> tuple[Candidate, ...]:
    control = _drops(idle)
    *earlier, last = curve.points
    return tuple(
        Candidate(
            point.at,
            difference(point.drops, last.drops),
            point.drops,
            difference(control.get(point.at, {}), control.get(last.at, {})),
            point.rate_matched is True and last.rate_matched is True,
        )
        for point in earlier
    )


def _drops(curve: Curve | None) -> Mapping[int, BySeed]:
    return {point.at: point.drops for point in curve.points} if curve else {}
