"""A study as tables: one row a trajectory, one an epoch, one a measured value. pandas is imported inside."""

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

FACTS = {
    "protocol": "removal, sliding, or clean for the no-deficit training that is as long as the longest",
    "deficit": "the deficit's name in the spec, or clean",
    "onset": "first epoch (0, 1, ...) under the deficit; 0 where there is none",
    "offset": "first epoch after the deficit; equal to onset where there is none",
    "epochs": "length of the whole training",
    "seed": "of the training",
    "status": "complete, unfinished or failed",
    "reason": "of the failure, else empty",
    "score": "final test accuracy: the mean over the last score_epochs epochs; nan unless complete",
    "drop": "score of the matching no-deficit training of the same seed minus score (sensitivity); nan without one",
    "epochs_trained": "how many epochs it has got to",
    **{f"final_{name}": f"{name} of the last of them" for name in CURVES},
}
"""What is known of every trajectory, beside its name and its values of the grid."""


def facts_of(study: StudyRecord) -> dict[str, list[object]]:
    """Columns of a table with one row a trajectory: its name, its values of the grid, and `FACTS`.

    A key of the grid whose values are all true or false, all numbers, or all text keeps them; otherwise (arrays,
    tables, a mixture) they are written as JSON.
    """
    drops = _drops(study)
    columns: dict[str, list[object]] = {"name": [trajectory.name for trajectory in study.trajectories]}
    columns |= {name: [getattr(one, name) for one in study.trajectories] for name in list(FACTS)[:6]}
    columns |= variants_of(study.trajectories)
    columns |= {name: [getattr(one, name) for one in study.trajectories] for name in ("status", "reason", "score")}
    columns["drop"] = [drops.get(_place(one), math.nan) for one in study.trajectories]
    columns["epochs_trained"] = [len(one.history.epoch) for one in study.trajectories]
    for name in CURVES:
        columns[f"final_{name}"] = [_last(getattr(one.history, name)) for one in study.trajectories]
    return columns


def variants_of(trajectories: Sequence[TrajectoryRecord]) -> dict[str, list[object]]:
    """The values of the grid, by its dotted keys, one for each trajectory."""
    keys = dict.fromkeys(key for one in trajectories for key in one.variant)
    columns = {key: [one.variant.get(key) for one in trajectories] for key in keys}
    return {key: values if _alike(values) else [_json(value) for value in values] for key, values in columns.items()}


def trajectory_table(facts: Mapping[str, Sequence[object]]) -> DataFrame:
    """One row a trajectory, in the order of the study.

    Args:
        facts: of the study, see `facts_of`.

    Raises:
        NotInstalledError: without pandas.
    """
    return _table({name: np.array(values, dtype=_kind(values)) for name, values in facts.items()})


def epoch_table(study: StudyRecord) -> DataFrame:
    """One row for each epoch of each trajectory: trajectory, epoch, condition and the curves.

    Raises:
        NotInstalledError: without pandas.
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
        _stacked(parts, {"trajectory": _TEXT, "epoch": _WHOLE, "condition": _TEXT, **dict.fromkeys(CURVES, _REAL)})
    )


def metric_table(study: StudyRecord) -> DataFrame:
    """One row for each value measured: trajectory, metric, epoch, layer (missing for a number), value, stderr.

    An epoch at which a metric was not measured has no rows. Metrics with dimensions of their own (filters, say) are
    not in it: see `left_out`.

    Raises:
        NotInstalledError: without pandas.
    """
    parts = []
    for trajectory in study.trajectories:
        history = trajectory.history
        for name, metric in history.metrics.items():
            if metric.dimensions not in ((), ("layer",)):
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
    kinds = {"trajectory": _TEXT, "metric": _TEXT, "epoch": _WHOLE, "layer": _TEXT, "value": _REAL, "stderr": _REAL}
    return _table(_stacked(parts, kinds))


def left_out(study: StudyRecord) -> tuple[str, ...]:
    """Names of the metrics whose dimensions are their own, which a table has no columns for."""
    metrics = [item for one in study.trajectories for item in one.history.metrics.items()]
    return tuple(dict.fromkeys(name for name, metric in metrics if metric.dimensions not in ((), ("layer",))))


_Place = tuple[str, str, str, int, int, int, int]


def _place(one: TrajectoryRecord) -> _Place:
    return one.protocol, variant_key(one.variant), one.deficit, one.onset, one.offset, one.epochs, one.seed


def _drops(study: StudyRecord) -> dict[_Place, float]:
    """The drops of `cpframe.analysis.comparisons`, by what tells a trajectory from another."""
    found: dict[_Place, float] = {}
    for group in all_groups(study):
        protocol = "removal" if isinstance(group, RemovalGroup) else "sliding"
        for curve in group.curves:
            for point in curve.points:
                epochs = point.offset + group.recovery if isinstance(group, RemovalGroup) else group.epochs
                place = protocol, variant_key(group.variant), curve.deficit, point.onset, point.offset, epochs
                found |= {(*place, seed): drop for seed, drop in point.drops.items()}
    return found


def _alike(values: Sequence[object]) -> bool:
    for kinds in ((bool,), (int, float), (str,)):
        if all(isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool)) for value in values):
            return True
    return False


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


_TEXT, _WHOLE, _REAL = np.dtype(object), np.dtype(np.int64), np.dtype(np.float64)
_Columns = Mapping[str, np.ndarray]


def _kind(values: Sequence[object]) -> np.dtype | None:
    return _TEXT if all(isinstance(value, str) for value in values) else None


def _stacked(parts: Sequence[_Columns], kinds: Mapping[str, np.dtype]) -> _Columns:
    """Put tables of the same columns below one another; without any there are no rows."""
    return {name: np.concatenate([np.zeros(0, kind), *(part[name] for part in parts)]) for name, kind in kinds.items()}


def _table(columns: _Columns) -> DataFrame:
    with require_extra("a table", "notebook"):
        import pandas

    # Text is said to be text: a column in which all is missing would else be of no type.
    return pandas.DataFrame(
        {
            name: pandas.array(values, dtype="string") if values.dtype == _TEXT else values
            for name, values in columns.items()
        }
    )


def _last(curve: Floats) -> float:
    return float(curve[-1]) if curve.size else math.nan
