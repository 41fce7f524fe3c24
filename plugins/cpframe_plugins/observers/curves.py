"""A history as what trackers take: named numbers at an epoch, and what a trajectory was trained with."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from importlib.util import find_spec

from cpframe.api import History, TrajectoryRecord

_CURVES = {
    "accuracy/test": "test_accuracy",
    "accuracy/train": "train_accuracy",
    "loss/test": "test_loss",
    "loss/train": "train_loss",
    "learning_rate": "learning_rate",
}


def scalars(history: History, after: int = 0) -> Iterator[tuple[int, dict[str, float]]]:
    """Every epoch later than `after` with its numbers, by name; those that are nan are left out.

    A metric is ``fisher``, or ``fisher/conv1`` for each layer and ``fisher/total`` for their sum. Metrics with other
    dimensions are no curves, and are left out.
    """
    measured = {int(epoch): row for row, epoch in enumerate(history.measured_epoch)}
    for row, epoch in enumerate(map(int, history.epoch)):
        if epoch <= after:
            continue
        found = {name: float(getattr(history, curve)[row]) for name, curve in _CURVES.items()}
        for name, metric in history.metrics.items():
            if epoch in measured and not metric.dimensions:
                found[name] = float(metric.values[measured[epoch]])
            elif epoch in measured and metric.dimensions == ("layer",):
                values = metric.values[measured[epoch]]
                found |= {f"{name}/{layer}": float(one) for layer, one in zip(history.layers, values, strict=True)}
                found[f"{name}/total"] = float(values.sum())
        yield epoch, {name: value for name, value in found.items() if not math.isnan(value)}


def settings(trajectory: TrajectoryRecord) -> dict[str, bool | float | str]:
    """What tells a trajectory from others; values of the grid that are arrays or tables are written as JSON."""
    variant = {
        key: value if isinstance(value, bool | int | float | str) else json.dumps(value, default=str)
        for key, value in trajectory.variant.items()
    }
    return {
        "protocol": trajectory.protocol,
        "deficit": trajectory.deficit,
        "onset": trajectory.onset,
        "offset": trajectory.offset,
        "epochs": trajectory.epochs,
        "seed": trajectory.seed,
        **variant,
    }


def check_installed(package: str, extra: str) -> None:
    """Refuse an observer whose package is not there.

    Raises:
        ValueError: which the spec's reader tells.
    """
    if find_spec(package) is None:
        raise ValueError(f"`use` needs {package}, which is not installed: pip install 'cpframe[{extra}]'")
