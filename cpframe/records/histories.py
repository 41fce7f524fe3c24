"""Arithmetic on histories: they are concatenated, cut and validated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from cpframe.errors import MetricError
from cpframe.records.model import Floats, History, MetricHistory

CURVES = {
    "learning_rate": "learning rate of the epoch",
    "train_loss": "mean loss over the epoch's examples as the learner saw them; nan where it was idle",
    "train_accuracy": "mean accuracy over the epoch's examples as the learner saw them; nan where it was idle",
    "test_loss": "mean loss on the clean test set after the epoch",
    "test_accuracy": "accuracy on the clean test set after the epoch",
}
"""The curves of a history, with the meaning of each, which results files contain."""


def concatenate(parts: Sequence[History]) -> History:
    """Concatenate the histories of consecutive epochs; a metric is nan where a part did not measure it.

    Raises:
        MetricError: when the shape of a metric differs between the parts.
    """
    names = dict.fromkeys(name for part in parts for name in part.metrics)
    return History(
        epoch=np.concatenate([part.epoch for part in parts]),
        condition=tuple(condition for part in parts for condition in part.condition),
        measured_epoch=np.concatenate([part.measured_epoch for part in parts]),
        layers=parts[0].layers,
        metrics={name: _concatenate_metric(name, parts) for name in names},
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in CURVES},
    )


def _concatenate_metric(name: str, parts: Sequence[History]) -> MetricHistory:
    known = next(part.metrics[name] for part in parts if name in part.metrics)
    shapes = {
        (part.metrics[name].dimensions, part.metrics[name].values.shape[1:]): int(part.epoch[-1])
        for part in parts
        if name in part.metrics
    }
    if len(shapes) > 1:
        returned = ", and ".join(
            f"{_describe(axes, shape)} in epoch {epoch}" for (axes, shape), epoch in shapes.items()
        )
        raise MetricError(f"the metric {name} must keep its shape throughout a study; it returned {returned}")
    has_stderr = any(part.metrics[name].stderr is not None for part in parts if name in part.metrics)

    def rows(part: History, of: Callable[[MetricHistory], Floats | None]) -> Floats:
        array = of(part.metrics[name]) if name in part.metrics else None
        return np.full((len(part.measured_epoch), *known.values.shape[1:]), np.nan) if array is None else array

    values = np.concatenate([rows(part, lambda metric: metric.values) for part in parts])
    stderr = np.concatenate([rows(part, lambda metric: metric.stderr) for part in parts]) if has_stderr else None
    return replace(known, values=values, stderr=stderr)


def _describe(axes: Sequence[str], shape: Sequence[int]) -> str:
    """Describe a shape: "3 (unit) x 2 (class)"."""
    return " x ".join(f"{size} ({name})" for name, size in zip(axes, shape, strict=True)) or "a single number"


def axis_sizes(metrics: Mapping[str, MetricHistory]) -> dict[str, int]:
    """Return the length of every axis that a metric has chosen, by its name.

    Raises:
        MetricError: when an axis has different lengths in two metrics, or the name of a metric.
    """
    sizes: dict[str, tuple[int, str]] = {}
    for metric, history in metrics.items():
        for axis, size in zip(history.axes, history.values.shape[1:], strict=False):  # no axes: numbers, or layers
            if axis in metrics or axis.removesuffix("_stderr") in metrics:
                raise MetricError(f"the dimension {axis} of the metric {metric} has the name of a metric; rename it")
            known, first = sizes.setdefault(axis, (size, metric))
            if known != size:
                raise MetricError(
                    f"the dimension {axis} has length {known} in the metric {first} and length {size} in {metric}; "
                    "rename one of the two"
                )
    return {axis: size for axis, (size, _) in sizes.items()}


def validate(history: History) -> History:
    """Return the history if its arrays fit together.

    Raises:
        ValueError: when they do not.
    """
    epochs, measured = history.epoch.shape, history.measured_epoch.shape
    curves = [getattr(history, name).shape for name in CURVES]
    if len(epochs) != 1 or any(shape != epochs for shape in [*curves, (len(history.condition),)]):
        raise ValueError("the curves differ in length")
    for name, metric in history.metrics.items():
        shape = metric.values.shape
        fits = len(shape) == 1 + len(metric.axes) if metric.axes else shape[1:] in ((), (len(history.layers),))
        if not fits or shape[:1] != measured or (metric.stderr is not None and metric.stderr.shape != shape):
            raise ValueError(f"the metric {name} has the wrong shape")
    axis_sizes(history.metrics)
    return history


def rows_after(history: History, epoch: int) -> History:
    """Return the rows of a history after an epoch."""
    rows, measured = history.epoch > epoch, history.measured_epoch > epoch
    metrics = {
        name: replace(
            metric,
            values=metric.values[measured],
            stderr=None if metric.stderr is None else metric.stderr[measured],
        )
        for name, metric in history.metrics.items()
    }
    return replace(
        history,
        epoch=history.epoch[rows],
        condition=tuple(name for name, kept in zip(history.condition, rows, strict=True) if kept),
        measured_epoch=history.measured_epoch[measured],
        metrics=metrics,
        **{name: getattr(history, name)[rows] for name in CURVES},
    )
