"""A pool of workers of one kind, any of which may die; a dead worker is replaced and its stage continues."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from cpframe.errors import ExecutorError
from cpframe.execution.executors.worker import WorkerMessage
from cpframe.store import StoreError
from cpframe.training.job import EpochDone, Event, Job, StageDone

TRIES = 3
"""A stage fails when this many workers have died training it without completing another epoch."""


class WorkerDiedError(Exception):
    """A worker has died; the message says how, for example "killed by SIGKILL"."""


class Worker(Protocol):
    """Trains one stage at a time, outside this process."""

    @property
    def alive(self) -> bool:
        """Whether the worker can be given a stage, as far as this process knows."""
        ...

    def start(self, job: Job) -> None:
        """Start training a stage. If the worker is dead, this passes silently and `receive` raises."""
        ...

    def receive(self) -> WorkerMessage:
        """Return the worker's next message; called once a message is known to be ready.

        Raises:
            WorkerDiedError: when the worker has died.
        """
        ...

    def stop(self) -> None:
        """End the worker at once, whatever it is doing."""
        ...


W = TypeVar("W", bound=Worker)


@dataclass
class _Submission:
    """A submitted stage: the last epoch reported, and the number of workers that have died since then."""

    job: Job
    epoch: int = 0
    deaths: int = 0


class Pool:
    """An executor that trains in workers of one kind."""

    def __init__(
        self,
        workers: Sequence[W],
        start_worker: Callable[[int], W],
        wait_for_message: Callable[[Sequence[W]], W],
        disconnect: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an executor of running workers.

        Args:
            workers: the workers, one per slot.
            start_worker: starts a new worker for a slot; raises ExecutorError when it cannot.
            wait_for_message: waits until one of the given workers has a message or has died, and returns that worker.
            disconnect: called when the pool is closed, after the workers have been stopped.
        """
        self._workers: dict[int, Worker] = dict(enumerate(workers))
        self._start_worker: Callable[[int], Worker] = start_worker
        self._wait_for_message: Callable[[Sequence[Worker]], Worker] = wait_for_message  # type: ignore[assignment]
        self._disconnect = disconnect
        self._running: dict[int, _Submission] = {}
        self._waiting: deque[_Submission] = deque()

    @property
    def slots(self) -> int:
        """The number of workers."""
        return len(self._workers)

    def submit(self, job: Job) -> None:
        """Give a stage to a free worker."""
        self._waiting.append(_Submission(job))
        self._assign()

    def wait(self) -> list[Event]:
        """Wait for a message of any worker and return its events.

        If the worker has died, there are no events: its stage continues on a new worker, or fails after `TRIES` deaths.
        """
        self._assign()
        busy = {slot: self._workers[slot] for slot in self._running}
        ready = self._wait_for_message(list(busy.values()))
        slot = next(slot for slot, worker in busy.items() if worker is ready)
        try:
            message = ready.receive()
        except WorkerDiedError as error:
            return self._handle_death(slot, str(error))
        if isinstance(message, StoreError):
            del self._running[slot]
            raise message
        return self._handle_events(slot, message)

    def close(self) -> None:
        """Stop all workers."""
        self._running.clear()
        self._waiting.clear()
        while self._workers:
            self._workers.popitem()[1].stop()
        self._disconnect()

    def _handle_events(self, slot: int, events: list[Event]) -> list[Event]:
        """Leave out epochs reported before: a new worker trains again what its predecessor had not committed."""
        submission = self._running[slot]
        new = [event for event in events if not (isinstance(event, EpochDone) and event.epoch <= submission.epoch)]
        for event in new:
            if isinstance(event, EpochDone):
                submission.epoch, submission.deaths = event.epoch, 0
            elif isinstance(event, StageDone):
                del self._running[slot]
        return new

    def _handle_death(self, slot: int, reason: str) -> list[Event]:
        submission = self._running.pop(slot)
        submission.deaths += 1
        failed = submission.deaths == TRIES
        if not failed:
            self._waiting.appendleft(submission)
        self._replace(slot)
        stage = submission.job.stage.id
        return [StageDone(stage, f"its worker died {TRIES} times at the same epoch: {reason}")] if failed else []

    def _assign(self) -> None:
        """Start waiting stages on free workers."""
        for slot in [slot for slot in self._workers if slot not in self._running]:
            if not self._waiting:
                return
            if not self._workers[slot].alive:
                self._replace(slot)
            if slot in self._workers:
                self._running[slot] = self._waiting.popleft()
                self._workers[slot].start(self._running[slot].job)

    def _replace(self, slot: int) -> None:
        """Start a new worker for a slot. If that fails, the slot is given up, unless it was the last one."""
        self._workers.pop(slot).stop()
        try:
            self._workers[slot] = self._start_worker(slot)
        except ExecutorError:
            if not self._workers:
                raise
