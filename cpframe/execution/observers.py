"""Observers of a run: each in a thread of its own, told what is committed; none can harm the run or hold it up.

What is told is what lies in the store, so an observer knows of nothing that a crash could take back. It is read there,
after each commit, by this process: workers send no histories. Without observers nothing is read.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from threading import Thread

from rich.console import Console

from cpframe.api import EpochsCommitted, RunFinished, RunStarted
from cpframe.errors import describe_error
from cpframe.execution.assembly import assemble_study
from cpframe.execution.progress import StudyProgress
from cpframe.execution.workspace import Workspace
from cpframe.plan.stages import Stage, Study
from cpframe.records.histories import rows_after
from cpframe.records.model import StudyRecord
from cpframe.spec.model import Observer
from cpframe.store import StageRecord, StoreError, read_stage
from cpframe.training.job import Committed, Event, StageDone

_ROOM = 500
"""Commits that wait for a slow observer; those that find no room are lost to it."""
_STOPPED_SECONDS = 3.0
"""A run that was stopped waits no longer than this for its observers."""
_QUIET_SECONDS = 2.0
"""After so long it is said that an observer is being waited for."""


@contextmanager
def observed(progress: StudyProgress, workspace: Workspace, told: Console) -> Iterator[Callable[[Event], None]]:
    """Let the observers of a study's spec watch what happens inside; gives the function that is told every event.

    Args:
        progress: as read, and brought up to date by the engine.
        workspace: of the study.
        told: what is said of observers that fail, or are too slow.
    """
    if not progress.study.spec.observers:
        yield lambda _: None
        return

    def record() -> StudyRecord:
        return assemble_study(progress.study, progress.records, progress.failures, workspace.provenance)

    started = RunStarted(workspace.folder, record())
    watches = [_Watch(observer, started, told) for observer in progress.study.spec.observers]
    teller = _Teller(progress, workspace, watches)
    stopped = True
    try:
        yield teller.observe
        stopped = False
    finally:
        teller.tell_all()
        finished = RunFinished(record(), stopped)
        now = time.monotonic()
        for watch in watches:
            watch.finish(finished, now)


class _Teller:
    """Tells every observer every epoch once, those of a trajectory in their order."""

    def __init__(self, progress: StudyProgress, workspace: Workspace, watches: Sequence[_Watch]) -> None:
        self._progress = progress
        self._place = workspace
        self._watches = watches
        self._names = _names_by_stage(progress.study)
        self._told = {id_: stage.start for id_, stage in progress.study.stages.items()}
        self._each_ready(self._skip)

    def observe(self, event: Event) -> None:
        """Tell what an event means is in the store."""
        if isinstance(event, Committed):
            with suppress(StoreError):  # told with the next commit, or at the end of the stage
                self._tell(self._progress.study.stages[event.stage], read_stage(self._place.of(event.stage)))
        elif isinstance(event, StageDone) and not event.returned:
            self._each_ready(self._tell, event.stage)

    def tell_all(self) -> None:
        """Tell whatever is in the engine's records, and was not told."""
        self._each_ready(self._tell)

    def _each_ready(self, act: Callable[[Stage, StageRecord | None], None], first: str | None = None) -> None:
        """Act on a stage, or on all, and on those that follow what is complete: no trajectory has a gap."""
        progress = self._progress
        waiting = list(progress.children.get(None, ())) if first is None else [progress.study.stages[first]]
        while waiting:
            stage = waiting.pop()
            record = progress.records[stage.id]
            act(stage, record)
            if record is not None and record.status == "complete":
                waiting += progress.children.get(stage.id, ())

    def _skip(self, stage: Stage, record: StageRecord | None) -> None:
        """Count a stage as told: it is in the record with which the run started."""
        if record is not None:
            self._told[stage.id] = int(record.history.epoch[-1])

    def _tell(self, stage: Stage, record: StageRecord | None) -> None:
        if record is None or record.history.epoch[-1] <= self._told[stage.id]:
            return
        committed = EpochsCommitted(
            stage=stage.id,
            seed=stage.seed,
            variant=self._progress.study.spec.variants[stage.variant].values,
            condition=stage.condition,
            trajectories=self._names[stage.id],
            history=rows_after(record.history, self._told[stage.id]),
        )
        self._told[stage.id] = int(record.history.epoch[-1])
        for watch in self._watches:
            watch.tell(committed)


class _Watch:
    """One observer in a thread of its own, which ends with this process, whatever it does."""

    def __init__(self, observer: Observer, started: RunStarted, told: Console) -> None:
        self._observer = observer
        self._console = told
        self._queue: Queue[EpochsCommitted | RunFinished] = Queue(_ROOM)
        self._lost = 0
        self._in_hand = 0
        self._failed = False
        self._thread = Thread(target=self._watch, args=(started,), name=f"observer {observer.name}", daemon=True)
        self._thread.start()

    def tell(self, committed: EpochsCommitted) -> None:
        """Pass on epochs, if there is room."""
        try:
            self._queue.put_nowait(committed)
        except Full:
            self._lost += len(committed.history.epoch)

    def finish(self, finished: RunFinished, since: float) -> None:
        """Tell the end of the run, and wait for the observer, but not for long; say what it has lost."""
        wait = self._observer.options.wait
        wait = min(wait, _STOPPED_SECONDS) if finished.stopped else wait
        end = since + wait
        with suppress(Full):
            self._put(finished, end)
        self._thread.join(min(_QUIET_SECONDS, max(0.0, end - time.monotonic())))
        if self._thread.is_alive() and end - time.monotonic() > _QUIET_SECONDS:
            self._say(f"is being waited for, up to {end - time.monotonic():.0f} s")
            self._thread.join(max(0.0, end - time.monotonic()))
        if self._failed:
            return
        if self._thread.is_alive():
            lost = self._lost + self._in_hand + self._left()
            missing = f"; at least {lost} epochs are lost to it" if lost else ""
            self._say(f"is left behind {wait:g} s after the run (see `wait`){missing}")
        elif self._lost:
            self._say(f"was too slow to be told of {self._lost} epochs one by one; it had them at the end")

    def _put(self, finished: RunFinished, end: float) -> None:
        """Wait for room, unless nobody is there to make any."""
        while self._thread.is_alive():
            with suppress(Full):
                self._queue.put(finished, timeout=min(0.1, max(0.01, end - time.monotonic())))
                return
            if time.monotonic() >= end:
                raise Full

    def _left(self) -> int:
        """Epochs that were never looked at."""
        count = 0
        with suppress(Empty):
            while True:
                left = self._queue.get_nowait()
                count += len(left.history.epoch) if isinstance(left, EpochsCommitted) else 0
        return count

    def _watch(self, started: RunStarted) -> None:
        try:
            watcher = self._observer.component.call(started)
            while isinstance(notice := self._queue.get(), EpochsCommitted):
                self._in_hand = len(notice.history.epoch)
                watcher.epochs_committed(notice)
                self._in_hand = 0
            watcher.run_finished(notice)
        except BaseException as error:  # noqa: BLE001 - a stranger's code: even sys.exit() ends nothing but itself
            self._failed = True
            self._say(f"is left out from here on: {_said(error)}")

    def _say(self, what: str) -> None:
        text = f"observer {self._observer.name}: {what}"
        self._console.print(text, style="yellow", soft_wrap=True, markup=False, emoji=False, highlight=False)


def _names_by_stage(study: Study) -> Mapping[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {}
    for trajectory in study.trajectories:
        for stage in trajectory.stages:
            names.setdefault(stage, []).append(trajectory.name)
    return {stage: tuple(found) for stage, found in names.items()}


def _said(error: BaseException) -> str:
    try:
        return describe_error(error)
    except Exception:  # noqa: BLE001 - an exception whose own text raises
        return type(error).__name__
