"""The controls that a study still lacks for its claims."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cpframe.analysis.comparisons import RemovalGroup, SlidingGroup, deficits_of
from cpframe.analysis.statistics import ENOUGH_SEEDS
from cpframe.analysis.verdicts import Claim
from cpframe.records.model import StudyRecord


@dataclass(frozen=True)
class MissingControl:
    """A control that a study lacks.

    Attributes:
        what: the name of the control, in a few words.
        why: the reason why it is needed.
    """

    what: str
    why: str


def missing_controls(
    study: StudyRecord, groups: Sequence[RemovalGroup | SlidingGroup], claims: Iterable[Claim]
) -> tuple[MissingControl, ...]:
    """Return the controls that the claims of a study lack, the most important first.

    Args:
        study: the study.
        groups: the groups of `cpframe.analysis.comparisons.all_groups`.
        claims: the claims of `cpframe.analysis.verdicts.claims`.
    """
    deficits = [name for name in deficits_of(study) if name not in study.idle]
    if not deficits:
        return (MissingControl("a deficit", "the study has no deficit, so it makes no claim"),)
    return (
        *_seed_controls(groups, deficits),
        *_training_controls(study, groups),
        *_effect_controls(groups, deficits, claims),
    )


def _seed_controls(groups: Sequence[RemovalGroup | SlidingGroup], deficits: Sequence[str]) -> Iterator[MissingControl]:
    """Yield the missing seeds."""
    pairs = {name: _most_pairs(groups, name) for name in deficits}
    few = [name for name in deficits if pairs[name] < ENOUGH_SEEDS]
    if few:
        yield MissingControl(
            "seeds" if len(few) == len(deficits) else f"seeds of {', '.join(few)}",
            f"{max(pairs[name] for name in few)} of at least {ENOUGH_SEEDS} are complete both with and "
            "without the deficit; with fewer, intervals mean little and no verdict is given",
        )


def _training_controls(study: StudyRecord, groups: Sequence[RemovalGroup | SlidingGroup]) -> Iterator[MissingControl]:
    """Yield the missing controls that separate the effect of a deficit from that of lost training."""
    changing = [group for group in groups if _rate_changes(group)]
    if any(isinstance(group, RemovalGroup) and not _has_idle(study, group) for group in changing):
        yield MissingControl(
            "idle under removal",
            "the learning rate changes, so after a late removal the network trains at lower rates; "
            "only an idle deficit shows the drop that this causes alone",
        )
    if any(isinstance(group, SlidingGroup) and not _has_idle(study, group) for group in groups):
        yield MissingControl(
            "idle under sliding",
            "a window also takes training time away; only an idle window shows the drop that this causes alone",
        )
    if changing and len(changing) == len(groups):
        yield MissingControl(
            "constant rate",
            "in every variant the clean epochs run at other learning rates than the no-deficit training; "
            "a constant rate, or a restart at removal, removes that difference",
        )


def _effect_controls(
    groups: Sequence[RemovalGroup | SlidingGroup], deficits: Sequence[str], claims: Iterable[Claim]
) -> Iterator[MissingControl]:
    """Yield the missing controls on the effects that were found."""
    kinds = [(claim.deficit, claim.verdict.kind) for claim in claims]
    with_effect = {deficit for deficit, kind in kinds if kind not in ("none", "not enough seeds")}
    without_effect = {deficit for deficit, kind in kinds if kind == "none"} - with_effect
    slid = {curve.deficit for group in groups if isinstance(group, SlidingGroup) for curve in group.curves}
    untimed = [name for name in deficits if name in with_effect and name not in slid]
    if untimed:
        yield MissingControl(
            f"timing of {', '.join(untimed)}",
            "the removal protocol cannot separate the onset of a deficit from its length; a sliding protocol can",
        )
    if with_effect.issuperset(deficits):
        yield MissingControl(
            "negative control", "every deficit here has an effect; a deficit without an expected effect is needed"
        )
    elif len(deficits) < 2 and not without_effect:
        yield MissingControl(
            "negative control",
            f"{deficits[0]} is the only deficit; a second one, without an expected effect, is needed",
        )


def _most_pairs(groups: Iterable[RemovalGroup | SlidingGroup], deficit: str) -> int:
    """Return the largest number of seeds, over epochs, that have a score both with and without the deficit."""
    curves = (curve for group in groups for curve in group.curves if curve.deficit == deficit)
    return max((len(point.drops) for curve in curves for point in curve.points), default=0)


def _rate_changes(group: RemovalGroup | SlidingGroup) -> bool:
    return any(point.rate_matched is False for curve in group.curves for point in curve.points)


def _has_idle(study: StudyRecord, group: RemovalGroup | SlidingGroup) -> bool:
    return any(curve.deficit in study.idle for curve in group.curves)
