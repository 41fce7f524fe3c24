"""What a study has produced, as frozen dataclasses of numpy arrays: the records that store, analysis and report share.

Importing this module imports neither torch nor h5py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np
from numpy.typing import NDArray

CLEAN = "clean"
"""The condition without a deficit, and the deficit of a trajectory that has none."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Status = Literal["complete", "unfinished", "failed"]

FISHER_TRACE = "fisher-trace"
"""The quantity of a metric that is the trace of the Fisher information, computed at the weights themselves."""
FISHER_VARIATIONAL = "fisher-variational"
"""The quantity of a metric that is the trace of the Fisher information, estimated by noise on the weights."""
FISHER_QUANTITIES = frozenset({FISHER_TRACE, FISHER_VARIATIONAL})
"""The quantities that the analysis takes for Fisher information."""
GRADIENT_MEAN = "gradient-mean"
"""The quantity of a metric that is the norm, by layer, of the mean gradient over examples."""
GRADIENT_STD = "gradient-std"
"""The quantity of a metric that is the norm, by layer, of the standard deviation of the gradient over examples."""


@dataclass(frozen=True)
class MetricHistory:
    """One metric through a training.

    Attributes:
        values: (measured_epoch, *dimensions); nan where it was not measured at that epoch.
        stderr: standard errors of the same shape, or None.
        units: of the values; empty when they have none.
        estimator: how it was computed.
        source: which inputs it was measured on: ``clean``, or ``condition`` (what the learner saw in that epoch).
        own: names of the axes of the values after the first where these are the metric's own; empty where it is one
            number, or one per layer.
        quantity: the quantity measured, such as `FISHER_TRACE`, by which analysis and figures recognise it; or empty.
    """

    values: Floats
    stderr: Floats | None
    units: str
    estimator: str
    source: str
    own: tuple[str, ...] = ()
    quantity: str = ""

    @property
    def dimensions(self) -> tuple[str, ...]:
        """Names of the axes of the values after the first: () for numbers, ("layer",), or the metric's own."""
        return self.own or ("layer",) * (self.values.ndim - 1)


@dataclass(frozen=True)
class History:
    """A training's record, epoch by epoch.

    Attributes:
        epoch: (E,) epochs completed when the row was written: 1, 2, ...
        condition: (E,) what the learner experienced in that epoch: ``clean``, or a deficit's name in the spec.
        learning_rate: (E,) of that epoch.
        train_loss: (E,) mean over the epoch's examples as the learner saw them, in nats; nan where it was idle.
        train_accuracy: (E,) likewise, from 0 to 1.
        test_loss: (E,) on the clean test set after the epoch.
        test_accuracy: (E,) likewise, from 0 to 1.
        measured_epoch: (M,) the epochs, counted as `epoch` is, at which any metric was measured.
        layers: names of the layers of the network, in forward order.
        metrics: by the metric's name in the spec.
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


RESERVED_NAMES = frozenset({"layer", "trajectory", *(one.name for one in fields(History))})
"""Names in a results file that neither a metric nor a dimension of its own can have."""


@dataclass(frozen=True)
class TrajectoryRecord:
    """One training and what came of it.

    Attributes:
        name: unique in the study.
        protocol: ``removal``, ``sliding``, or ``clean`` for the no-deficit run that is as long as the longest.
        deficit: a deficit's name in the spec, or ``clean``.
        onset: first epoch (0, 1, ...) under the deficit; 0 where there is none.
        offset: first epoch after the deficit; equal to `onset` where there is none.
        epochs: length of the whole training.
        seed: of the training.
        variant: its name in the spec, with the key ``variant``, where it has one, then the values of the spec's grid by
            dotted key; empty where the spec has neither.
        status: ``complete``; ``unfinished`` (more is to be trained); ``failed`` (diverged, or a plugin raised).
        reason: of the failure, else empty.
        score: final test accuracy, the mean over the last `score_epochs` epochs; nan unless complete.
        history: epoch by epoch, as far as it got.
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
        title: of the study.
        spec: the text of the spec, as it was written.
        score_epochs: how many last epochs a score is the mean of.
        deficits: the component behind every deficit, by its name in the spec: ``{"cataract": "blur"}``.
        created: when the file was written, ISO 8601 with offset.
        provenance: further facts for the reader, by name: device, numerics, versions, command, git commit, profile ...
        trajectories: in the order of the plan.
        idle: names of the deficits that are idle controls: no training while the learning-rate schedule runs on.
    """

    title: str
    spec: str
    score_epochs: int
    deficits: Mapping[str, str]
    created: str
    provenance: Mapping[str, str]
    trajectories: tuple[TrajectoryRecord, ...] = field(repr=False)
    idle: frozenset[str] = frozenset()
