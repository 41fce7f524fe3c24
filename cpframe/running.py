"""One ``cpframe run`` of a checked spec: rehearse, train what is left, report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from cpframe.display import duration, shown
from cpframe.engine import Place, Progress, run_study, survey
from cpframe.executors import Executor
from cpframe.executors.inline import Inline
from cpframe.executors.processes import Processes
from cpframe.numerics import prepare, resolve
from cpframe.plan import plan
from cpframe.problems import Problem, SpecError
from cpframe.records import StudyRecord
from cpframe.rehearsal import estimated_seconds, rehearse
from cpframe.report.terminal import render
from cpframe.spec import Spec
from cpframe.store import locked
from cpframe.surroundings import cores, data_folder, determinants, provenance

_WORTH_A_WORKER = 5.0
"""Seconds of training below which another process, which has to start, saves nothing."""


def run_spec(
    spec: Spec,
    folder: Path,
    data: Path | None,
    workers: int | None,
    device: str,
    profile: str | None,
    overrides: Sequence[str],
    store: Path | None = None,
    keep_states: bool = False,
) -> bool:
    """Train all that is left of a study into `folder`, show progress, and print the report.

    Args:
        spec: checked.
        folder: of the study.
        data: folder of the data sets; None leaves the choice to the environment.
        workers: processes; None leaves the choice to us.
        device: ``auto``, or as torch names it.
        profile: that was laid over the spec, for the record.
        overrides: likewise.
        store: folder of the stages; None for ``.stages`` beside the study's folder.
        keep_states: whether the state at the end of every stage stays in the store.

    Returns:
        Whether every trajectory is complete.

    Raises:
        SpecError: when the parts of the study do not fit one another, or the device is not there.
        DataError: when a data set cannot be had.
        StoreError: when the folder is in use, damaged, or cannot be written.
    """
    console = Console()
    told = Console(stderr=True, markup=False, emoji=False, highlight=False)
    profiles = {variant.training.numerics for variant in spec.variants}
    if len(profiles) > 1:
        raise SpecError([Problem("", "training.numerics", "cannot vary within a study")])
    numerics = resolve(device, profiles.pop())
    prepare(numerics)
    facts = provenance(spec, numerics, profile, overrides)
    place = Place(folder, store or folder.parent / ".stages", data_folder(data), numerics, facts, keep_states)
    study = plan(spec, determinants(spec, numerics))
    with locked(folder):
        progress = survey(study, place)
        costs = rehearse(spec, numerics, place.data_folder) if progress.todo else {}
        seconds = estimated_seconds(progress.todo.values(), spec.metrics, costs)
        count = min(workers or _workers(progress, seconds, numerics.device), len(progress.todo) or 1)
        told.print(_announcement(progress, seconds, count))
        executor: Executor = Inline(numerics) if count == 1 else Processes(count, numerics)
        with shown(progress, told) as observe:
            record = run_study(progress, place, executor, observe)
    render(record, console)
    told.print(f"results: {place.results}", soft_wrap=True)
    return _told_failures(record, told)


def _workers(progress: Progress, seconds: float, device: str) -> int:
    """One a core on the CPU, one on any other device, and none that would have too little to do."""
    if not device.startswith("cpu"):
        return 1
    chains = sum(stage.parent not in progress.todo for stage in progress.todo.values())
    widest = max(chains, len(progress.study.spec.seeds))
    return max(1, min(cores(), widest, math.floor(seconds / _WORTH_A_WORKER)))


def _announcement(progress: Progress, seconds: float, workers: int) -> str:
    study = progress.study
    if not progress.todo:
        return f"nothing to train: all {len(study.trajectories)} trajectories are done"
    processes = "1 worker" if workers == 1 else f"{workers} workers"
    return (
        f"{len(study.trajectories)} trajectories of {study.epochs_asked} epochs in all share "
        f"{len(study.stages)} stages of {study.epochs_to_train}; {progress.epochs} epochs to train, "
        f"about {duration(seconds / workers)} with {processes}"
    )


def _told_failures(record: StudyRecord, told: Console) -> bool:
    failed = [trajectory for trajectory in record.trajectories if trajectory.status == "failed"]
    if failed:
        told.print(
            f"{len(failed)} of {len(record.trajectories)} trajectories failed; the first, {failed[0].name}: "
            f"{failed[0].reason}",
            soft_wrap=True,
            style="red",
        )
    return not failed
