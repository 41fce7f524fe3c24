"""The assembly of committed stages into the record of their study, the content of results.h5."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import numpy as np

from cpframe.api.optional import is_idle
from cpframe.plan.stages import Study, Trajectory
from cpframe.records.histories import concatenate
from cpframe.records.model import History, Status, StudyRecord, TrajectoryRecord
from cpframe.store import StageRecord

_EMPTY = History(
    epoch=np.zeros(0, dtype=np.int64),
    condition=(),
    learning_rate=np.zeros(0),
    train_loss=np.zeros(0),
    train_accuracy=np.zeros(0),
    test_loss=np.zeros(0),
    test_accuracy=np.zeros(0),
    measured_epoch=np.zeros(0, dtype=np.int64),
    layers=(),
    metrics={},
)


def assemble_study(
    study: Study, records: Mapping[str, StageRecord | None], failures: Mapping[str, str], provenance: Mapping[str, str]
) -> StudyRecord:
    """Return the record of a study, with the committed epochs of every trajectory.

    Args:
        study: the planned study.
        records: the committed part of each stage, by stage id; None where nothing is committed.
        failures: the reasons of failed stages, by stage id.
        provenance: facts about the run, kept in the head of results.h5.
    """
    spec = study.spec
    return StudyRecord(
        title=spec.title,
        spec=spec.document.text,
        score_epochs=spec.score_epochs,
        deficits={name: _component_names(study, name) for name in spec.variants[0].deficits},
        created=datetime.now().astimezone().isoformat(timespec="seconds"),
        provenance=provenance,
        trajectories=tuple(
            _assemble_trajectory(study, trajectory, records, failures) for trajectory in study.trajectories
        ),
        idle=frozenset(name for name, deficit in spec.variants[0].deficits.items() if is_idle(deficit.call)),
    )


def _component_names(study: Study, deficit: str) -> str:
    """Return the name of a deficit's component; several where variants differ (then all of them are idle or none)."""
    used = dict.fromkeys(
        variant.deficits[deficit].use for variant in study.spec.variants if deficit in variant.deficits
    )
    return " or ".join(used)


def _assemble_trajectory(
    study: Study, trajectory: Trajectory, records: Mapping[str, StageRecord | None], failures: Mapping[str, str]
) -> TrajectoryRecord:
    parts: list[History] = []
    status: Status = "complete"
    for stage in trajectory.stages:
        record = records[stage]
        if record is not None:
            parts.append(record.history)
        if record is None or record.status != "complete":
            status = "unfinished"
            break
    reason = next((failures[stage] for stage in trajectory.stages if stage in failures), "")
    if reason:
        status = "failed"
    history, mismatch = _join_histories(parts)
    if mismatch and not reason:
        status, reason = "failed", mismatch
    last = history.test_accuracy[-study.spec.score_epochs :]
    timeline = trajectory.timeline
    return TrajectoryRecord(
        name=trajectory.name,
        protocol=timeline.protocol,
        deficit=timeline.deficit,
        onset=timeline.onset,
        offset=timeline.offset,
        epochs=timeline.epochs,
        seed=trajectory.seed,
        variant=study.spec.variants[trajectory.variant].values,
        status=status,
        reason=reason,
        score=float(last.mean()) if status == "complete" else float("nan"),
        history=history,
    )


def _join_histories(parts: list[History]) -> tuple[History, str]:
    """Return the longest history that the first stages make up, and why the next stage does not fit or ""."""
    reason = ""
    for count in range(len(parts), 0, -1):
        try:
            return concatenate(parts[:count]), reason
        except ValueError as error:
            reason = str(error)
    return _EMPTY, reason
