"""The histories of a study as one xarray dataset with named dimensions. xarray is imported inside."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cpframe.errors import require_extra
from cpframe.export.dataframes import TRAJECTORY_COLUMNS
from cpframe.records.histories import CURVES
from cpframe.records.model import Integers, MetricHistory, StudyRecord, TrajectoryRecord

if TYPE_CHECKING:
    import xarray

_Variable = tuple[tuple[str, ...], Any, dict[str, str]]
"""The dimensions, values and attributes of an xarray variable."""


@dataclass(frozen=True)
class _Axes:
    """The values along the dimensions that all variables share.

    Attributes:
        trajectories: the trajectories, along the dimension ``trajectory``.
        epoch: the numbers of completed epochs, (E,).
        measured_epoch: the numbers of completed epochs at which metrics were measured, (M,).
        layer: the names of the layers.
    """

    trajectories: Sequence[TrajectoryRecord]
    epoch: Integers
    measured_epoch: Integers
    layer: Sequence[str]


def to_xarray(study: StudyRecord, columns: Mapping[str, Sequence[object]], rows: Sequence[int]) -> xarray.Dataset:
    """Return the histories of some trajectories of a study as one dataset.

    Its dimensions are ``trajectory``, ``epoch``, ``measured_epoch``, ``layer``, and those that a metric defines. Values
    are nan, and conditions empty, at epochs that a trajectory has not reached, at epochs at which a metric was not
    measured, and for layers that a variant's network lacks. The layers are those of all networks, in forward order.
    The columns of the table of trajectories are coordinates along ``trajectory``. A metric or dimension whose name is
    taken gets the prefix ``metric-``. Where two variants give a metric different dimensions, it becomes two variables,
    and the name of the second ends with its dimensions.

    Args:
        study: the study.
        columns: the columns of its table of trajectories, see `cpframe.export.dataframes.trajectory_columns`.
        rows: the positions of the trajectories in the study, 0, 1, ...

    Raises:
        NotInstalledError: if xarray is not installed.
    """
    with require_extra("a dataset", "notebook"):
        import xarray

    trajectories = [study.trajectories[row] for row in rows]
    axes = _Axes(
        trajectories,
        _union(trajectory.history.epoch for trajectory in trajectories),
        _union(trajectory.history.measured_epoch for trajectory in trajectories),
        merge_orders(trajectory.history.layers for trajectory in trajectories),
    )
    coordinates = _coordinates(axes, {name: [values[row] for row in rows] for name, values in columns.items()})
    curves = _curves(axes)
    variables = curves | _metrics(axes, coordinates.keys(), curves.keys())
    attributes = {
        **study.provenance,
        "title": study.title,
        "spec": study.spec,
        "score_epochs": study.score_epochs,
        "deficits": json.dumps(dict(study.deficits), ensure_ascii=False),
        "created": study.created,
    }
    return xarray.Dataset(variables, coordinates, attributes)


def merge_orders(orders: Iterable[Sequence[str]]) -> list[str]:
    """Return every name once, in an order that follows the given ones where these agree with each other."""
    merged: list[str] = []
    for order in dict.fromkeys(map(tuple, orders)):
        position = 0
        for name in order:
            if name in merged:
                position = merged.index(name) + 1
            else:
                merged.insert(position, name)
                position += 1
    return merged


def _union(epochs: Iterable[Integers]) -> Integers:
    return np.unique(np.concatenate([np.zeros(0, np.int64), *epochs]))


def _coordinates(axes: _Axes, columns: Mapping[str, Sequence[object]]) -> dict[str, _Variable]:
    variants = [json.dumps(dict(t.variant), ensure_ascii=False, default=str) for t in axes.trajectories]
    along = ("trajectory",)
    coordinates: dict[str, _Variable] = {
        "trajectory": (along, _array(columns["name"]), _attributes("name of the trajectory in the study")),
        "epoch": (("epoch",), axes.epoch, _attributes("number of completed epochs")),
        "measured_epoch": (
            ("measured_epoch",),
            axes.measured_epoch,
            _attributes("number of completed epochs when metrics were measured"),
        ),
        "layer": (("layer",), _array(axes.layer), _attributes("layers of the network, in forward order")),
        "variant": (along, _array(variants), _attributes("values of the variant, as JSON")),
    }
    for name, values in columns.items():
        if name != "name" and not name.startswith("final_"):
            meaning = TRAJECTORY_COLUMNS.get(name, f"value of {name} in the variant")
            coordinates[name] = along, _array(values), _attributes(meaning, name)
    return coordinates


def _curves(axes: _Axes) -> dict[str, _Variable]:
    shape = len(axes.trajectories), len(axes.epoch)
    condition = np.full(shape, "", dtype=object)
    curves = {name: np.full(shape, np.nan) for name in CURVES}
    for row, trajectory in enumerate(axes.trajectories):
        columns = np.searchsorted(axes.epoch, trajectory.history.epoch)
        condition[row, columns] = trajectory.history.condition
        for name, curve in curves.items():
            curve[row, columns] = getattr(trajectory.history, name)
    dimensions = "trajectory", "epoch"
    meaning = "condition of the epoch: clean, or a deficit's name in the spec; empty where not trained"
    return {
        "condition": (dimensions, condition, _attributes(meaning)),
        **{name: (dimensions, curve, _attributes(CURVES[name], name)) for name, curve in curves.items()},
    }


def _metrics(axes: _Axes, coordinates: Collection[str], curves: Collection[str]) -> dict[str, _Variable]:
    """Return the variables of all metrics."""
    lengths = _lengths(axes, coordinates)
    taken = {*coordinates, *curves, *lengths}
    variables: dict[str, _Variable] = {}
    kinds = dict.fromkeys((name, m.dimensions) for t in axes.trajectories for name, m in t.history.metrics.items())
    for name, dimensions in kinds:
        is_first = next(others for other, others in kinds if other == name) == dimensions
        variable = name if is_first else "-".join([name, *(dimensions or ["number"])])
        while variable in taken:
            variable = f"metric-{variable}"
        taken.add(variable)
        names = [_dimension_name(dimension, coordinates) for dimension in dimensions]
        metrics = {
            row: trajectory.history.metrics[name]
            for row, trajectory in enumerate(axes.trajectories)
            if name in trajectory.history.metrics and trajectory.history.metrics[name].dimensions == dimensions
        }
        variables |= _metric(axes, name, variable, {axis: lengths[axis] for axis in names}, metrics)
    return variables


def _dimension_name(dimension: str, coordinates: Collection[str]) -> str:
    """Return the name that a dimension of a metric has in the dataset."""
    return f"metric-{dimension}" if dimension in coordinates and dimension != "layer" else dimension


def _lengths(axes: _Axes, coordinates: Collection[str]) -> dict[str, int]:
    """Return the lengths of all dimensions of metrics, by their names in the dataset: the largest of any trajectory."""
    lengths = {"layer": len(axes.layer)}
    for metric in (metric for trajectory in axes.trajectories for metric in trajectory.history.metrics.values()):
        for dimension, length in zip(metric.dimensions, metric.values.shape[1:], strict=True):
            name = _dimension_name(dimension, coordinates)
            lengths[name] = max(length, lengths.get(name, 0))
    return lengths


def _metric(
    axes: _Axes, name: str, variable: str, shape: Mapping[str, int], metrics: Mapping[int, MetricHistory]
) -> dict[str, _Variable]:
    """Return the variable of a metric, and that of its standard errors if any trajectory has them.

    Args:
        axes: the axes of the dataset.
        name: the name of the metric in the spec.
        variable: the name of its variable.
        shape: the lengths of the metric's own dimensions, by their names in the dataset.
        metrics: the histories of the metric, by the position of their trajectories in `axes`.
    """
    arrays = {variable: np.full((len(axes.trajectories), len(axes.measured_epoch), *shape.values()), np.nan)}
    if any(metric.stderr is not None for metric in metrics.values()):
        arrays[f"{variable}_stderr"] = arrays[variable].copy()
    for row, metric in metrics.items():
        history = axes.trajectories[row].history
        epochs = np.searchsorted(axes.measured_epoch, history.measured_epoch)
        positions = [
            np.array([axes.layer.index(layer) for layer in history.layers]) if axis == "layer" else np.arange(length)
            for axis, length in zip(shape, metric.values.shape[1:], strict=True)
        ]
        for array, values in zip(arrays.values(), (metric.values, metric.stderr), strict=False):
            if values is not None:
                array[row][np.ix_(epochs, *positions)] = values
    first = next(iter(metrics.values()))
    units = {"units": first.units or "1"}
    attributes = {
        variable: {"long_name": name, **units, "estimator": first.estimator, "source": first.source},
        f"{variable}_stderr": {"long_name": f"standard error of {name}", **units},
    }
    if len(arrays) > 1:
        attributes[variable]["ancillary_variables"] = f"{variable}_stderr"
    dimensions = "trajectory", "measured_epoch", *shape
    return {key: (dimensions, values, attributes[key]) for key, values in arrays.items()}


def _array(values: Sequence[object]) -> np.ndarray:
    return np.array(values, dtype=object if all(isinstance(value, str) for value in values) else None)


def _attributes(meaning: str, name: str = "") -> dict[str, str]:
    """Return the attributes of a variable: its meaning, and its units if the name is one with units."""
    if name.endswith("_loss"):
        return {"long_name": meaning, "units": "nat"}
    if name.endswith(("_accuracy", "_rate")) or name in ("score", "drop"):
        return {"long_name": meaning, "units": "1"}
    return {"long_name": meaning}
