"""The controls that the claims of a study still lack."""

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
        what: the control, in a few words.
        why: the reason why it matters.
    """

    what: str
    why: str


def missing_controls(
    study: StudyRecord, groups: Sequence[RemovalGroup | SlidingGroup], made: Iterable[Claim]
) -> tuple[MissingControl, ...]:
    """Return the controls that the study's claims lack, in the order of their weight.

    Args:
        study: the study that the claims are about.
        groups: its `cpframe.analysis.comparisons.all_groups`.
        made: its `cpframe.analysis.verdicts.claims`.
    """
    deficits = [name for name in deficits_of(study) if name not in study.idle]
    if not deficits:
        return (MissingControl("a deficit", "the study has none, so there is nothing to claim"),)
    return (
        *_seed_controls(groups, deficits),
        *_training_controls(study, groups),
        *_effect_controls(groups, deficits, made),
    )


def _seed_controls(groups: Sequence[RemovalGroup | SlidingGroup], deficits: Sequence[str]) -> Iterator[MissingControl]:
    """Yield the control that there are enough seeds to compare."""
    pairs = {name: _most_pairs(groups, name) for name in deficits}
    few = [name for name in deficits if pairs[name] < ENOUGH_SEEDS]
    if few:
        yield MissingControl(
            "seeds" if len(few) == len(deficits) else f"seeds of {', '.join(few)}",
            f"{max(pairs[name] for name in few)} of at least {ENOUGH_SEEDS} are complete both with and "
            "without the deficit; intervals mean little and no verdict is given",
        )


def _training_controls(study: StudyRecord, groups: Sequence[RemovalGroup | SlidingGroup]) -> Iterator[MissingControl]:
    """Yield the controls that tell a deficit from the training that it took away."""
    changing = [group for group in groups if _rate_changes(group)]
    if any(isinstance(group, RemovalGroup) and not _has_idle(study, group) for group in changing):
        yield MissingControl(
            "idle under removal",
            "the learning rate changes, so a late removal leaves less of it; "
            "only an idle deficit shows what that costs by itself",
        )
    if any(isinstance(group, SlidingGroup) and not _has_idle(study, group) for group in groups):
        yield MissingControl(
            "idle under sliding",
            "a window also takes training time away; only an idle window shows what that costs",
        )
    if changing and len(changing) == len(groups):
        yield MissingControl(
            "constant rate",
            "every variant's clean epochs run at other learning rates than the no-deficit training; "
            "a constant rate, or a restart at removal, takes that difference away",
        )


def _effect_controls(
    groups: Sequence[RemovalGroup | SlidingGroup], deficits: Sequence[str], made: Iterable[Claim]
) -> Iterator[MissingControl]:
    """Yield the controls that an effect of a deficit asks for."""
    kinds = [(claim.deficit, claim.verdict.kind) for claim in made]
    hurting = {deficit for deficit, kind in kinds if kind not in ("none", "not enough seeds")}
    harmless = {deficit for deficit, kind in kinds if kind == "none"} - hurting
    slid = {curve.deficit for group in groups if isinstance(group, SlidingGroup) for curve in group.curves}
    untimed = [name for name in deficits if name in hurting and name not in slid]
    if untimed:
        yield MissingControl(
            f"timing of {', '.join(untimed)}",
            "removal alone cannot tell when a deficit acts from how long; a sliding protocol can",
        )
    if hurting.issuperset(deficits):
        yield MissingControl(
            "negative control", "every deficit here has an effect; one that should leave no trace is needed"
        )
    elif len(deficits) < 2 and not harmless:
        yield MissingControl(
            "negative control",
            f"{deficits[0]} is the only deficit; a second one, which should leave no trace, is needed",
        )


def _most_pairs(groups: Iterable[RemovalGroup | SlidingGroup], deficit: str) -> int:
    """Seeds that have both a score under the deficit and one without it, where these are most."""
    curves = (curve for group in groups for curve in group.curves if curve.deficit == deficit)
    return max((len(point.drops) for curve in curves for point in curve.points), default=0)


def _rate_changes(group: RemovalGroup | SlidingGroup) -> bool:
    return any(point.rate_matched is False for curve in group.curves for point in curve.points)


def _has_idle(study: StudyRecord, group: RemovalGroup | SlidingGroup) -> bool:
    return any(curve.deficit in study.idle for curve in group.curves)
