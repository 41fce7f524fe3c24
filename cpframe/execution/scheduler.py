"""Walks the stage tree: hands ready stages to an executor, gathers what is committed, builds results.h5."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from cpframe.execution.assembly import gathered
from cpframe.execution.executors import Executor
from cpframe.numerics import Numerics
from cpframe.plan.stages import Stage, Study
from cpframe.records.model import StudyRecord
from cpframe.store import (
    DamagedError,
    InUseError,
    StageRecord,
    drop_state,
    locked,
    read_stage,
    recover,
    stage_folder,
    write_results,
)
from cpframe.training.job import Event, Job, Noticed, StageDone

_RESULTS_SHARE = 0.005
"""The share of the time that may go into rebuilding results.h5 while trajectories complete."""
_AGAIN_SECONDS = 0.5
"""After so long it is tried again to begin a stage that another run had in hand."""


@dataclass(frozen=True)
class Place:
    """Where a study is kept and what it runs on.

    Attributes:
        folder: of the study, for ``results.h5``.
        store: folder of the stages, which other studies may share.
        data_folder: of the data sets.
        numerics: profile and device.
        provenance: facts for the head of results.h5.
        keep_states: whether the state at the end of every stage stays for good.
    """

    folder: Path
    store: Path
    data_folder: Path
    numerics: Numerics
    provenance: Mapping[str, str]
    keep_states: bool = False

    @property
    def results(self) -> Path:
        """The results file."""
        return self.folder / "results.h5"

    def of(self, stage: str) -> Path:
        """The folder of a stage."""
        return stage_folder(self.store, stage)


@dataclass(frozen=True)
class Progress:
    """How far a study has come.

    Attributes:
        study: planned.
        records: what is committed of each stage, by its id; None for nothing.
        damage: what is wrong with the files of stages, by their ids; such a stage counts as not there.
        failures: why stages failed, by their ids; those that follow a failed one fail with it.
        todo: stages still to be trained, by their ids.
        children: the stages that go on from each stage, by its id; under None those that start afresh.
    """

    study: Study
    records: dict[str, StageRecord | None]
    damage: Mapping[str, str]
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

    def ends_with_state(self, stage: str) -> bool:
        """Whether a stage, by its id, is complete and others can go on from it."""
        record = self.records[stage]
        return record is not None and record.status == "complete" and bool(record.state)

    def condition_of(self, stage: Stage) -> str:
        """How far a stage is, in a word: ``complete``, ``begun``, ``failed``, ``damaged`` or ``to train``."""
        if stage.id in self.failures:
            return "failed"
        if stage.id not in self.todo:
            return "complete"
        if stage.id in self.damage:
            return "damaged"
        return "begun" if self.done(stage) > stage.start else "to train"


def survey(study: Study, place: Place) -> Progress:
    """Read what is committed and find what is to be trained.

    Raises:
        StoreError: when what is committed cannot be read.
    """
    records: dict[str, StageRecord | None] = {}
    damage: dict[str, str] = {}
    for id_ in study.stages:
        records[id_] = None
        try:
            records[id_] = read_stage(place.of(id_))
        except DamagedError as error:
            damage[id_] = str(error)
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
    return Progress(study, records, damage, failures, todo, children)


def run_study(progress: Progress, place: Place, executor: Executor, observe: Callable[[Event], None]) -> StudyRecord:
    """Train all that is left of a study.

    results.h5 is rebuilt as trajectories complete and, whatever happens, at the end.

    Args:
        progress: as surveyed; brought up to date on the way.
        place: its folder must be locked by the caller; the store need not be.
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
        for event in _events(progress, place, executor):
            observe(event)
            now = time.monotonic()
            if isinstance(event, StageDone) and not event.back and now >= next_rebuild:
                write_results(place.results, gathered(study, progress.records, progress.failures, place.provenance))
                next_rebuild = time.monotonic() + (time.monotonic() - now) / _RESULTS_SHARE
    finally:
        executor.close()
        for stage in progress.todo:
            progress.records[stage] = _record(place.of(stage))
        for stage in study.stages:
            _release(progress, place, stage)
        record = gathered(study, progress.records, progress.failures, place.provenance)
        write_results(place.results, record)
    return record


def remaining(progress: Progress) -> dict[str, int]:
    """Epochs from the start of each stage, by its id, to the end of the longest training still to go through it."""
    ahead: dict[str, int] = {}
    for stage in reversed(list(progress.study.stages.values())):
        after = (ahead[child.id] for child in progress.following(stage.id))
        ahead[stage.id] = stage.epochs + max(after, default=0)
    return ahead


def _events(progress: Progress, place: Place, executor: Executor) -> Iterator[Event]:
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
            executor.submit(_job(progress, place, progress.study.stages[id_]))
        if not under_way:
            time.sleep(max(0.0, min(ready.values()) - now))
            continue
        for event in executor.wait():
            if isinstance(event, StageDone):
                under_way.remove(event.stage)
                if event.back == "in use":
                    ready[event.stage] = time.monotonic() + _AGAIN_SECONDS
                elif event.back == "gone":
                    yield from _found_again(progress, place, event.stage, ready, under_way)
                else:
                    ready |= {child.id: 0.0 for child in _ended(progress, place, event) if child.id not in under_way}
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
        keep_state=place.keep_states or bool(progress.following(stage.id)),
        for_good=place.keep_states,
    )


def _found_again(
    progress: Progress, place: Place, stage: str, ready: dict[str, float], under_way: set[str]
) -> Iterator[Noticed]:
    """Let a stage begin whose parent's state was dropped by another run, or is damaged: train what makes it again."""
    one = progress.study.stages[stage]
    while one.parent is not None and one.parent not in progress.todo:
        with suppress(InUseError), locked(place.of(one.parent)):  # in use: it is being made again
            for message in recover(place.of(one.parent))[2]:
                yield Noticed(one.parent, message)
        progress.records[one.parent] = record = _record(place.of(one.parent))
        if progress.ends_with_state(one.parent):
            break
        one = progress.study.stages[one.parent]
        progress.todo[one.id] = one
        if record is not None and record.state:
            break
    if one.parent not in progress.todo and one.id not in under_way:
        ready[one.id] = time.monotonic() + (_AGAIN_SECONDS if one.id == stage else 0.0)


def _ended(progress: Progress, place: Place, event: StageDone) -> list[Stage]:
    """Note the end of a stage; returns the stages that can start now."""
    todo = progress.todo
    stage = todo.pop(event.stage)
    progress.records[stage.id] = _record(place.of(stage.id))
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


def _record(folder: Path) -> StageRecord | None:
    """What is committed of a stage; nothing when that is damaged, which the next run mends."""
    try:
        return read_stage(folder)
    except DamagedError:
        return None


def _release(progress: Progress, place: Place, stage: str) -> None:
    """Drop the state of a stage from which nothing is to go on any more, not even to try again what has failed."""
    record = progress.records[stage]
    if record is None or record.kept or not progress.ends_with_state(stage) or stage in progress.todo:
        return
    for child in progress.children.get(stage, ()):
        after = progress.records[child.id]
        if child.id in progress.todo or after is None or after.status == "unfinished":
            return
    with suppress(InUseError), locked(place.of(stage)):  # in use: another run makes it for itself
        drop_state(place.of(stage))
        progress.records[stage] = replace(record, state="", digest="")
