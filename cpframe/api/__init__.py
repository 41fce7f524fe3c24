"""Everything that a plugin author imports: the hook marker, the types of arguments and results, parameter types.

A component is a frozen dataclass. Its fields are its parameters in the spec, typed and checked; calling an instance
does its one job. Importing this package does not import torch.

`components` has a protocol per component kind, `optional` the attributes that a component or network may have in
addition, `data` the data of a training, `events` the data that observers receive, `parameters` numbers with a range. A
new type for authors goes into the module of its subject and into `__all__` here.
"""

from __future__ import annotations

import pluggy
from numpy.random import Generator

from cpframe.api.components import (
    Architecture,
    Architectures,
    Dataset,
    Datasets,
    Deficit,
    Deficits,
    DeficitWithData,
    Metric,
    Metrics,
    Observer,
    Observers,
    Optimizer,
    Optimizers,
    Watcher,
)
from cpframe.api.data import Batch, Layer, Measurement, Probe, Splits, Task, classification
from cpframe.api.events import EpochsCommitted, RunFinished, RunStarted
from cpframe.api.optional import HasDeterministic, HasFingerprint, HasIdle, HasLayers
from cpframe.api.parameters import Count, Fraction, Natural, NonNegative, Positive
from cpframe.errors import DataError
from cpframe.records.model import (
    CLEAN,
    FISHER_TRACE,
    FISHER_VARIATIONAL,
    GRADIENT_MEAN,
    GRADIENT_STD,
    History,
    MetricHistory,
    StudyRecord,
    TrajectoryRecord,
)

__all__ = [
    "CLEAN",
    "FISHER_TRACE",
    "FISHER_VARIATIONAL",
    "GRADIENT_MEAN",
    "GRADIENT_STD",
    "Architecture",
    "Architectures",
    "Batch",
    "Count",
    "DataError",
    "Dataset",
    "Datasets",
    "Deficit",
    "DeficitWithData",
    "Deficits",
    "EpochsCommitted",
    "Fraction",
    "Generator",
    "HasDeterministic",
    "HasFingerprint",
    "HasIdle",
    "HasLayers",
    "History",
    "Layer",
    "Measurement",
    "Metric",
    "MetricHistory",
    "Metrics",
    "Natural",
    "NonNegative",
    "Observer",
    "Observers",
    "Optimizer",
    "Optimizers",
    "Positive",
    "Probe",
    "RunFinished",
    "RunStarted",
    "Splits",
    "StudyRecord",
    "Task",
    "TrajectoryRecord",
    "Watcher",
    "classification",
    "hookimpl",
]

hookimpl = pluggy.HookimplMarker("cpframe")
