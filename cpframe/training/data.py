"""The data set on the device, the conditions that change it, augmentation, and the batches of an epoch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cpframe.api import Batch, DataError, Splits, Task
from cpframe.spec.model import Augment, Training
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


@dataclass(frozen=True)
class TrainingSet:
    """The whole training set under one condition, normalised, before augmentation."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Condition:
    """A condition of the learner.

    Attributes:
        name: the name of the condition in the spec.
        deficit: the deficit, with its data; None for the clean condition.
    """

    name: str
    deficit: Any

    @property
    def deterministic(self) -> bool:
        """Whether the condition always changes an image in the same way."""
        return self.deficit is None or bool(getattr(self.deficit, "deterministic", False))


@lru_cache(maxsize=2)
def load(dataset: Any, folder: Path, device: str) -> DeviceData:
    """Load a data set onto a device, once per process.

    Raises:
        DataError: when the data cannot be obtained, or do not satisfy the contract of `cpframe.api.Splits`.
    """
    splits: Splits = dataset(folder)
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


def load_deficit(deficit: Any, folder: Path) -> Any:
    """Return a deficit that can be called: one that needs data is loaded with it, once per process.

    Raises:
        DataError: when the data cannot be obtained.
    """
    return _load_deficit(deficit, folder) if hasattr(deficit, "loaded") else deficit


@lru_cache(maxsize=4)
def _load_deficit(deficit: Any, folder: Path) -> Any:
    return deficit.loaded(folder)


@lru_cache(maxsize=6)
def training_set(data: DeviceData, condition: Condition, seed: int) -> TrainingSet | None:
    """Return the training set under a deterministic condition; None when the learner sees nothing."""
    examples = data.batch(torch.arange(data.size, device=data.inputs.device))
    seen = apply_condition(examples, condition, seed)
    return None if seen is None else TrainingSet(data.normalise(seen.inputs), seen.targets)


def apply_condition(batch: Batch, condition: Condition, seed: int, *counters: int) -> Batch | None:
    """Apply the deficit of a condition to a batch.

    Args:
        batch: the batch, without a deficit.
        condition: the condition.
        seed: the seed of the training.
        counters: the epoch and the step; a deterministic condition ignores them.

    Returns:
        The changed batch, or None when the learner sees nothing.

    Raises:
        ValueError: when the deficit changes the shape of the batch.
    """
    if condition.deficit is None:
        return batch
    keys = () if condition.deterministic else counters
    seen: Batch | None = condition.deficit(batch, stream(seed, f"deficit {condition.name}", *keys))
    if seen is not None and (seen.inputs.shape != batch.inputs.shape or len(seen.targets) != len(batch.targets)):
        raise ValueError(
            f"the deficit changed the shape of its batch: it must return inputs of shape {tuple(batch.inputs.shape)}"
            f" and {len(batch.targets)} targets, not {tuple(seen.inputs.shape)} and {len(seen.targets)}"
        )
    return seen


def batches(
    data: DeviceData, condition: Condition, training: Training, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the normalised inputs and the targets of each step of an epoch; nothing when the learner sees nothing.

    Args:
        data: the data set.
        condition: the condition of the epoch.
        training: the settings with batch size, augmentation and its order.
        seed: the seed of the training.
        epoch: the absolute epoch, from 0.
    """
    device = data.inputs.device
    order = torch.from_numpy(stream(seed, "order", epoch).permutation(data.size)).to(device)
    shifts, flips = _augmentation(training.augment, data, seed, epoch)
    border = training.augment.shift
    deficit_first = training.order == "deficit-first"
    precomputed = deficit_first and condition.deterministic
    whole = training_set(data, condition, seed) if precomputed else None
    if precomputed and whole is None:
        return
    for step, (start, stop) in enumerate(_step_bounds(data.size, training.batch_size)):
        positions = order[start:stop]
        step_shifts = None if shifts is None else shifts[start:stop]
        step_flips = None if flips is None else flips[start:stop]
        if whole is not None:
            # A shift leaves a border, which gets the mean colour: 0 after normalisation.
            inputs = shift_and_flip(whole.inputs[positions], step_shifts, step_flips, border, 0)
            yield inputs, whole.targets[positions]
            continue
        batch = data.batch(positions)
        if not deficit_first:
            batch = batch._replace(inputs=shift_and_flip(batch.inputs, step_shifts, step_flips, border, data.mean))
        seen = apply_condition(batch, condition, seed, epoch, step)
        if seen is None:
            continue
        inputs = data.normalise(seen.inputs)
        if deficit_first:
            inputs = shift_and_flip(inputs, step_shifts, step_flips, border, 0)
        yield inputs, seen.targets


def _step_bounds(size: int, batch_size: int) -> list[tuple[int, int]]:
    """Return start and stop of each step; a last batch of one, on which BatchNorm cannot train, joins the previous."""
    starts = list(range(0, size, batch_size))
    if len(starts) > 1 and batch_size > 1 and size - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], size], strict=True))


def _augmentation(augment: Augment, data: DeviceData, seed: int, epoch: int) -> tuple[Tensor | None, Tensor | None]:
    """Draw the shifts, int64 (N, 2), and the flips, bool (N,), of an epoch in the order of its steps."""
    device = data.inputs.device
    if (augment.shift or augment.flip) and data.inputs.ndim != 4:
        raise ValueError(f"training.augment needs images of shape (C, H, W), not inputs of shape {data.shape}")
    shifts = flips = None
    if augment.shift:
        corners = stream(seed, "crop", epoch).integers(0, 2 * augment.shift + 1, size=(data.size, 2))
        shifts = torch.from_numpy(corners - augment.shift).to(device)
    if augment.flip:
        flips = torch.from_numpy(stream(seed, "flip", epoch).integers(0, 2, size=data.size) == 1).to(device)
    return shifts, flips


def shift_and_flip(
    inputs: Tensor, shifts: Tensor | None, flips: Tensor | None, border: int, fill: Tensor | float
) -> Tensor:
    """Shift and mirror images.

    Args:
        inputs: the images, (N, C, H, W).
        shifts: the shift of each image down and to the right in pixels, int64 (N, 2); None for none.
        flips: whether each image is mirrored left to right after the shift, bool (N,); None for none.
        border: the largest shift in pixels.
        fill: the colour of the pixels that a shift leaves empty, broadcast over `inputs`.
    """
    if flips is not None:
        # Mirroring after a shift to the right is the same as shifting the mirrored image to the left.
        inputs = torch.where(flips[:, None, None, None], inputs.flip(-1), inputs)
    if shifts is None:
        return inputs
    if flips is not None:
        shifts = torch.stack([shifts[:, 0], torch.where(flips, -shifts[:, 1], shifts[:, 1])], dim=1)
    count, channels, height, width = inputs.shape
    padded = inputs.new_empty(count, channels, height + 2 * border, width + 2 * border)
    padded[...] = fill
    padded[..., border : border + height, border : border + width] = inputs
    rows = torch.arange(height, device=inputs.device) + border - shifts[:, :1]
    columns = torch.arange(width, device=inputs.device) + border - shifts[:, 1:]
    images = torch.arange(count, device=inputs.device)[:, None, None]
    return padded.permute(0, 2, 3, 1)[images, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def probe_positions(data: DeviceData, inputs: int, seed: int) -> Tensor:
    """Return the positions in the training set of the probe: the same inputs throughout the trainings of a seed."""
    positions = stream(seed, "probe").permutation(data.size)[:inputs]
    return torch.from_numpy(positions).to(data.inputs.device)
