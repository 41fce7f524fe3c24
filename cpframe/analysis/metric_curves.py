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
"""Variant, deficit, onset, offset, epochs."""


@dataclass(frozen=True)
class MetricCurve:
    """A metric through a training, as the mean over the seeds of trajectories that are otherwise the same.

    Attributes:
        protocol: of these trajectories.
        variant: values of the grid.
        deficit: its name, or ``clean``.
        onset: first epoch under the deficit; equal to `offset` where there is none.
        offset: first epoch after it.
        epochs: length of the whole training.
        seeds: those averaged.
        epoch: (M,) epochs completed at each measurement, those that all these seeds have.
        by_seed: (seed, M) or (seed, M, layer), all finite.
        errors: standard errors of `by_seed`, of the same shape: how well each measurement is known, which says
            nothing of how seeds differ; None where the metric has none.
        layers: names of the layers.
        units: of the values.
        estimator: how they were computed.
        source: which inputs they were measured on.
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
        """Seeds averaged."""
        return len(self.seeds)

    @cached_property
    def values(self) -> Floats:
        """(M,) or (M, layer) the mean over seeds."""
        return np.asarray(self.by_seed.mean(axis=0))

    @property
    def total_by_seed(self) -> Floats:
        """(seed, M) the sum over layers; the values themselves where they are not by layer."""
        return self.by_seed if self.by_seed.ndim == 2 else self.by_seed.sum(axis=2)

    @property
    def total(self) -> Floats:
        """(M,) the sum over layers; the values themselves where they are not by layer."""
        return self.values if self.values.ndim == 1 else self.values.sum(axis=1)


def metric_names(study: StudyRecord) -> tuple[str, ...]:
    """Names of the metrics that are one number or one a layer, in the order in which they appear."""
    return tuple(name for name, by_layer in _metrics(study).items() if by_layer)


def array_metric_names(study: StudyRecord) -> tuple[str, ...]:
    """Names of the metrics that are larger arrays, such as the filters of a layer: no curve is made of these."""
    return tuple(name for name, by_layer in _metrics(study).items() if not by_layer)


def _metrics(study: StudyRecord) -> dict[str, bool]:
    """All metrics measured, and whether they are numbers or one number a layer."""
    return {name: not m.axes for t in study.trajectories for name, m in t.history.metrics.items()}


def is_fisher(study: StudyRecord, metric: str) -> bool:
    """Whether a metric is Fisher information."""
    histories = (t.history.metrics[metric] for t in study.trajectories if metric in t.history.metrics)
    return any(history.quantity in FISHER_QUANTITIES for history in histories)


def metric_curves(study: StudyRecord, metric: str) -> tuple[MetricCurve, ...]:
    """Average a metric of `metric_names` over seeds: a curve a variant, protocol, deficit, window and length.

    The mean is arithmetic, so that the layers' means add up to the mean of the total. Failed trajectories are left
    out, and unfinished ones where the others are complete; of the rest the epochs count at which all were measured,
    so that a seed's beginning or end makes no step in the curve. Of no-deficit trajectories, which are stretches of
    one another, each variant keeps the curve of most seeds, and of these the longest; where two protocols asked for
    one and the same training, it is kept once.
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
    """Each layer's share of the total.

    Args:
        values: (..., layer), not negative.

    Returns:
        The same shape, from 0 to 1, adding up to 1 over layers; nan where the total is 0.
    """
    total = values.sum(axis=-1, keepdims=True)
    return np.asarray(np.divide(values, total, out=np.full_like(values, np.nan), where=total != 0))


def are_shares(curve: MetricCurve) -> bool:
    """Whether a metric's layers add up to 1 at every measurement, so that it tells nothing but how they share."""
    return curve.values.ndim == 2 and np.allclose(curve.values.sum(axis=1), 1)


def layer_shares(curve: MetricCurve) -> Floats:
    """Each layer's share of the total at every measurement: (M, layer), from 0 to 1, rows adding up to 1.

    Rows whose total is 0 are nan.

    Raises:
        ValueError: if the metric is not by layer.
    """
    if curve.values.ndim != 2:
        raise ValueError("the metric has one value a network: shares need one a layer")
    return shares_of(curve.values)
