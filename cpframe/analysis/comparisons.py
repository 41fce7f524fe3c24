"""Comparisons of every trajectory with the no-deficit trajectory of its seed: removal and sensitivity curves."""

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
    """The trajectories of one deficit that differ only in their seed.

    Attributes:
        at: the epoch against which the curve is drawn: the offset of the deficit (removal) or its onset (sliding).
        onset: the first epoch under the deficit (0, 1, ...).
        offset: the first epoch after the deficit.
        scores: the final test accuracy by seed, from 0 to 1, of the complete trajectories.
        drops: the score of the no-deficit trajectory minus the score, by seed, for the seeds that have both. In the
            sliding protocol a drop is a sensitivity.
        rate_matched: whether the clean epochs after the deficit ran at the learning rates of the first epochs of the
            no-deficit training, in the epochs recorded so far. True for a constant rate and for a restart at removal.
            If the deficit lasts to the end of the training, the epochs under the deficit are compared instead. None
            while no such epoch is recorded.
    """

    at: int
    onset: int
    offset: int
    scores: BySeed
    drops: BySeed
    rate_matched: bool | None


@dataclass(frozen=True)
class Curve:
    """The points of one deficit, by increasing `at`."""

    deficit: str
    points: tuple[Point, ...]


@dataclass(frozen=True)
class RemovalGroup:
    """The trajectories of the removal protocol that have the same variant and number of clean epochs.

    The deficit lasts from epoch 0 to an offset; then follows the same number of clean epochs for every trajectory.

    Attributes:
        variant: the variant of the trajectories.
        recovery: the number of clean epochs after the deficit.
        reference: the score of the no-deficit trajectory, by seed.
        curves: one curve per deficit, in the order of the study, idle controls last.
    """

    variant: Mapping[str, object]
    recovery: int
    reference: BySeed
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class SlidingGroup:
    """The trajectories of the sliding protocol that have the same variant, window length and number of epochs.

    The deficit lasts from an onset for `length` epochs.

    Attributes:
        variant: the variant of the trajectories.
        length: the number of epochs under the deficit.
        epochs: the number of epochs of the whole training.
        reference: the test accuracy of the no-deficit trajectory after `epochs` epochs, by seed.
        curves: one curve per deficit, in the order of the study, idle controls last.
    """

    variant: Mapping[str, object]
    length: int
    epochs: int
    reference: BySeed
    curves: tuple[Curve, ...]


def variant_key(variant: Mapping[str, object]) -> str:
    """Return a string that is the same for two variants exactly if the variants are equal."""
    return json.dumps(dict(variant), sort_keys=True, default=str)


def deficits_of(study: StudyRecord) -> tuple[str, ...]:
    """Return the names of the deficits of the trajectories, in the order of the study, idle controls last."""
    used = {trajectory.deficit for trajectory in study.trajectories} - {CLEAN}
    named = [name for name in study.deficits if name in used]
    named += sorted(used.difference(named))
    return tuple(sorted(named, key=lambda name: name in study.idle))


def score_at(history: History, epoch: int, score_epochs: int) -> float:
    """Return the score at an epoch: the mean test accuracy over the epochs in (epoch - score_epochs, epoch].

    Args:
        history: the history of a training, which may be longer.
        epoch: the number of epochs trained.
        score_epochs: the number of epochs in the mean, as in the study; fewer if fewer epochs have been trained.

    Returns:
        A number from 0 to 1, or nan if the history lacks one of these epochs.
    """
    last = (history.epoch > epoch - score_epochs) & (history.epoch <= epoch)
    if epoch < 1 or int(last.sum()) < min(score_epochs, epoch):
        return math.nan
    return float(history.test_accuracy[last].mean())


def removal_groups(study: StudyRecord) -> tuple[RemovalGroup, ...]:
    """Return the removal curves: the final accuracy against the epoch at which the deficit ends.

    The reference of a trajectory is the no-deficit trajectory of the removal protocol with the same seed, variant and
    number of clean epochs.
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
    """Return the sensitivity curves: the drop after a deficit of fixed length against the epoch at which it begins.

    The reference of a trajectory is the no-deficit training of the same seed and variant after the same number of
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
    """Return the removal groups, then the sliding groups, each in the order of the study."""
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
    """Return first minus second by seed, for the seeds that both have."""
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
    # Rates are recomputed, not copied, so they are equal up to rounding. No useful schedule changes by 1e-6 per epoch.
    return after.tobytes() == first.tobytes() or bool(np.allclose(after, first, rtol=1e-6, atol=0.0))


def largest_drops(groups: Iterable[RemovalGroup | SlidingGroup]) -> dict[str, tuple[int, int]]:
    """Return the (onset, offset) of the largest mean drop of each deficit, including idle controls."""
    worst: dict[str, tuple[float, tuple[int, int]]] = {}
    for group in groups:
        for curve in group.curves:
            for point in curve.points:
                if point.drops:
                    drop = float(np.mean(list(point.drops.values())))
                    if curve.deficit not in worst or drop > worst[curve.deficit][0]:
                        worst[curve.deficit] = drop, (point.onset, point.offset)
    return {deficit: window for deficit, (_, window) in worst.items()}
