"""The messages between the scheduler and the worker that trains a stage: the job, and the events that it returns."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpframe.numerics import Numerics
from cpframe.plan.stages import Stage
from cpframe.spec.model import Metric, Variant


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs to train a stage.

    Attributes:
        stage: the stage to train.
        variant: the variant of the stage.
        metrics: the metrics to measure.
        numerics: the device and the profile.
        data_folder: the folder of the data sets.
        folder: the folder of the stage.
        parent_folder: the folder of the parent stage, or None for a stage that starts a training.
        keep_state: whether the state at the end is stored, because other stages start from it.
        retain_state: whether the stored state is kept after these stages are complete.
    """

    stage: Stage
    variant: Variant
    metrics: tuple[Metric, ...]
    numerics: Numerics
    data_folder: Path
    folder: Path
    parent_folder: Path | None
    keep_state: bool
    retain_state: bool = False


@dataclass(frozen=True)
class EpochDone:
    """An epoch of a stage was trained, tested and measured.

    Attributes:
        stage: the id of the stage.
        epoch: the number of completed epochs, counted from the start of the training.
        test_accuracy: the test accuracy after the epoch.
    """

    stage: str
    epoch: int
    test_accuracy: float


@dataclass(frozen=True)
class Committed:
    """Epochs of an unfinished stage were committed; the last commit of a stage is reported by `StageDone`.

    Attributes:
        stage: the id of the stage.
    """

    stage: str


@dataclass(frozen=True)
class StageDone:
    """The worker has finished with a stage: it is complete, has failed, or was returned untrained.

    Attributes:
        stage: the id of the stage.
        failure: the reason for the failure, or empty.
        returned: the reason why the stage was returned untrained, or empty: its folder is ``in use`` by another run, or
            the state of its parent is ``gone`` or damaged.
    """

    stage: str
    failure: str
    returned: Literal["", "in use", "gone"] = ""


@dataclass(frozen=True)
class StageWarning:
    """A warning about a stage for the user.

    Attributes:
        stage: the id of the stage.
        message: the warning, one line.
    """

    stage: str
    message: str


Event = EpochDone | Committed | StageDone | StageWarning
