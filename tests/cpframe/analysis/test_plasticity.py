"""Shares and their redistribution against closed forms and brute force."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cpframe.analysis.metric_curves import MetricCurve, metric_curves
from cpframe.analysis.plasticity import (
    expected_by_error,
    mean_layer,
    mean_layers,
    plasticity,
    plasticity_after_deficit,
    total_variation,
)
from cpframe.records.model import StudyRecord


def curve_of(by_seed: np.ndarray, errors: np.ndarray | None = None, offset: int = 0) -> MetricCurve:
    """Measurements at epochs 10, 20, ..."""
    epoch = 10 * np.arange(1, by_seed.shape[1] + 1)
    return MetricCurve(
        protocol="removal",
        variant={},
        deficit="blur",
        onset=0,
        offset=offset,
        epochs=int(epoch[-1]),
        seeds=tuple(range(len(by_seed))),
        epoch=epoch,
        by_seed=by_seed,
        errors=errors,
        layers=("a", "b", "c"),
        units="nat^2",
        estimator="Fisher trace",
        source="clean",
    )


def test_mean_layer_in_closed_form() -> None:
    shares = np.array([[1, 0, 0], [0, 0, 1], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.0, 0.5], [math.nan] * 3])
    assert mean_layer(shares) == pytest.approx([1, 3, 2, 2, math.nan], nan_ok=True)


def test_total_variation_is_the_share_that_changes_layers() -> None:
    assert total_variation(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1
    assert total_variation(np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.3, 0.5])) == pytest.approx(0.3, rel=1e-12)
    # By brute force: the largest difference that any set of layers can show.
    rng = np.random.default_rng(0)
    for before, after in rng.dirichlet(np.ones(5), (20, 2)):
        sets = (np.array([i >> layer & 1 for layer in range(5)]) for i in range(32))
        assert total_variation(before, after) == pytest.approx(max((after - before) @ s for s in sets), abs=1e-12)


def test_plasticity_is_paired_by_seed() -> None:
    rng = np.random.default_rng(1)
    values = rng.uniform(1, 5, (4, 6, 3))
    found = plasticity(curve_of(values), 25, 60)
    assert found is not None
    assert (found.first, found.last) == (20, 60)  # the last measurement up to epoch 25
    moved, change = [], []
    for seed in values:
        before, after = seed[1] / seed[1].sum(), seed[5] / seed[5].sum()
        moved.append(sum(abs(a - b) for a, b in zip(after, before, strict=True)) / 2)
        change.append(sum((i + 1) * (after[i] - before[i]) for i in range(3)))
    interval = stats.ttest_1samp(moved, 0).confidence_interval(0.95)
    assert (found.redistributed.mean, found.redistributed.low) == pytest.approx(
        (np.mean(moved), interval.low), rel=1e-9
    )
    assert found.mean_layer_change.mean == pytest.approx(np.mean(change), rel=1e-9)
    assert math.isnan(found.measurement_error)


def test_the_measurement_error_is_the_plasticity_of_noise_alone() -> None:
    # The truth does not change; only the errors differ. 4,000 measured pairs against the formula.
    truth, errors = np.array([50.0, 30.0, 20.0]), np.array([2.0, 1.5, 1.0])
    rng = np.random.default_rng(2)
    values = rng.normal(truth, errors, (4000, 2, 3))
    found = plasticity(curve_of(values, np.broadcast_to(errors, values.shape)), 10, 20)
    assert found is not None
    # The mean of 4,000 has a standard error of 1 %; errors of 4 % of F make second-order terms of some 0.1 %.
    assert found.redistributed.mean == pytest.approx(found.measurement_error, rel=0.03)
    assert found.redistributed.mean > 0.01
    exact = expected_by_error(np.array([truth, truth]), np.array([errors, errors]))
    assert found.measurement_error == pytest.approx(float(exact), rel=0.01)


def test_after_the_deficit() -> None:
    values = np.ones((3, 6, 3))
    values[:, :3, 0] = 4  # until epoch 30 the first layer has 2/3 of it, then 1/3
    found = plasticity_after_deficit(curve_of(values, offset=30))
    assert found is not None
    assert (found.first, found.last) == (30, 60)
    assert found.redistributed.mean == pytest.approx(1 / 3, rel=1e-12)
    assert found.mean_layer_change.mean == pytest.approx(2 - (4 + 2 + 3) / 6, rel=1e-12)
    settled = plasticity_after_deficit(curve_of(values, offset=40))
    assert settled is not None
    assert settled.redistributed.mean == 0


def test_without_layers_or_time_nothing_moves() -> None:
    curve = curve_of(np.ones((3, 6, 3)))
    assert plasticity(curve, 30, 35) is None  # one measurement
    assert plasticity(replace(curve, by_seed=np.ones((3, 6))), 10, 60) is None
    assert plasticity(replace(curve, by_seed=np.ones((3, 6, 1))), 10, 60) is None


def test_the_synthetic_mean_layer_moves_towards_the_output(study: StudyRecord) -> None:
    curves = metric_curves(study, "fisher")
    (blurred,) = [c for c in curves if (c.deficit, c.onset, c.offset, c.protocol) == ("blur", 0, 80, "removal")]
    (clean,) = [c for c in curves if c.deficit == "clean"]
    assert mean_layers(blurred)[-1] > mean_layers(clean)[-1] + 0.5
    assert blurred.by_seed.shape == (5, 28, 4)
    assert blurred.errors is not None
    assert blurred.errors.shape == (5, 28, 4)
