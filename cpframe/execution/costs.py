"""What an epoch of a variant costs: seconds to train, test and measure, and bytes to keep."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cpframe.plan.stages import Stage
from cpframe.spec.model import Metric
from cpframe.training.measurement import is_due


@dataclass(frozen=True)
class Costs:
    """Estimated seconds of a variant on one worker.

    Attributes:
        train: an epoch of training.
        test: a test of the whole test set.
        metrics: a measurement, by the metric's name.
        idle: names of the conditions in which there is no training.
        state_bytes: of a saved state.
        numbers: how many a measurement leaves in the history, by the metric's name.
    """

    train: float
    test: float
    metrics: Mapping[str, float]
    idle: frozenset[str]
    state_bytes: int = 0
    numbers: Mapping[str, int] = field(default_factory=dict)


def estimated_seconds(stages: Iterable[Stage], metrics: Iterable[Metric], costs: Mapping[int, Costs]) -> float:
    """Seconds that one worker needs for these stages, with the costs by the index of the variant."""
    seconds = 0.0
    for stage in stages:
        cost = costs[stage.variant]
        seconds += stage.epochs * (cost.test + (0 if stage.condition in cost.idle else cost.train))
        for metric in metrics:
            count = sum(is_due(metric.schedule, epoch + 1) for epoch in range(stage.start, stage.stop))
            seconds += count * cost.metrics[metric.name]
    return seconds
