"""From what the user asked for to an executor with its workers."""

from __future__ import annotations

import math
from importlib.util import find_spec
from pathlib import Path

from cpframe.environment import cores
from cpframe.errors import ExecutorError, Problem, SpecError, nearest
from cpframe.execution.executors import Executor
from cpframe.execution.executors.inline import Inline
from cpframe.execution.executors.processes import processes
from cpframe.execution.progress import StudyProgress
from cpframe.numerics import Numerics, assign_devices, devices

_NAMES = ("auto", "inline", "processes", "ray", "ray://HOST:PORT")


def check(executor: str, workers: int | None) -> None:
    """Refuse at once what no machine could do.

    Raises:
        SpecError: when there is no such executor, or it does not take so many workers.
        ExecutorError: when it is not installed.
    """
    if executor not in _NAMES[:4] and not executor.startswith("ray://"):
        raise SpecError([Problem(f"--executor {executor}", "", f"is not an executor; {nearest(executor, _NAMES)}")])
    if executor == "inline" and workers not in (None, 1):
        why = f"trains one stage at a time; for {workers} workers use processes, or leave --executor out"
        raise SpecError([Problem("--executor inline", "", why)])
    if executor.startswith("ray") and find_spec("ray") is None:
        raise ExecutorError(f"--executor {executor}: Ray is not installed: pip install 'cpframe[ray]'")


def beside_observers(executor: str) -> str:
    """The executor of a run that is observed: observers may set what is torch's for a whole process, and do no harm.

    Raises:
        SpecError: for ``inline``, which trains in the process in which observers live.
    """
    if executor == "inline":
        why = "trains in the process in which observers live, and they could disturb it; leave --executor out"
        raise SpecError([Problem("--executor inline", "", why)])
    return "processes" if executor == "auto" else executor


def start(executor: str, workers: int | None, useful: int, numerics: Numerics, folder: Path) -> Executor:
    """Start the workers.

    Args:
        executor: ``auto``, ``inline``, ``processes``, ``ray`` or ``ray://HOST:PORT``; checked.
        workers: how many are asked for; None for as many as are useful and the machines have cores or GPUs.
        useful: how many would have enough to do; 0 when there is nothing to be done.
        numerics: profile and device.
        folder: in which workers write.

    Raises:
        ExecutorError: when they cannot be had.
    """
    if not useful or executor == "inline":
        return Inline(numerics)
    if executor.startswith("ray"):
        from cpframe.execution.executors.ray_actors import ray_actors

        return ray_actors(executor, workers, useful, numerics, folder)
    there = devices(numerics)
    count = workers or min(useful, cores() if numerics.device == "cpu" else len(there))
    if executor == "auto" and count == 1:
        return Inline(numerics)
    return processes(assign_devices(numerics, there, count))


_WORTH_A_WORKER = 5.0
"""Seconds of training below which another process, which has to start, saves nothing."""


def chosen_workers(progress: StudyProgress, seconds: float, numerics: Numerics) -> int:
    """How many workers a run starts by itself: one a core on the CPU, one a GPU, if they have enough to do."""
    here = cores() if numerics.device == "cpu" else len(devices(numerics))
    return max(1, min(here, useful_workers(progress, seconds)))


def useful_workers(progress: StudyProgress, seconds: float) -> int:
    """How many workers would have enough to do; 0 when nothing is left to be done."""
    if not progress.todo:
        return 0
    chains = sum(stage.parent not in progress.todo for stage in progress.todo.values())
    widest = max(chains, len(progress.study.spec.seeds))
    return max(1, min(len(progress.todo), widest, math.floor(seconds / _WORTH_A_WORKER)))
