"""One ``cpframe run`` of a checked spec: rehearse, train what is left, report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from cpframe.commands.progress_bar import duration, shown
from cpframe.execution.cost_cache import store_costs
from cpframe.execution.executors.selection import (
    observed_executor,
    start_executor,
    useful_workers,
    validate_executor,
)
from cpframe.execution.forecast import forecast
from cpframe.execution.observers import run_observers
from cpframe.execution.preflight import preflight
from cpframe.execution.progress import StudyProgress, read_progress
from cpframe.execution.scheduler import run_study
from cpframe.execution.workspace import numerics_of, place_of
from cpframe.numerics import prepare
from cpframe.plan.identity import data_determinants, determinants, with_data
from cpframe.plan.provenance import provenance
from cpframe.plan.stages import plan
from cpframe.records.model import StudyRecord
from cpframe.report.terminal.render import render, report_console
from cpframe.spec.model import Spec
from cpframe.store import check_writable, lock_folder, other_formats, write_atomically
from cpframe.training.job import Event


def run_spec(
    spec: Spec,
    folder: Path,
    data: Path | None,
    workers: int | None,
    device: str,
    executor: str = "auto",
    store: Path | None = None,
    *,
    keep_states: bool = False,
) -> bool:
    """Train all that is left of a study into `folder`, show progress, and print the report.

    Args:
        spec: checked.
        folder: of the study.
        data: folder of the data sets; None leaves the choice to the environment.
        workers: how many; None leaves the choice to us.
        device: ``auto``, or as torch names it.
        executor: ``auto``, ``inline``, ``processes``, ``ray`` or ``ray://HOST:PORT``; with observers not ``inline``.
        store: folder of the stages; None for ``.stages`` beside the study's folder.
        keep_states: whether the state at the end of every stage stays in the store.

    Returns:
        Whether every trajectory is complete.

    Raises:
        SpecError: when the parts of the study or the executor do not fit one another, or the device is not there.
        DataError: when a data set cannot be had.
        StoreError: when the folder is in use, damaged, or cannot be written.
        ExecutorError: when workers cannot be had.
    """
    told = Console(stderr=True, markup=False, emoji=False, highlight=False)
    validate_executor(executor, workers)
    executor = observed_executor(executor) if spec.observers else executor
    numerics = numerics_of(spec, device)
    prepare(numerics)
    facts = provenance(spec, numerics)
    workspace = place_of(folder, store, data, numerics, facts, keep_states=keep_states)
    spec = with_data(spec, workspace.data_folder)
    study = plan(spec, determinants(numerics) | data_determinants(spec, workspace.data_folder))
    with lock_folder(folder):
        progress = read_progress(study, workspace)
        if progress.todo:  # a study that is done needs no store to write in
            check_writable(workspace.store)
        costs = preflight(spec, numerics, workspace.data_folder) if progress.todo else {}
        if costs:
            store_costs(spec, numerics, costs)
        alone = forecast(progress, costs, 1, keep_states=keep_states).seconds
        if others := other_formats(workspace.store):
            told.print(f"{workspace.store}: stages of other versions of cpframe ({', '.join(others)}) are not used")
        asked = workers and min(workers, len(progress.todo) or 1)
        crew = start_executor(executor, asked, useful_workers(progress, alone), numerics, workspace.store)
        if change := changed_since(folder, progress):
            told.print(change, soft_wrap=True)
        if keep_states and (
            gone := sum(not progress.ends_with_state(one) for one in study.stages.keys() - progress.todo.keys())
        ):
            told.print(
                f"the weights of {gone} stages that are done were not kept; --keep-states keeps those trained now"
            )
        seconds = forecast(progress, costs, crew.slots, keep_states=keep_states).seconds
        told.print(_announcement(progress, seconds, crew.slots))
        with run_observers(progress, workspace, told, []) as observe, shown(progress, told) as show:

            def both(event: Event) -> None:
                show(event)
                observe(event)

            record = run_study(progress, workspace, crew, both)
    render(record, report_console())
    told.print(f"results: {workspace.results}", soft_wrap=True)
    return _told_failures(record, told)


def changed_since(folder: Path, progress: StudyProgress) -> str:
    """Note the stages of a study in its folder; returns what has become of those noted there before, or nothing."""
    path = folder / "stages.txt"
    try:
        before = set(path.read_text().split())
    except (OSError, UnicodeDecodeError):
        before = set()
    now = progress.study.stages.keys()
    write_atomically(path, "".join(f"{stage}\n" for stage in now).encode())
    if not before or before == now:
        return ""
    return (
        f"the study here was another before: {len(before & now)} of its {len(before)} stages are used again, "
        f"{len(before - now)} are not (they stay in the store); of {len(now - before)} others "
        f"{len((now - before) & progress.todo.keys())} are to be trained"
    )


def _announcement(progress: StudyProgress, seconds: float, workers: int) -> str:
    study = progress.study
    if not progress.todo:
        return f"nothing to train: all {len(study.trajectories)} trajectories are done"
    processes = "1 worker" if workers == 1 else f"{workers} workers"
    return (
        f"{len(study.trajectories)} trajectories of {study.epochs_asked} epochs in all share "
        f"{len(study.stages)} stages of {study.epochs_to_train}; {progress.epochs} epochs to train, "
        f"about {duration(seconds)} with {processes}"
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
