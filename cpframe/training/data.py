"""The data set on the device, and the probe: a fixed selection of it on which metrics are measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cpframe.api import Batch, DataError, Dataset, Splits, Task
from cpframe.training.cache import cached
from cpframe.training.randomness import stream


@dataclass(frozen=True, eq=False)
class DeviceData:
    """A data set on the device.

    Attributes:
        inputs: the training inputs as the dataset component returned them, uint8 or float32 (N, C, ...).
        targets: the training targets, (N, ...).
        test_inputs: the test inputs, normalised, float32 (M, C, ...).
        test_targets: the test targets, (M, ...).
        mean: the mean per channel, float32, in a shape that broadcasts over a batch of inputs.
        std: the standard deviation per channel, float32, in the same shape.
        task: the task, which defines loss and score.
    """

    inputs: Tensor
    targets: Tensor
    test_inputs: Tensor
    test_targets: Tensor
    mean: Tensor
    std: Tensor
    task: Task

    @property
    def size(self) -> int:
        """The number of training examples."""
        return len(self.inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input."""
        return tuple(self.inputs.shape[1:])

    def normalise(self, inputs: Tensor) -> Tensor:
        """Subtract the mean and divide by the standard deviation, per channel."""
        return (inputs - self.mean) / self.std

    def batch(self, positions: Tensor) -> Batch:
        """Return training examples without a deficit; images are float32 in [0, 1]."""
        inputs = as_float(self.inputs[positions])
        return Batch(inputs, self.targets[positions], positions, self.task.outputs)


@cached(2)
def load(dataset: Dataset, folder: Path, device: str) -> DeviceData:
    """Load a data set onto a device, once per process.

    Raises:
        DataError: when the data cannot be obtained, or do not satisfy the contract of `cpframe.api.Splits`.
    """
    splits = dataset(folder)
    _check(splits)
    shape = (1, -1) + (1,) * (splits.train_inputs.ndim - 2)
    mean = torch.tensor(splits.mean, dtype=torch.float32, device=device).reshape(shape)
    std = torch.tensor(splits.std, dtype=torch.float32, device=device).reshape(shape)
    return DeviceData(
        inputs=splits.train_inputs.to(device),
        targets=splits.train_targets.to(device),
        test_inputs=(as_float(splits.test_inputs.to(device)) - mean) / std,
        test_targets=splits.test_targets.to(device),
        mean=mean,
        std=std,
        task=splits.task,
    )


def as_float(inputs: Tensor) -> Tensor:
    """Convert uint8 images to float32 in [0, 1]; return other inputs unchanged."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs


def _check(splits: Splits) -> None:
    for name, inputs, targets in (
        ("training", splits.train_inputs, splits.train_targets),
        ("test", splits.test_inputs, splits.test_targets),
    ):
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise DataError(
                f"the {name} set must have as many inputs as targets, at least one, not {len(inputs)} inputs and"
                f" {len(targets)} targets"
            )
        if inputs.ndim < 2 or inputs.dtype not in (torch.uint8, torch.float32):
            raise DataError(
                f"{name} inputs must be uint8 or float32 of shape (N, C, ...), "
                f"not {inputs.dtype} of shape {tuple(inputs.shape)}"
            )
        if splits.task.name == "classification":
            _check_labels(name, targets, splits.task.outputs)
    train, test = splits.train_inputs, splits.test_inputs
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise DataError(
            "training and test inputs must have the same type and shape, except for their number, not"
            f" {train.dtype} of shape {tuple(train.shape)} and {test.dtype} of shape {tuple(test.shape)}"
        )
    channels = train.shape[1]
    numbers = len(splits.mean) == len(splits.std) == channels and all(map(math.isfinite, (*splits.mean, *splits.std)))
    if not numbers or min(splits.std) <= 0:
        raise DataError(f"mean and std must be finite, with one number for each of {channels} channels, std above 0")


def _check_labels(name: str, targets: Tensor, classes: int) -> None:
    if targets.dtype != torch.int64 or targets.ndim != 1:
        raise DataError(
            f"{name} targets must be class labels, int64 of shape (N,), "
            f"not {targets.dtype} of shape {tuple(targets.shape)}"
        )
    if targets.min() < 0 or targets.max() >= classes:
        raise DataError(
            f"{name} targets must be class labels from 0 to {classes - 1}, "
            f"not from {int(targets.min())} to {int(targets.max())}"
        )


def probe_positions(data: DeviceData, inputs: int, seed: int) -> Tensor:
    """Return the positions in the training set of the probe: the same inputs throughout the trainings of a seed."""
    positions = stream(seed, "probe").permutation(data.size)[:inputs]
    return torch.from_numpy(positions).to(data.inputs.device)
