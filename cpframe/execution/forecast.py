"""What a study will take: time with so many workers, and room on the disk."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpframe.execution.costs import Costs, estimated_seconds
from cpframe.execution.progress import StudyProgress, remaining
from cpframe.spec.model import Metric
from cpframe.training.measurement import is_due

_HISTORY_BYTES = 14_000
"""An empty history in HDF5: its names, dimensions and attributes."""
_EPOCH_BYTES = 80
"""One epoch of a history: five curves, its number, its condition."""


@dataclass(frozen=True)
class Forecast:
    """What is still to be spent on a study.

    Attributes:
        seconds: of wall time.
        peak_bytes: the most that states, histories and results take at a time.
        final_bytes: what stays of it.
    """

    seconds: float
    peak_bytes: int
    final_bytes: int


def forecast(progress: StudyProgress, costs: Mapping[int, Costs], slots: int, *, keep_states: bool) -> Forecast:
    """Walk the stage tree as the engine will, with the costs of a rehearsal in place of training.

    Args:
        progress: as read.
        costs: by the index of the variant; of every variant of which something is to be trained.
        slots: stages that are trained at a time.
        keep_states: whether states stay for good.
    """
    study, todo = progress.study, progress.todo
    ahead = remaining(progress)

    def size(id_: str) -> int:
        return costs[todo[id_].variant].state_bytes

    ready = [(-ahead[id_], id_) for id_, stage in todo.items() if stage.parent not in todo]
    heapq.heapify(ready)
    under_way: list[tuple[float, str]] = []
    children_left = {id_: len(progress.following(id_)) for id_ in todo}
    now, held, peak = 0.0, 0, 0
    while ready or under_way:
        while ready and len(under_way) < slots:
            _, id_ = heapq.heappop(ready)
            stage = todo[id_]
            share = (stage.stop - progress.done(stage)) / stage.epochs
            seconds = share * estimated_seconds([stage], study.spec.metrics, costs)
            heapq.heappush(under_way, (now + seconds, id_))
        # A stage under way has the state of its last commit, and for a moment the one before.
        peak = max(peak, held + 2 * sum(size(id_) for _, id_ in under_way))
        now, id_ = heapq.heappop(under_way)
        if children_left[id_] or keep_states:
            held += size(id_)
        parent = todo[id_].parent
        if parent in children_left:
            children_left[parent] -= 1
            if not children_left[parent] and not keep_states:
                held -= size(parent)
        for child in progress.following(id_):
            heapq.heappush(ready, (-ahead[child.id], child.id))
    numbers = {variant: sum(cost.numbers.values()) for variant, cost in costs.items()}
    metrics = study.spec.metrics
    histories = sum(_history_bytes(one.start, one.stop, numbers[one.variant], metrics) for one in todo.values())
    # results.h5 has the epochs of all trajectories, and while it is rebuilt it is there twice.
    most = max(numbers.values(), default=0)  # for variants of which all is there already, and nothing was rehearsed
    results = sum(
        _history_bytes(0, one.timeline.epochs, numbers.get(one.variant, most), metrics) for one in study.trajectories
    )
    return Forecast(now, peak + histories + 2 * results, held + histories + results)


def _history_bytes(start: int, stop: int, numbers: int, metrics: Sequence[Metric]) -> int:
    """Of the epochs from `start` to `stop`; where any metric is measured there is a place for all their numbers."""
    rows = sum(any(is_due(metric.schedule, epoch + 1) for metric in metrics) for epoch in range(start, stop))
    return _HISTORY_BYTES + (stop - start) * _EPOCH_BYTES + 8 * numbers * rows
