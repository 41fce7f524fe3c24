"""Histories in the form that trackers accept: named scalars per epoch, and the settings of a trajectory."""

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
    """Yield every epoch after epoch `after` with its scalars by name, except those that are nan.

    A metric with one number is named ``fisher``; a metric per layer is named ``fisher/conv1`` for each layer and
    ``fisher/total`` for their sum. Metrics with other dimensions are left out.
    """
    measured = {int(epoch): row for row, epoch in enumerate(history.measured_epoch)}
    for row, epoch in enumerate(map(int, history.epoch)):
        if epoch <= after:
            continue
        values = {name: float(getattr(history, curve)[row]) for name, curve in _CURVES.items()}
        for name, metric in history.metrics.items():
            if epoch in measured and not metric.dimensions:
                values[name] = float(metric.values[measured[epoch]])
            elif epoch in measured and metric.dimensions == ("layer",):
                by_layer = metric.values[measured[epoch]]
                values |= {f"{name}/{layer}": float(one) for layer, one in zip(history.layers, by_layer, strict=True)}
                values[f"{name}/total"] = float(by_layer.sum())
        yield epoch, {name: value for name, value in values.items() if not math.isnan(value)}


def settings(trajectory: TrajectoryRecord) -> dict[str, bool | float | str]:
    """Return the settings that identify a trajectory; arrays and tables of its variant are written as JSON."""
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
    """Check that the package of an observer is installed.

    Raises:
        ValueError: it is not installed.
    """
    if find_spec(package) is None:
        raise ValueError(f"`use` needs the package {package}, which is not installed: pip install 'cpframe[{extra}]'")
