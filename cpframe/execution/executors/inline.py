"""In this process: one stage at a time."""

from __future__ import annotations

from collections.abc import Iterator

from cpframe.numerics import Numerics, prepare
from cpframe.training.job import Event, Job
from cpframe.training.stage import run_stage


class Inline:
    """Trains in this process, one epoch for every `wait`."""

    slots = 1

    def __init__(self, numerics: Numerics) -> None:
        """Set this process up for the numerics profile."""
        prepare(numerics)
        self._stage = ""
        self._events: Iterator[Event] = iter(())

    def submit(self, job: Job) -> None:
        """Take a stage; `wait` trains it."""
        self._stage, self._events = job.stage.id, run_stage(job)

    def wait(self) -> list[Event]:
        """Train up to the next event."""
        return [event for event in [next(self._events, None)] if event is not None]

    def cancel(self, stage: str) -> None:
        """Drop a stage if it is the one under way."""
        if stage == self._stage:
            self.close()

    def close(self) -> None:
        """Drop the stage under way."""
        self._stage, self._events = "", iter(())
