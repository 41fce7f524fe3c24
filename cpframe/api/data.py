"""The data that cross the plugin seam while a study trains: batches, data sets, tasks, probes, measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from numpy.random import Generator
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from torch import Tensor, nn


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
        quantity: the quantity measured, in a word, by which reports and figures recognise it: `FISHER_TRACE`,
            `FISHER_VARIATIONAL`, `GRADIENT_MEAN`, `GRADIENT_STD`, or a word of the plugin's own; empty by default.
    """

    values: ArrayLike
    stderr: ArrayLike | None = None
    units: str = ""
    estimator: str = ""
    dimensions: tuple[str, ...] | None = None
    quantity: str = ""
