"""Ray actors as workers, on one machine or on several that share the folder of the store."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # Ray sends no usage statistics
# Ray leaves CUDA_VISIBLE_DEVICES alone for actors without a GPU; otherwise it prints a long warning about it.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from cpframe.errors import ExecutorError, describe_error
from cpframe.execution.executors.pool import Pool, WorkerDiedError
from cpframe.execution.executors.worker import WorkerMessage, run_job
from cpframe.numerics import Numerics, prepare
from cpframe.training.job import Job, StageDone

_PACKAGES = ("cpframe", "torch", "numpy")
"""Packages whose versions determine the results, so that all machines need the same ones."""
_START_SECONDS = 120.0
"""An actor that has not answered after this time is waiting for a core or a GPU that is in use."""
_CONNECT_SECONDS = 5.0
_SHARED_FILE_SECONDS = 10.0
"""A network file system may show a new file this late."""


def start_ray_actors(address: str, workers: int | None, useful: int, numerics: Numerics, folder: Path) -> Pool:
    """Start actors on a running Ray cluster, or on one that is started on this machine for the purpose.

    Args:
        address: ``ray``, or ``ray://HOST:PORT``.
        workers: the requested number; None for `useful`, or as many as the cluster has free resources for.
        useful: the number of workers that have enough to train.
        numerics: the numerics of the run.
        folder: the store, in which the actors write and from which this process reads.

    Raises:
        ExecutorError: when this process cannot connect to Ray, the cluster has too few cores or GPUs, or a worker does
            not see the folder or has other versions of the packages that determine the results.
    """
    if ":" in numerics.device:
        raise ExecutorError(f"--device {numerics.device}: Ray assigns GPUs to its workers itself; use --device cuda")
    disconnect = _connect(address)
    try:
        needs = {"CPU": 1.0} if numerics.device != "cuda" else {"CPU": 1.0, "GPU": 1.0}
        total = ray.cluster_resources()
        capacity = _capacity(total, needs)
        if capacity < (workers or 1):
            option = f"--workers {workers}" if workers else f"--executor {address}"
            present = ", ".join(f"{name}: {total.get(name, 0):g}" for name in needs)
            required = " and ".join(f"1 {name}" for name in needs)
            raise ExecutorError(
                f"{option}: the Ray cluster has resources for {_workers(capacity)} ({present}); "
                f"each worker needs {required}"
            )
        count = workers or max(1, min(useful, _capacity(ray.available_resources(), needs)))
        actors = _start_actors(count, numerics, needs, folder.absolute())
    except BaseException:
        disconnect()
        raise
    return Pool(
        actors, lambda _: _start_actors(1, numerics, needs, folder.absolute())[0], _wait_for_message, disconnect
    )


def _capacity(resources: Mapping[str, float], needs: Mapping[str, float]) -> int:
    """Return the number of workers for which the resources suffice."""
    return min(int(resources.get(name, 0) // need) for name, need in needs.items())


def _workers(count: int, kind: str = "") -> str:
    return f"{count} {kind}worker{'' if count == 1 else 's'}"


def _connect(address: str) -> Callable[[], None]:
    """Connect to Ray, or start it; return the function that disconnects."""
    if address != "ray":
        _check_reachable(address)
    if ray.is_initialized():
        return lambda: None
    handler = signal.getsignal(signal.SIGTERM)
    options = {"include_dashboard": False} if address == "ray" else {"address": address}
    try:
        with warnings.catch_warnings(action="ignore"):
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **options)
    except (RayError, ConnectionError, OSError, RuntimeError, ValueError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExecutorError(f"--executor {address}: cannot connect to Ray: {reason}") from None
    finally:
        with suppress(ValueError):  # raised outside the main thread, where Ray does not change the handler
            signal.signal(signal.SIGTERM, handler)
    return lambda: ray.shutdown()  # noqa: PLW0108 - the lambda gives it a type


def _check_reachable(address: str) -> None:
    """Raise ExecutorError if no server answers at the address; Ray itself would try for half a minute."""
    try:
        parts = urlsplit(address)
        with socket.create_connection((parts.hostname or "", parts.port or 10001), _CONNECT_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise ExecutorError(f"--executor {address}: no server answers at this address: {error}") from None


def _start_actors(count: int, numerics: Numerics, needs: Mapping[str, float], folder: Path) -> list[_Actor]:
    """Start actors and check that each sees the shared folder and has the same packages as this process."""
    actor_class = ray.remote(num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0), max_restarts=0)(_Trainer)
    handles = [actor_class.remote(numerics, str(Path.cwd())) for _ in range(count)]
    with suppress(OSError):  # the workers report what is wrong with the folder
        folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f".ray-{secrets.token_hex(8)}" for _ in handles]
    try:
        replies = [handle.introduce.remote(file) for handle, file in zip(handles, files, strict=True)]
        for file, reply in zip(files, ray.get(replies, timeout=_START_SECONDS), strict=True):
            _check_worker(folder, file, *reply)
    except BaseException as error:
        for handle in handles:
            ray.kill(handle)
        if isinstance(error, GetTimeoutError):
            raise ExecutorError(
                f"timed out after {_START_SECONDS:.0f} s waiting for {_workers(count, 'Ray ')}; the cluster is busy"
            ) from None
        if isinstance(error, RayError):
            raise ExecutorError(f"a Ray worker cannot start: {_cause(error)}") from None
        raise
    finally:
        for file in files:
            with suppress(OSError):
                file.unlink()
    return [_Actor(handle) for handle in handles]


def _check_worker(folder: Path, file: Path, host: str, problem: str, versions: Mapping[str, str]) -> None:
    """Raise ExecutorError if the reply of a worker shows that it cannot take part in this run."""
    for package, remote in versions.items():
        if remote != version(package):
            raise ExecutorError(
                f"the Ray worker on {host} has {package} {remote} but this machine has {version(package)}, and results "
                "would differ; install the same version on both"
            )
    if problem or not _appears(file):
        why = problem or "this machine does not see the files that it writes there"
        raise ExecutorError(
            f"{folder}: not shared with the Ray worker on {host}: {why}; choose a shared folder with --store"
        )


def _appears(file: Path) -> bool:
    """Return whether a file exists, or comes into existence within the time that a network file system may take."""
    deadline = time.monotonic() + _SHARED_FILE_SECONDS
    while not file.exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


class _Trainer:
    """The class that Ray instantiates in a worker: trains stages, one at a time."""

    def __init__(self, numerics: Numerics, folder: str) -> None:
        with suppress(OSError):  # relative paths in a spec mean the same as in the driver, if the folder exists
            os.chdir(folder)
        prepare(numerics)
        self._numerics = numerics
        self._messages: Iterator[WorkerMessage] = iter(())

    def introduce(self, file: Path) -> tuple[str, str, dict[str, str]]:
        """Create a file; return the host name, why the file could not be created or "", and package versions."""
        problem = ""
        try:
            file.touch()
        except OSError as error:
            problem = f"it cannot write there: {error.strerror}"
        return socket.gethostname(), problem, {package: version(package) for package in _PACKAGES}

    def start_job(self, job: Job) -> WorkerMessage:
        """Start a stage and train it up to the first message."""
        self._messages = run_job(job, self._numerics)
        return self.continue_job()

    def continue_job(self) -> WorkerMessage:
        """Train up to the next message."""
        return next(self._messages)


@dataclass(eq=False)
class _Actor:
    """A worker that is a Ray actor."""

    handle: Any
    stage: str = ""
    pending: Any = None
    alive: bool = True

    def start(self, job: Job) -> None:
        parts: dict[str, Any] = {field.name: getattr(job, field.name) for field in fields(job)}
        absolute: dict[str, Any] = {name: part.absolute() for name, part in parts.items() if isinstance(part, Path)}
        self.stage = job.stage.id
        self.pending = self.handle.start_job.remote(replace(job, **absolute))

    def receive(self) -> WorkerMessage:
        try:
            message: WorkerMessage = ray.get(self.pending)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            return [StageDone(self.stage, describe_error(cause))]
        except RayError as error:
            self.alive = False
            raise WorkerDiedError(f"Ray reports: {_cause(error)}") from None
        if isinstance(message, list) and not isinstance(message[-1], StageDone):
            self.pending = self.handle.continue_job.remote()
        return message

    def stop(self) -> None:
        with suppress(RayError):
            ray.kill(self.handle)


def _wait_for_message(workers: Sequence[_Actor]) -> _Actor:
    ready, _ = ray.wait([worker.pending for worker in workers], num_returns=1)
    return next(worker for worker in workers if worker.pending in ready)


def _cause(error: Exception) -> str:
    """Return the one line of a long Ray error that says why."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return describe_error(error.cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if "because" in line), lines[0])
