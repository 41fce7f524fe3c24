"""Walks the stage tree: hands ready stages to an executor, gathers what is committed, builds results.h5."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cpframe.executors import Executor
from cpframe.gathering import gathered
from cpframe.numerics import Numerics
from cpframe.plan import Stage, Study
from cpframe.records import StudyRecord
from cpframe.store import StageRecord, drop_state, read_stage, write_results
from cpframe.training import Event, Job, StageDone

_RESULTS_SHARE = 0.02
"""The share of the time that may go into rebuilding results.h5 while trajectories complete."""


@dataclass(frozen=True)
class Place:
    """Where a study is kept and what it runs on.

    Attributes:
        folder: of the study: ``results.h5`` and ``stages``.
        data_folder: of the data sets.
        numerics: profile and device.
        provenance: facts for the head of results.h5.
    """

    folder: Path
    data_folder: Path
    numerics: Numerics
    provenance: Mapping[str, str]

    @property
    def results(self) -> Path:
        """The results file."""
        return self.folder / "results.h5"

    def of(self, stage: str) -> Path:
        """The folder of a stage."""
        return self.folder / "stages" / stage


@dataclass(frozen=True)
class Progress:
    """How far a study has come.

    Attributes:
        study: planned.
        records: what is committed of each stage, by its id; None for nothing.
        failures: why stages failed, by their ids; those that follow a failed one fail with it.
        todo: stages still to be trained, by their ids, parents first.
        children: the stages that go on from each stage, by its id; under None those that start afresh.
    """

    study: Study
    records: dict[str, StageRecord | None]
    failures: dict[str, str]
    todo: dict[str, Stage]
    children: Mapping[str | None, Sequence[Stage]]

    @property
    def epochs(self) -> int:
        """Epochs still to be trained."""
        return sum(stage.stop - self.done(stage) for stage in self.todo.values())

    def following(self, stage: str) -> list[Stage]:
        """Stages still to be trained that go on from a stage, by its id."""
        return [child for child in self.children.get(stage, ()) if child.id in self.todo]

    def done(self, stage: Stage) -> int:
        """Epochs completed, from the start of the training, where `stage` goes on."""
        record = self.records[stage.id]
        resumes = record is not None and record.state
        return int(record.history.epoch[-1]) if record is not None and resumes else stage.start


def survey(study: Study, place: Place) -> Progress:
    """Read what is committed and find what is to be trained.

    Raises:
        StoreError: when what is committed of a stage is damaged.
    """
    records = {stage: read_stage(place.of(stage)) for stage in study.stages}
    failures: dict[str, str] = {}
    for stage in study.stages.values():
        record = records[stage.id]
        if record is not None and record.status == "failed":
            failures[stage.id] = record.reason
        elif stage.parent in failures:
            failures[stage.id] = failures[stage.parent]
    needed: set[str] = set()
    states: set[str] = set()
    for stage in reversed(list(study.stages.values())):
        record = records[stage.id]
        has_state = record is not None and bool(record.state)
        complete = record is not None and record.status == "complete"
        if stage.id in failures or (complete and (has_state or stage.id not in states)):
            continue
        needed.add(stage.id)
        if stage.parent is not None and not has_state:
            states.add(stage.parent)
    todo = {id_: stage for id_, stage in study.stages.items() if id_ in needed}
    children: dict[str | None, list[Stage]] = {}
    for stage in study.stages.values():
        children.setdefault(stage.parent, []).append(stage)
    return Progress(study, records, failures, todo, children)


def run_study(progress: Progress, place: Place, executor: Executor, observe: Callable[[Event], None]) -> StudyRecord:
    """Train all that is left of a study.

    results.h5 is rebuilt as trajectories complete and, whatever happens, at the end.

    Args:
        progress: as surveyed; brought up to date on the way.
        place: its folder must be locked by the caller.
        executor: closed at the end.
        observe: told every event.

    Returns:
        The study as it is in results.h5.

    Raises:
        StoreError: when the disk refuses, or what is committed is damaged.
    """
    study = progress.study
    next_rebuild = time.monotonic()
    try:
        for event in _events(progress, place, executor):
            observe(event)
            now = time.monotonic()
            if isinstance(event, StageDone) and now >= next_rebuild:
                write_results(place.results, gathered(study, progress.records, progress.failures, place.provenance))
                next_rebuild = time.monotonic() + (time.monotonic() - now) / _RESULTS_SHARE
    finally:
        executor.close()
        for stage in progress.todo:
            progress.records[stage] = read_stage(place.of(stage))
        for stage in study.stages:
            _release(progress, place, stage)
        record = gathered(study, progress.records, progress.failures, place.provenance)
        write_results(place.results, record)
    return record


def _events(progress: Progress, place: Place, executor: Executor) -> Iterator[Event]:
    """Train every stage of the to-do list as soon as its parent is done, those with the longest way to go first."""
    todo = progress.todo
    ahead: dict[str, int] = {}
    for stage in reversed(list(todo.values())):
        ahead[stage.id] = stage.epochs + max((ahead[child.id] for child in progress.following(stage.id)), default=0)
    ready = [stage for stage in todo.values() if stage.parent not in todo]
    under_way = 0
    while ready or under_way:
        ready.sort(key=lambda stage: -ahead[stage.id])
        while ready and under_way < executor.slots:
            stage = ready.pop(0)
            executor.submit(_job(progress, place, stage))
            under_way += 1
        for event in executor.wait():
            if isinstance(event, StageDone):
                under_way -= 1
                ready += _ended(progress, place, event)
            yield event


def _job(progress: Progress, place: Place, stage: Stage) -> Job:
    spec = progress.study.spec
    parent_folder = None if stage.parent is None else place.of(stage.parent)
    return Job(
        stage=stage,
        variant=spec.variants[stage.variant],
        metrics=spec.metrics,
        numerics=place.numerics,
        data_folder=place.data_folder,
        folder=place.of(stage.id),
        parent_folder=parent_folder,
        keep_state=bool(progress.following(stage.id)),
    )


def _ended(progress: Progress, place: Place, event: StageDone) -> list[Stage]:
    """Note the end of a stage; returns the stages that can start now."""
    todo = progress.todo
    stage = todo.pop(event.stage)
    progress.records[stage.id] = read_stage(place.of(stage.id))
    if event.failure:
        lost = [stage]
        while lost:
            one = lost.pop()
            lost += progress.following(one.id)
            todo.pop(one.id, None)
            progress.failures[one.id] = event.failure
    if stage.parent is not None:
        _release(progress, place, stage.parent)
    return progress.following(stage.id)


def _release(progress: Progress, place: Place, stage: str) -> None:
    """Drop the state of a stage from which nothing is to go on any more, not even to try again what has failed."""
    record = progress.records[stage]
    if record is None or record.status != "complete" or not record.state or stage in progress.todo:
        return
    for child in progress.children.get(stage, ()):
        after = progress.records[child.id]
        if child.id in progress.todo or after is None or after.status == "unfinished":
            return
    drop_state(place.of(stage))
    progress.records[stage] = replace(record, state="", digest="")
