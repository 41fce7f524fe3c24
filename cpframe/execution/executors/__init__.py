"""Executors: where stages are trained. One seam: submit, wait, cancel, close, slots; ids and paths travel."""

from __future__ import annotations

from typing import Protocol

from cpframe.training.job import Event, Job


class Executor(Protocol):
    """Trains stages, as many at a time as it has slots."""

    @property
    def slots(self) -> int:
        """How many stages it trains at a time; fewer than before when a worker is lost for good."""
        ...

    def submit(self, job: Job) -> None:
        """Start a stage; there are never more submitted than there are slots."""
        ...

    def wait(self) -> list[Event]:
        """Wait until something has happened to the submitted stages, and say what.

        What a training raises, or a worker that keeps dying, ends its stage: `StageDone` with the reason.

        Raises:
            StoreError: when a commit could not be written.
            ExecutorError: when no worker is left.
        """
        ...

    def cancel(self, stage: str) -> None:
        """Stop a submitted stage, by its id; what it committed stays, and no more is told of it."""
        ...

    def close(self) -> None:
        """Stop whatever is still under way; what was committed stays."""
        ...
