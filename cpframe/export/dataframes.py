"""A study as tables: one row per trajectory, per epoch, and per measured value. pandas is imported inside."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cpframe.analysis.comparisons import RemovalGroup, all_groups, variant_key
from cpframe.errors import require_extra
from cpframe.records.histories import CURVES
from cpframe.records.model import Floats, StudyRecord, TrajectoryRecord

if TYPE_CHECKING:
    from pandas import DataFrame

_TIMELINE_COLUMNS = {
    "protocol": "removal, sliding, or clean for the no-deficit trajectory that is as long as the longest one",
    "deficit": "name of the deficit in the spec, or clean",
    "onset": "first epoch (0, 1, ...) under the deficit; 0 without a deficit",
    "offset": "first epoch after the deficit; equal to onset without a deficit",
    "epochs": "number of epochs of the whole training",
    "seed": "seed of the training",
}
_RESULT_COLUMNS = {
    "status": "complete, unfinished or failed",
    "reason": "reason of the failure, else empty",
    "score": "final test accuracy: the mean over the last score_epochs epochs; nan unless complete",
    "drop": "score of the matching no-deficit trajectory of the same seed minus score (in the sliding protocol: "
    "sensitivity); nan without such a trajectory",
    "epochs_trained": "number of epochs trained so far",
    **{f"final_{name}": f"{description}; last epoch trained" for name, description in CURVES.items()},
}
TRAJECTORY_COLUMNS = _TIMELINE_COLUMNS | _RESULT_COLUMNS
"""The meanings of the columns of the table of trajectories, except the name and the keys of the variant."""


def trajectory_columns(study: StudyRecord) -> dict[str, list[object]]:
    """Return the columns of the table of trajectories: name, keys of the variant, and `TRAJECTORY_COLUMNS`.

    The values of a key are kept if all are booleans, all numbers or all text; else they are written as JSON.
    """
    trajectories, drops = study.trajectories, _drops(study)
    columns: dict[str, list[object]] = {"name": [t.name for t in trajectories]}
    columns |= {name: [getattr(t, name) for t in trajectories] for name in _TIMELINE_COLUMNS}
    columns |= _variant_columns(trajectories)
    columns |= {name: [getattr(t, name) for t in trajectories] for name in ("status", "reason", "score")}
    columns["drop"] = [drops.get(_timeline(t), math.nan) for t in trajectories]
    columns["epochs_trained"] = [len(t.history.epoch) for t in trajectories]
    for name in CURVES:
        columns[f"final_{name}"] = [_last(getattr(t.history, name)) for t in trajectories]
    return columns


def _variant_columns(trajectories: Sequence[TrajectoryRecord]) -> dict[str, list[object]]:
    keys = dict.fromkeys(key for trajectory in trajectories for key in trajectory.variant)
    columns = {key: [trajectory.variant.get(key) for trajectory in trajectories] for key in keys}
    return {
        key: values if _have_one_type(values) else [_to_json(value) for value in values]
        for key, values in columns.items()
    }


def trajectory_table(columns: Mapping[str, Sequence[object]]) -> DataFrame:
    """Return a table with one row per trajectory, in the order of the study.

    Args:
        columns: the columns, see `trajectory_columns`.

    Raises:
        NotInstalledError: if pandas is not installed.
    """
    return _table({name: np.array(values, dtype=_dtype(values)) for name, values in columns.items()})


def epoch_table(study: StudyRecord) -> DataFrame:
    """Return a table with one row per epoch of a trajectory: trajectory, epoch, condition and the curves.

    Raises:
        NotInstalledError: if pandas is not installed.
    """
    parts = []
    for trajectory in study.trajectories:
        history = trajectory.history
        parts.append(
            {
                "trajectory": np.full(len(history.epoch), trajectory.name, dtype=object),
                "epoch": history.epoch,
                "condition": np.array(history.condition, dtype=object),
                **{name: getattr(history, name) for name in CURVES},
            }
        )
    return _table(
        _concatenate(parts, {"trajectory": _TEXT, "epoch": _WHOLE, "condition": _TEXT, **dict.fromkeys(CURVES, _REAL)})
    )


def metric_table(study: StudyRecord) -> DataFrame:
    """Return a table with one row per measured value: trajectory, metric, epoch, layer, value, stderr.

    The layer is missing for a metric that is one number. Epochs at which a metric was not measured have no rows.
    Metrics that define dimensions, such as filters, are not in the table, see `array_metrics`.

    Raises:
        NotInstalledError: if pandas is not installed.
    """
    parts = []
    for trajectory in study.trajectories:
        history = trajectory.history
        for name, metric in history.metrics.items():
            if metric.axes:
                continue
            values = metric.values if metric.dimensions else metric.values[:, None]
            measured = ~np.isnan(values).all(axis=1)
            size = values[measured].size
            stderr = np.full(values.shape, np.nan) if metric.stderr is None else metric.stderr.reshape(values.shape)
            layers = np.array(history.layers if metric.dimensions else (None,), dtype=object)
            parts.append(
                {
                    "trajectory": np.full(size, trajectory.name, dtype=object),
                    "metric": np.full(size, name, dtype=object),
                    "epoch": np.repeat(history.measured_epoch[measured], values.shape[1]),
                    "layer": np.tile(layers, int(measured.sum())),
                    "value": values[measured].ravel(),
                    "stderr": stderr[measured].ravel(),
                }
            )
    dtypes = {"trajectory": _TEXT, "metric": _TEXT, "epoch": _WHOLE, "layer": _TEXT, "value": _REAL, "stderr": _REAL}
    return _table(_concatenate(parts, dtypes))


def array_metrics(study: StudyRecord) -> tuple[str, ...]:
    """Return the names of the metrics that define dimensions, for which the table of metrics has no columns."""
    metrics = [item for trajectory in study.trajectories for item in trajectory.history.metrics.items()]
    return tuple(dict.fromkeys(name for name, metric in metrics if metric.axes))


_Timeline = tuple[str, str, str, int, int, int, int]


def _timeline(trajectory: TrajectoryRecord) -> _Timeline:
    """Return what distinguishes a trajectory from all others of the study."""
    t = trajectory
    return t.protocol, variant_key(t.variant), t.deficit, t.onset, t.offset, t.epochs, t.seed


def _drops(study: StudyRecord) -> dict[_Timeline, float]:
    """Return the drop of every trajectory that has one, as `cpframe.analysis.comparisons` defines it."""
    drops: dict[_Timeline, float] = {}
    for group in all_groups(study):
        protocol = "removal" if isinstance(group, RemovalGroup) else "sliding"
        for curve in group.curves:
            for point in curve.points:
                epochs = point.offset + group.recovery if isinstance(group, RemovalGroup) else group.epochs
                timeline = protocol, variant_key(group.variant), curve.deficit, point.onset, point.offset, epochs
                drops |= {(*timeline, seed): drop for seed, drop in point.drops.items()}
    return drops


def _have_one_type(values: Sequence[object]) -> bool:
    for types in ((bool,), (int, float), (str,)):
        if all(isinstance(value, types) and (bool in types or not isinstance(value, bool)) for value in values):
            return True
    return False


def _to_json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


_TEXT, _WHOLE, _REAL = np.dtype(object), np.dtype(np.int64), np.dtype(np.float64)
_Columns = Mapping[str, np.ndarray]


def _dtype(values: Sequence[object]) -> np.dtype | None:
    return _TEXT if all(isinstance(value, str) for value in values) else None


def _concatenate(parts: Sequence[_Columns], dtypes: Mapping[str, np.dtype]) -> _Columns:
    """Append tables with the same columns to each other; without any table the columns are empty."""
    return {
        name: np.concatenate([np.zeros(0, dtype), *(part[name] for part in parts)]) for name, dtype in dtypes.items()
    }


def _table(columns: _Columns) -> DataFrame:
    with require_extra("a table", "notebook"):
        import pandas

    # The dtype of text is set explicitly: pandas would not infer it for a column without values.
    return pandas.DataFrame(
        {
            name: pandas.array(values, dtype="string") if values.dtype == _TEXT else values
            for name, values in columns.items()
        }
    )


def _last(curve: Floats) -> float:
    return float(curve[-1]) if curve.size else math.nan
