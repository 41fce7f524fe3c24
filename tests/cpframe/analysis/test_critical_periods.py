"""Critical periods of curves with a known truth, and their intervals against scipy's t tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from scipy import stats

from cpframe.analysis.comparisons import Curve, Point, removal_groups, sliding_groups
from cpframe.analysis.critical_periods import recovery_limit, sensitive_onsets, simultaneous_drops
from cpframe.records.model import StudyRecord

NewStudy = Callable[..., StudyRecord]


def curve_of(drops: Mapping[int, list[float]]) -> Curve:
    """A curve with these paired drops, one per seed."""
    points = (
        Point(at, 0, at, dict(enumerate(values)), dict(enumerate(values)), rate_matched=True)
        for at, values in drops.items()
    )
    return Curve("blur", tuple(points))


def around(mean: float, deviation: float = 0.001) -> list[float]:
    """Five drops with that mean and standard deviation; with one of 0.001 their 99 % interval is about +-0.002."""
    wiggle = np.array([-1.0, -0.5, 0.0, 0.5, 1.0])
    return list(mean + deviation * wiggle / wiggle.std(ddof=1))


def test_simultaneous_intervals_hold_for_all_epochs_at_once() -> None:
    rng = np.random.default_rng(3)
    drops = {at: list(rng.normal(0.01, 0.004, 5)) for at in (10, 20, 40)} | {80: [0.1, 0.2]}
    found = simultaneous_drops(curve_of(drops).points)
    assert [point.at for point, _ in found] == [10, 20, 40]  # two seeds are not enough, and are not compared
    for point, drop in found:
        expected = stats.ttest_1samp(drops[point.at], 0.0).confidence_interval(1 - 0.05 / 3)
        assert (drop.low, drop.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_recovery_limit_of_a_curve_in_closed_form() -> None:
    # The drop rises by 0.0005 per epoch: above one point from epoch 20 on. The intervals of +-0.002 separate the steps.
    found = recovery_limit(curve_of({at: around(0.0005 * at) for at in (5, 15, 25, 35)}))
    assert (found.kind, found.recovers_until, found.persists_from) == ("found", 15, 25)
    assert found.interpolated == pytest.approx(20, rel=1e-9)
    assert (found.earliest, found.latest, found.seeds) == (15, 25, 5)


@pytest.mark.parametrize(("threshold", "epoch"), [(0.0025, 5), (0.005, 10), (0.015, 30)])
def test_recovery_limit_at_another_threshold(threshold: float, epoch: float) -> None:
    found = recovery_limit(curve_of({at: around(0.0005 * at) for at in (2, 15, 25, 35)}), threshold)
    assert found.interpolated == pytest.approx(epoch, rel=1e-9)
    assert found.threshold == threshold


def test_a_wide_interval_leaves_the_epoch_open() -> None:
    noisy = list(0.012 + 0.01 * np.array([-1.0, -0.5, 0.0, 0.5, 1.0]))
    found = recovery_limit(curve_of({10: around(0.0), 20: noisy, 40: noisy}))
    assert found.kind == "found"
    assert (found.earliest, found.latest) == (10, math.inf)


def test_a_dip_is_levelled_by_the_monotone_fit() -> None:
    # Least squares under the order constraint pools 0.014 and 0.004 into 0.009 (pool adjacent violators). The
    # intervals, +-0.012 for three epochs and standard deviations of 0.007, do not contradict that.
    wide = {10: around(0.014, 0.007), 20: around(0.004, 0.007), 40: around(0.03)}
    found = recovery_limit(curve_of(wide))
    assert (found.recovers_until, found.persists_from) == (20, 40)
    assert found.interpolated == pytest.approx(20 + 20 * (0.010 - 0.009) / (0.03 - 0.009), rel=1e-9)


def test_drops_that_fall_with_a_longer_deficit_are_not_monotone() -> None:
    contradicting = {10: around(0.03), 20: around(0.0), 40: around(0.0), 80: around(0.03)}
    found = recovery_limit(curve_of(contradicting))
    assert (found.kind, found.last, found.seeds) == ("not monotone", 80, 5)
    assert all(
        map(math.isnan, (found.recovers_until, found.persists_from, found.interpolated, found.earliest, found.latest))
    )
    # A decrease on one side of the threshold does not contradict the answer, nor does one within the +-0.002.
    assert recovery_limit(curve_of({10: around(0.05), 20: around(0.03), 40: around(0.04)})).persists_from == 10
    assert recovery_limit(curve_of({10: around(0.011), 20: around(0.009), 40: around(0.04)})).kind == "found"


def test_a_significant_drop_is_not_pooled_away() -> None:
    wide = list(0.004 + 0.03 * np.array([-1.0, -0.5, 0.0, 0.5, 1.0]))
    found = recovery_limit(curve_of({10: around(0.0), 20: around(0.014), 40: wide}))
    # The monotone fit is 0.009 at 20 and 40. The drop at 20 is known to exceed a point, and 40 does not contradict it.
    assert (found.kind, found.recovers_until, found.persists_from) == ("found", 10, 20)
    assert (found.earliest, found.latest) == (10, 20)
    assert 10 < found.interpolated <= 20


def test_a_limit_before_the_first_removal() -> None:
    found = recovery_limit(curve_of({10: around(0.02), 20: around(0.04)}))
    assert (found.kind, found.recovers_until, found.persists_from) == ("before the first", 0, 10)
    assert found.interpolated == pytest.approx(5, rel=1e-9)  # on the straight line from no drop at epoch 0
    assert (found.earliest, found.latest) == (0, 10)


def test_a_limit_after_the_last_removal() -> None:
    found = recovery_limit(curve_of({10: around(0.001), 20: around(-0.002)}))
    assert (found.kind, found.recovers_until) == ("after the last", 20)
    assert math.isnan(found.persists_from)
    assert math.isnan(found.interpolated)
    assert (found.earliest, found.latest) == (20, math.inf)


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_few_seeds_are_not_enough(seeds: int) -> None:
    curve = curve_of({10: around(0.02)[:seeds], 20: around(0.04)[:seeds]})
    for found in (recovery_limit(curve), sensitive_onsets(curve)):
        assert (found.kind, found.seeds) == ("not enough seeds", seeds)
        assert math.isnan(found.earliest)


@pytest.mark.parametrize("threshold", [-0.01, math.nan, math.inf])
@pytest.mark.parametrize("question", [recovery_limit, sensitive_onsets])
def test_invalid_thresholds_are_refused(question: Callable[..., object], threshold: float) -> None:
    with pytest.raises(ValueError, match="threshold must be a drop of at least 0"):
        question(curve_of({}), threshold)


def test_the_interval_covers_the_true_epoch(new_study: NewStudy) -> None:
    # The drop is 0.0004 per epoch, so the true limit is epoch 25, between the removals at 20 and 40.
    missed = 0
    for first in range(0, 200, 4):
        made = new_study(
            seeds=tuple(range(first, first + 4)),
            effects={"blur": lambda onset, offset: 0.0004 * offset},
            deficits={"blur": "blur"},
            onsets=(),
            until=(0, 10, 20, 40, 80),
            metrics=False,
        )
        found = recovery_limit(removal_groups(made)[0].curves[0])
        missed += not found.earliest < 25 <= found.latest
    # At most 5 % of 50 studies are expected to miss; 8 has a probability below 0.5 % under that.
    assert missed <= 7


def test_sensitive_onsets_and_their_interval() -> None:
    wide = list(0.012 + 0.004 * np.array([-1.0, -0.5, 0.0, 0.5, 1.0]))
    found = sensitive_onsets(curve_of({0: around(0.005), 20: around(0.03), 40: wide, 60: around(0.0)}))
    assert found.kind == "found"
    assert found.sensitive == (20, 40)
    assert found.surely == (20,)
    assert found.possibly == (20, 40)
    assert (found.last, found.earliest, found.latest) == (40, 20, 40)


def test_onsets_up_to_the_last_and_none() -> None:
    assert sensitive_onsets(curve_of({0: around(0.02), 20: around(0.03)})).kind == "up to the last onset"
    none = sensitive_onsets(curve_of({0: around(0.002), 20: around(-0.03)}))
    assert (none.kind, none.sensitive, none.earliest, none.latest) == ("none", (), -math.inf, -math.inf)


def test_a_synthetic_study_has_its_period(study: StudyRecord) -> None:
    # The drop of blur is 0.024 * until / 40 up to epoch 40: one point at 16.7.
    blur = recovery_limit(removal_groups(study)[0].curves[0])
    assert blur.kind == "found"
    assert blur.earliest < 0.01 / 0.024 * 40 <= blur.latest
    # The drop of a window from onset s is 0.024 exp(-s / 12): 2.4, 0.5 and 0.1 points.
    assert sensitive_onsets(sliding_groups(study)[0].curves[0]).last == 0
