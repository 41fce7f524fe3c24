"""What observers are told about a run, as frozen dataclasses.

The arrays are those of the records: an observer reads them, and changes nothing in them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpframe.records.model import History, StudyRecord


@dataclass(frozen=True)
class RunStarted:
    """A run is about to train what is left of a study.

    Attributes:
        folder: of the study, in which an observer keeps what is its own.
        record: the study as far as earlier runs have come: every trajectory, with the epochs committed before.
    """

    folder: Path
    record: StudyRecord


@dataclass(frozen=True)
class EpochsCommitted:
    """Epochs of a stage are in the store. Every epoch is told once in a run, those of a trajectory in their order.

    Attributes:
        stage: its id.
        seed: of the training.
        variant: the values of the spec's grid, by dotted key; empty without a grid.
        condition: what the learner experienced: ``clean``, or a deficit's name in the spec.
        trajectories: names of all that go through this stage, and have these epochs in common.
        history: of these epochs alone, with their metrics.
    """

    stage: str
    seed: int
    variant: Mapping[str, object]
    condition: str
    trajectories: tuple[str, ...]
    history: History


@dataclass(frozen=True)
class RunFinished:
    """A run has ended; nothing is told after it.

    Attributes:
        record: the study as it is now.
        stopped: whether the run was stopped, or ended by an error, before it had trained all it could.
    """

    record: StudyRecord
    stopped: bool
