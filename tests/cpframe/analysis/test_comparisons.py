"""Removal and sensitivity curves against brute force over the trajectories."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cpframe.analysis.comparisons import (
    all_groups,
    deficits_of,
    largest_drops,
    removal_groups,
    score_at,
    sliding_groups,
    variant_key,
)
from cpframe.records.model import CLEAN, StudyRecord, TrajectoryRecord

NewStudy = Callable[..., StudyRecord]


def one(study: StudyRecord, **wanted: object) -> TrajectoryRecord:
    """The only trajectory with these attributes."""
    (found,) = [t for t in study.trajectories if all(getattr(t, k) == v for k, v in wanted.items())]
    return found


def without_score(study: StudyRecord, **wanted: object) -> StudyRecord:
    lost = one(study, **wanted)
    broken = replace(lost, score=math.nan, status="failed", reason="diverged")
    return replace(study, trajectories=tuple(broken if t is lost else t for t in study.trajectories))


def test_removal_drops_are_paired_by_seed(study: StudyRecord) -> None:
    (group,) = removal_groups(study)
    assert group.recovery == 60
    assert [curve.deficit for curve in group.curves] == ["blur", "noise", "flip", "idle"]
    for curve in group.curves:
        assert [point.at for point in curve.points] == [5, 10, 20, 40, 80]
        for point in curve.points:
            for seed in range(5):
                score = one(study, protocol="removal", deficit=curve.deficit, offset=point.at, seed=seed).score
                reference = one(study, protocol="removal", deficit=CLEAN, seed=seed).score
                assert point.scores[seed] == score
                assert point.drops[seed] == pytest.approx(reference - score, abs=1e-15)  # one subtraction


def test_sliding_reference_is_the_clean_history_at_the_same_epoch(study: StudyRecord) -> None:
    (group,) = sliding_groups(study)
    assert (group.length, group.epochs) == (40, 120)
    for seed in range(5):
        clean = one(study, protocol="clean", seed=seed)
        assert clean.epochs == 140  # longer: its own score would be the wrong reference
        reference = np.mean([clean.history.test_accuracy[epoch - 1] for epoch in (116, 117, 118, 119, 120)])
        assert group.reference[seed] == pytest.approx(reference, rel=1e-12)
        for curve in group.curves:
            for point in curve.points:
                score = one(study, protocol="sliding", deficit=curve.deficit, onset=point.at, seed=seed).score
                assert point.drops[seed] == pytest.approx(reference - score, abs=1e-12)
                assert (point.onset, point.offset) == (point.at, point.at + 40)


def test_score_at_reads_the_last_epochs(study: StudyRecord) -> None:
    history = one(study, protocol="clean", seed=0).history
    assert score_at(history, 140, 1) == history.test_accuracy[-1]
    # Where fewer epochs have passed than a score takes, all of them count.
    assert score_at(history, 2, 5) == pytest.approx(history.test_accuracy[:2].mean(), rel=1e-12)


@pytest.mark.parametrize("epoch", [0, 141, 145])
def test_score_at_an_epoch_that_was_not_reached_is_nan(study: StudyRecord, epoch: int) -> None:
    assert math.isnan(score_at(one(study, protocol="clean", seed=0).history, epoch, 5))


def test_a_missing_score_takes_only_its_own_seed_away(study: StudyRecord) -> None:
    broken = without_score(study, protocol="removal", deficit="blur", offset=40, seed=2)
    (whole,), (group,) = removal_groups(study), removal_groups(broken)
    whole_points = {p.at: p for p in whole.curves[0].points}
    for point in group.curves[0].points:
        kept = {0, 1, 3, 4} if point.at == 40 else {0, 1, 2, 3, 4}
        assert set(point.drops) == kept
        assert all(point.drops[seed] == whole_points[point.at].drops[seed] for seed in kept)


def test_a_missing_reference_takes_the_drops_of_its_seed_and_no_scores(study: StudyRecord) -> None:
    broken = without_score(study, protocol="removal", deficit=CLEAN, seed=1)
    (group,) = removal_groups(broken)
    for curve in group.curves:
        for point in curve.points:
            assert set(point.scores) == {0, 1, 2, 3, 4}
            assert set(point.drops) == {0, 2, 3, 4}


def test_an_unfinished_clean_training_is_a_reference_as_far_as_it_got(
    study: StudyRecord, cut_short: Callable[..., TrajectoryRecord]
) -> None:
    def shortened(epochs: int) -> StudyRecord:
        return replace(
            study,
            trajectories=tuple(
                cut_short(t, epochs, "unfinished", "") if t.protocol == "clean" and t.seed == 0 else t
                for t in study.trajectories
            ),
        )

    assert 0 in sliding_groups(shortened(120))[0].reference
    assert 0 not in sliding_groups(shortened(119))[0].reference


def test_groups_are_split_by_variant_and_setting(new_study: NewStudy) -> None:
    variants = ({"optimizer.momentum": 0.0}, {"optimizer.momentum": 0.9})
    short = new_study(seeds=(0, 1), variants=variants)
    long = new_study(seeds=(0, 1), variants=variants, recovery=90, length=20)
    both = replace(short, trajectories=(*short.trajectories, *long.trajectories))
    settings = [(dict(g.variant)["optimizer.momentum"], g.recovery) for g in removal_groups(both)]
    assert settings == [(0.0, 60), (0.9, 60), (0.0, 90), (0.9, 90)]
    assert [(g.length, g.epochs) for g in sliding_groups(both)] == [(40, 120), (40, 120), (20, 120), (20, 120)]
    for group in removal_groups(both):
        for seed, score in group.reference.items():
            found = one(
                both, protocol="removal", deficit=CLEAN, seed=seed, variant=group.variant, epochs=group.recovery
            )
            assert score == found.score


def test_variants_are_the_same_whatever_the_order_of_their_keys() -> None:
    assert variant_key({"a": 1, "b": [2, 3]}) == variant_key({"b": [2, 3], "a": 1})
    assert variant_key({"a": 1}) != variant_key({"a": 2})


@pytest.mark.parametrize(
    ("rate", "restart", "matched"),
    [
        (lambda epoch: 0.02, False, True),
        (lambda epoch: 0.05 * 0.97**epoch, False, False),
        (lambda epoch: 0.05 * 0.97**epoch, True, True),
        (lambda epoch: 0.05 if epoch < 70 else 0.005, False, False),  # the step comes within the recovery
    ],
)
def test_rate_matched(new_study: NewStudy, rate: Callable[[int], float], restart: bool, matched: bool) -> None:
    made = new_study(seeds=(0,), until=(0, 40), onsets=(20,), rate=rate, restart=restart)
    points = [point for group in all_groups(made) for curve in group.curves for point in curve.points]
    assert len(points) == 8  # four deficits, two protocols
    assert all(point.rate_matched is matched for point in points)


@pytest.mark.parametrize(("rate", "matched"), [(lambda epoch: 0.02, True), (lambda epoch: 0.05 * 0.97**epoch, False)])
def test_rates_of_a_window_up_to_the_end_are_its_own(
    new_study: NewStudy, rate: Callable[[int], float], matched: bool
) -> None:
    made = new_study(seeds=(0,), until=(), onsets=(0, 80), length=40, epochs=120, rate=rate, metrics=False)
    assert [p.rate_matched for group in all_groups(made) for p in group.curves[0].points] == [matched] * 2


def test_idle_controls_come_last_whatever_their_name(study: StudyRecord) -> None:
    renamed = replace(study, idle=frozenset({"noise", "flip"}))
    assert deficits_of(renamed) == ("blur", "idle", "noise", "flip")  # controls last


def test_a_deficit_that_the_study_does_not_name_is_kept(study: StudyRecord) -> None:
    unnamed = replace(study, deficits={"idle": "idle", "flip": "vertical-flip"})
    assert deficits_of(unnamed) == ("flip", "blur", "noise", "idle")


def test_largest_drop_of_each_deficit(study: StudyRecord) -> None:
    (group,) = removal_groups(study)
    means = {
        (curve.deficit, point.offset): float(np.mean(list(point.drops.values())))
        for curve in group.curves
        for point in curve.points
    }
    found = largest_drops([group])
    for deficit in ("blur", "noise", "flip", "idle"):
        best = max((until for name, until in means if name == deficit), key=lambda until: means[deficit, until])
        assert found[deficit] == (0, best)
