"""The records of a study, shared by store, analysis and report.

Importing this module imports neither torch nor h5py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CLEAN = "clean"
"""The condition without a deficit, and the deficit of a no-deficit trajectory."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Status = Literal["complete", "unfinished", "failed"]

FISHER_TRACE = "fisher-trace"
"""The quantity of a metric: the trace of the Fisher information, computed at the weights themselves."""
FISHER_VARIATIONAL = "fisher-variational"
"""The quantity of a metric: the trace of the Fisher information, estimated by noise on the weights."""
FISHER_QUANTITIES = frozenset({FISHER_TRACE, FISHER_VARIATIONAL})
"""The quantities that the analysis treats as Fisher information."""
GRADIENT_MEAN = "gradient-mean"
"""The quantity of a metric: the norm per layer of the mean gradient over examples."""
GRADIENT_STD = "gradient-std"
"""The quantity of a metric: the norm per layer of the standard deviation of the gradient over examples."""


@dataclass(frozen=True)
class MetricHistory:
    """The measurements of one metric during a training.

    Attributes:
        values: the measured values, float64 (measured_epoch, *dimensions); nan in epochs without a measurement.
        stderr: the standard errors of the values, of the same shape, or None.
        units: the units of the values; empty for pure numbers.
        estimator: how the values were computed.
        source: the inputs that were measured: ``clean``, or ``condition`` (as the learner saw them in that epoch).
        axes: the names of the axes after the first that the metric chose; empty for one number or one per layer.
        quantity: the measured quantity, such as `FISHER_TRACE`, by which analysis and figures recognise it; or empty.
    """

    values: Floats
    stderr: Floats | None
    units: str
    estimator: str
    source: str
    axes: tuple[str, ...] = ()
    quantity: str = ""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The names of the axes after the first: () for one number, ("layer",) for one per layer, or `axes`."""
        return self.axes or ("layer",) * (self.values.ndim - 1)


@dataclass(frozen=True)
class History:
    """The record of a training, epoch by epoch.

    Attributes:
        epoch: the number of epochs completed at each row, int64 (E,): 1, 2, ...
        condition: the condition of each epoch, (E,): ``clean``, or a deficit's name in the spec.
        learning_rate: the learning rate of each epoch, (E,).
        train_loss: the mean loss over the epoch's examples as the learner saw them, in nats, (E,); nan in idle epochs.
        train_accuracy: the accuracy on these examples, from 0 to 1, (E,); nan in idle epochs.
        test_loss: the mean loss on the clean test set after each epoch, in nats, (E,).
        test_accuracy: the accuracy on the clean test set after each epoch, from 0 to 1, (E,).
        measured_epoch: the values of `epoch` after which any metric was measured, int64 (M,).
        layers: the names of the network's layers, in forward order.
        metrics: the metrics by name.
    """

    epoch: Integers
    condition: tuple[str, ...]
    learning_rate: Floats
    train_loss: Floats
    train_accuracy: Floats
    test_loss: Floats
    test_accuracy: Floats
    measured_epoch: Integers
    layers: tuple[str, ...]
    metrics: Mapping[str, MetricHistory]


RESERVED_NAMES = frozenset({"layer", "trajectory", *(item.name for item in fields(History))})
"""The names in a results file that neither a metric nor an axis of a metric can have."""


@dataclass(frozen=True)
class TrajectoryRecord:
    """One training and its result.

    Attributes:
        name: the name, unique in the study.
        protocol: ``removal``, ``sliding``, or ``clean`` for the no-deficit run that is as long as the longest training.
        deficit: a deficit's name in the spec, or ``clean``.
        onset: the first epoch under the deficit (0, 1, ...); 0 without a deficit.
        offset: the first epoch after the deficit; equal to `onset` without a deficit.
        epochs: the length of the whole training, in epochs.
        seed: the seed of the training.
        variant: the name of the variant in the spec, under the key ``variant``, if it has one; then the values of the
            spec's grid by dotted key.
        status: ``complete``; ``unfinished`` (epochs remain to be trained); ``failed`` (diverged, or a plugin raised).
        reason: the reason of a failure, else empty.
        score: the final test accuracy, the mean over the last `score_epochs` epochs; nan unless complete.
        history: the epochs trained so far.
    """

    name: str
    protocol: str
    deficit: str
    onset: int
    offset: int
    epochs: int
    seed: int
    variant: Mapping[str, object]
    status: Status
    reason: str
    score: float
    history: History


@dataclass(frozen=True)
class StudyRecord:
    """Everything in a results file.

    Attributes:
        title: the title of the study.
        spec: the TOML text of the spec, before profile and overrides.
        score_epochs: the number of last epochs whose mean test accuracy is the score.
        deficits: the component of every deficit, by the deficit's name in the spec: ``{"cataract": "blur"}``.
        created: the time at which the file was written, ISO 8601 with offset.
        provenance: further facts by name, such as device, numerics, versions, git commit and profile.
        trajectories: the trajectories, in the order of the plan.
        idle: the names of the idle controls: deficits without training while the learning-rate schedule runs on.
    """

    title: str
    spec: str
    score_epochs: int
    deficits: Mapping[str, str]
    created: str
    provenance: Mapping[str, str]
    trajectories: tuple[TrajectoryRecord, ...] = field(repr=False)
    idle: frozenset[str] = frozenset()
