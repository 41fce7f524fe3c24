"""How far a study has come: what is committed of every stage, and what is still to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpframe.execution.workspace import Workspace
from cpframe.plan.stages import Stage, Study
from cpframe.store import (
    DamagedError,
    StageRecord,
    read_stage,
)


@dataclass(frozen=True)
class StudyProgress:
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


def read_progress(study: Study, workspace: Workspace) -> StudyProgress:
    """Read what is committed and find what is to be trained.

    Raises:
        StoreError: when what is committed cannot be read.
    """
    records: dict[str, StageRecord | None] = {}
    damage: dict[str, str] = {}
    for id_ in study.stages:
        records[id_] = None
        try:
            records[id_] = read_stage(workspace.of(id_))
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
    return StudyProgress(study, records, damage, failures, todo, children)


def remaining(progress: StudyProgress) -> dict[str, int]:
    """Epochs from the start of each stage, by its id, to the end of the longest training still to go through it."""
    ahead: dict[str, int] = {}
    for stage in reversed(list(progress.study.stages.values())):
        after = (ahead[child.id] for child in progress.following(stage.id))
        ahead[stage.id] = stage.epochs + max(after, default=0)
    return ahead
