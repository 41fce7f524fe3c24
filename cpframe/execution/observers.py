"""Observers of a run: each receives the committed epochs in a thread of its own, and none can harm or delay the run.

Observers receive only what is in the store, so nothing that they have seen is lost in a crash. This process reads it
there after each commit: workers send no histories, and without observers nothing is read.
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

_QUEUE_SIZE = 500
"""The number of commits that may wait for a slow observer; further ones are not sent to it."""
_STOPPED_SECONDS = 3.0
"""The longest time that a stopped run waits for its observers."""
_QUIET_SECONDS = 2.0
"""The time after which a message says that the run is waiting for an observer."""


@contextmanager
def run_observers(
    progress: StudyProgress, workspace: Workspace, console: Console, abandoned: list[Thread]
) -> Iterator[Callable[[Event], None]]:
    """Run the observers of a study's spec, and yield the function that must be called with every event of the run.

    At the end every observer has its `wait` seconds to finish.

    Args:
        progress: the progress of the study, which the scheduler updates.
        workspace: the workspace of the study.
        console: receives a line about each observer that fails, or is too slow.
        abandoned: receives the threads that are still running at the end, also when the run ends by an exception.
    """
    if not progress.study.spec.observers:
        yield lambda _: None
        return

    def record() -> StudyRecord:
        return assemble_study(progress.study, progress.records, progress.failures, workspace.provenance)

    started = RunStarted(workspace.folder, record())
    observers = [_ObserverThread(observer, started, console) for observer in progress.study.spec.observers]
    publisher = _Publisher(progress, workspace, observers)
    stopped = True
    try:
        yield publisher.handle_event
        stopped = False
    finally:
        try:
            publisher.publish_all()
            finished = RunFinished(record(), stopped)
            now = time.monotonic()
            for observer in observers:
                observer.finish(finished, now)
        finally:
            abandoned += [observer.thread for observer in observers if observer.thread.is_alive()]


class _Publisher:
    """Sends every committed epoch once to every observer, the epochs of a trajectory in their order."""

    def __init__(self, progress: StudyProgress, workspace: Workspace, observers: Sequence[_ObserverThread]) -> None:
        self._progress = progress
        self._workspace = workspace
        self._observers = observers
        self._names = _names_by_stage(progress.study)
        self._last_sent = {id_: stage.start for id_, stage in progress.study.stages.items()}
        self._for_each_reachable(self._skip)

    def handle_event(self, event: Event) -> None:
        """Publish the epochs that an event says are in the store."""
        if isinstance(event, Committed):
            with suppress(StoreError):  # published with the next commit, or at the end of the stage
                self._publish(self._progress.study.stages[event.stage], read_stage(self._workspace.of(event.stage)))
        elif isinstance(event, StageDone) and not event.returned:
            self._for_each_reachable(self._publish, event.stage)

    def publish_all(self) -> None:
        """Publish all epochs in the scheduler's records that have not been published."""
        self._for_each_reachable(self._publish)

    def _for_each_reachable(
        self, action: Callable[[Stage, StageRecord | None], None], first: str | None = None
    ) -> None:
        """Apply an action to a stage (or every root) and to all descendants reached through complete stages only.

        So no trajectory is published with a gap.
        """
        progress = self._progress
        waiting = list(progress.children.get(None, ())) if first is None else [progress.study.stages[first]]
        while waiting:
            stage = waiting.pop()
            record = progress.records[stage.id]
            action(stage, record)
            if record is not None and record.status == "complete":
                waiting += progress.children.get(stage.id, ())

    def _skip(self, stage: Stage, record: StageRecord | None) -> None:
        """Count the epochs of a stage as sent: they are in the record with which the run started."""
        if record is not None:
            self._last_sent[stage.id] = int(record.history.epoch[-1])

    def _publish(self, stage: Stage, record: StageRecord | None) -> None:
        if record is None or record.history.epoch[-1] <= self._last_sent[stage.id]:
            return
        committed = EpochsCommitted(
            stage=stage.id,
            seed=stage.seed,
            variant=self._progress.study.spec.variants[stage.variant].values,
            condition=stage.condition,
            trajectories=self._names[stage.id],
            history=rows_after(record.history, self._last_sent[stage.id]),
        )
        self._last_sent[stage.id] = int(record.history.epoch[-1])
        for observer in self._observers:
            observer.send(committed)


class _ObserverThread:
    """One observer and its thread, a daemon, which ends with this process whatever it is doing."""

    def __init__(self, observer: Observer, started: RunStarted, console: Console) -> None:
        self._observer = observer
        self._console = console
        self._queue: Queue[EpochsCommitted | RunFinished] = Queue(_QUEUE_SIZE)
        self._dropped_epochs = 0
        self._current_epochs = 0
        self._failed = False
        self.thread = Thread(target=self._observe, args=(started,), name=f"observer {observer.name}", daemon=True)
        self.thread.start()

    def send(self, committed: EpochsCommitted) -> None:
        """Put epochs in the queue, or drop them if it is full."""
        try:
            self._queue.put_nowait(committed)
        except Full:
            self._dropped_epochs += len(committed.history.epoch)

    def finish(self, finished: RunFinished, since: float) -> None:
        """Send the end of the run, wait for the observer until its time is over, and report what it has missed."""
        wait = self._observer.options.wait
        wait = min(wait, _STOPPED_SECONDS) if finished.stopped else wait
        end = since + wait
        with suppress(Full):
            self._put(finished, end)
        self.thread.join(min(_QUIET_SECONDS, max(0.0, end - time.monotonic())))
        if self.thread.is_alive() and end - time.monotonic() > _QUIET_SECONDS:
            self._print(f"waiting for it to finish, up to {end - time.monotonic():.0f} s")
            self.thread.join(max(0.0, end - time.monotonic()))
        if self._failed:
            return
        if self.thread.is_alive():
            missed = self._dropped_epochs + self._current_epochs + self._drain_queue()
            suffix = f"; it has missed at least {missed} epochs" if missed else ""
            self._print(f"abandoned because it did not finish within {wait:g} s after the run (see `wait`){suffix}")
        elif self._dropped_epochs:
            self._print(
                f"too slow to receive {self._dropped_epochs} epochs when they were committed; "
                "it received them in the record at the end of the run"
            )

    def _put(self, finished: RunFinished, end: float) -> None:
        """Wait for space in the queue until `end`, but not after the thread has ended; raise Full if there is none."""
        while self.thread.is_alive():
            with suppress(Full):
                self._queue.put(finished, timeout=min(0.1, max(0.01, end - time.monotonic())))
                return
            if time.monotonic() >= end:
                raise Full

    def _drain_queue(self) -> int:
        """Empty the queue, and return the number of epochs that were in it."""
        count = 0
        with suppress(Empty):
            while True:
                event = self._queue.get_nowait()
                count += len(event.history.epoch) if isinstance(event, EpochsCommitted) else 0
        return count

    def _observe(self, started: RunStarted) -> None:
        """Call the observer with each event; the main function of the thread."""
        try:
            watcher = self._observer.component.call(started)
            while isinstance(event := self._queue.get(), EpochsCommitted):
                self._current_epochs = len(event.history.epoch)
                watcher.epochs_committed(event)
                self._current_epochs = 0
            watcher.run_finished(event)
        except BaseException as error:  # noqa: BLE001 - even a plugin that calls sys.exit() ends only its own thread
            self._failed = True
            self._print(f"failed and receives nothing more: {_describe(error)}")

    def _print(self, message: str) -> None:
        text = f"observer {self._observer.name}: {message}"
        self._console.print(text, style="yellow", soft_wrap=True, markup=False, emoji=False, highlight=False)


def _names_by_stage(study: Study) -> Mapping[str, tuple[str, ...]]:
    """Return the names of the trajectories that share each stage, by stage id."""
    names: dict[str, list[str]] = {}
    for trajectory in study.trajectories:
        for stage in trajectory.stages:
            names.setdefault(stage, []).append(trajectory.name)
    return {stage: tuple(trajectories) for stage, trajectories in names.items()}


def _describe(error: BaseException) -> str:
    try:
        return describe_error(error)
    except Exception:  # noqa: BLE001 - the exception's own text raises
        return type(error).__name__
