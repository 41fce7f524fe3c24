"""The part of a removal curve that idle explains, in studies in which it explains all, half or none of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cpframe.analysis.comparisons import all_groups
from cpframe.analysis.confounds import confounds, ratio_interval
from cpframe.records.model import StudyRecord, TrajectoryRecord

NewStudy = Callable[..., StudyRecord]
CutShort = Callable[..., TrajectoryRecord]
BLUR_ONLY: dict[str, object] = {"effects": {"blur": lambda onset, offset: 0.03}, "deficits": {"blur": "blur"}}


def falling_rate(epoch: int) -> float:
    return 0.05 * 0.95**epoch


def with_idle(new_study: NewStudy, idle: float, **changes: object) -> StudyRecord:
    """Blur has a drop of up to 6 points and idle that fraction of it, and the rate falls."""
    effects = {
        "blur": lambda onset, offset: 0.06 * min(1.0, offset / 40),
        "idle": lambda onset, offset: idle * 0.06 * min(1.0, offset / 40),
    }
    defaults = {"effects": effects, "deficits": {"blur": "blur", "idle": "idle"}, "rate": falling_rate}
    return new_study(**({"onsets": (), "metrics": False} | defaults | changes))


@pytest.mark.parametrize(
    ("idle", "kind"), [(1.0, "idle reproduces the curve"), (1.6, "idle reproduces the curve"), (0.5, "partly")]
)
def test_idle_explains_as_much_as_it_was_made_to(new_study: NewStudy, idle: float, kind: str) -> None:
    made = with_idle(new_study, idle)
    (found,) = confounds(made, all_groups(made))
    assert (found.deficit, found.kind, found.at) == ("blur", kind, (5, 10, 20, 40, 80))
    assert found.fraction.low <= idle <= found.fraction.high


def test_idle_without_a_drop_explains_nothing(new_study: NewStudy) -> None:
    made = with_idle(new_study, 0.0)
    (found,) = confounds(made, all_groups(made))
    assert found.kind == "not"
    assert found.fraction.high < 0.5


def test_numbers_are_means_over_the_curve(new_study: NewStudy) -> None:
    made = with_idle(new_study, 0.5)
    (found,) = confounds(made, all_groups(made))
    score = {(t.deficit, t.offset, t.seed): t.score for t in made.trajectories if t.protocol == "removal"}
    drop = [np.mean([score["clean", 0, s] - score["blur", u, s] for u in (5, 10, 20, 40, 80)]) for s in range(5)]
    idle = [np.mean([score["clean", 0, s] - score["idle", u, s] for u in (5, 10, 20, 40, 80)]) for s in range(5)]
    expected = stats.ttest_rel(drop, idle).confidence_interval(0.95)
    assert found.drop.mean == pytest.approx(np.mean(drop), rel=1e-9)
    assert found.idle.mean == pytest.approx(np.mean(idle), rel=1e-9)
    assert (found.excess.low, found.excess.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert found.fraction.mean == pytest.approx(np.mean(idle) / np.mean(drop), rel=1e-9)


def test_fieller_ends_are_where_the_t_test_turns() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.02, 0.004, 6), rng.normal(0.04, 0.003, 6)
    found = ratio_interval(list(x), list(y))
    for end in (found.low, found.high):
        assert stats.ttest_1samp(x - end * y, 0.0).pvalue == pytest.approx(0.05, rel=1e-6)
    assert stats.ttest_1samp(x - found.mean * y, 0.0).pvalue > 0.05
    assert found.mean == pytest.approx(x.mean() / y.mean(), rel=1e-12)


@pytest.mark.parametrize(
    ("x", "y"), [([], []), ([0.1], [0.2]), ([0.1, 0.2, 0.3], [0.01, -0.02, 0.03]), ([0.1, 0.2], [0.1, -0.1])]
)
def test_ratios_to_a_mean_that_may_be_0_have_no_interval(x: list[float], y: list[float]) -> None:
    found = ratio_interval(x, y)
    assert math.isnan(found.low)
    assert math.isnan(found.high)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"rate": lambda epoch: 0.02} | BLUR_ONLY, "rates match"),
        ({"restart": True} | BLUR_ONLY, "rates match"),
        ({"seeds": (0, 1)}, "not enough seeds"),
        (BLUR_ONLY, "no idle"),
        ({"noise": 0.03, "seeds": (0, 1, 2)}, "no drop"),
    ],
)
def test_curves_that_cannot_be_compared_have_a_kind_of_their_own(
    new_study: NewStudy, changes: dict[str, object], kind: str
) -> None:
    made = with_idle(new_study, 1.0, **({"noise": 0.001} | changes))
    (found,) = confounds(made, all_groups(made))
    assert found.kind == kind


@pytest.mark.parametrize("changes", [{"rate": lambda epoch: 0.02}, {"restart": True}])
def test_a_measured_idle_is_compared_although_rates_match(new_study: NewStudy, changes: dict[str, object]) -> None:
    made = with_idle(new_study, 1.0, noise=0.001, **changes)
    (found,) = confounds(made, all_groups(made))
    assert found.kind == "idle reproduces the curve"
    assert found.fraction.low <= 1 <= found.fraction.high


def test_rates_are_unknown_until_a_clean_epoch_is_recorded(new_study: NewStudy, cut_short: CutShort) -> None:
    made = with_idle(new_study, 1.0, rate=lambda epoch: 0.02, **BLUR_ONLY)
    begun = tuple(t if t.deficit == "clean" else cut_short(t, t.offset, "unfinished", "") for t in made.trajectories)
    early = replace(made, trajectories=begun)
    groups = all_groups(early)
    assert [found.kind for found in confounds(early, groups)] == ["unknown yet"]
    assert {point.rate_matched for point in groups[0].curves[0].points} == {None}
    one_more = (*(t for t in begun if t.seed), *(t for t in made.trajectories if t.seed == 0))
    later = replace(made, trajectories=one_more)
    assert {point.rate_matched for point in all_groups(later)[0].curves[0].points} == {True}


def test_a_wide_interval_decides_nothing(new_study: NewStudy) -> None:
    made = with_idle(new_study, 0.4, noise=0.03, seeds=(0, 1, 2, 3))
    (found,) = confounds(made, all_groups(made))
    assert found.kind in ("undecided", "no drop")
