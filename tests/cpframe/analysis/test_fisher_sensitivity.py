"""The exponential fit against scipy's least squares and known curves; the pairing against the histories."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.optimize import curve_fit

from cpframe.analysis.comparisons import all_groups
from cpframe.analysis.fisher_sensitivity import fit_exponential, links
from cpframe.analysis.metric_curves import metric_curves
from cpframe.records.model import StudyRecord

NewStudy = Callable[..., StudyRecord]
S = np.linspace(0, 0.03, 9)


def test_an_exact_exponential_is_recovered() -> None:
    found = fit_exponential(S, 40 * np.exp(80 * S) + 90)
    assert found.kind == "exponential"
    # The minimum of squares is found to about the root of double precision.
    assert (found.a, found.b, found.c) == pytest.approx((40, 90, 80), rel=1e-5)
    assert found.c_low <= found.c <= found.c_high
    assert found.r_squared == pytest.approx(1, abs=1e-10)
    assert found.at(S) == pytest.approx(40 * np.exp(80 * S) + 90, rel=1e-6)


@pytest.mark.parametrize("c", [-120.0, 60.0, 150.0])
def test_noisy_fits_are_scipys(c: float) -> None:
    f = 50 * np.exp(c * S) + 100
    f += np.random.default_rng(0).normal(0, 0.03 * np.ptp(f), S.size)
    found = fit_exponential(S, f)
    expected, _ = curve_fit(lambda s, a, b, c: a * np.exp(c * s) + b, S, f, p0=(50, 100, c))
    residuals = f - (expected[0] * np.exp(expected[2] * S) + expected[1])
    assert (found.a, found.b, found.c) == pytest.approx(tuple(expected), rel=1e-4)  # curve_fit stops at 1e-8 of F
    assert found.residual == pytest.approx(math.sqrt((residuals**2).sum() / 6), rel=1e-6)
    assert found.r_squared == pytest.approx(1 - (residuals**2).sum() / ((f - f.mean()) ** 2).sum(), rel=1e-6)
    assert found.n == 9


def test_the_interval_of_c_covers_it() -> None:
    missed = 0
    for seed in range(200):
        f = 50 * np.exp(80 * S) + 100 + np.random.default_rng(seed).normal(0, 15, S.size)
        found = fit_exponential(S, f)
        missed += not found.c_low <= 80 <= found.c_high
    # 5 % of 200 are expected; the profile's region is nearly exact. 10 +- 3 standard deviations of the binomial.
    assert 1 <= missed <= 19


def test_units_change_nothing_but_the_numbers() -> None:
    f = 50 * np.exp(80 * S) + 100 + np.random.default_rng(1).normal(0, 10, S.size)
    one, other = fit_exponential(S, f), fit_exponential(100 * S, 1e-3 * f)
    assert other.c == pytest.approx(one.c / 100, rel=1e-6)
    assert (other.a, other.b) == pytest.approx((1e-3 * one.a, 1e-3 * one.b), rel=1e-5)
    assert other.r_squared == pytest.approx(one.r_squared, rel=1e-9)


def test_a_straight_line_is_called_one() -> None:
    f = 100 + 2000 * S + np.random.default_rng(2).normal(0, 1, S.size)
    found = fit_exponential(S, f)
    assert found.kind == "straight"
    assert found.c_low < 0 < found.c_high
    assert found.at(S) == pytest.approx(100 + 2000 * S, abs=3)


def test_a_jump_at_one_point_leaves_c_undetermined() -> None:
    found = fit_exponential([0, 1, 2, 3, 4], [1.0, 1.1, 0.9, 1.0, 9.0])
    assert found.kind == "undetermined"
    assert math.isinf(found.c_high)


def test_noise_leaves_c_undetermined() -> None:
    found = fit_exponential(S[:5], np.random.default_rng(5).normal(0, 1, 5))
    assert found.kind == "undetermined"
    assert math.isinf(found.c_low) or math.isinf(found.c_high)


@pytest.mark.parametrize(
    ("s", "f", "kind"),
    [
        ([], [], "too few points"),
        ([0.1, 0.2, 0.3], [1, 2, 4], "too few points"),
        ([0.1, 0.2, 0.3, math.nan], [1, 2, 4, 8], "too few points"),
        ([0.1] * 6, [1, 2, 3, 4, 5, 6], "constant"),
        ([0.1, 0.1, 0.1, 0.2, 0.2], [1, 2, 3, 4, 5], "constant"),
        ([0.0, 0.1, 0.2, 0.3], [7, 7, 7, 7], "constant"),
        ([0.0, 0.0, 0.0, 0.0], [0, 0, 0, 0], "constant"),
    ],
)
def test_what_cannot_be_fitted_is_an_answer(s: list[float], f: list[float], kind: str) -> None:
    found = fit_exponential(s, f)
    assert found.kind == kind
    assert math.isnan(found.c)
    assert np.isnan(found.at(np.array([0.1]))).all()


def test_pairing_reads_the_clean_training_in_the_same_window(study: StudyRecord) -> None:
    curves = metric_curves(study, "fisher")
    found = links(study, all_groups(study), curves)
    assert [link.deficit for link in found] == ["blur", "noise", "flip"]  # idle is a control
    clean = [t.history for t in study.trajectories if t.protocol == "clean"]
    for link in found:
        for point in link.points:
            inside = []
            for history in clean:
                totals = history.metrics["fisher"].values.sum(axis=1)
                pairs = zip(history.measured_epoch, totals, strict=True)
                inside += [total for epoch, total in pairs if point.onset < epoch <= point.onset + 40]
            assert point.fisher == pytest.approx(np.mean(inside), rel=1e-12)
        assert link.fit.kind == "too few points"
        assert link.units == "nats"


def test_a_linked_study_is_fitted(new_study: NewStudy) -> None:
    made = new_study(onsets=(0, 15, 30, 45, 60, 75), until=(), noise=0.001)
    found = links(made, all_groups(made), metric_curves(made, "fisher"))
    assert found[0].fit.n == 6
    assert [point.onset for point in found[0].points] == [0, 15, 30, 45, 60, 75]


def test_without_a_sliding_protocol_there_is_no_link(new_study: NewStudy) -> None:
    made = new_study(onsets=())
    assert links(made, all_groups(made), metric_curves(made, "fisher")) == ()
