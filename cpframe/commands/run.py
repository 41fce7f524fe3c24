"""One ``cpframe run`` of a checked spec: rehearse, train what is left, report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from cpframe.commands.progress_bar import duration, shown
from cpframe.environment import cores, data_folder
from cpframe.errors import Problem, SpecError
from cpframe.execution.cost_cache import remember
from cpframe.execution.executors.selection import beside_observers, check, start
from cpframe.execution.forecast import forecast
from cpframe.execution.observers import observed
from cpframe.execution.preflight import rehearse
from cpframe.execution.scheduler import Place, Progress, run_study, survey
from cpframe.numerics import Numerics, devices, prepare, resolve
from cpframe.plan.identity import data_determinants, determinants, with_data
from cpframe.plan.provenance import provenance
from cpframe.plan.stages import plan
from cpframe.records.model import StudyRecord
from cpframe.report.terminal.render import render, report_console
from cpframe.spec.model import Spec
from cpframe.store import check_writable, locked, other_formats, write_atomically
from cpframe.training.job import Event

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
        profile: that was laid over the spec, for the record.
        overrides: likewise.
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
    check(executor, workers)
    executor = beside_observers(executor) if spec.observers else executor
    numerics = numerics_of(spec, device)
    prepare(numerics)
    facts = provenance(spec, numerics, profile, overrides)
    place = place_of(folder, store, data, numerics, facts, keep_states=keep_states)
    spec = with_data(spec, place.data_folder)
    study = plan(spec, determinants(numerics) | data_determinants(spec, place.data_folder))
    with locked(folder):
        progress = survey(study, place)
        if progress.todo:  # a study that is done needs no store to write in
            check_writable(place.store)
        costs = rehearse(spec, numerics, place.data_folder) if progress.todo else {}
        if costs:
            remember(spec, numerics, costs)
        alone = forecast(progress, costs, 1, keep_states=keep_states).seconds
        if others := other_formats(place.store):
            told.print(f"{place.store}: also has stages of another version of cpframe ({', '.join(others)}); not used")
        asked = workers and min(workers, len(progress.todo) or 1)
        crew = start(executor, asked, useful_workers(progress, alone), numerics, place.store)
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
        with observed(progress, place, told) as observe, shown(progress, told) as show:

            def both(event: Event) -> None:
                show(event)
                observe(event)

            record = run_study(progress, place, crew, both)
    render(record, report_console())
    told.print(f"results: {place.results}", soft_wrap=True)
    return _told_failures(record, told)


def changed_since(folder: Path, progress: Progress) -> str:
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


def numerics_of(spec: Spec, device: str) -> Numerics:
    """The device and numerics profile of a study.

    Raises:
        SpecError: when the device is not there, or not able to do what the spec asks for.
    """
    profiles = {variant.training.numerics for variant in spec.variants}
    if len(profiles) > 1:
        raise SpecError([Problem("", "training.numerics", "cannot vary within a study")])
    return resolve(device, profiles.pop())


def place_of(
    folder: Path,
    store: Path | None,
    data: Path | None,
    numerics: Numerics,
    facts: Mapping[str, str],
    *,
    keep_states: bool,
) -> Place:
    """Where a study is kept: its stages in ``.stages`` beside its folder unless another store is named."""
    return Place(folder, store or folder.parent / ".stages", data_folder(data), numerics, facts, keep_states)


def chosen_workers(progress: Progress, seconds: float, numerics: Numerics) -> int:
    """How many workers a run starts by itself: one a core on the CPU, one a GPU, if they have enough to do."""
    here = cores() if numerics.device == "cpu" else len(devices(numerics))
    return max(1, min(here, useful_workers(progress, seconds)))


def useful_workers(progress: Progress, seconds: float) -> int:
    """How many workers would have enough to do; 0 when nothing is left to be done."""
    if not progress.todo:
        return 0
    chains = sum(stage.parent not in progress.todo for stage in progress.todo.values())
    widest = max(chains, len(progress.study.spec.seeds))
    return max(1, min(len(progress.todo), widest, math.floor(seconds / _WORTH_A_WORKER)))


def _announcement(progress: Progress, seconds: float, workers: int) -> str:
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
