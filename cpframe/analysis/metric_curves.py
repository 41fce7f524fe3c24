"""Metrics through training, averaged over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cpframe.analysis.comparisons import variant_key
from cpframe.records.model import CLEAN, FISHER_QUANTITIES, Floats, Integers, StudyRecord, TrajectoryRecord

Timeline = tuple[str, str, int, int, int]
"""A variant's key, a deficit, its onset and offset, and the number of epochs."""


@dataclass(frozen=True)
class MetricCurve:
    """A metric through training, averaged over trajectories that differ only in their seed.

    Attributes:
        protocol: the protocol of the trajectories.
        variant: the variant of the trajectories.
        deficit: the name of the deficit, or ``clean``.
        onset: the first epoch under the deficit; equal to `offset` without a deficit.
        offset: the first epoch after the deficit.
        epochs: the number of epochs of the whole training.
        seeds: the seeds averaged.
        epoch: the number of epochs completed at each measurement that all seeds have, shape (M,).
        by_seed: the finite values, shape (seed, M) or (seed, M, layer).
        errors: the standard errors of `by_seed` (measurement errors, not differences between seeds), of the same
            shape; None if the metric has none.
        layers: the names of the layers.
        units: the units of the values.
        estimator: the method by which the values were computed.
        source: the inputs on which the values were measured: ``clean`` or ``condition``.
        quantity: the quantity measured, see `cpframe.records.model.MetricHistory`.
    """

    protocol: str
    variant: Mapping[str, object]
    deficit: str
    onset: int
    offset: int
    epochs: int
    seeds: tuple[int, ...]
    epoch: Integers
    by_seed: Floats
    errors: Floats | None
    layers: tuple[str, ...]
    units: str
    estimator: str
    source: str
    quantity: str = ""

    @property
    def n(self) -> int:
        """The number of seeds averaged."""
        return len(self.seeds)

    @cached_property
    def values(self) -> Floats:
        """The mean over seeds, shape (M,) or (M, layer)."""
        return np.asarray(self.by_seed.mean(axis=0))

    @property
    def total_by_seed(self) -> Floats:
        """The sum over layers per seed, shape (seed, M); the values themselves if there is one per network."""
        return self.by_seed if self.by_seed.ndim == 2 else self.by_seed.sum(axis=2)

    @property
    def total(self) -> Floats:
        """The mean over seeds of the sum over layers, shape (M,)."""
        return self.values if self.values.ndim == 1 else self.values.sum(axis=1)


def metric_names(study: StudyRecord) -> tuple[str, ...]:
    """Return the names of the metrics that are one number, or one per layer, in the order of appearance."""
    return tuple(name for name, by_layer in _metrics(study).items() if by_layer)


def array_metric_names(study: StudyRecord) -> tuple[str, ...]:
    """Return the names of the metrics that are larger arrays, such as the filters of a layer; they have no curves."""
    return tuple(name for name, by_layer in _metrics(study).items() if not by_layer)


def array_shapes(study: StudyRecord) -> dict[str, tuple[int, ...]]:
    """Return the shape of one measurement of every metric of `array_metric_names`, by its name."""
    shapes = {}
    for name in array_metric_names(study):
        history = next(t.history.metrics[name] for t in study.trajectories if name in t.history.metrics)
        shapes[name] = history.values.shape[1:]
    return shapes


def _metrics(study: StudyRecord) -> dict[str, bool]:
    """Return all metrics measured, and whether each is one number or one per layer."""
    return {name: not m.axes for t in study.trajectories for name, m in t.history.metrics.items()}


def is_fisher(study: StudyRecord, metric: str) -> bool:
    """Return whether a metric is Fisher information."""
    histories = (t.history.metrics[metric] for t in study.trajectories if metric in t.history.metrics)
    return any(history.quantity in FISHER_QUANTITIES for history in histories)


def metric_curves(study: StudyRecord, metric: str) -> tuple[MetricCurve, ...]:
    """Average a metric of `metric_names` over seeds: one curve per variant, protocol, deficit, window and length.

    The mean is arithmetic, so that the means of the layers add up to the mean of the total. Failed trajectories are
    left out, and so are unfinished ones if others of the same kind are complete. A curve has the epochs at which all
    its seeds were measured, so that it has no step where a seed begins or ends. The no-deficit trajectories of a
    variant are parts of the longest one, so only one of their curves is kept: the one with most seeds, and among
    these the longest. A training that two protocols share is kept once.
    """
    groups: dict[Timeline, dict[str, list[TrajectoryRecord]]] = {}
    for t in study.trajectories:
        if metric in t.history.metrics and not t.history.metrics[metric].axes and t.status != "failed":
            timeline = variant_key(t.variant), t.deficit, t.onset, t.offset, t.epochs
            groups.setdefault(timeline, {}).setdefault(t.protocol, []).append(t)
    curves: list[MetricCurve] = []
    clean: dict[str, MetricCurve] = {}
    for (variant, deficit, *_), by_protocol in groups.items():
        kept: list[MetricCurve] = []
        for members in by_protocol.values():
            curve = _average(metric, members)
            if curve is not None and not any(np.array_equal(curve.values, other.values) for other in kept):
                kept.append(curve)
                if deficit == CLEAN:
                    clean[variant] = max(clean.get(variant, curve), curve, key=lambda c: (c.n, c.epoch[-1]))
        curves += kept
    without = set(map(id, clean.values()))
    return tuple(curve for curve in curves if curve.deficit != CLEAN or id(curve) in without)


def _average(metric: str, members: Sequence[TrajectoryRecord]) -> MetricCurve | None:
    complete = [t for t in members if t.status == "complete"]
    measured = [(t, rows) for t in complete or members if (rows := _finite_rows(t, metric)).any()]
    if not measured:
        return None
    common = set.intersection(*({int(e) for e in t.history.measured_epoch[rows]} for t, rows in measured))
    if not common:
        return None
    epoch = np.array(sorted(common), dtype=np.int64)
    at = [np.isin(t.history.measured_epoch, epoch) for t, _ in measured]
    histories = [t.history.metrics[metric] for t, _ in measured]
    errors = [h.stderr[rows] for h, rows in zip(histories, at, strict=True) if h.stderr is not None]
    first, history = measured[0][0], histories[0]
    return MetricCurve(
        protocol=first.protocol,
        variant=first.variant,
        deficit=first.deficit,
        onset=first.onset,
        offset=first.offset,
        epochs=first.epochs,
        seeds=tuple(t.seed for t, _ in measured),
        epoch=epoch,
        by_seed=np.stack([h.values[rows] for h, rows in zip(histories, at, strict=True)]),
        errors=np.stack(errors) if len(errors) == len(measured) else None,
        layers=first.history.layers,
        units=history.units,
        estimator=history.estimator,
        source=history.source,
        quantity=history.quantity,
    )


def _finite_rows(trajectory: TrajectoryRecord, metric: str) -> NDArray[np.bool_]:
    finite = np.isfinite(trajectory.history.metrics[metric].values)
    return np.asarray(finite if finite.ndim == 1 else finite.all(axis=1))


def shares_of(values: Floats) -> Floats:
    """Return the share of each layer in the total.

    Args:
        values: the non-negative values, shape (..., layer).

    Returns:
        The shares, of the same shape, from 0 to 1 and adding up to 1 over layers; nan where the total is 0.
    """
    total = values.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(values, total, out=np.full_like(values, np.nan), where=total != 0))


def are_shares(curve: MetricCurve) -> bool:
    """Return whether the layers of a metric add up to 1 at every measurement."""
    return curve.values.ndim == 2 and np.allclose(curve.values.sum(axis=1), 1)


def layer_shares(curve: MetricCurve) -> Floats:
    """Return the share of each layer in the total at every measurement, shape (M, layer); see `shares_of`.

    Raises:
        ValueError: if the metric has one value per network.
    """
    if curve.values.ndim != 2:
        raise ValueError("layer shares need a metric with one value per layer; this one has one value per network")
    return shares_of(curve.values)
