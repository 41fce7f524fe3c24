"""Every trajectory against the one of its seed that had no deficit: removal curves and sensitivity curves."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cpframe.records.model import CLEAN, History, StudyRecord, TrajectoryRecord

BySeed = Mapping[int, float]


@dataclass(frozen=True)
class Point:
    """The trajectories of one deficit that differ by their seed alone.

    Attributes:
        at: the epoch that a curve runs over: the deficit's offset (removal) or its onset (sliding), 0, 1, ...
        onset: first epoch under the deficit.
        offset: first epoch after it.
        scores: final test accuracies of the complete trajectories, from 0 to 1.
        drops: reference minus score, for the seeds that have both; what a sliding protocol calls sensitivity.
        rate_matched: whether the clean epochs that follow the deficit ran at the learning rates of the first epochs
            of the no-deficit training, as far as is recorded: true of a constant rate and of a restart at removal.
            Where a deficit lasts to the end, its own epochs count. None while none of these are recorded.
    """

    at: int
    onset: int
    offset: int
    scores: BySeed
    drops: BySeed
    rate_matched: bool | None


@dataclass(frozen=True)
class Curve:
    """One deficit's points, by increasing `at`."""

    deficit: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class RemovalGroup:
    """A group of the removal protocol: deficit in [0, offset), then the same number of clean epochs for all.

    Attributes:
        variant: values of the grid that all its trajectories share.
        recovery: clean epochs after the deficit.
        reference: scores of the no-deficit trajectories.
        curves: one a deficit, in the order of the study, controls last.
    """

    variant: Mapping[str, object]
    recovery: int
    reference: BySeed
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class SlidingGroup:
    """A group of the sliding protocol: deficit in [onset, onset + length), the same number of epochs in all.

    Attributes:
        variant: values of the grid that all its trajectories share.
        length: epochs of the deficit.
        epochs: of the whole training.
        reference: test accuracy of the no-deficit trajectories when they had trained for that many epochs.
        curves: one a deficit, in the order of the study, controls last.
    """

    variant: Mapping[str, object]
    length: int
    epochs: int
    reference: BySeed
    curves: tuple[Curve, ...]


def variant_key(variant: Mapping[str, object]) -> str:
    """A string that two variants share exactly if they are the same, whatever the types of their values."""
    return json.dumps(dict(variant), sort_keys=True, default=str)


def deficits_of(study: StudyRecord) -> tuple[str, ...]:
    """Names of the deficits that trajectories have: in the study's order, idle controls last."""
    used = {trajectory.deficit for trajectory in study.trajectories} - {CLEAN}
    named = [name for name in study.deficits if name in used]
    named += sorted(used.difference(named))
    return tuple(sorted(named, key=lambda name: name in study.idle))


def score_at(history: History, epoch: int, score_epochs: int) -> float:
    """Test accuracy at an epoch, as scores are taken: the mean over the epochs in (epoch - score_epochs, epoch].

    Args:
        history: of a training that may have gone on for longer.
        epoch: number of epochs trained.
        score_epochs: as in the study; where fewer epochs have passed, all of them count.

    Returns:
        A number from 0 to 1, or nan if the history lacks one of these epochs.
    """
    last = (history.epoch > epoch - score_epochs) & (history.epoch <= epoch)
    if epoch < 1 or int(last.sum()) < min(score_epochs, epoch):
        return math.nan
    return float(history.test_accuracy[last].mean())


def removal_groups(study: StudyRecord) -> tuple[RemovalGroup, ...]:
    """Removal curves: final accuracy against the epoch at which the deficit ends.

    A trajectory's reference is the no-deficit trajectory of the same seed, variant and number of clean epochs, which
    the removal protocol has for itself.
    """
    groups: dict[tuple[str, int], list[TrajectoryRecord]] = {}
    for trajectory in study.trajectories:
        if trajectory.protocol == "removal":
            key = variant_key(trajectory.variant), trajectory.epochs - trajectory.offset
            groups.setdefault(key, []).append(trajectory)
    found, deficits = [], deficits_of(study)
    for (_, recovery), members in groups.items():
        references = {t.seed: t for t in members if t.deficit == CLEAN}
        scores = {seed: t.score for seed, t in references.items() if math.isfinite(t.score)}
        curves = _curves(deficits, members, references, scores, by_offset=True)
        found.append(RemovalGroup(members[0].variant, recovery, scores, curves))
    return tuple(found)


def sliding_groups(study: StudyRecord) -> tuple[SlidingGroup, ...]:
    """Sensitivity curves: what a deficit of fixed length costs against the epoch at which it begins.

    A trajectory's reference is the no-deficit training of the same seed and variant, read at the same number of
    epochs (see `score_at`).
    """
    clean = {(variant_key(t.variant), t.seed): t for t in study.trajectories if t.protocol == "clean"}
    groups: dict[tuple[str, int, int], list[TrajectoryRecord]] = {}
    for trajectory in study.trajectories:
        if trajectory.protocol == "sliding" and trajectory.deficit != CLEAN:
            key = variant_key(trajectory.variant), trajectory.offset - trajectory.onset, trajectory.epochs
            groups.setdefault(key, []).append(trajectory)
    found, deficits = [], deficits_of(study)
    for (variant, length, epochs), members in groups.items():
        references = {seed: t for (key, seed), t in clean.items() if key == variant}
        read = {seed: score_at(t.history, epochs, study.score_epochs) for seed, t in references.items()}
        scores = {seed: score for seed, score in read.items() if math.isfinite(score)}
        curves = _curves(deficits, members, references, scores, by_offset=False)
        found.append(SlidingGroup(members[0].variant, length, epochs, scores, curves))
    return tuple(found)


def all_groups(study: StudyRecord) -> tuple[RemovalGroup | SlidingGroup, ...]:
    """Removal groups, then sliding groups, each in the order of the study."""
    return *removal_groups(study), *sliding_groups(study)


def _curves(
    deficits: Sequence[str],
    members: Sequence[TrajectoryRecord],
    references: Mapping[int, TrajectoryRecord],
    reference_scores: BySeed,
    *,
    by_offset: bool,
) -> tuple[Curve, ...]:
    points: dict[str, dict[int, list[TrajectoryRecord]]] = {}
    for trajectory in members:
        at = trajectory.offset if by_offset else trajectory.onset
        points.setdefault(trajectory.deficit, {}).setdefault(at, []).append(trajectory)
    return tuple(
        Curve(deficit, tuple(_point(at, found[at], references, reference_scores) for at in sorted(found)))
        for deficit in deficits
        if (found := points.get(deficit))
    )


def _point(
    at: int,
    trajectories: Sequence[TrajectoryRecord],
    references: Mapping[int, TrajectoryRecord],
    reference_scores: BySeed,
) -> Point:
    scores = {t.seed: t.score for t in trajectories if math.isfinite(t.score)}
    return Point(
        at=at,
        onset=trajectories[0].onset,
        offset=trajectories[0].offset,
        scores=scores,
        drops=difference(reference_scores, scores),
        rate_matched=_all_matched((t, references[t.seed]) for t in trajectories if t.seed in references),
    )


def difference(first: BySeed, second: BySeed) -> dict[int, float]:
    """First minus second, for the seeds that both have."""
    return {seed: first[seed] - second[seed] for seed in first if seed in second}


def _all_matched(pairs: Iterable[tuple[TrajectoryRecord, TrajectoryRecord]]) -> bool | None:
    known = [matched for pair in pairs if (matched := _rate_matched(*pair)) is not None]
    return all(known) if known else None


def _rate_matched(trajectory: TrajectoryRecord, reference: TrajectoryRecord) -> bool | None:
    since = trajectory.offset if trajectory.offset < trajectory.epochs else trajectory.onset
    after = trajectory.history.learning_rate[trajectory.history.epoch > since]
    first = reference.history.learning_rate
    rows = min(after.size, first.size)
    if rows == 0:
        return None
    after, first = after[:rows], first[:rows]
    # Schedules are recomputed, not copied: equal up to rounding. No schedule of use changes by 1e-6 in an epoch.
    return after.tobytes() == first.tobytes() or bool(np.allclose(after, first, rtol=1e-6, atol=0.0))


def largest_drops(groups: Iterable[RemovalGroup | SlidingGroup]) -> dict[str, tuple[int, int]]:
    """Of each deficit the (onset, offset) at which it cost most, by the mean over seeds; idle controls too."""
    worst: dict[str, tuple[float, tuple[int, int]]] = {}
    for group in groups:
        for curve in group.curves:
            for point in curve.points:
                if point.drops:
                    drop = float(np.mean(list(point.drops.values())))
                    if curve.deficit not in worst or drop > worst[curve.deficit][0]:
                        worst[curve.deficit] = drop, (point.onset, point.offset)
    return {deficit: window for deficit, (_, window) in worst.items()}
