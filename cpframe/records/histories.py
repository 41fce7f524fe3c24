"""The arithmetic of histories: put behind one another, cut, and checked."""

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


def concatenate(parts: Sequence[History]) -> History:
    """Put the histories of consecutive epochs behind one another; a metric is nan where a part did not measure it.

    Raises:
        MetricError: when a metric has another shape in one part than in another.
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
        told = ", and ".join(f"{_shaped(own, shape)} in epoch {epoch}" for (own, shape), epoch in shapes.items())
        raise MetricError(f"the metric {name} has to keep its shape through a study: it gave {told}")
    has_stderr = any(part.metrics[name].stderr is not None for part in parts if name in part.metrics)

    def rows(part: History, of: Callable[[MetricHistory], Floats | None]) -> Floats:
        found = of(part.metrics[name]) if name in part.metrics else None
        return np.full((len(part.measured_epoch), *known.values.shape[1:]), np.nan) if found is None else found

    values = np.concatenate([rows(part, lambda metric: metric.values) for part in parts])
    stderr = np.concatenate([rows(part, lambda metric: metric.stderr) for part in parts]) if has_stderr else None
    return replace(known, values=values, stderr=stderr)


def _shaped(own: Sequence[str], shape: Sequence[int]) -> str:
    """A shape in words: "3 (unit) x 2 (class)"."""
    return " x ".join(f"{size} ({name})" for name, size in zip(own, shape, strict=True)) or "a single number"


def sizes(metrics: Mapping[str, MetricHistory]) -> dict[str, int]:
    """The length of every dimension that metrics have of their own, by its name.

    Raises:
        MetricError: when two metrics have a dimension of one name and different lengths, or it is called like a metric.
    """
    found: dict[str, tuple[int, str]] = {}
    for metric, history in metrics.items():
        for dimension, size in zip(history.own, history.values.shape[1:], strict=False):  # of layers nothing is said
            if dimension in metrics or dimension.removesuffix("_stderr") in metrics:
                raise MetricError(f"the dimension {dimension} of the metric {metric} is called like a metric")
            known, first = found.setdefault(dimension, (size, metric))
            if known != size:
                raise MetricError(
                    f"the dimension {dimension} has {known} in the metric {first} and {size} in {metric}: "
                    "one of them needs another name"
                )
    return {dimension: size for dimension, (size, _) in found.items()}


def validated(history: History) -> History:
    """The history; raises ValueError unless all its parts are of one length."""
    epochs, measured = history.epoch.shape, history.measured_epoch.shape
    curves = [getattr(history, name).shape for name in CURVES]
    if len(epochs) != 1 or any(shape != epochs for shape in [*curves, (len(history.condition),)]):
        raise ValueError("its curves are not of one length")
    for name, metric in history.metrics.items():
        shape = metric.values.shape
        fits = len(shape) == 1 + len(metric.own) if metric.own else shape[1:] in ((), (len(history.layers),))
        if not fits or shape[:1] != measured or (metric.stderr is not None and metric.stderr.shape != shape):
            raise ValueError(f"the metric {name} has the wrong shape")
    sizes(history.metrics)
    return history


def after(history: History, epoch: int) -> History:
    """The rows of a history after an epoch."""
    rows, measured = history.epoch > epoch, history.measured_epoch > epoch
    metrics = {
        name: replace(one, values=one.values[measured], stderr=None if one.stderr is None else one.stderr[measured])
        for name, one in history.metrics.items()
    }
    return replace(
        history,
        epoch=history.epoch[rows],
        condition=tuple(name for name, kept in zip(history.condition, rows, strict=True) if kept),
        measured_epoch=history.measured_epoch[measured],
        metrics=metrics,
        **{name: getattr(history, name)[rows] for name in CURVES},
    )
