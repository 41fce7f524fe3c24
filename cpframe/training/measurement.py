"""Metrics measured on the probe, and what they give checked: each measurement is one row of a history."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from cpframe.api import Measurement, Probe
from cpframe.errors import MetricError
from cpframe.records.histories import axis_sizes
from cpframe.records.model import RESERVED_NAMES, MetricHistory
from cpframe.spec.dotted_keys import is_word
from cpframe.spec.model import Metric, MetricSchedule
from cpframe.training.data import Condition, DeviceData, degraded, probe_positions
from cpframe.training.learner import Learner
from cpframe.training.randomness import stream


def due(schedule: MetricSchedule, epoch: int) -> bool:
    """Whether a metric is measured when `epoch` epochs (1, 2, ...) are completed."""
    return epoch == 1 or epoch % schedule.every == 0


def measure(
    metrics: Iterable[Metric], learner: Learner, data: DeviceData, condition: Condition, seed: int, epoch: int
) -> dict[str, MetricHistory]:
    """Measure every metric that is due after this epoch; each result is a history of one row.

    Raises:
        MetricError: when a metric gives what cannot be kept, by itself or beside the others.
    """
    learner.model.eval()
    found: dict[str, MetricHistory] = {}
    for metric in metrics:
        if not due(metric.schedule, epoch + 1):
            continue
        seen = data.batch(probe_positions(data, metric.schedule.inputs, seed))
        if metric.schedule.on == "condition":
            seen = degraded(seen, condition, seed, epoch) or seen
        probe = Probe(
            model=learner.model,
            inputs=data.normalised(seen.inputs),
            targets=seen.targets,
            layers=learner.layers,
            task=data.task,
            rng=stream(seed, f"metric {metric.name}"),
        )
        answer = metric.component.call(probe)
        parts = {"": answer} if isinstance(answer, Measurement) else answer
        for key, measurement in parts.items():
            name = f"{metric.name}-{key}" if key else metric.name
            if not is_word(name) or name in found:
                raise MetricError(
                    f"the metric {metric.name} cannot call a quantity {key!r}: it needs a word of its own"
                )
            found[name] = _row(name, measurement, metric.schedule.on, len(probe.layers))
    axis_sizes(found)
    return found


def _row(name: str, measurement: Measurement, source: str, layers: int) -> MetricHistory:
    values = np.asarray(measurement.values, dtype=np.float64)
    stderr = None if measurement.stderr is None else np.asarray(measurement.stderr, dtype=np.float64)
    own = measurement.dimensions
    if own is None and values.shape not in ((), (layers,)):
        raise MetricError(
            f"the metric {name} should give a number or one for each of {layers} layers, or name its `dimensions`"
        )
    if own is not None:
        _check_dimensions(name, own, values.shape)
    if stderr is not None and stderr.shape != values.shape:
        shapes = f"values of shape {_shown(values.shape)} and standard errors of {_shown(stderr.shape)}"
        raise MetricError(f"the metric {name} has {shapes}")
    return MetricHistory(
        values=values[None],
        stderr=None if stderr is None else stderr[None],
        units=measurement.units,
        estimator=measurement.estimator,
        source=source,
        axes=own or (),
        quantity=measurement.quantity,
    )


def _check_dimensions(name: str, own: tuple[str, ...], shape: tuple[int, ...]) -> None:
    odd = [one for one in own if not isinstance(one, str) or not is_word(one) or one in RESERVED_NAMES]
    if odd:
        raise MetricError(
            f"the metric {name} cannot have a dimension called {odd[0]!r}: it should be a word, other than "
            f"{', '.join(sorted(RESERVED_NAMES))}"
        )
    if len(set(own)) < len(own):
        raise MetricError(f"the metric {name} has two dimensions of one name: {', '.join(own)}")
    if len(own) != len(shape) or 0 in shape:
        named = ", ".join(own) or "without a name"
        raise MetricError(f"the metric {name} has values of shape {_shown(shape)}, which are not of dimensions {named}")


def _shown(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "a single number"
