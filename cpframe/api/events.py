"""The events of a run that observers receive, as frozen dataclasses.

Their arrays are shared with the records of the run: an observer may read them but must not change them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpframe.records.model import History, StudyRecord


@dataclass(frozen=True)
class RunStarted:
    """A run is about to train the remaining stages of a study.

    Attributes:
        folder: the folder of the study, in which an observer may keep its own files.
        record: the study as earlier runs left it: every trajectory, with the epochs committed so far.
    """

    folder: Path
    record: StudyRecord


@dataclass(frozen=True)
class EpochsCommitted:
    """Epochs of a stage are in the store. A run sends every epoch once, those of a trajectory in order.

    Attributes:
        stage: the id of the stage.
        seed: the seed of the training.
        variant: the values of the variant, as in `TrajectoryRecord`.
        condition: the condition of the learner: ``clean``, or a deficit's name in the spec.
        trajectories: the names of all trajectories that share this stage.
        history: these epochs alone, with their metrics.
    """

    stage: str
    seed: int
    variant: Mapping[str, object]
    condition: str
    trajectories: tuple[str, ...]
    history: History


@dataclass(frozen=True)
class RunFinished:
    """A run has ended; no event follows.

    Attributes:
        record: the study as the run left it.
        stopped: whether the run was stopped, or ended by an error, before every stage was trained.
    """

    record: StudyRecord
    stopped: bool
