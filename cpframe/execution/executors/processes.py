"""Local processes as workers, each with one CPU thread."""

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
from types import ModuleType

from cpframe.errors import ExecutorError
from cpframe.execution.executors.pool import Pool, WorkerDiedError
from cpframe.execution.executors.worker import WorkerMessage, run_job
from cpframe.numerics import Numerics, prepare
from cpframe.training.job import Job

_STOP_SECONDS = 5.0
_CONTEXT = (
    multiprocessing.get_context("forkserver") if sys.platform == "linux" else multiprocessing.get_context("spawn")
)
"""On Linux, workers are forked from a process that has only done the imports, which take one or two seconds. On other
systems the libraries that torch uses do not survive a fork."""


def start_processes(numerics: Sequence[Numerics]) -> Pool:
    """Start worker processes.

    Args:
        numerics: the numerics of each worker; their devices may differ.

    Raises:
        ExecutorError: when a process cannot be started.
    """
    with ExitStack() as undo:
        workers = []
        for each in numerics:
            workers.append(_Process(each))
            undo.callback(workers[-1].stop)
        undo.pop_all()
    return Pool(workers, lambda slot: _Process(numerics[slot]), _wait_for_message)


class _Process:
    """A worker that is a process on this machine."""

    def __init__(self, numerics: Numerics) -> None:
        if sys.platform == "linux":
            _CONTEXT.set_forkserver_preload(["cpframe.execution.executors.preload"])
        with ExitStack() as undo:
            try:
                self.pipe, remote = _CONTEXT.Pipe()
                undo.callback(self.pipe.close)
                with remote, _block_sigint(), _hide_main_module():
                    # A daemon ends with this process even if the pool is never closed.
                    self.process: BaseProcess = _CONTEXT.Process(
                        target=_run_worker, args=(remote, numerics), daemon=True
                    )
                    self.process.start()
            except EOFError:
                raise ExecutorError("cannot start a worker process: it died while starting") from None
            except OSError as error:
                raise ExecutorError(f"cannot start a worker process: {error.strerror or error}") from None
            undo.pop_all()

    @property
    def alive(self) -> bool:
        return self.process.is_alive()

    def start(self, job: Job) -> None:
        with suppress(OSError):  # the process has just died: `receive` raises
            self.pipe.send(job)

    def receive(self) -> WorkerMessage:
        try:
            message: WorkerMessage = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            code = self.process.exitcode or 0
            reason = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise WorkerDiedError(reason) from None
        return message

    def stop(self) -> None:
        self.pipe.close()
        self.process.terminate()
        self.process.join(_STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def _wait_for_message(workers: Sequence[_Process]) -> _Process:
    by_pipe = {id(worker.pipe): worker for worker in workers}
    return by_pipe[id(connection.wait([worker.pipe for worker in workers])[0])]


@contextmanager
def _hide_main_module() -> Iterator[None]:
    """Let processes that start inside not import the user's script, which would run it again; they do not need it."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


@contextmanager
def _block_sigint() -> Iterator[None]:
    """Make processes started inside ignore Ctrl-C, which reaches the whole group: only the driver reacts to it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # If it started together with the first child, the tracker would unblock the signal before that child exists.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _run_worker(pipe: Connection, numerics: Numerics) -> None:
    """Train each job that arrives through the pipe and send its messages back; the main function of a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_driver, daemon=True).start()
    prepare(numerics)
    try:
        while True:
            for message in run_job(pipe.recv(), numerics):
                pipe.send(message)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return  # the driver has ended


def _exit_with_driver() -> None:
    """End this process as soon as the driver has ended, in whatever way; commits are safe at any instant."""
    driver = multiprocessing.parent_process()
    assert driver is not None  # noqa: S101 - this function runs in workers only
    driver.join()
    os._exit(1)
