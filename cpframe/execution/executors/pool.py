"""A pool of workers that may die: each stage on a free one, tried again on a fresh one. One rule for every kind."""

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
"""A stage fails when its worker has died so many times without getting an epoch further."""


class WorkerDiedError(Exception):
    """A worker has died; its message goes on from "its worker"."""


class Worker(Protocol):
    """One that trains a stage at a time."""

    @property
    def alive(self) -> bool:
        """Whether it can be given a stage, as far as is known."""
        ...

    def start(self, job: Job) -> None:
        """Give it a stage; if it is dead, `answer` says so."""
        ...

    def answer(self) -> WorkerMessage:
        """What it has to tell; called once it is known to have something.

        Raises:
            LostError: when it has died.
        """
        ...

    def stop(self) -> None:
        """End it at once, whatever it does."""
        ...


W = TypeVar("W", bound=Worker)


@dataclass
class _Trial:
    """A stage that was submitted: how far it came, and how many workers it has lost since."""

    job: Job
    reached: int = 0
    deaths: int = 0


class Pool:
    """Trains in workers of one kind."""

    def __init__(
        self,
        workers: Sequence[W],
        hire: Callable[[int], W],
        telling: Callable[[Sequence[W]], W],
        leave: Callable[[], None] = lambda: None,
    ) -> None:
        """Make an executor of workers.

        Args:
            workers: one a slot.
            hire: gives another one for a slot; raises ExecutorError when none can be had.
            telling: waits until one of these workers has something to tell, or has died, and says which.
            leave: called at the end.
        """
        self._workers: dict[int, Worker] = dict(enumerate(workers))
        self._hire: Callable[[int], Worker] = hire
        self._telling: Callable[[Sequence[Worker]], Worker] = telling  # type: ignore[assignment]
        self._leave = leave
        self._trials: dict[int, _Trial] = {}
        self._waiting: deque[_Trial] = deque()

    @property
    def slots(self) -> int:
        """The workers there are."""
        return len(self._workers)

    def submit(self, job: Job) -> None:
        """Hand a stage to a free worker."""
        self._waiting.append(_Trial(job))
        self._assign()

    def wait(self) -> list[Event]:
        """Wait for one worker; if it has died, its stage goes to a fresh one, unless that has happened too often."""
        self._assign()
        busy = {slot: self._workers[slot] for slot in self._trials}
        worker = self._telling(list(busy.values()))
        slot = next(slot for slot, one in busy.items() if one is worker)
        trial = self._trials[slot]
        try:
            told = worker.answer()
        except WorkerDiedError as lost:
            return self._lost(slot, trial, str(lost))
        if isinstance(told, StoreError):
            del self._trials[slot]
            raise told
        return self._news(slot, trial, told)

    def _news(self, slot: int, trial: _Trial, told: list[Event]) -> list[Event]:
        """Leave out the epochs that a worker trained again after its predecessor's last commit."""
        news = [event for event in told if not (isinstance(event, EpochDone) and event.epoch <= trial.reached)]
        for event in news:
            if isinstance(event, EpochDone):
                trial.reached, trial.deaths = event.epoch, 0
            elif isinstance(event, StageDone):
                del self._trials[slot]
        return news

    def _lost(self, slot: int, trial: _Trial, how: str) -> list[Event]:
        del self._trials[slot]
        trial.deaths += 1
        gone_on = trial.deaths < TRIES
        if gone_on:
            self._waiting.appendleft(trial)
        self._replace(slot)
        return [] if gone_on else [StageDone(trial.job.stage.id, f"its worker {how}, {TRIES} times at the same epoch")]

    def cancel(self, stage: str) -> None:
        """End the worker that has the stage; another takes its place."""
        self._waiting = deque(trial for trial in self._waiting if trial.job.stage.id != stage)
        for slot in [slot for slot, trial in self._trials.items() if trial.job.stage.id == stage]:
            del self._trials[slot]
            self._replace(slot)

    def close(self) -> None:
        """End the workers."""
        self._trials.clear()
        self._waiting.clear()
        while self._workers:
            self._workers.popitem()[1].stop()
        self._leave()

    def _assign(self) -> None:
        for slot in [slot for slot in self._workers if slot not in self._trials]:
            if not self._waiting:
                return
            if not self._workers[slot].alive:
                self._replace(slot)
            if slot in self._workers:
                self._trials[slot] = self._waiting.popleft()
                self._workers[slot].start(self._trials[slot].job)

    def _replace(self, slot: int) -> None:
        """Put a fresh worker in a slot; where none can be had the others do its work."""
        self._workers.pop(slot).stop()
        try:
            self._workers[slot] = self._hire(slot)
        except ExecutorError:
            if not self._workers:
                raise
