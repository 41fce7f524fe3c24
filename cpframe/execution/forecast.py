"""The forecast: the time that a study takes with a number of workers, and its disk space."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpframe.execution.costs import Costs, estimated_seconds
from cpframe.execution.progress import StudyProgress, remaining_epochs
from cpframe.spec.model import Metric
from cpframe.training.measurement import is_due

_HISTORY_BYTES = 14_000
"""The size of an empty history in HDF5: names, dimensions and attributes."""
_EPOCH_BYTES = 80
"""The size of one epoch of a history: five curves, the epoch's number and its condition."""


@dataclass(frozen=True)
class Forecast:
    """The time and disk space that the remaining stages of a study need.

    Attributes:
        seconds: the wall time.
        peak_bytes: the largest size of states, histories and results during the run.
        final_bytes: the size of what stays after the run.
    """

    seconds: float
    peak_bytes: int
    final_bytes: int


def forecast(progress: StudyProgress, costs: Mapping[int, Costs], slots: int, *, keep_states: bool) -> Forecast:
    """Simulate the scheduler's walk over the stage tree, with measured costs in place of training.

    Args:
        progress: the progress of the study.
        costs: the costs by variant index, for every variant with stages still to be trained.
        slots: the number of stages trained at a time.
        keep_states: whether the final state of every stage is kept.
    """
    study, todo = progress.study, progress.todo
    seconds, peak, final = _simulate(progress, costs, slots, keep_states=keep_states)
    numbers = {variant: sum(cost.numbers.values()) for variant, cost in costs.items()}
    metrics = study.spec.metrics
    histories = sum(_history_bytes(stage.start, stage.stop, numbers[stage.variant], metrics) for stage in todo.values())
    # Variants that are complete may have no costs: the largest of the others stands for them.
    largest = max(numbers.values(), default=0)
    results = sum(
        _history_bytes(0, trajectory.timeline.epochs, numbers.get(trajectory.variant, largest), metrics)
        for trajectory in study.trajectories
    )
    # results.h5 has the epochs of all trajectories; while it is rebuilt there are two copies.
    return Forecast(seconds, peak + histories + 2 * results, final + histories + results)


def _simulate(
    progress: StudyProgress, costs: Mapping[int, Costs], slots: int, *, keep_states: bool
) -> tuple[float, int, int]:
    """Return the seconds of the walk, and the largest and the final size in bytes of all states together."""
    todo = progress.todo
    remaining = remaining_epochs(progress)

    def size(id_: str) -> int:
        return costs[todo[id_].variant].state_bytes

    ready = [(-remaining[id_], id_) for id_, stage in todo.items() if stage.parent not in todo]
    heapq.heapify(ready)
    running: list[tuple[float, str]] = []
    unfinished_children = {id_: len(progress.waiting_children(id_)) for id_ in todo}
    now, stored, peak = 0.0, 0, 0
    while ready or running:
        while ready and len(running) < slots:
            _, id_ = heapq.heappop(ready)
            stage = todo[id_]
            share = (stage.stop - progress.completed_epochs(stage)) / stage.epochs
            seconds = share * estimated_seconds([stage], progress.study.spec.metrics, costs)
            heapq.heappush(running, (now + seconds, id_))
        # A running stage has the state of its last commit, and for a moment also the one before.
        peak = max(peak, stored + 2 * sum(size(id_) for _, id_ in running))
        now, id_ = heapq.heappop(running)
        if unfinished_children[id_] or keep_states:
            stored += size(id_)
        parent = todo[id_].parent
        if parent in unfinished_children:
            unfinished_children[parent] -= 1
            if not unfinished_children[parent] and not keep_states:
                stored -= size(parent)
        for child in progress.waiting_children(id_):
            heapq.heappush(ready, (-remaining[child.id], child.id))
    return now, peak, stored


def _history_bytes(start: int, stop: int, numbers: int, metrics: Sequence[Metric]) -> int:
    """Return the size of a history of the epochs from `start` to `stop`.

    A row of measured values has space for every metric, including those that were not measured in that epoch.
    """
    rows = sum(any(is_due(metric.schedule, epoch + 1) for metric in metrics) for epoch in range(start, stop))
    return _HISTORY_BYTES + (stop - start) * _EPOCH_BYTES + 8 * numbers * rows
