"""The progress of a study: the committed part of every stage, and the stages that remain to be trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cpframe.execution.workspace import Workspace
from cpframe.plan.stages import Stage, Study
from cpframe.store import DamagedError, StageRecord, read_stage


@dataclass
class StudyProgress:
    """The progress of a study; the scheduler updates it during a run.

    Attributes:
        study: the planned study.
        records: the committed part of each stage, by stage id; None where nothing is committed.
        damage: what is wrong with damaged files, by stage id; such a stage counts as not committed.
        failures: the reasons of failed stages, by stage id; the descendants of a failed stage have its reason.
        todo: the stages still to be trained, by id.
        children: the stages that continue from each stage, by its id; those that start from scratch under None.
    """

    study: Study
    records: dict[str, StageRecord | None]
    damage: Mapping[str, str]
    failures: dict[str, str]
    todo: dict[str, Stage]
    children: Mapping[str | None, Sequence[Stage]]

    @property
    def epochs(self) -> int:
        """The number of epochs still to be trained."""
        return sum(stage.stop - self.completed_epochs(stage) for stage in self.todo.values())

    def waiting_children(self, stage: str) -> list[Stage]:
        """Return the stages still to be trained that continue from the stage with this id."""
        return [child for child in self.children.get(stage, ()) if child.id in self.todo]

    def completed_epochs(self, stage: Stage) -> int:
        """Return the epoch after which the training of a stage continues, counted from the start of the trajectory."""
        record = self.records[stage.id]
        has_state = record is not None and record.state
        return int(record.history.epoch[-1]) if record is not None and has_state else stage.start

    def ends_with_state(self, stage: str) -> bool:
        """Return whether the stage with this id is complete and its final state is stored, so others can continue."""
        record = self.records[stage]
        return record is not None and record.status == "complete" and bool(record.state)

    def stage_status(self, stage: Stage) -> str:
        """Return the status of a stage: ``complete``, ``begun``, ``failed``, ``damaged`` or ``to train``."""
        if stage.id in self.failures:
            return "failed"
        if stage.id not in self.todo:
            return "complete"
        if stage.id in self.damage:
            return "damaged"
        return "begun" if self.completed_epochs(stage) > stage.start else "to train"


def read_progress(study: Study, workspace: Workspace) -> StudyProgress:
    """Read the committed stages of a study, and determine which stages remain to be trained.

    Raises:
        StoreError: when the store cannot be read.
    """
    records: dict[str, StageRecord | None] = {}
    damage: dict[str, str] = {}
    for id_ in study.stages:
        records[id_] = None
        try:
            records[id_] = read_stage(workspace.of(id_))
        except DamagedError as error:
            damage[id_] = str(error)
    failures = _failures(study, records)
    children: dict[str | None, list[Stage]] = {}
    for stage in study.stages.values():
        children.setdefault(stage.parent, []).append(stage)
    return StudyProgress(study, records, damage, failures, _stages_to_train(study, records, failures), children)


def _failures(study: Study, records: Mapping[str, StageRecord | None]) -> dict[str, str]:
    """Return the reasons of the stages that failed, and of their descendants, by stage id."""
    failures: dict[str, str] = {}
    for stage in study.stages.values():
        record = records[stage.id]
        if record is not None and record.status == "failed":
            failures[stage.id] = record.reason
        elif stage.parent in failures:
            failures[stage.id] = failures[stage.parent]
    return failures


def _stages_to_train(
    study: Study, records: Mapping[str, StageRecord | None], failures: Mapping[str, str]
) -> dict[str, Stage]:
    """Return the incomplete stages, and the complete ones whose final state is missing and needed by another stage."""
    needed: set[str] = set()
    needed_states: set[str] = set()
    for stage in reversed(list(study.stages.values())):
        record = records[stage.id]
        has_state = record is not None and bool(record.state)
        complete = record is not None and record.status == "complete"
        if stage.id in failures or (complete and (has_state or stage.id not in needed_states)):
            continue
        needed.add(stage.id)
        if stage.parent is not None and not has_state:
            needed_states.add(stage.parent)
    return {id_: stage for id_, stage in study.stages.items() if id_ in needed}


def remaining_epochs(progress: StudyProgress) -> dict[str, int]:
    """Return for each stage, by id, the epochs from its start to the end of its longest chain of remaining stages."""
    remaining: dict[str, int] = {}
    for stage in reversed(list(progress.study.stages.values())):
        after = (remaining[child.id] for child in progress.waiting_children(stage.id))
        remaining[stage.id] = stage.epochs + max(after, default=0)
    return remaining
