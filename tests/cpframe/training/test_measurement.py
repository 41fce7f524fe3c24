"""Metrics: quantities with their own dimensions, from the probe to the files, and the results that are refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cpframe.api import Measurement, Probe
from cpframe.errors import SpecError
from cpframe.execution.costs import Costs
from cpframe.execution.forecast import forecast
from cpframe.execution.preflight import preflight
from cpframe.execution.progress import read_progress
from cpframe.numerics import prepare
from cpframe.plan.stages import plan
from cpframe.records.histories import axis_sizes, concatenate
from cpframe.records.model import History, MetricHistory
from cpframe.spec.model import Component, Metric, MetricSchedule, Spec
from cpframe.store import StoreError, commit, read_results, read_stage, write_results
from cpframe.store import atomic as files
from cpframe.testing import run_study_inline, small_spec
from cpframe.testing.training import EXACT, make_workspace

METRICS = {
    "weights": {"use": "weight-norm", "inputs": 8},
    "filters": {"use": "first-layer-filters", "every": 2, "inputs": 8, "most": 5},
}


@pytest.fixture(autouse=True)
def exact() -> None:
    prepare(EXACT)


def spec_of(*overrides: str) -> Spec:
    return small_spec(*overrides, architecture={"use": "mlp", "sizes": [6]}, metrics=METRICS)


# --- from the probe to the files ------------------------------------------------------------------------------------


@pytest.mark.needs_extra("notebook")
def test_filters_of_a_study_are_in_its_results(tmp_path: Path) -> None:
    """The branch's rows are those of the whole run; xarray names the axes; nan stands where nothing was measured."""
    import xarray

    record = run_study_inline(spec_of(), tmp_path)
    assert {one.status for one in record.trajectories} == {"complete"}
    for one in read_results(tmp_path / "results.h5").trajectories:
        with xarray.open_dataset(
            tmp_path / "results.h5", group=f"trajectories/{one.name}", engine="h5netcdf"
        ) as dataset:
            filters = dataset["filters"]
            assert filters.dims == ("measured_epoch", "filter", "channel", "height", "width")
            assert filters.shape == (one.epochs, 5, 1, 8, 8)
            assert dataset["filter"].values.tolist() == [0, 1, 2, 3, 4]
            assert dataset["weights"].dims == ("measured_epoch", "layer")
            np.testing.assert_array_equal(filters.values, one.history.metrics["filters"].values)
            metric = one.history.metrics["filters"]
            assert (metric.dimensions, metric.source) == (("filter", "channel", "height", "width"), "clean")
            assert one.history.metrics["weights"].dimensions == ("layer",)
            measured = np.isfinite(filters.values).all(axis=(1, 2, 3, 4))
            assert measured.tolist() == [epoch in (1, 2, 4) for epoch in dataset["measured_epoch"].values]
            assert np.isnan(filters.values[~measured]).all()
            # they are trained on the way
            assert (filters.values[0] != filters.values[1]).any()


@pytest.mark.needs_extra("notebook")
def test_results_of_metrics_with_dimensions_are_read_as_they_were_written(tmp_path: Path) -> None:
    import xarray

    rng = np.random.default_rng(0)
    history = MetricHistory(rng.random((2, 4, 3)), rng.random((2, 4, 3)), "nat", "θ", "clean", axes=("input", "class"))
    other = MetricHistory(rng.random((2, 3)), None, "", "", "clean", axes=("class",))
    commit(tmp_path / "stage", "complete", "", of({"one": history, "other": other}), None)
    record = read_stage(tmp_path / "stage")
    assert record is not None
    for name, metric in {"one": history, "other": other}.items():
        found = record.history.metrics[name]
        np.testing.assert_array_equal(found.values, metric.values, strict=True)
        assert (found.axes, found.stderr is None) == (metric.axes, metric.stderr is None)
    with xarray.open_dataset(tmp_path / "stage" / "history.h5", group="history", engine="h5netcdf") as dataset:
        assert dataset["one_stderr"].dims == dataset["one"].dims == ("measured_epoch", "input", "class")
        assert dataset["other"].dims == ("measured_epoch", "class")  # the number of classes is that of the layers


def of(metrics: Mapping[str, MetricHistory], start: int = 0) -> History:
    """Two epochs, both measured, of a network with three layers."""
    return History(
        epoch=np.array([start + 1, start + 2]),
        condition=("clean", "clean"),
        learning_rate=np.ones(2),
        train_loss=np.ones(2),
        train_accuracy=np.ones(2),
        test_loss=np.ones(2),
        test_accuracy=np.ones(2),
        measured_epoch=np.array([start + 1, start + 2]),
        layers=("a", "b", "c"),
        metrics=metrics,
    )


def reindexed(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what the index of a results file says of each metric of the first trajectory, and seal the file again."""
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"\ncpframe sealed\n")])
    with h5py.File(path, "r+") as file:
        index = json.loads(file["index"][()])
        for metric in index["content"][0]["metrics"].values():
            change(metric)
        del file["index"]
        file["index"] = np.bytes_(json.dumps(index).encode())
    path.write_bytes(files.seal(path.read_bytes()))


def test_files_written_before_metrics_could_have_dimensions_are_read(tmp_path: Path) -> None:
    """As they are today, but for the one word that they lack."""
    spec = spec_of()
    run_study_inline(replace(spec, metrics=spec.metrics[:1]), tmp_path)
    today = read_results(tmp_path / "results.h5").trajectories[0].history
    reindexed(tmp_path / "results.h5", lambda metric: metric.pop("own"))
    old = read_results(tmp_path / "results.h5").trajectories[0].history
    np.testing.assert_array_equal(old.metrics["weights"].values, today.metrics["weights"].values)
    assert old.metrics["weights"].dimensions == ("layer",)


@pytest.mark.parametrize("own", [["a"], ["a", "b", "c"], ["weights", "b", "c", "d"], ["a", "a", "c", "d"]])
def test_dimensions_that_are_not_those_of_the_values_are_damage(own: list[str], tmp_path: Path) -> None:
    run_study_inline(spec_of(), tmp_path)
    reindexed(tmp_path / "results.h5", lambda metric: metric.update(own=own if metric["own"] else []))
    with pytest.raises(StoreError, match=r"results\.h5: is not a results file"):
        read_results(tmp_path / "results.h5")


# --- joined ---------------------------------------------------------------------------------------------------------


def test_what_was_not_measured_is_nan_in_the_shape_of_what_was() -> None:
    values = np.arange(12.0).reshape(2, 3, 2)
    with_it = of({"m": MetricHistory(values, values / 2, "", "", "clean", axes=("unit", "class"))}, start=2)
    whole = concatenate([of({}), with_it]).metrics["m"]
    assert whole.axes == ("unit", "class")
    for whole_values, part in ((whole.values, values), (whole.stderr, values / 2)):
        assert whole_values is not None
        assert np.isnan(whole_values[:2]).all()
        np.testing.assert_array_equal(whole_values[2:], part)


@pytest.mark.parametrize(
    ("shape", "own", "said"),
    [
        ((2, 4), ("unit",), r"3 \(unit\) in epoch 2, and 4 \(unit\) in epoch 4$"),
        ((2, 3), ("class",), r"3 \(unit\) in epoch 2, and 3 \(class\)"),
        ((2, 3), (), r"3 \(unit\) in epoch 2, and 3 \(layer\)"),
        ((2,), (), "and a single number in epoch 4"),
        ((2, 3, 5), ("unit", "class"), r"and 3 \(unit\) x 5 \(class\) in epoch 4"),
    ],
)
def test_a_metric_has_to_keep_its_shape(shape: tuple[int, ...], own: tuple[str, ...], said: str) -> None:
    first = of({"m": MetricHistory(np.zeros((2, 3)), None, "", "", "clean", axes=("unit",))})
    second = of({"m": MetricHistory(np.zeros(shape), None, "", "", "clean", axes=own)}, start=2)
    with pytest.raises(ValueError, match=f"the metric m must keep its shape throughout a study; it returned .*{said}"):
        concatenate([first, second])


def test_sizes_of_dimensions() -> None:
    one = MetricHistory(np.zeros((1, 3, 2)), None, "", "", "clean", axes=("unit", "class"))
    other = MetricHistory(np.zeros((1, 2)), None, "", "", "clean", axes=("class",))
    by_layer = MetricHistory(np.zeros((1, 7)), None, "", "", "clean")
    assert axis_sizes({"one": one, "by layer": by_layer, "other": other}) == {"unit": 3, "class": 2}
    longer = replace(other, values=np.zeros((1, 5)))
    with pytest.raises(ValueError, match="class has length 2 in the metric one and length 5 in longer; rename one"):
        axis_sizes({"one": one, "longer": longer})
    for name in ("class", "clas"):
        with pytest.raises(ValueError, match=r"the dimension .* of the metric one has the name of a metric"):
            axis_sizes(
                {"one": replace(one, axes=("unit", "class" if name == "class" else "clas_stderr")), name: by_layer}
            )


# --- invalid metrics in the preflight and in a run ------------------------------------------------------------------


@dataclass(frozen=True)
class Giving:
    """A metric that returns values of a given form."""

    shape: tuple[int, ...] = (3,)
    own: Any = ("unit",)
    stderr: Any = None
    keys: tuple[str, ...] = ()

    def __call__(self, probe: Probe) -> Any:
        one = Measurement(np.ones(self.shape), self.stderr, dimensions=self.own)
        return dict.fromkeys(self.keys, one) if self.keys else one


def with_metrics(spec: Spec, **calls: Any) -> Spec:
    measuring = MetricSchedule(inputs=8)
    metrics = tuple(Metric(name, Component("tests/m", "0", call), measuring) for name, call in calls.items())
    return replace(spec, metrics=(*spec.metrics, *metrics))


@pytest.mark.parametrize(
    ("calls", "said"),
    [
        ({"m": Giving((3,), None)}, "m: the metric m must return one number, or one for each of 2 layers, or name its"),
        ({"m": Giving((3, 2), ("unit",))}, "m: the metric m names the dimensions (unit), which do not match its values "
                                           "of shape (3, 2)"),
        ({"m": Giving((), ("unit",))}, "m: the metric m names the dimensions (unit), which do not match its values of "
                                       "shape ()"),
        ({"m": Giving((3, 0), ("unit", "class"))}, "m: the metric m names the dimensions (unit, class), which do not "
                                                   "match its values of shape (3, 0)"),
        ({"m": Giving((2,), ("layer",))}, "m: the metric m names a dimension 'layer'; the name must be a word other "),
        ({"m": Giving(own=("epoch",))}, "m: the metric m names a dimension 'epoch'"),
        ({"m": Giving(own=("measured_epoch",))}, "m: the metric m names a dimension 'measured_epoch'"),
        ({"m": Giving(own=("test_loss",))}, "m: the metric m names a dimension 'test_loss'"),
        ({"m": Giving(own=("a b",))}, "m: the metric m names a dimension 'a b'"),
        ({"m": Giving(own=("",))}, "m: the metric m names a dimension ''"),
        ({"m": Giving(own=(3,))}, "m: the metric m names a dimension 3"),
        ({"m": Giving((3, 3), ("unit", "unit"))}, "m: the metric m gives two dimensions the same name: unit, unit"),
        ({"m": Giving(stderr=np.ones(2))}, "m: the metric m must return standard errors of the shape of its values, "
                                           "(3,), not (2,)"),
        ({"m": Giving(own=("weights",))}, "m: the dimension weights of the metric m has the name of a metric"),
        ({"m": Giving(), "n": Giving((4,))}, "n: the dimension unit has length 3 in the metric m and length 4 in n"),
        ({"m": Giving(own=("filter",))}, "m: the dimension filter has length 5 in the metric filters and length 3 "),
        ({"m": Giving(keys=("a/b",))}, "m: the metric m returns a quantity named 'a/b'; the name must be a word, and "
                                       "unique"),
        ({"m": Giving(keys=("x",)), "m-x": Giving()}, "m-x: its result m-x has the name of a result of another metric"),
    ],
)  # fmt: skip
def test_the_preflight_refuses_results_that_cannot_be_stored(
    calls: dict[str, Giving], said: str, tmp_path: Path
) -> None:
    spec = with_metrics(spec_of(), **calls)
    with pytest.raises(SpecError) as caught:
        preflight(spec, EXACT, tmp_path)
    (problem,) = caught.value.problems
    assert f"{problem.key}: {problem.why}".startswith(f"metrics.{said}")


def test_the_preflight_counts_every_number_and_the_forecast_every_array_entry(tmp_path: Path) -> None:
    spec = with_metrics(spec_of(), m=Giving((3,), stderr=np.ones(3)))
    costs = preflight(spec, EXACT, tmp_path)
    assert dict(costs[0].numbers) == {"weights": 2, "filters": 5 * 64, "m": 6}
    assert [dict(costs[0].numbers)["filters"]] == [5 * 8 * 8]

    def final(numbers: int, every: int) -> int:
        metrics = tuple(replace(one, schedule=replace(one.schedule, every=every)) for one in spec.metrics)
        study = plan(replace(spec, metrics=metrics), {})
        progress = read_progress(study, make_workspace(tmp_path))
        cost = Costs(1.0, 0.0, dict.fromkeys(("weights", "filters", "m"), 0.0), frozenset(), 0, {"filters": numbers})
        return forecast(progress, {0: cost}, 1, keep_states=False).final_bytes

    # epochs of stages: clean 3, blur 2, clean 3; of trajectories: 3 and 5; each number takes 8 bytes
    assert final(1000, 1) - final(0, 1) == 8 * 1000 * (8 + 8)
    # measured after 1 and every 2: stages 2, 2 and 1 times; trajectories 2 and 3 times
    assert final(1000, 2) - final(0, 2) == 8 * 1000 * (2 + 2 + 1 + 2 + 3)


@dataclass(frozen=True)
class Growing:
    """A metric whose size changes once the weights have changed more than they do in the preflight."""

    calls: Any

    def __call__(self, probe: Probe) -> Measurement:
        self.calls.append(1)
        return Measurement(np.ones(3 if len(self.calls) < 2 else 4), dimensions=("unit",))


class Calls(list[int]):
    """A list that a frozen dataclass may hold."""

    def __deepcopy__(self, memo: object) -> Calls:
        return self


def test_a_size_that_changes_within_a_stage_fails_it_in_one_line(tmp_path: Path) -> None:
    spec = with_metrics(spec_of("protocols.0.until=[0]"), m=Growing(Calls()))
    (one,) = run_study_inline(spec, tmp_path).trajectories
    assert one.status == "failed"
    told = (
        "the metric m must keep its shape throughout a study; it returned 3 (unit) in epoch 1, and 4 (unit) in epoch "
    )
    assert one.reason.startswith(told)
    assert one.reason.removeprefix(told).isdecimal()  # and no file of ours


def test_a_size_that_changes_between_stages_fails_the_trajectory(tmp_path: Path) -> None:
    """Each stage is of one size; the study ends, the others are complete, and what fits is kept."""

    @dataclass(frozen=True)
    class ByEpoch:
        calls: Any

        def __call__(self, probe: Probe) -> Measurement:
            self.calls.append(1)
            return Measurement(np.ones(3 if len(self.calls) <= 2 else 4), dimensions=("unit",))

    spec = with_metrics(spec_of(), m=ByEpoch(Calls()))
    spec = replace(spec, metrics=(spec.metrics[-1],))
    record = run_study_inline(spec, tmp_path)
    clean, blur = record.trajectories
    assert clean.status == "complete"  # whichever order the stages took, one of them began with the two calls
    assert blur.status == "failed"
    assert "the metric m must keep its shape" in blur.reason
    assert blur.history.epoch.tolist() == [1, 2]
    write_results(tmp_path / "again.h5", record)
    assert read_results(tmp_path / "again.h5").trajectories[1].status == "failed"
