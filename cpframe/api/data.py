"""The data that cross the plugin seam during training: batches, data sets, tasks, probes, measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from numpy.random import Generator
from numpy.typing import ArrayLike

if TYPE_CHECKING:
    from torch import Tensor, nn


class Batch(NamedTuple):
    """The examples of one training step, before normalisation.

    Attributes:
        inputs: the inputs; images are float32 in [0, 1], (N, C, H, W).
        targets: the targets; int64 class labels (N,) for classification.
        positions: the positions of the examples in the training set, int64 (N,); a deficit that is fixed per image
            depends on them.
        outputs: the number of outputs of the network (the number of classes for classification).
    """

    inputs: Tensor
    targets: Tensor
    positions: Tensor
    outputs: int


@dataclass(frozen=True)
class Task:
    """The loss and the test score as functions of outputs and targets.

    Attributes:
        name: ``"classification"``, or another word that the plugin chooses.
        outputs: the number of outputs of the network.
        loss: (outputs, targets) -> the loss per example, (N,), differentiable, in nats for classification.
        score: (outputs, targets) -> the score per example, (N,), in [0, 1]; 1 for a correct classification.
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
    """Return the task of classification into `classes` classes: cross-entropy (nats) and accuracy."""
    return Task("classification", classes, _cross_entropy, _accuracy)


@dataclass(frozen=True)
class Splits:
    """A whole data set, in the memory of the host.

    Attributes:
        train_inputs: the training inputs, uint8 (N, C, H, W) for images, else float32 (N, C, ...).
        train_targets: the training targets, int64 (N,) for classification.
        test_inputs: the test inputs, of the same type and shape as the training inputs.
        test_targets: the test targets, of the same type as the training targets.
        mean: the mean per channel, of inputs scaled to [0, 1] for images; subtracted before the network.
        std: the standard deviation per channel, above 0; inputs are divided by it before the network.
        task: the loss and the score.
    """

    train_inputs: Tensor
    train_targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    task: Task


class Layer(NamedTuple):
    """A named group of parameters.

    Attributes:
        name: the name of the layer.
        parameters: the names of its parameters in ``model.named_parameters()``.
    """

    name: str
    parameters: tuple[str, ...]


@dataclass(frozen=True)
class Probe:
    """The network and the fixed inputs that a metric measures. A metric must leave the model unchanged.

    Attributes:
        model: the network, in eval mode, on the device of the inputs.
        inputs: the probe inputs, normalised, float32 (N, C, H, W) for images.
        targets: the targets of the inputs, (N,) for classification.
        layers: the layers of the network in forward order; every parameter belongs to exactly one.
        task: the loss and the score.
        rng: the generator of the metric, in the same state after every epoch, so that measurements are paired.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    layers: tuple[Layer, ...]
    task: Task
    rng: Generator


@dataclass(frozen=True)
class Measurement:
    """One measured quantity, the return value of a metric.

    Attributes:
        values: a number, one number per layer of the probe, or an array whose axes are named by `dimensions`.
        stderr: the standard errors of the values, of the same shape, or None.
        units: the units of the values; empty for pure numbers.
        estimator: how the values were computed, for the record.
        dimensions: the names of the axes of `values`, such as ``("filter", "channel", "height", "width")``; None for a
            number or one number per layer. A name is a word other than ``layer``, ``epoch`` and the other names of a
            results file. An axis has the same length in every measurement, and in every metric of the study that has an
            axis of that name.
        quantity: the name of the measured quantity, by which reports and figures recognise it: `FISHER_TRACE`,
            `FISHER_VARIATIONAL`, `GRADIENT_MEAN`, `GRADIENT_STD`, or a word that the plugin chooses; may be empty.
    """

    values: ArrayLike
    stderr: ArrayLike | None = None
    units: str = ""
    estimator: str = ""
    dimensions: tuple[str, ...] | None = None
    quantity: str = ""
