"""What may be claimed of a deficit, and which controls the claim still lacks.

Two claims are judged by one rule. *Scar*: a network that had the deficit until some epoch ends below the one that
never had it, after as many clean epochs. *Critical period*: a window of the deficit costs something at one onset, and
more than at the last one. Both can come from lost training alone, so the claim must also hold against the idle control
at the same epoch, wherever that was measured. Without it a claim stands only where the clean epochs ran at the rates
of the no-deficit training (a constant rate, a restart at removal), so that nothing but the deficit differs.
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
    """A loss that might support a claim.

    Attributes:
        at: the epoch in question.
        losses: by seed, as fractions of 1 of the test accuracy.
        drops: by seed, below no deficit at that epoch; the losses themselves, unless these compare two onsets.
        idle_losses: the same of the idle control at the same epoch; empty without one.
        rate_matched: whether lost training is no explanation, see `cpframe.analysis.comparisons.Point`.
    """

    at: int
    losses: BySeed
    drops: BySeed
    idle_losses: BySeed
    rate_matched: bool


@dataclass(frozen=True)
class Verdict:
    """What came of a claim.

    Attributes:
        kind: ``supported``: the loss stands and lost training does not explain it. ``not beyond idle``: the loss
            stands, the idle control's is not told apart from it. ``confounded``: the loss stands, the learning rate
            may explain it, and there is no idle control to tell. ``hint``: a loss at 95 % taken by itself, not as
            the best of several. ``none``: no loss found. ``not enough seeds``: fewer than three are paired.
        at: the epoch judged: the largest loss among those of the kind.
        compared: how many epochs had enough seeds; all intervals hold for that many at once.
        loss: at that epoch.
        excess: loss minus the idle control's, paired by seed; None without an idle control.
        rate_matched: whether lost training is no explanation at that epoch.
        at_most: no epoch's loss is above this, at 95 %; nan where no epoch has enough seeds.
    """

    kind: Kind
    at: int
    compared: int
    loss: Estimate
    excess: Estimate | None
    rate_matched: bool
    at_most: float


@dataclass(frozen=True)
class Claim:
    """A verdict and what it is about.

    Attributes:
        group: the trajectories compared.
        deficit: by its name in the study; never an idle control.
        verdict: the outcome.
    """

    group: RemovalGroup | SlidingGroup
    deficit: str
    verdict: Verdict


def judge(candidates: tuple[Candidate, ...]) -> Verdict | None:
    """Judge a claim by the losses at several epochs.

    With m epochs to choose from, each interval is taken at 1 - 0.05 / m (Bonferroni), so that the whole verdict errs
    in at most 5 % of studies without any effect. Where three seeds or more have the idle control as well, or where the
    learning rates differ, the excess over idle must be positive at the same epoch too.

    Returns:
        None if no epoch has a loss at all, for want of complete trajectories.
    """
    some = [candidate for candidate in candidates if candidate.losses]
    if not some:
        return None
    enough = [candidate for candidate in some if len(candidate.losses) >= ENOUGH_SEEDS]
    compared = len(enough)

    def loss(candidate: Candidate) -> Estimate:
        return estimate(candidate.losses.values(), max(compared, 1))

    def excess(candidate: Candidate) -> Estimate | None:
        over = difference(candidate.losses, candidate.idle_losses)
        return estimate(over.values(), max(compared, 1)) if over else None

    def unexplained(candidate: Candidate) -> bool:
        over = excess(candidate)
        if over is not None and over.n >= ENOUGH_SEEDS:
            return over.positive
        return candidate.rate_matched

    def hurts(candidate: Candidate, comparisons: int) -> bool:
        both = (candidate.losses, candidate.drops)
        return all(estimate(values.values(), comparisons).positive for values in both)

    lost = [candidate for candidate in enough if hurts(candidate, max(compared, 1))]
    choices: tuple[tuple[Kind, list[Candidate]], ...] = (
        ("supported", [c for c in lost if unexplained(c)]),
        ("not beyond idle", [c for c in lost if excess(c) is not None]),
        ("confounded", lost),
        ("hint", [c for c in enough if hurts(c, 1)]),
        ("none", enough),
        ("not enough seeds", some),
    )
    kind, chosen = next((kind, candidates) for kind, candidates in choices if candidates)
    largest = max(chosen, key=lambda candidate: loss(candidate).mean)
    at_most = max((loss(candidate).high for candidate in enough), default=float("nan"))
    return Verdict(kind, largest.at, compared, loss(largest), excess(largest), largest.rate_matched, at_most)


def claims(study: StudyRecord, groups: Iterable[RemovalGroup | SlidingGroup]) -> tuple[Claim, ...]:
    """Judge every deficit of every group, in the order of the groups.

    A sliding group makes a claim only where a deficit has two onsets or more.

    Args:
        study: whose deficits these are.
        groups: of `cpframe.analysis.comparisons.all_groups`.
    """
    made = []
    for group in groups:
        candidates = _scar if isinstance(group, RemovalGroup) else _critical_period
        idle = next((curve for curve in group.curves if curve.deficit in study.idle), None)
        for curve in group.curves:
            if curve.deficit not in study.idle:
                verdict = judge(candidates(curve, idle))
                if verdict is not None:
                    made.append(Claim(group, curve.deficit, verdict))
    return tuple(made)


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
