"""Metrics through training, averaged over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpframe.analysis.comparisons import variant_key
from cpframe.records import CLEAN, Floats, Integers, StudyRecord, TrajectoryRecord


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
        n: seeds averaged.
        epoch: (M,) epochs completed at each measurement, those that all these seeds have.
        values: (M,) or (M, layer), all finite.
        sample: (n, M) or (n, M, layer), what `values` is the mean of: one seed after the other.
        layers: names of the layers.
        units: of the values.
        estimator: how they were computed.
        source: which inputs they were measured on.
    """

    protocol: str
    variant: Mapping[str, object]
    deficit: str
    onset: int
    offset: int
    epochs: int
    n: int
    epoch: Integers
    values: Floats
    sample: Floats
    layers: tuple[str, ...]
    units: str
    estimator: str
    source: str

    @property
    def total(self) -> Floats:
        """(M,) the sum over layers; the values themselves where they are not by layer."""
        return self.values if self.values.ndim == 1 else self.values.sum(axis=1)

    @property
    def total_sample(self) -> Floats:
        """(n, M) the total of each seed."""
        return self.sample if self.sample.ndim == 2 else self.sample.sum(axis=2)


def metric_names(study: StudyRecord) -> tuple[str, ...]:
    """Names of all metrics measured, in the order in which they appear."""
    return tuple(dict.fromkeys(name for t in study.trajectories for name in t.history.metrics))


def is_fisher(study: StudyRecord, metric: str) -> bool:
    """Whether a metric is Fisher information, by the first word of its estimator."""
    histories = (t.history.metrics[metric] for t in study.trajectories if metric in t.history.metrics)
    return any(history.estimator.lower().startswith("fisher") for history in histories)


def metric_curves(study: StudyRecord, metric: str) -> tuple[MetricCurve, ...]:
    """Average a metric over seeds: one curve for each variant, protocol, deficit, window and length of training.

    The mean is arithmetic, so that the layers' means add up to the mean of the total. Failed trajectories are left
    out, and unfinished ones where the others are complete; of the rest the epochs count at which all were measured,
    so that a seed's beginning or end makes no step in the curve. Of no-deficit trajectories, which are stretches of
    one another, each variant keeps the curve of most seeds, and of these the longest; where two protocols asked for
    one and the same training, it is kept once.
    """
    groups: dict[tuple[object, ...], list[TrajectoryRecord]] = {}
    for t in study.trajectories:
        if metric in t.history.metrics and t.status != "failed":
            key = variant_key(t.variant), t.protocol, t.deficit, t.onset, t.offset, t.epochs
            groups.setdefault(key, []).append(t)
    averaged = (_average(metric, members) for members in groups.values())
    curves: list[MetricCurve] = []
    for curve in averaged:
        if curve is not None and not any(_same_training(curve, kept) for kept in curves):
            curves.append(curve)
    clean: dict[str, MetricCurve] = {}
    for curve in curves:
        if curve.deficit == CLEAN:
            clean[variant_key(curve.variant)] = max(
                clean.get(variant_key(curve.variant), curve), curve, key=lambda c: (c.n, c.epoch[-1])
            )
    return tuple(c for c in curves if c.deficit != CLEAN or clean[variant_key(c.variant)] is c)


def _same_training(one: MetricCurve, other: MetricCurve) -> bool:
    timeline = [(c.deficit, c.onset, c.offset, c.epochs, variant_key(c.variant)) for c in (one, other)]
    return timeline[0] == timeline[1] and np.array_equal(one.values, other.values)


def _average(metric: str, members: Sequence[TrajectoryRecord]) -> MetricCurve | None:
    complete = [t for t in members if t.status == "complete"]
    measured = [(t, rows) for t in complete or members if (rows := _finite_rows(t, metric)).any()]
    if not measured:
        return None
    common = set.intersection(*({int(e) for e in t.history.measured_epoch[rows]} for t, rows in measured))
    if not common:
        return None
    epoch = np.array(sorted(common), dtype=np.int64)
    sample = np.stack([t.history.metrics[metric].values[np.isin(t.history.measured_epoch, epoch)] for t, _ in measured])
    first = measured[0][0]
    history = first.history.metrics[metric]
    return MetricCurve(
        protocol=first.protocol,
        variant=first.variant,
        deficit=first.deficit,
        onset=first.onset,
        offset=first.offset,
        epochs=first.epochs,
        n=len(measured),
        epoch=epoch,
        values=sample.mean(axis=0),
        sample=sample,
        layers=first.history.layers,
        units=history.units,
        estimator=history.estimator,
        source=history.source,
    )


def _finite_rows(trajectory: TrajectoryRecord, metric: str) -> NDArray[np.bool_]:
    finite = np.isfinite(trajectory.history.metrics[metric].values)
    return np.asarray(finite if finite.ndim == 1 else finite.all(axis=1))


def layer_shares(curve: MetricCurve) -> Floats:
    """Each layer's share of the total at every measurement: (M, layer), from 0 to 1, rows adding up to 1.

    Rows whose total is 0 are nan.

    Raises:
        ValueError: if the metric is not by layer.
    """
    if curve.values.ndim != 2:
        raise ValueError("the metric has one value a network: shares need one a layer")
    total = curve.total[:, None]
    return np.divide(curve.values, total, out=np.full_like(curve.values, np.nan), where=total != 0)
