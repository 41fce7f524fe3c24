"""The inline executor: stages are trained in this process, one at a time."""

from __future__ import annotations

from collections.abc import Iterator

from cpframe.numerics import Numerics, prepare
from cpframe.training.job import Event, Job
from cpframe.training.stage import run_stage


class Inline:
    """Trains in this process; each call of `wait` trains up to the next event."""

    slots = 1

    def __init__(self, numerics: Numerics) -> None:
        """Set this process up for the numerics profile."""
        prepare(numerics)
        self._events: Iterator[Event] = iter(())

    def submit(self, job: Job) -> None:
        """Accept a stage; `wait` trains it."""
        self._events = run_stage(job)

    def wait(self) -> list[Event]:
        """Train up to the next event and return it; the list is empty when there is no stage to train."""
        return [event for event in [next(self._events, None)] if event is not None]

    def close(self) -> None:
        """Drop the stage that is being trained."""
        self._events = iter(())
