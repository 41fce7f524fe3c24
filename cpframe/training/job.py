"""What travels to the worker that trains a stage, and the events that come back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cpframe.numerics import Numerics
from cpframe.plan.stages import Stage
from cpframe.spec.model import Metric, Variant


@dataclass(frozen=True)
class Job:
    """All that is needed to train a stage; it travels to the worker that does it.

    Attributes:
        stage: to be trained.
        variant: it belongs to.
        metrics: to be measured.
        numerics: profile and device.
        data_folder: of the data sets.
        folder: of the stage.
        parent_folder: of the stage it goes on from, or None.
        keep_state: whether other stages will go on from its end.
        for_good: whether its state is to stay there even after that.
    """

    stage: Stage
    variant: Variant
    metrics: tuple[Metric, ...]
    numerics: Numerics
    data_folder: Path
    folder: Path
    parent_folder: Path | None
    keep_state: bool
    for_good: bool = False


@dataclass(frozen=True)
class EpochDone:
    """An epoch of a stage was trained, tested and measured.

    Attributes:
        stage: its id.
        epoch: epochs completed, counted from the start of the training.
        test_accuracy: after it.
    """

    stage: str
    epoch: int
    test_accuracy: float


@dataclass(frozen=True)
class Committed:
    """Epochs of a stage that goes on were committed; the end of a stage, which commits too, is a `StageDone`.

    Attributes:
        stage: its id.
    """

    stage: str


@dataclass(frozen=True)
class StageDone:
    """A stage came to its end, or could not be begun.

    Attributes:
        stage: its id.
        failure: why it failed, or empty.
        back: empty; or why it was given back as it was: its folder is ``in use`` by another run, or the state that
            it goes on from is ``gone`` or damaged.
    """

    stage: str
    failure: str
    returned: Literal["", "in use", "gone"] = ""


@dataclass(frozen=True)
class StageWarning:
    """Something about a stage that the user should know.

    Attributes:
        stage: its id.
        message: one line.
    """

    stage: str
    message: str


Event = EpochDone | Committed | StageDone | StageWarning
