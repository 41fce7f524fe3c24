"""The measurement of metrics on the probe, and the validation of their results; each is one row of a history."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cpframe.api import Measurement, Probe
from cpframe.errors import MetricError
from cpframe.records.histories import axis_sizes
from cpframe.records.model import RESERVED_NAMES, MetricHistory
from cpframe.spec.dotted_keys import is_word
from cpframe.spec.model import Metric, MetricSchedule
from cpframe.training.conditions import Condition, apply_condition
from cpframe.training.data import DeviceData, probe_positions
from cpframe.training.learner import Learner
from cpframe.training.randomness import stream


def is_due(schedule: MetricSchedule, epoch: int) -> bool:
    """Return whether a metric is measured when `epoch` epochs (1, 2, ...) are completed."""
    return epoch == 1 or epoch % schedule.every == 0


def measure(
    metrics: Iterable[Metric], learner: Learner, data: DeviceData, condition: Condition, seed: int, epoch: int
) -> dict[str, MetricHistory]:
    """Measure every metric that is due after an epoch.

    Args:
        metrics: the metrics of the study.
        learner: the network.
        data: the data set.
        condition: the condition of the epoch.
        seed: the seed of the training.
        epoch: the absolute epoch, from 0.

    Returns:
        A history of one row per quantity, by name.

    Raises:
        MetricError: when a result cannot be stored, or contradicts the results of other metrics.
    """
    learner.model.eval()
    found: dict[str, MetricHistory] = {}
    for metric in metrics:
        if not is_due(metric.schedule, epoch + 1):
            continue
        seen = data.batch(probe_positions(data, metric.schedule.inputs, seed))
        if metric.schedule.on == "condition":
            seen = apply_condition(seen, condition, seed, epoch) or seen
        probe = Probe(
            model=learner.model,
            inputs=data.normalise(seen.inputs),
            targets=seen.targets,
            layers=learner.layers,
            task=data.task,
            rng=stream(seed, f"metric {metric.name}"),
        )
        result = metric.component.call(probe)
        quantities = {"": result} if isinstance(result, Measurement) else result
        for key, measurement in quantities.items():
            name = f"{metric.name}-{key}" if key else metric.name
            if not is_word(name) or name in found:
                raise MetricError(
                    f"the metric {metric.name} returns a quantity named {key!r}; the name must be a word, and unique"
                )
            found[name] = _row(name, measurement, metric.schedule.on, len(probe.layers))
    axis_sizes(found)
    return found


def _row(name: str, measurement: Measurement, source: str, layers: int) -> MetricHistory:
    """Return a measurement as a history of one row.

    Raises:
        MetricError: when its dimensions, values and standard errors do not match.
    """
    values = np.asarray(measurement.values, dtype=np.float64)
    stderr = None if measurement.stderr is None else np.asarray(measurement.stderr, dtype=np.float64)
    dimensions = measurement.dimensions
    if dimensions is None and values.shape not in ((), (layers,)):
        raise MetricError(
            f"the metric {name} must return one number, or one for each of {layers} layers, or name its `dimensions`;"
            f" it returned values of shape {values.shape}"
        )
    if dimensions is not None:
        _check_dimensions(name, dimensions, values.shape)
    if stderr is not None and stderr.shape != values.shape:
        raise MetricError(
            f"the metric {name} must return standard errors of the shape of its values, {values.shape},"
            f" not {stderr.shape}"
        )
    return MetricHistory(
        values=values[None],
        stderr=None if stderr is None else stderr[None],
        units=measurement.units,
        estimator=measurement.estimator,
        source=source,
        axes=dimensions or (),
        quantity=measurement.quantity,
    )


def _check_dimensions(name: str, dimensions: tuple[str, ...], shape: tuple[int, ...]) -> None:
    """Raise MetricError when the named dimensions of a measurement are invalid or do not match its shape."""
    invalid = [
        given for given in dimensions if not isinstance(given, str) or not is_word(given) or given in RESERVED_NAMES
    ]
    if invalid:
        raise MetricError(
            f"the metric {name} names a dimension {invalid[0]!r}; the name must be a word other than "
            f"{', '.join(sorted(RESERVED_NAMES))}"
        )
    if len(set(dimensions)) < len(dimensions):
        raise MetricError(f"the metric {name} gives two dimensions the same name: {', '.join(dimensions)}")
    if len(dimensions) != len(shape) or 0 in shape:
        raise MetricError(
            f"the metric {name} names the dimensions ({', '.join(dimensions)}), which do not match its values of shape"
            f" {shape}; each dimension must be named and have a length of at least 1"
        )
