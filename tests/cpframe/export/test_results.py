"""Tables and datasets of results against the records that they are made of, value by value."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pandas = pytest.importorskip("pandas", reason="pandas missing: pip install 'cpframe[notebook]'")

import cpframe
from cpframe.export.dataframes import array_metrics
from cpframe.export.results import Results
from cpframe.export.xarray_dataset import merge_orders
from cpframe.records.model import CLEAN, MetricHistory, StudyRecord, TrajectoryRecord
from cpframe.store import StoreError, write_results

pytestmark = pytest.mark.needs_extra("notebook")

CURVES = ("learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy")
GRID = (
    {"optimizer.lr": 1, "architecture.depth": 1, "training.order": "deficit-first", "architecture.sizes": [4, 5]},
    {"optimizer.lr": 0.5, "architecture.depth": 2, "training.order": "augment-first", "architecture.sizes": [6]},
)


@pytest.fixture(scope="module")
def mixed(new_study: Callable[..., StudyRecord], cut_short: Callable[..., TrajectoryRecord]) -> StudyRecord:
    """Two variants, the second with a layer more and a number as a metric; one training failed, one not begun."""
    study = new_study(seeds=(3, 5), variants=GRID, onsets=(0, 20), until=(0, 10, 40))
    made = []
    for number, one in enumerate(study.trajectories):
        if one.variant == GRID[1]:
            one = deeper(one)
        if number == 7:
            one = cut_short(one, 13, "failed", 'diverged, "badly",\nin epoch 13')
        if number == 8:
            one = cut_short(one, 0, "unfinished", "")
        made.append(one)
    return replace(study, spec="title = 'x'", trajectories=tuple(made))


def deeper(one: TrajectoryRecord) -> TrajectoryRecord:
    history = one.history
    rng = np.random.default_rng([one.seed, one.epochs])
    values = rng.random((len(history.measured_epoch), 5))
    loss = np.where(history.measured_epoch % 10 == 0, rng.random(len(history.measured_epoch)), np.nan)
    metrics = {
        "fisher": MetricHistory(values, values / 7, "nats", "trace", "clean"),
        "score": MetricHistory(loss, None, "", "", "condition"),
    }
    layers = (*history.layers[:3], "conv4", history.layers[3])
    return replace(one, history=replace(history, layers=layers, metrics=metrics))


@pytest.fixture(scope="module")
def results(mixed: StudyRecord) -> Results:
    return Results(Path("results.h5"), mixed)


def reference_of(study: StudyRecord, one: TrajectoryRecord) -> float:
    """The matching no-deficit score by looking at all trajectories."""
    for other in study.trajectories:
        if other.deficit != CLEAN or other.seed != one.seed or other.variant != one.variant:
            continue
        if one.protocol == "removal" == other.protocol and other.epochs == one.epochs - one.offset:
            return other.score
        if one.protocol == "sliding" and other.protocol == "clean" and len(other.history.epoch) >= one.epochs:
            last = other.history.test_accuracy[one.epochs - study.score_epochs : one.epochs]
            return float(last.mean())
    return math.nan


def test_one_row_a_trajectory_with_its_facts_and_its_drop(mixed: StudyRecord, results: Results) -> None:
    table = results.trajectories
    assert len(table) == len(mixed.trajectories)
    for (_, row), one in zip(table.iterrows(), mixed.trajectories, strict=True):
        for name in ("name", "protocol", "deficit", "onset", "offset", "epochs", "seed", "status", "reason"):
            assert row[name] == getattr(one, name)
        np.testing.assert_equal(row["score"], one.score)
        for key in ("optimizer.lr", "architecture.depth", "training.order"):
            assert row[key] == one.variant[key]
        assert json.loads(row["architecture.sizes"]) == one.variant["architecture.sizes"]
        expected = math.nan if one.deficit == CLEAN else reference_of(mixed, one) - one.score
        np.testing.assert_equal(row["drop"], expected)
        assert row["epochs_trained"] == len(one.history.epoch)
        final = one.history.train_accuracy[-1] if len(one.history.epoch) else math.nan
        np.testing.assert_equal(row["final_train_accuracy"], final)
    assert table["drop"].notna().sum() > 40
    assert table.dtypes["seed"] == table.dtypes["architecture.depth"] == np.int64
    assert table.dtypes["optimizer.lr"] == table.dtypes["drop"] == np.float64


def test_one_row_an_epoch(mixed: StudyRecord, results: Results) -> None:
    table = results.epochs
    assert len(table) == sum(len(one.history.epoch) for one in mixed.trajectories)
    groups = dict(iter(table.groupby("trajectory")))
    for one in mixed.trajectories:
        if not len(one.history.epoch):
            assert one.name not in groups
            continue
        rows = groups[one.name]
        assert rows.epoch.to_list() == one.history.epoch.tolist()
        assert rows.condition.to_list() == list(one.history.condition)
        for name in CURVES:
            np.testing.assert_array_equal(rows[name], getattr(one.history, name))


def test_one_row_a_measured_value(mixed: StudyRecord, results: Results) -> None:
    found = {
        (row.trajectory, row.metric, row.epoch, None if row.layer is pandas.NA else row.layer): (row.value, row.stderr)
        for row in results.metrics.itertuples()
    }
    expected = {}
    for one in mixed.trajectories:
        for name, metric in one.history.metrics.items():
            for row, epoch in enumerate(one.history.measured_epoch.tolist()):
                if metric.values.ndim == 1:
                    if not math.isnan(metric.values[row]):
                        expected[one.name, name, epoch, None] = metric.values[row], math.nan
                    continue
                for column, layer in enumerate(one.history.layers):
                    stderr = math.nan if metric.stderr is None else metric.stderr[row, column]
                    expected[one.name, name, epoch, layer] = metric.values[row, column], stderr
    assert len(results.metrics) == len(found)
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(list(found.values()), [expected[key] for key in found])


def test_histories_are_stacked_by_name_and_padded_with_nan(mixed: StudyRecord, results: Results) -> None:
    stacked = results.histories
    assert stacked.sizes["trajectory"] == len(mixed.trajectories)
    assert stacked.layer.values.tolist() == ["conv1", "conv2", "conv3", "conv4", "head"]
    longest = max(one.epochs for one in mixed.trajectories)
    assert stacked.epoch.values.tolist() == list(range(1, longest + 1))
    counted = 0
    for one in mixed.trajectories:
        row = stacked.sel(trajectory=one.name)
        assert row.deficit == one.deficit
        assert (row.onset, row.offset, row.seed) == (one.onset, one.offset, one.seed)
        assert json.loads(str(row.variant.values)) == one.variant
        done = len(one.history.epoch)
        for name in CURVES:
            np.testing.assert_array_equal(row[name].sel(epoch=one.history.epoch), getattr(one.history, name))
            assert np.isnan(row[name].values[done:]).all()
        assert row.condition.values.tolist() == [*one.history.condition, *[""] * (longest - done)]
        for name, metric in one.history.metrics.items():
            called = "metric-score" if name == "score" else name
            part = row[called].sel(measured_epoch=one.history.measured_epoch)
            if metric.values.ndim == 2:
                part = part.sel(layer=list(one.history.layers))
            np.testing.assert_array_equal(part, metric.values)
            if metric.stderr is not None:
                stderr = row[f"{called}_stderr"].sel(measured_epoch=one.history.measured_epoch)
                np.testing.assert_array_equal(stderr.sel(layer=list(one.history.layers)), metric.stderr)
            counted += int(np.isfinite(metric.values).sum())
    # Nothing else than what is in the records.
    assert counted == sum(int(np.isfinite(stacked[name]).sum()) for name in ("fisher", "weight-norm", "metric-score"))
    assert stacked.test_loss.attrs["units"] == "nat"
    assert stacked.fisher.attrs["units"] == "nats"
    assert stacked.attrs["title"] == mixed.title
    assert all("long_name" in stacked[name].attrs for name in stacked.variables)


def test_one_history_has_only_its_own_epochs_and_layers(mixed: StudyRecord, results: Results) -> None:
    one = mixed.trajectories[7]
    history = results.history(one.name)
    assert dict(history.sizes) == {"epoch": 13, "measured_epoch": 2, "layer": 4}
    np.testing.assert_array_equal(history.test_accuracy, one.history.test_accuracy)
    np.testing.assert_array_equal(history.fisher, one.history.metrics["fisher"].values)
    assert history.status == "failed"
    with pytest.raises(KeyError, match="did you mean 'clean-clean-0-0-v0-seed3'"):
        results.history("clean-clean-0-0-v0-seed33")


def test_metrics_with_dimensions_of_their_own_are_stacked_by_them(new_study: Callable[..., StudyRecord]) -> None:
    """Of two sizes; under the names of a coordinate and of itself; in one variant with other dimensions."""
    study = new_study(seeds=(0,), until=(0, 10), onsets=(), variants=({"a": 1}, {"a": 2}, {"a": 3}), effects={})
    shapes = {1: (3, 2), 2: (5, 1), 3: (4,)}
    names = {1: ("seed", "channel"), 2: ("seed", "channel"), 3: ("filter",)}
    rng = np.random.default_rng(0)
    made = []
    for one in study.trajectories:
        key = int(str(one.variant["a"]))
        values = rng.random((len(one.history.measured_epoch), *shapes[key]))
        metric = MetricHistory(values, values / 3, "", "weights", "clean", names[key])
        made.append(replace(one, history=replace(one.history, metrics={**one.history.metrics, "filter": metric})))
    results = Results(Path("results.h5"), replace(study, trajectories=tuple(made)))
    stacked = results.histories
    assert stacked["metric-filter"].dims == ("trajectory", "measured_epoch", "metric-seed", "channel")
    assert stacked["filter-filter"].dims == ("trajectory", "measured_epoch", "filter")
    assert (stacked.sizes["metric-seed"], stacked.sizes["channel"], stacked.sizes["filter"]) == (5, 2, 4)
    finite = 0
    for one in made:
        values, stderr = one.history.metrics["filter"].values, one.history.metrics["filter"].stderr
        name = "filter-filter" if one.variant["a"] == 3 else "metric-filter"
        row = stacked.sel(trajectory=one.name, measured_epoch=one.history.measured_epoch)
        part = (slice(None), *map(slice, values.shape[1:]))
        np.testing.assert_array_equal(row[name].values[part], values)
        np.testing.assert_array_equal(row[f"{name}_stderr"].values[part], stderr)
        finite += values.size
    assert finite == sum(int(np.isfinite(stacked[name]).sum()) for name in ("metric-filter", "filter-filter"))
    assert "filter" not in set(results.metrics.metric)
    assert array_metrics(results.study) == ("filter",)
    assert results.history(made[0].name).sizes["metric-seed"] == 3


def test_named_variants_are_known_by_their_names(new_study: Callable[..., StudyRecord]) -> None:
    study = new_study(seeds=(0,), variants=({"variant": "deep"}, {"variant": "wide"}))
    results = Results(Path("results.h5"), study)
    assert set(results.trajectories["variant"]) == {"deep", "wide"}
    deep = results.histories.variant == "deep"
    assert deep.sum() == len(study.trajectories) / 2


def test_layers_of_several_networks_keep_their_order() -> None:
    assert merge_orders([["a", "b", "z"], ["a", "b", "c", "d", "z"], ["z", "e"]]) == ["a", "b", "c", "d", "z", "e"]


def test_a_study_without_anything_has_empty_tables(mixed: StudyRecord) -> None:
    empty = Results(Path("results.h5"), replace(mixed, trajectories=()))
    assert len(empty.trajectories) == len(empty.epochs) == len(empty.metrics) == 0
    assert empty.epochs.dtypes["epoch"] == np.int64
    assert empty.histories.sizes["trajectory"] == 0


def test_the_summary_says_what_is_in_the_results(results: Results) -> None:
    for text in (repr(results), results._repr_html_()):
        assert "1 failed" in text
        assert "blur, noise, flip, idle" in text
        assert "fisher (layer)" in text
        assert ".histories" in text
        assert "results.h5" in text
    shown = Results(Path("x"), replace(results.study, title="<script>"))._repr_html_()
    assert "<script>" not in shown


def test_opening_a_folder_or_a_file_or_what_is_none(tmp_path: Path, mixed: StudyRecord) -> None:
    write_results(tmp_path / "results.h5", mixed)
    for path in (tmp_path, str(tmp_path / "results.h5")):
        results = cpframe.open_results(path)
        assert results.path == tmp_path / "results.h5"
        assert [t.name for t in results.study.trajectories] == [t.name for t in mixed.trajectories]
        assert len(results.trajectories) == len(mixed.trajectories)
    (tmp_path / "text.h5").write_text("hello")
    for name in ("text.h5", "nothing.h5"):
        with pytest.raises(StoreError, match=name):
            cpframe.open_results(tmp_path / name)


def test_importing_and_opening_load_nothing_heavy(tmp_path: Path, mixed: StudyRecord) -> None:
    write_results(tmp_path / "results.h5", mixed)
    code = """
import sys, cpframe
assert not {"numpy", "h5py", "pydantic", "torch"} & sys.modules.keys(), "import"
results = cpframe.open_results(sys.argv[1])
assert not {"pandas", "xarray", "torch"} & sys.modules.keys(), "open"
results.trajectories, results.epochs, results.metrics, results.histories
assert "torch" not in sys.modules, "all"
"""
    subprocess.run([sys.executable, "-W", "error", "-c", code, str(tmp_path)], check=True, timeout=60)


@pytest.mark.parametrize(("package", "attribute"), [("pandas", "trajectories"), ("xarray", "histories")])
def test_a_missing_package_is_named_with_the_way_to_get_it(
    mixed: StudyRecord, monkeypatch: pytest.MonkeyPatch, package: str, attribute: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"needs {package}: pip install 'cpframe\[notebook\]'"):
        getattr(Results(Path("results.h5"), mixed), attribute)


def test_drops_by_onset_and_deficit_are_one_pivot_of_the_table(tmp_path: Path, study: StudyRecord) -> None:
    write_results(tmp_path / "results.h5", study)
    rows = cpframe.open_results(tmp_path).trajectories
    table = rows[rows.protocol == "sliding"].pivot_table(values="drop", index="onset", columns="deficit")
    assert isinstance(table, pandas.DataFrame)
    drops = [
        reference_of(study, one) - one.score
        for one in study.trajectories
        if (one.protocol, one.deficit, one.onset) == ("sliding", "blur", 20)
    ]
    assert len(drops) == 5
    np.testing.assert_allclose(table.loc[20, "blur"], np.mean(drops), rtol=1e-12)  # a mean in another order
