"""Ray: one actor a slot, on one machine or many that share the folder of the study."""

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

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
# Ray is to leave CUDA_VISIBLE_DEVICES alone for actors without a GPU, which it otherwise announces at length.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray.exceptions import GetTimeoutError, RayError, RayTaskError

from cpframe.errors import ExecutorError, describe_error
from cpframe.execution.executors.pool import Pool, WorkerDiedError
from cpframe.execution.executors.worker import WorkerMessage, run_job
from cpframe.numerics import Numerics, prepare
from cpframe.training.job import Job, StageDone

_PACKAGES = ("cpframe", "torch", "numpy")
_STARTING_SECONDS = 120.0
"""An actor that has not answered by then waits for a core or a GPU that others hold."""
_REACHING_SECONDS = 5.0
_SEEING_SECONDS = 10.0
"""Shared folders may show a new file late."""


def ray_actors(address: str, workers: int | None, useful: int, numerics: Numerics, folder: Path) -> Pool:
    """Start actors on the Ray that is running, or on one of this machine that is started for it.

    Args:
        address: ``ray``, or ``ray://HOST:PORT``.
        workers: how many; None for as many as are useful and there is room for.
        useful: how many would have enough to do.
        numerics: profile and device.
        folder: in which the actors write, and this process reads.

    Raises:
        ExecutorError: when Ray cannot be reached, has not the cores or GPUs, or its workers do not see the folder or
            have other versions of what determines the results.
    """
    if ":" in numerics.device:
        raise ExecutorError(f"--device {numerics.device}: Ray chooses among the GPUs: use --device cuda")
    leave = _joined(address)
    try:
        needs = {"CPU": 1.0} if numerics.device != "cuda" else {"CPU": 1.0, "GPU": 1.0}
        room = _room(ray.cluster_resources(), needs)
        if room < (workers or 1):
            there = " and ".join(f"{ray.cluster_resources().get(name, 0):g} {name}s" for name in needs)
            raise ExecutorError(f"--workers {workers or 1}: there is room for {room} on Ray, which has {there}")
        count = workers or max(1, min(useful, _room(ray.available_resources(), needs)))

        actors = _hired(count, numerics, needs, folder.absolute())
    except BaseException:
        leave()
        raise
    return Pool(actors, lambda _: _hired(1, numerics, needs, folder.absolute())[0], _telling, leave)


def _room(resources: Mapping[str, float], needs: Mapping[str, float]) -> int:
    return min(int(resources.get(name, 0) // need) for name, need in needs.items())


def _joined(address: str) -> Callable[[], None]:
    """Join Ray, or start it; returns what leaves it again."""
    if address != "ray":
        _reach(address)
    if ray.is_initialized():
        return lambda: None
    handler = signal.getsignal(signal.SIGTERM)
    local = {"include_dashboard": False} if address == "ray" else {"address": address}
    try:
        with warnings.catch_warnings(action="ignore"):
            ray.init(log_to_driver=False, logging_level=logging.CRITICAL, **local)
    except (RayError, ConnectionError, OSError, RuntimeError, ValueError, ImportError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ExecutorError(f"--executor {address}: Ray cannot be reached: {reason}") from None
    finally:
        with suppress(ValueError):  # not in the main thread, where Ray has not touched it
            signal.signal(signal.SIGTERM, handler)
    return lambda: ray.shutdown()  # noqa: PLW0108 - typed


def _reach(address: str) -> None:
    """Refuse an address at which nothing answers; Ray itself would try for half a minute."""
    try:
        where = urlsplit(address)
        with socket.create_connection((where.hostname or "", where.port or 10001), _REACHING_SECONDS):
            pass
    except (OSError, ValueError) as error:
        raise ExecutorError(f"--executor {address}: nothing answers there: {error}") from None


def _hired(count: int, numerics: Numerics, needs: Mapping[str, float], folder: Path) -> list[_Actor]:
    """Start actors and make sure that they can do their work."""
    kind = ray.remote(num_cpus=needs["CPU"], num_gpus=needs.get("GPU", 0), max_restarts=0)(_Trainer)
    handles = [kind.remote(numerics, str(Path.cwd())) for _ in range(count)]
    with suppress(OSError):  # the workers say what is wrong with it
        folder.mkdir(parents=True, exist_ok=True)
    signs = [folder / f".ray-{secrets.token_hex(8)}" for _ in handles]
    try:
        greetings = [handle.greet.remote(sign) for handle, sign in zip(handles, signs, strict=True)]
        for sign, (node, problem, versions) in zip(signs, ray.get(greetings, timeout=_STARTING_SECONDS), strict=True):
            for package, its in versions.items():
                if its != version(package):
                    why = f"{package} is {its} on {node} and {version(package)} here: results would differ"
                    raise ExecutorError(f"Ray: {why}")
            if problem or not _seen(sign):
                why = problem or "this process does not see what is written there"
                raise ExecutorError(f"{folder}: is not shared with the Ray worker on {node}: {why}; see --store")
    except BaseException as error:
        for handle in handles:
            ray.kill(handle)
        if isinstance(error, GetTimeoutError):
            missing = f"{count} free places have not been had within {_STARTING_SECONDS:.0f} s"
            raise ExecutorError(f"Ray: {missing}: others use what is there; see --workers") from None
        if isinstance(error, RayError):
            raise ExecutorError(f"Ray: a worker cannot start: {_cause(error)}") from None
        raise
    finally:
        for sign in signs:
            with suppress(OSError):
                sign.unlink()
    return [_Actor(handle) for handle in handles]


def _seen(sign: Path) -> bool:
    give_up = time.monotonic() + _SEEING_SECONDS
    while not sign.exists():
        if time.monotonic() > give_up:
            return False
        time.sleep(0.1)
    return True


class _Trainer:
    """What runs inside an actor."""

    def __init__(self, numerics: Numerics, folder: str) -> None:
        with suppress(OSError):  # relative paths in a spec mean the same as here, where there is such a folder
            os.chdir(folder)
        prepare(numerics)
        self._numerics = numerics
        self._telling: Iterator[WorkerMessage] = iter(())

    def greet(self, sign: Path) -> tuple[str, str, dict[str, str]]:
        """Write a file; returns this machine's name, why the file could not be written, and versions."""
        problem = ""
        try:
            sign.touch()
        except OSError as error:
            problem = f"it cannot write there: {error.strerror}"
        return socket.gethostname(), problem, {package: version(package) for package in _PACKAGES}

    def start(self, job: Job) -> WorkerMessage:
        """Take a stage, and train it up to the first news."""
        self._telling = run_job(job, self._numerics)
        return self.go_on()

    def go_on(self) -> WorkerMessage:
        """Train up to the next news."""
        return next(self._telling)


@dataclass(eq=False)
class _Actor:
    """A worker that is an actor of Ray."""

    handle: Any
    stage: str = ""
    news: Any = None
    alive: bool = True

    def start(self, job: Job) -> None:
        parts: dict[str, Any] = {one.name: getattr(job, one.name) for one in fields(job)}
        absolute: dict[str, Any] = {name: part.absolute() for name, part in parts.items() if isinstance(part, Path)}
        self.stage = job.stage.id
        self.news = self.handle.start.remote(replace(job, **absolute))

    def answer(self) -> WorkerMessage:
        try:
            told: WorkerMessage = ray.get(self.news)
        except RayTaskError as error:
            cause = error.cause if isinstance(error.cause, Exception) else error
            return [StageDone(self.stage, describe_error(cause))]
        except RayError as error:
            self.alive = False
            raise WorkerDiedError(f"on Ray died ({_cause(error)})") from None
        if isinstance(told, list) and not isinstance(told[-1], StageDone):
            self.news = self.handle.go_on.remote()
        return told

    def stop(self) -> None:
        with suppress(RayError):
            ray.kill(self.handle)


def _telling(workers: Sequence[_Actor]) -> _Actor:
    ready, _ = ray.wait([worker.news for worker in workers], num_returns=1)
    return next(worker for worker in workers if worker.news in ready)


def _cause(error: Exception) -> str:
    """Of what Ray says at length, why."""
    if isinstance(error, RayTaskError) and isinstance(error.cause, Exception):
        return describe_error(error.cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if "because" in line), lines[0])
