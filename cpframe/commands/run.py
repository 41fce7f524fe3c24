"""``cpframe run``: a preflight of every part, then the training of the stages that the store lacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread

from rich.console import Console

from cpframe.commands.progress_bar import duration, show_progress
from cpframe.commands.signals import Check
from cpframe.execution.cost_cache import store_costs
from cpframe.execution.costs import Costs
from cpframe.execution.executors import Executor
from cpframe.execution.executors.selection import (
    observed_executor,
    start_executor,
    useful_workers,
    validate_executor,
)
from cpframe.execution.forecast import forecast
from cpframe.execution.observers import run_observers
from cpframe.execution.preflight import preflight
from cpframe.execution.preparation import PreparedStudy, prepare_study
from cpframe.execution.progress import StudyProgress
from cpframe.execution.scheduler import run_study
from cpframe.execution.workspace import RunOptions
from cpframe.numerics import prepare
from cpframe.records.model import StudyRecord, TrajectoryRecord
from cpframe.spec.model import Spec
from cpframe.store import check_writable, lock_folder, other_formats, write_atomically
from cpframe.training.cache import clear_caches
from cpframe.training.job import Event


@dataclass(frozen=True)
class RunOutcome:
    """The outcome of a run.

    Attributes:
        record: the study as it is in the results file.
        results: the path of the results file.
    """

    record: StudyRecord
    results: Path

    @property
    def failures(self) -> Sequence[TrajectoryRecord]:
        """The trajectories that failed."""
        return [trajectory for trajectory in self.record.trajectories if trajectory.status == "failed"]


def notes_console(*, quiet: bool = False) -> Console:
    """Return the console for progress and notes: the standard error, where text of a user is no markup."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False, quiet=quiet)


def print_outcome(outcome: RunOutcome, console: Console) -> None:
    """Print the path of the results, and the failures if there are any."""
    console.print(f"results: {outcome.results}", soft_wrap=True)
    if outcome.failures:
        first = outcome.failures[0]
        count = f"{len(outcome.failures)} of {len(outcome.record.trajectories)} trajectories failed"
        console.print(f"{count}; the first, {first.name}: {first.reason}", soft_wrap=True, style="red")


def run(
    spec: Spec, options: RunOptions, console: Console, abandoned: list[Thread], check: Check = lambda: None
) -> RunOutcome:
    """Train all that a study lacks, show progress, and write the results file.

    Args:
        spec: the checked spec.
        options: where the study is kept, and what it runs on.
        console: the console for progress and notes.
        abandoned: receives the threads of observers that did not end in time, however the run ends.
        check: called at every event; raises where the run was stopped.

    Raises:
        SpecError: when the parts of the study or the executor do not fit one another, or the device does not exist.
        DataError: when a data set cannot be loaded.
        StoreError: when the folder is in use, damaged, or cannot be written.
        ExecutorError: when workers cannot be started.
    """
    validate_executor(options.executor, options.workers)
    if spec.observers:
        options = replace(options, executor=observed_executor(options.executor))
    clear_caches()
    prepared = prepare_study(spec, options)
    prepare(prepared.workspace.numerics)
    with lock_folder(options.out):
        costs = _measure_costs(prepared)
        with closing(_start_executor(prepared, options, costs)) as executor:
            for note in _notes(prepared):
                console.print(note, soft_wrap=True)
            console.print(_announcement(prepared.progress, costs, executor.slots, options.keep_states))
            record = _train(prepared, executor, console, abandoned, check)
    return RunOutcome(record, prepared.workspace.results)


def _measure_costs(prepared: PreparedStudy) -> dict[int, Costs]:
    """Use every part of the study once, unless nothing is to be trained: a complete study needs no store to write in.

    The costs correct those that ``cpframe plan`` keeps.
    """
    if not prepared.progress.todo:
        return {}
    workspace = prepared.workspace
    check_writable(workspace.store)
    costs = preflight(prepared.spec, workspace.numerics, workspace.data_folder)
    store_costs(prepared.spec, workspace.numerics, costs)
    return costs


def _start_executor(prepared: PreparedStudy, options: RunOptions, costs: Mapping[int, Costs]) -> Executor:
    progress, workspace = prepared.progress, prepared.workspace
    alone = forecast(progress, costs, 1, keep_states=options.keep_states).seconds
    workers = options.workers and min(options.workers, len(progress.todo) or 1)
    useful = useful_workers(progress, alone)
    return start_executor(options.executor, workers, useful, workspace.numerics, workspace.store)


def _train(
    prepared: PreparedStudy, executor: Executor, console: Console, abandoned: list[Thread], check: Check
) -> StudyRecord:
    progress, workspace = prepared.progress, prepared.workspace
    with run_observers(progress, workspace, console, abandoned) as observe, show_progress(progress, console) as show:

        def both(event: Event) -> None:
            check()
            show(event)
            observe(event)

        return run_study(progress, workspace, executor, both)


def _notes(prepared: PreparedStudy) -> list[str]:
    """Return what the user should know about the store and the folder before training begins."""
    progress, workspace = prepared.progress, prepared.workspace
    notes = [note for note in (format_note(workspace.store), compare_stages(workspace.folder, progress)) if note]
    if workspace.keep_states:
        complete = prepared.study.stages.keys() - progress.todo.keys()
        if dropped := sum(not progress.ends_with_state(stage) for stage in complete):
            notes.append(
                f"the weights of {dropped} complete stages were not kept; --keep-states keeps those trained from now on"
            )
    return notes


def format_note(store: Path) -> str:
    """Return a note on stages in the store that another version of cpframe wrote, or an empty text."""
    others = other_formats(store)
    return (
        f"{store}: stages of another version of cpframe ({', '.join(others)}) are not used and can be deleted"
        if others
        else ""
    )


def compare_stages(folder: Path, progress: StudyProgress) -> str:
    """Write the list of a study's stages into its folder; return how it differs from the list before, or nothing."""
    path = folder / "stages.txt"
    try:
        before = set(path.read_text().split())
    except (OSError, UnicodeDecodeError):
        before = set()
    now = progress.study.stages.keys()
    write_atomically(path, "".join(f"{stage}\n" for stage in now).encode())
    if not before or before == now:
        return ""
    new = now - before
    return (
        f"this folder held a different version of the study: {len(before & now)} of its {len(before)} stages are used "
        f"again, {len(before - now)} are not (they stay in the store); {len(new)} stages are new, "
        f"{len(new & progress.todo.keys())} of them to be trained"
    )


def _announcement(progress: StudyProgress, costs: Mapping[int, Costs], slots: int, keep_states: bool) -> str:
    study = progress.study
    if not progress.todo:
        return f"nothing to train: all {len(study.trajectories)} trajectories are complete"
    seconds = forecast(progress, costs, slots, keep_states=keep_states).seconds
    workers = "1 worker" if slots == 1 else f"{slots} workers"
    return (
        f"{len(study.trajectories)} trajectories ({study.epochs_asked} epochs) share {len(study.stages)} stages "
        f"({study.epochs_to_train} epochs); {progress.epochs} epochs to train, about {duration(seconds)} with {workers}"
    )
