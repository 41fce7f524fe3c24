"""Metrics averaged over seeds, against brute force."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from cpframe.analysis.metric_curves import (
    MetricCurve,
    array_metric_names,
    is_fisher,
    layer_shares,
    metric_curves,
    metric_names,
)
from cpframe.records.model import (
    CLEAN,
    FISHER_TRACE,
    FISHER_VARIATIONAL,
    GRADIENT_MEAN,
    MetricHistory,
    StudyRecord,
    TrajectoryRecord,
)

NewStudy = Callable[..., StudyRecord]
CutShort = Callable[..., TrajectoryRecord]


def blur_40(study: StudyRecord) -> list[TrajectoryRecord]:
    return [t for t in study.trajectories if (t.protocol, t.deficit, t.offset) == ("removal", "blur", 40)]


def curve_of(study: StudyRecord, protocol: str, deficit: str, offset: int, metric: str = "fisher") -> MetricCurve:
    wanted = (protocol, deficit, offset)
    (found,) = [c for c in metric_curves(study, metric) if (c.protocol, c.deficit, c.offset) == wanted]
    return found


def changed(
    study: StudyRecord, members: list[TrajectoryRecord], change: Callable[[TrajectoryRecord], TrajectoryRecord]
) -> StudyRecord:
    names = {t.name for t in members}
    return replace(study, trajectories=tuple(change(t) if t.name in names else t for t in study.trajectories))


def with_values(trajectory: TrajectoryRecord, values: np.ndarray) -> TrajectoryRecord:
    metrics = dict(trajectory.history.metrics)
    metrics["fisher"] = replace(metrics["fisher"], values=values, stderr=None)
    return replace(trajectory, history=replace(trajectory.history, metrics=metrics))


def test_mean_over_seeds_by_layer(study: StudyRecord) -> None:
    curve = curve_of(study, "removal", "blur", 40)
    members = blur_40(study)
    assert curve.n == len(members) == 5
    assert curve.epoch.tolist() == list(range(5, 101, 5))
    for row in range(20):
        for layer in range(4):
            values = [t.history.metrics["fisher"].values[row, layer] for t in members]
            # A sum of five in another order: rounding only.
            assert curve.values[row, layer] == pytest.approx(sum(values) / 5, rel=1e-12)
        assert curve.total[row] == pytest.approx(sum(curve.values[row]), rel=1e-12)
    assert (curve.units, curve.source, curve.layers) == ("nats", "clean", ("conv1", "conv2", "conv3", "head"))


def test_one_curve_for_every_timeline(study: StudyRecord) -> None:
    curves = metric_curves(study, "fisher")
    # Four deficits with five removals and three windows each, and one clean training, the longest.
    assert len(curves) == 4 * (5 + 3) + 1
    (clean,) = [curve for curve in curves if curve.deficit == CLEAN]
    assert (clean.protocol, clean.epochs) == ("clean", 140)


def test_the_clean_curve_of_most_seeds_is_kept(study: StudyRecord) -> None:
    def fail(t: TrajectoryRecord) -> TrajectoryRecord:
        return replace(t, status="failed", score=math.nan)

    long = [t for t in study.trajectories if t.protocol == "clean" and t.seed in (0, 1)]
    (clean,) = [c for c in metric_curves(changed(study, long, fail), "fisher") if c.deficit == CLEAN]
    assert (clean.protocol, clean.epochs, clean.n) == ("removal", 60, 5)


def test_a_training_that_two_protocols_share_is_kept_once(new_study: NewStudy) -> None:
    # Removal at 40 with 80 clean epochs is the window [0, 40) in 120 epochs; the synthetic seeds make them equal.
    made = new_study(seeds=(0,), until=(0, 40), recovery=80, onsets=(0, 20))
    windows = [(c.onset, c.offset, c.epochs) for c in metric_curves(made, "fisher") if c.deficit == "blur"]
    assert windows == [(0, 40, 120), (20, 60, 120)]


def test_failed_trajectories_are_left_out(study: StudyRecord) -> None:
    first, *rest = blur_40(study)
    huge = np.full_like(first.history.metrics["fisher"].values, 1e300)

    def fail(t: TrajectoryRecord) -> TrajectoryRecord:
        return replace(with_values(t, huge), status="failed", score=math.nan)

    curve = curve_of(changed(study, [first], fail), "removal", "blur", 40)
    assert curve.n == 4
    expected = np.mean([t.history.metrics["fisher"].values for t in rest], axis=0)
    np.testing.assert_allclose(curve.values, expected, rtol=1e-12)  # rounding only


def test_unfinished_trajectories_wait_for_the_complete_ones(study: StudyRecord, cut_short: CutShort) -> None:
    first, *rest = blur_40(study)
    some = changed(study, [first], lambda t: cut_short(t, 42, "unfinished", ""))
    assert curve_of(some, "removal", "blur", 40).n == 4
    none_complete = changed(some, rest, lambda t: cut_short(t, 61, "unfinished", ""))
    curve = curve_of(none_complete, "removal", "blur", 40)
    assert curve.n == 5
    assert curve.epoch.tolist() == list(range(5, 41, 5))  # the epochs that all have


def test_failed_trajectories_are_left_out_where_none_is_complete(study: StudyRecord, cut_short: CutShort) -> None:
    first, *rest = blur_40(study)
    cut = changed(study, rest, lambda t: cut_short(t, 61, "unfinished", ""))
    curve = curve_of(changed(cut, [first], lambda t: cut_short(t, 20, "failed", "diverged")), "removal", "blur", 40)
    assert (curve.n, curve.epoch[-1]) == (4, 60)


def test_epochs_that_were_not_measured_or_not_finite_are_left_out(study: StudyRecord) -> None:
    first = blur_40(study)[0]
    values = first.history.metrics["fisher"].values.copy()
    values[3, 2], values[7, 0] = math.nan, math.inf
    curve = curve_of(changed(study, [first], lambda t: with_values(t, values)), "removal", "blur", 40)
    assert curve.n == 5
    assert curve.epoch.tolist() == [e for e in range(5, 101, 5) if e not in (20, 40)]
    assert np.isfinite(curve.values).all()


def test_a_metric_that_was_never_measured_has_no_curve(study: StudyRecord) -> None:
    members = blur_40(study)
    blank = changed(study, members, lambda t: with_values(t, np.full((20, 4), math.nan)))
    windows = [(c.protocol, c.offset) for c in metric_curves(blank, "fisher") if c.deficit == "blur"]
    assert ("removal", 40) not in windows
    assert ("removal", 80) in windows
    assert metric_curves(study, "no such metric") == ()


def test_metric_of_one_value_per_network(study: StudyRecord) -> None:
    members = blur_40(study)
    one = changed(study, members, lambda t: with_values(t, np.arange(20.0) + t.seed))
    curve = curve_of(one, "removal", "blur", 40)
    np.testing.assert_allclose(curve.total, np.arange(20.0) + 2.0)  # the mean seed is 2
    with pytest.raises(ValueError, match="one value per network"):
        layer_shares(curve)


def test_shares_add_up_to_one(study: StudyRecord) -> None:
    curve = curve_of(study, "removal", "blur", 40)
    shares = layer_shares(curve)
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, rtol=1e-12)  # rounding only
    assert shares[4, 1] == pytest.approx(curve.values[4, 1] / sum(curve.values[4]), rel=1e-12)
    # The synthetic deficit moves information to later layers.
    assert shares[-1].argmax() > shares[0].argmax()


def test_shares_of_nothing_are_nan(study: StudyRecord) -> None:
    curve = curve_of(study, "removal", "blur", 40)
    by_seed = curve.by_seed.copy()
    by_seed[:, 2] = 0.0
    shares = layer_shares(replace(curve, by_seed=by_seed))
    assert np.isnan(shares[2]).all()
    assert np.isfinite(np.delete(shares, 2, axis=0)).all()


@pytest.mark.parametrize(
    ("name", "quantity", "expected"),
    [
        ("fisher", "", False),
        ("curvature", FISHER_VARIATIONAL, True),
        ("curvature", FISHER_TRACE, True),
        ("curvature", GRADIENT_MEAN, False),
    ],
)
def test_fisher_information_is_recognised_by_its_quantity(
    new_study: NewStudy, name: str, quantity: str, expected: bool
) -> None:
    made = new_study(seeds=(0,), metrics=False, onsets=(), until=(0, 5))
    history = MetricHistory(np.ones(12), None, "", "Fisher trace", "clean", quantity=quantity)
    named = changed(
        made, list(made.trajectories), lambda t: replace(t, history=replace(t.history, metrics={name: history}))
    )
    assert metric_names(named) == (name,)
    assert is_fisher(named, name) is expected


def test_larger_arrays_are_no_curves(study: StudyRecord) -> None:
    filters = MetricHistory(
        np.ones((28, 4, 3, 3)), None, "", "first-layer filters", "clean", axes=("filter", "height", "width")
    )

    def add(t: TrajectoryRecord) -> TrajectoryRecord:
        return replace(t, history=replace(t.history, metrics={**t.history.metrics, "filters": filters}))

    with_filters = changed(study, list(study.trajectories), add)
    assert metric_names(with_filters) == ("fisher", "weight-norm")
    assert array_metric_names(with_filters) == ("filters",)
    assert array_metric_names(study) == ()


def test_a_curve_keeps_what_every_seed_measured(study: StudyRecord) -> None:
    curve = curve_of(study, "removal", "blur", 40)
    members = [t for t in study.trajectories if (t.protocol, t.deficit, t.offset) == ("removal", "blur", 40)]
    assert curve.seeds == tuple(t.seed for t in members)
    assert curve.n == 5
    for row, t in zip(curve.by_seed, members, strict=True):
        np.testing.assert_array_equal(row, t.history.metrics["fisher"].values)
    np.testing.assert_allclose(curve.total_by_seed.mean(axis=0), curve.total, rtol=1e-12)
    weights = next(c for c in metric_curves(study, "weight-norm") if c.deficit == "blur")
    assert weights.errors is None


def test_metrics_with_dimensions_of_their_own_have_no_curve(study: StudyRecord) -> None:
    """Even if they look like one number per layer."""
    first = study.trajectories[0]
    filters = MetricHistory(np.ones((28, 4)), None, "", "Fisher", "clean", axes=("filter",))
    metrics = {**first.history.metrics, "filters": filters}
    more = replace(study, trajectories=(replace(first, history=replace(first.history, metrics=metrics)),))
    assert metric_names(more) == metric_names(study)
    assert metric_curves(more, "filters") == ()
