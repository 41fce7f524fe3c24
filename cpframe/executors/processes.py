"""Local processes: one worker a slot, spawned, each with one CPU thread."""

from __future__ import annotations

import multiprocessing
import signal
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from cpframe.numerics import Numerics, prepare
from cpframe.store import StoreError
from cpframe.training import Event, Job, StageDone, run_stage

_CLOSING_SECONDS = 5.0


def _serve(pipe: Connection, numerics: Numerics) -> None:
    """Be a worker: train each job that comes through the pipe, and send back what happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group: the driver decides
    prepare(numerics)
    try:
        while True:
            job = pipe.recv()
            try:
                for event in run_stage(job):
                    pipe.send(event)
            except StoreError as error:
                pipe.send(error)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the driver is gone


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    job: Job | None = None


class Processes:
    """Trains in several processes of this machine."""

    def __init__(self, workers: int, numerics: Numerics) -> None:
        """Start `workers` processes, each set up for the numerics profile."""
        self.slots = workers
        self._numerics = numerics
        self._workers = [self._spawn() for _ in range(workers)]

    def _spawn(self) -> _Worker:
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        process = context.Process(target=_serve, args=(there, self._numerics), daemon=True)
        process.start()
        there.close()
        return _Worker(process, here)

    def submit(self, job: Job) -> None:
        """Hand a stage to an idle worker, or to another in its place if it has died."""
        place = next(place for place, worker in enumerate(self._workers) if worker.job is None)
        if not self._workers[place].process.is_alive():
            self._workers[place] = self._spawn()
        self._workers[place].job = job
        with suppress(OSError):  # if it has died just now, `wait` finds out
            self._workers[place].pipe.send(job)

    def wait(self) -> list[Event]:
        """Wait for the workers; the stage of one that died is failed, and another worker takes its place."""
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        events: list[Event] = []
        for pipe in wait(list(busy)):
            worker = busy[pipe]  # type: ignore[index]
            try:
                message = worker.pipe.recv()
            except (EOFError, OSError):
                events.append(self._buried(worker))
                continue
            if isinstance(message, StageDone | StoreError):
                worker.job = None
            if isinstance(message, StoreError):
                raise message
            events.append(message)
        return events

    def _buried(self, worker: _Worker) -> StageDone:
        worker.process.join()
        assert worker.job is not None  # noqa: S101 - only busy workers are waited for
        code = worker.process.exitcode
        how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
        self._workers[self._workers.index(worker)] = self._spawn()
        return StageDone(worker.job.stage.id, f"its worker process {how}")

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            worker.pipe.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_CLOSING_SECONDS)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
