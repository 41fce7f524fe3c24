"""All that a plugin author imports: the hook marker, the types that cross the plugin seam, parameter types.

A component is a frozen dataclass: its fields are its parameters in the spec, typed and checked; calling an
instance does its one job. Importing this module does not import torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, Protocol

import pluggy
from numpy.random import Generator
from numpy.typing import ArrayLike
from pydantic import Field

from cpframe.notices import EpochsCommitted, RunFinished, RunStarted
from cpframe.records import History, StudyRecord, TrajectoryRecord

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = [
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
    "History",
    "Layer",
    "Measurement",
    "Metric",
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

Count = Annotated[int, Field(ge=1)]
"""A whole number of at least 1."""
Natural = Annotated[int, Field(ge=0)]
"""A whole number of at least 0."""
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A finite number above 0."""
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
"""A finite number of at least 0."""
Fraction = Annotated[float, Field(ge=0, le=1)]
"""A number from 0 to 1."""


class DataError(Exception):
    """A data set that cannot be had or read; its message is shown to the user as it stands."""


class Batch(NamedTuple):
    """What the learner is about to see.

    Attributes:
        inputs: images are float32 in [0, 1], (N, C, H, W), before normalisation.
        targets: for classification int64 class labels, (N,).
        positions: int64, of these examples in the training set, (N,); what is fixed per image depends on it.
        outputs: the number of outputs of the network (for classification: of classes).
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor
    outputs: int


@dataclass(frozen=True)
class Task:
    """How loss and test score come from outputs and targets.

    Attributes:
        name: ``"classification"``, or another word of the plugin's own.
        outputs: the number of outputs of the network.
        loss: (outputs, targets) -> the loss of every example, (N,), differentiable, in nats for classification.
        score: (outputs, targets) -> the score of every example, (N,), in [0, 1]; for classification 1 where right.
    """

    name: str
    outputs: int
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]


def _cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.cross_entropy(outputs, targets, reduction="none")


def _accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs.argmax(dim=1) == targets).float()


def classification(classes: int) -> Task:
    """The usual task: cross-entropy (nats) and accuracy over `classes` classes."""
    return Task("classification", classes, _cross_entropy, _accuracy)


@dataclass(frozen=True)
class Splits:
    """A data set, whole, in the memory of the host.

    Attributes:
        train_inputs: images uint8 (N, C, H, W), or float32 of any shape (N, ...) for data that are no images.
        train_targets: for classification int64 (N,).
        test_inputs: as `train_inputs`.
        test_targets: as `train_targets`.
        mean: per channel, of the inputs scaled to [0, 1]; subtracted before the network.
        std: per channel, above 0; divided by before the network.
        task: how loss and score are computed.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: Task


class Layer(NamedTuple):
    """A named group of parameters, by their names in ``model.named_parameters()``."""

    name: str
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """What a metric is given; it leaves the model as it finds it.

    Attributes:
        model: in eval mode, on the device of the inputs.
        inputs: the fixed probe inputs, normalised, (N, C, H, W) for images.
        targets: their targets, (N,) for classification.
        layers: every parameter of the model belongs to exactly one, in forward order.
        task: how loss and score are computed.
        rng: random numbers, the same at every epoch, so that curves are paired.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    layers: tuple[Layer, ...]
    task: Task
    rng: Generator


@dataclass(frozen=True)
class Measurement:
    """What a metric returns.

    Attributes:
        values: a number, or one per layer of the probe; or an array whose axes have names of their own, `dimensions`.
        stderr: their standard errors, of the same shape, or None where there are none.
        units: of the values; empty when they have none.
        estimator: how it was computed, for the record.
        dimensions: names of the axes of `values`, ``("filter", "channel", "height", "width")`` say: words, none of them
            ``layer``, ``epoch`` or another name that results files use, with the same lengths at every measurement, and
            in every metric of the study that has an axis of that name. None for a number or one per layer.
    """

    values: ArrayLike
    stderr: ArrayLike | None = None
    units: str = ""
    estimator: str = ""
    dimensions: tuple[str, ...] | None = None


class Architecture(Protocol):
    """Builds a network; weights are drawn from torch's global generator, which the engine has seeded."""

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build a network for inputs of `shape`, (C, H, W) for images, with that many outputs.

        The module may have a method ``layers()`` that returns a mapping of layer name to its modules, in forward
        order; otherwise a layer is a convolution or linear module with the normalisation that follows it.
        """
        ...


class Dataset(Protocol):
    """Loads a data set.

    One whose files can change under the same parameters has a method ``fingerprint(folder: Path) -> str`` as well: a
    text that changes with them, found quickly. Stages trained on other data are then not used again.
    """

    def __call__(self, folder: Path) -> Splits:
        """Load from, and if need be download into, the data folder; raise `DataError` when that cannot be done."""
        ...


class Deficit(Protocol):
    """Degrades what the learner sees.

    A deficit with a true attribute ``deterministic`` gives the same image the same degraded image whenever it is
    asked (its generator is then the same in every call): the engine applies it once, to the whole training set.
    """

    def __call__(self, batch: Batch, rng: Generator) -> Batch | None:
        """Return the degraded batch, or None: the learner sees nothing and no update is made."""
        ...


class DeficitWithData(Protocol):
    """A deficit that shows something out of the data folder.

    One whose files can change under the same parameters has a method ``fingerprint`` as a `Dataset` has.
    """

    def loaded(self, folder: Path) -> Deficit:
        """Return the deficit with its data in hand, which is called in its place; asked once a process.

        Load from, or if need be download into, the data folder; raise `DataError` when that cannot be done.
        """
        ...


class Optimizer(Protocol):
    """Builds an optimizer; its learning rate is a pure function of the absolute epoch."""

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer over `parameters`; the engine sets its learning rate at every epoch."""
        ...

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of the epoch that starts when `epoch` epochs (0, 1, ...) have passed."""
        ...


class Metric(Protocol):
    """Measures the network on the probe."""

    def __call__(self, probe: Probe) -> Measurement | Mapping[str, Measurement]:
        """Measure; a mapping gives several quantities, stored as ``<metric>-<key>``."""
        ...


class Watcher(Protocol):
    """Follows one run. Its methods are called one after the other, in a thread of its own."""

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        """Take in epochs that are in the store."""
        ...

    def run_finished(self, finished: RunFinished) -> None:
        """Take in the end of the run; the last call."""
        ...


class Observer(Protocol):
    """Watches runs, in the process that drives them. Training is in other processes, which it cannot disturb.

    What any of its calls raises is told, and the observer left out of the rest of the run; one that never returns is
    left behind. One that is slow loses what it has no time for, and is told so; see `cpframe.observing`. What is the
    process's own is out of our hands: ``os._exit``, or a crash inside a C library, ends the run, and another working
    directory, or files of the study that it writes in, are its author's to answer for. Even then every epoch that was
    committed is safe, and the next run goes on from there.

    A parameter, or a package, that would make it useless it refuses in ``__post_init__``, by a ValueError, which is
    told before anything is trained. What it keeps between runs should be noted for each place that it sends to: a spec
    may have several of its kind, with other parameters.
    """

    def __call__(self, run: RunStarted) -> Watcher:
        """Begin to watch a run; the epochs in its record are not told again."""
        ...


Architectures = Mapping[str, type[Architecture]]
Datasets = Mapping[str, type[Dataset]]
Deficits = Mapping[str, type[Deficit] | type[DeficitWithData]]
Optimizers = Mapping[str, type[Optimizer]]
Metrics = Mapping[str, type[Metric]]
Observers = Mapping[str, type[Observer]]
