"""The scheduler: walks the stage tree, hands ready stages to an executor, and writes results.h5."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cpframe.execution.assembly import assemble_study
from cpframe.execution.executors import Executor
from cpframe.execution.progress import StudyProgress, remaining_epochs
from cpframe.execution.workspace import Workspace
from cpframe.plan.stages import Stage
from cpframe.records.model import StudyRecord
from cpframe.store import (
    DamagedError,
    InUseError,
    StageRecord,
    drop_state,
    lock_folder,
    read_stage,
    recover,
    write_results,
)
from cpframe.training.job import Event, Job, StageDone, StageWarning

_RESULTS_SHARE = 0.005
"""The largest share of the time that is spent on rebuilding results.h5 during a run."""
_RETRY_SECONDS = 0.5
"""The time after which a stage that another run was training is tried again."""


def run_study(
    progress: StudyProgress, workspace: Workspace, executor: Executor, observe: Callable[[Event], None]
) -> StudyRecord:
    """Train the remaining stages of a study.

    results.h5 is rebuilt as trajectories are completed, and at the end even if the run ends by an exception.

    Args:
        progress: the progress of the study, updated during the run.
        workspace: the workspace; its folder must be locked by the caller, its store need not be.
        executor: the executor, closed at the end.
        observe: called with every event.

    Returns:
        The study as it stands in results.h5.

    Raises:
        StoreError: when a file cannot be written.
    """
    study = progress.study
    next_rebuild = time.monotonic()
    try:
        for event in _train_stages(progress, workspace, executor):
            observe(event)
            now = time.monotonic()
            if isinstance(event, StageDone) and not event.returned and now >= next_rebuild:
                write_results(
                    workspace.results, assemble_study(study, progress.records, progress.failures, workspace.provenance)
                )
                next_rebuild = time.monotonic() + (time.monotonic() - now) / _RESULTS_SHARE
    finally:
        executor.close()
        for stage in progress.todo:
            progress.records[stage] = _read_record(workspace.of(stage))
        for stage in study.stages:
            _drop_unneeded_state(progress, workspace, stage)
        record = assemble_study(study, progress.records, progress.failures, workspace.provenance)
        write_results(workspace.results, record)
    return record


def _train_stages(progress: StudyProgress, workspace: Workspace, executor: Executor) -> Iterator[Event]:
    """Train every remaining stage once its parent is complete, those before the longest chain of stages first.

    `ready` has the stages that can start, by id, each with the time before which it is not to be tried.
    """
    remaining = remaining_epochs(progress)
    ready = {id_: 0.0 for id_, stage in progress.todo.items() if stage.parent not in progress.todo}
    running: set[str] = set()
    while ready or running:
        now = time.monotonic()
        for id_ in sorted((id_ for id_, when in ready.items() if when <= now), key=lambda id_: -remaining[id_]):
            if len(running) >= executor.slots:
                break
            del ready[id_]
            running.add(id_)
            executor.submit(_make_job(progress, workspace, progress.study.stages[id_]))
        if not running:
            time.sleep(max(0.0, min(ready.values()) - now))
            continue
        for event in executor.wait():
            if isinstance(event, StageDone):
                running.remove(event.stage)
                if event.returned == "in use":
                    ready[event.stage] = time.monotonic() + _RETRY_SECONDS
                elif event.returned == "gone":
                    yield from _schedule_ancestors(progress, workspace, event.stage, ready, running)
                else:
                    children = _record_end(progress, workspace, event)
                    ready |= {child.id: 0.0 for child in children if child.id not in running}
            yield event


def _make_job(progress: StudyProgress, workspace: Workspace, stage: Stage) -> Job:
    spec = progress.study.spec
    parent_folder = None if stage.parent is None else workspace.of(stage.parent)
    return Job(
        stage=stage,
        variant=spec.variants[stage.variant],
        metrics=spec.metrics,
        numerics=workspace.numerics,
        data_folder=workspace.data_folder,
        folder=workspace.of(stage.id),
        parent_folder=parent_folder,
        keep_state=workspace.keep_states or bool(progress.waiting_children(stage.id)),
        retain_state=workspace.keep_states,
    )


def _schedule_ancestors(
    progress: StudyProgress, workspace: Workspace, stage: str, ready: dict[str, float], running: set[str]
) -> Iterator[StageWarning]:
    """Schedule a stage whose parent's state is damaged or was dropped by another run.

    Its ancestors are trained again, beginning with the nearest one that can start.
    """
    first = progress.study.stages[stage]
    while first.parent is not None and first.parent not in progress.todo:
        with suppress(InUseError), lock_folder(workspace.of(first.parent)):  # in use: another run trains it again
            for message in recover(workspace.of(first.parent))[2]:
                yield StageWarning(first.parent, message)
        progress.records[first.parent] = record = _read_record(workspace.of(first.parent))
        if progress.ends_with_state(first.parent):
            break
        first = progress.study.stages[first.parent]
        progress.todo[first.id] = first
        if record is not None and record.state:
            break
    if first.parent not in progress.todo and first.id not in running:
        ready[first.id] = time.monotonic() + (_RETRY_SECONDS if first.id == stage else 0.0)


def _record_end(progress: StudyProgress, workspace: Workspace, event: StageDone) -> list[Stage]:
    """Update the progress at the end of a stage, and return the stages that can start now."""
    todo = progress.todo
    stage = todo.pop(event.stage)
    progress.records[stage.id] = _read_record(workspace.of(stage.id))
    if event.failure:
        failed = [stage]
        while failed:
            descendant = failed.pop()
            failed += progress.waiting_children(descendant.id)
            todo.pop(descendant.id, None)
            progress.failures[descendant.id] = event.failure
    if stage.parent is not None:
        _drop_unneeded_state(progress, workspace, stage.parent)
    return progress.waiting_children(stage.id)


def _read_record(folder: Path) -> StageRecord | None:
    """Return the committed part of a stage; None if it is damaged, which the next run repairs."""
    try:
        return read_stage(folder)
    except DamagedError:
        return None


def _drop_unneeded_state(progress: StudyProgress, workspace: Workspace, stage: str) -> None:
    """Drop the final state of a stage once no stage will continue from it; failed ones may be tried again."""
    record = progress.records[stage]
    if record is None or record.kept or not progress.ends_with_state(stage) or stage in progress.todo:
        return
    for child in progress.children.get(stage, ()):
        child_record = progress.records[child.id]
        if child.id in progress.todo or child_record is None or child_record.status == "unfinished":
            return
    with suppress(InUseError), lock_folder(workspace.of(stage)):  # in use: another run may need the state
        drop_state(workspace.of(stage))
        progress.records[stage] = replace(record, state="", digest="")
