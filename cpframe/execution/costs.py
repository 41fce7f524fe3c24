"""The costs of one epoch of a variant: seconds to train, test and measure, and bytes to store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cpframe.plan.stages import Stage
from cpframe.spec.model import Metric
from cpframe.training.measurement import is_due


@dataclass(frozen=True)
class Costs:
    """The costs of a variant on one worker.

    Attributes:
        train: the seconds per epoch of training.
        test: the seconds per test on the whole test set.
        metrics: the seconds per measurement, by the metric's name in the spec.
        idle: the names of the conditions under which nothing is trained.
        state_bytes: the size of a saved state.
        numbers: the count of values that one measurement adds to a history, by the metric's name in the spec.
    """

    train: float
    test: float
    metrics: Mapping[str, float]
    idle: frozenset[str]
    state_bytes: int = 0
    numbers: Mapping[str, int] = field(default_factory=dict)


def estimated_seconds(stages: Iterable[Stage], metrics: Iterable[Metric], costs: Mapping[int, Costs]) -> float:
    """Return the seconds that one worker needs to train stages.

    Args:
        stages: the stages.
        metrics: the metrics of the study, each with its schedule.
        costs: the costs of each variant, by its index.
    """
    seconds = 0.0
    for stage in stages:
        cost = costs[stage.variant]
        seconds += stage.epochs * (cost.test + (0 if stage.condition in cost.idle else cost.train))
        for metric in metrics:
            count = sum(is_due(metric.schedule, epoch + 1) for epoch in range(stage.start, stage.stop))
            seconds += count * cost.metrics[metric.name]
    return seconds
