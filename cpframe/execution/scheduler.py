"""Walks the stage tree: hands ready stages to an executor, gathers what is committed, builds results.h5."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from cpframe.execution.assembly import assemble_study
from cpframe.execution.executors import Executor
from cpframe.execution.progress import StudyProgress, remaining
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
"""The share of the time that may go into rebuilding results.h5 while trajectories complete."""
_AGAIN_SECONDS = 0.5
"""After so long it is tried again to begin a stage that another run had in hand."""


def run_study(
    progress: StudyProgress, workspace: Workspace, executor: Executor, observe: Callable[[Event], None]
) -> StudyRecord:
    """Train all that is left of a study.

    results.h5 is rebuilt as trajectories complete and, whatever happens, at the end.

    Args:
        progress: as read; brought up to date on the way.
        workspace: its folder must be locked by the caller; the store need not be.
        executor: closed at the end.
        observe: told every event.

    Returns:
        The study as it is in results.h5.

    Raises:
        StoreError: when the disk refuses.
    """
    study = progress.study
    next_rebuild = time.monotonic()
    try:
        for event in _events(progress, workspace, executor):
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
            progress.records[stage] = _record(workspace.of(stage))
        for stage in study.stages:
            _release(progress, workspace, stage)
        record = assemble_study(study, progress.records, progress.failures, workspace.provenance)
        write_results(workspace.results, record)
    return record


def _events(progress: StudyProgress, workspace: Workspace, executor: Executor) -> Iterator[Event]:
    """Train every stage of the to-do list as soon as its parent is done, those with the longest way to go first."""
    ahead = remaining(progress)
    ready = {id_: 0.0 for id_, stage in progress.todo.items() if stage.parent not in progress.todo}  # and not before
    under_way: set[str] = set()
    while ready or under_way:
        now = time.monotonic()
        for id_ in sorted((id_ for id_, when in ready.items() if when <= now), key=lambda id_: -ahead[id_]):
            if len(under_way) >= executor.slots:
                break
            del ready[id_]
            under_way.add(id_)
            executor.submit(_job(progress, workspace, progress.study.stages[id_]))
        if not under_way:
            time.sleep(max(0.0, min(ready.values()) - now))
            continue
        for event in executor.wait():
            if isinstance(event, StageDone):
                under_way.remove(event.stage)
                if event.returned == "in use":
                    ready[event.stage] = time.monotonic() + _AGAIN_SECONDS
                elif event.returned == "gone":
                    yield from _found_again(progress, workspace, event.stage, ready, under_way)
                else:
                    ready |= {
                        child.id: 0.0 for child in _ended(progress, workspace, event) if child.id not in under_way
                    }
            yield event


def _job(progress: StudyProgress, workspace: Workspace, stage: Stage) -> Job:
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
        keep_state=workspace.keep_states or bool(progress.following(stage.id)),
        for_good=workspace.keep_states,
    )


def _found_again(
    progress: StudyProgress, workspace: Workspace, stage: str, ready: dict[str, float], under_way: set[str]
) -> Iterator[StageWarning]:
    """Let a stage begin whose parent's state was dropped by another run, or is damaged: train what makes it again."""
    one = progress.study.stages[stage]
    while one.parent is not None and one.parent not in progress.todo:
        with suppress(InUseError), lock_folder(workspace.of(one.parent)):  # in use: it is being made again
            for message in recover(workspace.of(one.parent))[2]:
                yield StageWarning(one.parent, message)
        progress.records[one.parent] = record = _record(workspace.of(one.parent))
        if progress.ends_with_state(one.parent):
            break
        one = progress.study.stages[one.parent]
        progress.todo[one.id] = one
        if record is not None and record.state:
            break
    if one.parent not in progress.todo and one.id not in under_way:
        ready[one.id] = time.monotonic() + (_AGAIN_SECONDS if one.id == stage else 0.0)


def _ended(progress: StudyProgress, workspace: Workspace, event: StageDone) -> list[Stage]:
    """Note the end of a stage; returns the stages that can start now."""
    todo = progress.todo
    stage = todo.pop(event.stage)
    progress.records[stage.id] = _record(workspace.of(stage.id))
    if event.failure:
        lost = [stage]
        while lost:
            one = lost.pop()
            lost += progress.following(one.id)
            todo.pop(one.id, None)
            progress.failures[one.id] = event.failure
    if stage.parent is not None:
        _release(progress, workspace, stage.parent)
    return progress.following(stage.id)


def _record(folder: Path) -> StageRecord | None:
    """What is committed of a stage; nothing when that is damaged, which the next run mends."""
    try:
        return read_stage(folder)
    except DamagedError:
        return None


def _release(progress: StudyProgress, workspace: Workspace, stage: str) -> None:
    """Drop the state of a stage from which nothing is to go on any more, not even to try again what has failed."""
    record = progress.records[stage]
    if record is None or record.kept or not progress.ends_with_state(stage) or stage in progress.todo:
        return
    for child in progress.children.get(stage, ()):
        after = progress.records[child.id]
        if child.id in progress.todo or after is None or after.status == "unfinished":
            return
    with suppress(InUseError), lock_folder(workspace.of(stage)):  # in use: another run makes it for itself
        drop_state(workspace.of(stage))
        progress.records[stage] = replace(record, state="", digest="")
