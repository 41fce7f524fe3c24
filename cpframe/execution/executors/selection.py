"""The choice of an executor and of its number of workers, from the command-line options."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

from cpframe.environment import cores
from cpframe.errors import ExecutorError, Problem, SpecError, nearest
from cpframe.execution.executors import Executor
from cpframe.execution.executors.inline import Inline
from cpframe.execution.executors.processes import start_processes
from cpframe.execution.progress import StudyProgress
from cpframe.numerics import Numerics, assign_devices, devices

_NAMES = ("auto", "inline", "processes", "ray", "ray://HOST:PORT")
_SECONDS_PER_WORKER = 5.0
"""The least training time that justifies one more worker, since a process takes some seconds to start."""


def validate_executor(executor: str, workers: int | None) -> None:
    """Check the options ``--executor`` and ``--workers`` before anything is started.

    Args:
        executor: ``auto``, ``inline``, ``processes``, ``ray`` or ``ray://HOST:PORT``; anything else is an error.
        workers: the requested number of workers; None when the user gave none.

    Raises:
        SpecError: when the executor is unknown, or cannot use that many workers.
        ExecutorError: when the executor needs a package that is not installed.
    """
    option = f"--executor {executor}"
    if executor not in _NAMES[:4] and not executor.startswith("ray://"):
        raise SpecError([Problem(option, "", f"unknown executor; {nearest(executor, _NAMES, 'executors')}")])
    if executor == "inline" and workers not in (None, 1):
        why = f"trains one stage at a time and cannot use {workers} workers; use --executor processes"
        raise SpecError([Problem(option, "", why)])
    if executor.startswith("ray") and find_spec("ray") is None:
        raise ExecutorError(f"{option}: Ray is not installed: pip install 'cpframe[ray]'")


def observed_executor(executor: str) -> str:
    """Return the executor of a run with observers, which must train in processes other than this one.

    Observers run in this process and may change torch's global settings, such as the default dtype.

    Raises:
        SpecError: when the executor is ``inline``.
    """
    if executor == "inline":
        why = "cannot train in the process of the observers, which may change its settings; use --executor processes"
        raise SpecError([Problem("--executor inline", "", why)])
    return "processes" if executor == "auto" else executor


def start_executor(executor: str, workers: int | None, useful: int, numerics: Numerics, folder: Path) -> Executor:
    """Start an executor with its workers.

    Args:
        executor: ``auto``, ``inline``, ``processes``, ``ray`` or ``ray://HOST:PORT``; validated.
        workers: the requested number; None for `useful`, or one per CPU core or GPU where that is fewer.
        useful: the number of workers that have enough to train; 0 when there is nothing to train.
        numerics: the numerics of the run.
        folder: the store, in which the workers write.

    Raises:
        ExecutorError: when the workers cannot be started.
    """
    if not useful or executor == "inline":
        return Inline(numerics)
    if executor.startswith("ray"):
        from cpframe.execution.executors.ray_actors import start_ray_actors

        return start_ray_actors(executor, workers, useful, numerics, folder)
    count = workers or min(useful, _local_capacity(numerics))
    if executor == "auto" and count == 1:
        return Inline(numerics)
    return start_processes(assign_devices(numerics, devices(numerics), count))


def default_workers(progress: StudyProgress, seconds: float, numerics: Numerics) -> int:
    """Return the default number of workers: one per CPU core or GPU, as long as all of them have enough to train.

    Args:
        progress: the progress of the study.
        seconds: the estimated time of the remaining stages on one worker.
        numerics: the numerics of the run.
    """
    return max(1, min(_local_capacity(numerics), useful_workers(progress, seconds)))


def useful_workers(progress: StudyProgress, seconds: float) -> int:
    """Return the number of workers that have enough to train; 0 when nothing is left to train.

    Args:
        progress: the progress of the study.
        seconds: the estimated time of the remaining stages on one worker.
    """
    if not progress.todo:
        return 0
    chains = sum(stage.parent not in progress.todo for stage in progress.todo.values())
    widest = max(chains, len(progress.study.spec.seeds))
    return max(1, min(len(progress.todo), widest, math.floor(seconds / _SECONDS_PER_WORKER)))


def _local_capacity(numerics: Numerics) -> int:
    """Return the number of workers for which this machine has a CPU core or a GPU each."""
    return cores() if numerics.device == "cpu" else len(devices(numerics))
