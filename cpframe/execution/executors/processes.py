"""Local processes: one worker a slot, each with one CPU thread."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from cpframe.errors import ExecutorError
from cpframe.execution.executors.pool import Pool, WorkerDiedError
from cpframe.execution.executors.worker import WorkerMessage, run_job
from cpframe.numerics import Numerics, prepare
from cpframe.training.job import Job

_CLOSING_SECONDS = 5.0
_CONTEXT = (
    multiprocessing.get_context("forkserver") if sys.platform == "linux" else multiprocessing.get_context("spawn")
)
"""Linux forks workers from a process that did nothing but the imports, which take a second or two; elsewhere the
libraries below torch do not survive a fork."""


def processes(numerics: Sequence[Numerics]) -> Pool:
    """Start one process for each of `numerics`, set up for it; slots may have devices of their own.

    Raises:
        ExecutorError: when one of them cannot be started.
    """
    with ExitStack() as undo:
        workers = []
        for one in numerics:
            workers.append(_Process(one))
            undo.callback(workers[-1].stop)
        undo.pop_all()
    return Pool(workers, lambda slot: _Process(numerics[slot]), _telling)


class _Process:
    """A worker that is a process of this machine."""

    def __init__(self, numerics: Numerics) -> None:
        if sys.platform == "linux":
            _CONTEXT.set_forkserver_preload(["cpframe.execution.executors.preload"])
        with ExitStack() as undo:
            try:
                self.pipe, there = _CONTEXT.Pipe()
                undo.callback(self.pipe.close)
                with there, _deaf_children():
                    # A daemon: ended with this process, should nobody close the pool.
                    self.process: BaseProcess = _CONTEXT.Process(target=_serve, args=(there, numerics), daemon=True)
                    self.process.start()
            except EOFError:
                raise ExecutorError("a worker process could not be started: it died while starting") from None
            except OSError as error:
                raise ExecutorError(f"a worker process could not be started: {error.strerror or error}") from None
            undo.pop_all()

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def start(self, job: Job) -> None:
        with suppress(OSError):  # it has died just now: `answer` finds out
            self.pipe.send(job)

    def answer(self) -> WorkerMessage:
        try:
            told: WorkerMessage = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
            raise WorkerDiedError(how) from None
        return told

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join(_CLOSING_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _telling(workers: Sequence[_Process]) -> _Process:
    by_pipe = {id(worker.pipe): worker for worker in workers}
    return by_pipe[id(connection.wait([worker.pipe for worker in workers])[0])]


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Let processes started inside not hear Ctrl-C, which reaches the whole group: what it means the driver decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # Started along with the first child, the tracker would unblock the signal before that child is there.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, numerics: Numerics) -> None:
    """Be a worker: train each job that comes through the pipe, and send back what happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_die_with_driver, daemon=True).start()
    prepare(numerics)
    try:
        while True:
            for told in run_job(pipe.recv(), numerics):
                pipe.send(told)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the driver is gone


def _die_with_driver() -> None:
    """End this process as soon as the driver has ended in whatever way: what is committed is safe at any instant."""
    driver = multiprocessing.parent_process()
    assert driver is not None  # noqa: S101 - this is a worker
    driver.join()
    os._exit(1)
