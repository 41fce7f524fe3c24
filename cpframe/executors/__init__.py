"""Executors: where stages are trained. One seam: submit, wait, close, slots; ids and paths travel, never tensors."""

from __future__ import annotations

from typing import Protocol

from cpframe.training import Event, Job


class Executor(Protocol):
    """Trains stages, as many at a time as it has slots."""

    @property
    def slots(self) -> int:
        """How many stages it trains at a time."""
        ...

    def submit(self, job: Job) -> None:
        """Start a stage; there are never more submitted than there are slots."""
        ...

    def wait(self) -> list[Event]:
        """Wait until something has happened to the submitted stages, and say what.

        Raises:
            StoreError: when a commit could not be written.
        """
        ...

    def close(self) -> None:
        """Stop whatever is still under way; what was committed stays."""
        ...
