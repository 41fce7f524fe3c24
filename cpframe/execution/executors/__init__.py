"""Executors: where stages are trained.

An executor trains submitted stages and reports what happens to them. The scheduler uses only the protocol `Executor`.

- `inline` trains in this process.
- `processes` and `ray_actors` each start a `pool.Pool` of workers, which replaces workers that die.
- `worker` is what every worker runs.
- `selection` chooses an executor and the number of its workers.

To add a kind of executor, write a module here with a function that returns an `Executor`, usually a `Pool` of objects
that implement `pool.Worker`. Name it in `selection`, and add it to the fixtures of `test_conformance.py`, which states
the contract of every executor. Only jobs and events travel between driver and workers; a job has paths instead of data,
so all workers must see the same folders.
"""

from __future__ import annotations

from typing import Protocol

from cpframe.training.job import Event, Job


class Executor(Protocol):
    """Trains stages, at most `slots` of them at a time."""

    @property
    def slots(self) -> int:
        """The number of stages trained at a time; it falls when a worker dies and cannot be replaced."""
        ...

    def submit(self, job: Job) -> None:
        """Start a stage. The caller never has more than `slots` unfinished stages."""
        ...

    def wait(self) -> list[Event]:
        """Wait until something happens to the submitted stages, and return the new events.

        A training that raises, or whose worker dies repeatedly, ends with a `StageDone` that gives the reason.

        Raises:
            StoreError: when a commit cannot be written.
            ExecutorError: when no worker is left.
        """
        ...

    def close(self) -> None:
        """Stop all stages that are still being trained. What they have committed stays."""
        ...
