"""Device-resident data: the data set as tensors, deficits as views of it, augmentation as batched functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor

from cpframe.api import Batch, DataError, Dataset, Deficit, DeficitWithData, Splits, Task
from cpframe.api.optional import is_deterministic
from cpframe.spec.model import Augment, Training
from cpframe.training.randomness import stream

P = ParamSpec("P")
R = TypeVar("R")


def _cached(size: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return `lru_cache` for results of a function, with the types of its parameters, which `lru_cache` loses."""
    return cast("Callable[[Callable[P, R]], Callable[P, R]]", lru_cache(size))


@dataclass(frozen=True, eq=False)
class DeviceData:
    """A data set on the device.

    Attributes:
        inputs: of the training set, as the dataset gave them (images: uint8 (N, C, H, W)).
        targets: of the training set.
        test_inputs: normalised, float32.
        test_targets: of the test set.
        mean: float32, shaped to broadcast over a batch of inputs.
        std: likewise.
        task: how loss and score are computed.
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
        """Number of training examples."""
        return len(self.inputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return tuple(self.inputs.shape[1:])

    def normalised(self, inputs: Tensor) -> Tensor:
        """Subtract the mean and divide by the standard deviation, per channel."""
        return (inputs - self.mean) / self.std

    def batch(self, positions: Tensor) -> Batch:
        """Examples of the training set, not degraded, images as float32 in [0, 1]."""
        inputs = as_float(self.inputs[positions])
        return Batch(inputs, self.targets[positions], positions, self.task.outputs)


@dataclass(frozen=True)
class View:
    """The whole training set as a learner sees it under one condition, normalised, before augmentation."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Condition:
    """What the learner experiences: its name, and the deficit behind it (None when it is clean)."""

    name: str
    deficit: Deficit | None

    @property
    def deterministic(self) -> bool:
        """Whether the same image always looks the same."""
        return self.deficit is None or is_deterministic(self.deficit)


@_cached(2)
def load(dataset: Dataset, folder: Path, device: str) -> DeviceData:
    """Load a data set onto a device, once a process.

    Raises:
        DataError: when it cannot be had, or what the plugin gave is not what `cpframe.api.Splits` promises.
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
    """Images uint8 as float32 in [0, 1]; what is float already stays as it is."""
    return inputs.float() / 255 if inputs.dtype == torch.uint8 else inputs


def _check(splits: Splits) -> None:
    for name, inputs, targets in (
        ("training", splits.train_inputs, splits.train_targets),
        ("test", splits.test_inputs, splits.test_targets),
    ):
        if len(inputs) != len(targets) or len(inputs) == 0:
            raise DataError(f"the data set has {len(inputs)} {name} inputs and {len(targets)} targets")
        if inputs.ndim < 2 or inputs.dtype not in (torch.uint8, torch.float32):
            raise DataError(
                f"{name} inputs should be uint8 or float32 of shape (N, C, ...), "
                f"not {inputs.dtype} of shape {tuple(inputs.shape)}"
            )
        if splits.task.name == "classification":
            _check_labels(name, targets, splits.task.outputs)
    train, test = splits.train_inputs, splits.test_inputs
    if train.shape[1:] != test.shape[1:] or train.dtype != test.dtype:
        raise DataError(
            f"training and test inputs should be alike, not {train.dtype} of shape {tuple(train.shape)} "
            f"and {test.dtype} of shape {tuple(test.shape)}"
        )
    channels = train.shape[1]
    numbers = len(splits.mean) == len(splits.std) == channels and all(map(math.isfinite, (*splits.mean, *splits.std)))
    if not numbers or min(splits.std) <= 0:
        raise DataError(f"mean and std should have one number for each of {channels} channels, std above 0")


def _check_labels(name: str, targets: Tensor, classes: int) -> None:
    if targets.dtype != torch.int64 or targets.ndim != 1:
        raise DataError(
            f"{name} targets should be class labels, int64 of shape (N,), "
            f"not {targets.dtype} of shape {tuple(targets.shape)}"
        )
    if targets.min() < 0 or targets.max() >= classes:
        raise DataError(
            f"{name} targets should be class labels from 0 to {classes - 1}, "
            f"not from {int(targets.min())} to {int(targets.max())}"
        )


def ready(deficit: Deficit | DeficitWithData, folder: Path) -> Deficit:
    """A deficit with its data, if it needs any, in hand.

    Raises:
        DataError: when these cannot be had.
    """
    return _loaded(deficit, folder) if isinstance(deficit, DeficitWithData) else deficit


@_cached(4)
def _loaded(deficit: DeficitWithData, folder: Path) -> Deficit:
    return deficit.loaded(folder)


@_cached(6)
def view(data: DeviceData, condition: Condition, seed: int) -> View | None:
    """Apply a deterministic condition to the whole training set, once; None when the learner sees nothing."""
    everything = data.batch(torch.arange(data.size, device=data.inputs.device))
    seen = degraded(everything, condition, seed)
    return None if seen is None else View(data.normalised(seen.inputs), seen.targets)


def degraded(batch: Batch, condition: Condition, seed: int, *moment: int) -> Batch | None:
    """Let a condition's deficit act on a batch; `moment` (epoch, step) counts only where it is not deterministic."""
    if condition.deficit is None:
        return batch
    counters = () if condition.deterministic else moment
    answer = condition.deficit(batch, stream(seed, f"deficit {condition.name}", *counters))
    if answer is not None and (answer.inputs.shape != batch.inputs.shape or len(answer.targets) != len(batch.targets)):
        raise ValueError(f"the deficit changed the shape of its batch to {tuple(answer.inputs.shape)}")
    return answer


def batches(
    data: DeviceData, condition: Condition, training: Training, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the (normalised inputs, targets) of one epoch's steps; nothing where the learner sees nothing.

    Args:
        data: on its device.
        condition: of this epoch.
        training: batch size, augmentation and its order.
        seed: of the training.
        epoch: absolute, from 0.
    """
    device = data.inputs.device
    order = torch.from_numpy(stream(seed, "order", epoch).permutation(data.size)).to(device)
    shifts, flips = _augmentation(training.augment, data, seed, epoch)
    border = training.augment.shift
    deficit_first = training.order == "deficit-first"
    precomputed = deficit_first and condition.deterministic
    whole = view(data, condition, seed) if precomputed else None
    if precomputed and whole is None:
        return
    for step, (start, stop) in enumerate(_bounds(data.size, training.batch_size)):
        positions = order[start:stop]
        moved = None if shifts is None else shifts[start:stop]
        flipped = None if flips is None else flips[start:stop]
        if whole is not None:
            # A shift leaves a border, filled with the mean colour: 0 once the mean is subtracted.
            yield augmented(whole.inputs[positions], moved, flipped, border, 0), whole.targets[positions]
            continue
        batch = data.batch(positions)
        if not deficit_first:
            batch = batch._replace(inputs=augmented(batch.inputs, moved, flipped, border, data.mean))
        seen = degraded(batch, condition, seed, epoch, step)
        if seen is None:
            continue
        inputs = data.normalised(seen.inputs)
        yield (augmented(inputs, moved, flipped, border, 0) if deficit_first else inputs), seen.targets


def _bounds(size: int, batch_size: int) -> list[tuple[int, int]]:
    """Start and stop of every step; a last batch of one, on which BatchNorm cannot train, joins the one before."""
    starts = list(range(0, size, batch_size))
    if len(starts) > 1 and batch_size > 1 and size - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], size], strict=True))


def _augmentation(augment: Augment, data: DeviceData, seed: int, epoch: int) -> tuple[Tensor | None, Tensor | None]:
    """Draw the shifts (N, 2) and flips (N,) of one epoch, in the order of its steps."""
    device = data.inputs.device
    if (augment.shift or augment.flip) and data.inputs.ndim != 4:
        raise ValueError(f"training.augment needs images (C, H, W), not inputs of shape {data.shape}")
    shifts = flips = None
    if augment.shift:
        drawn = stream(seed, "crop", epoch).integers(0, 2 * augment.shift + 1, size=(data.size, 2))
        shifts = torch.from_numpy(drawn - augment.shift).to(device)
    if augment.flip:
        flips = torch.from_numpy(stream(seed, "flip", epoch).integers(0, 2, size=data.size) == 1).to(device)
    return shifts, flips


def augmented(inputs: Tensor, shifts: Tensor | None, flips: Tensor | None, border: int, fill: Tensor | float) -> Tensor:
    """Shift and mirror images.

    Args:
        inputs: (N, C, H, W).
        shifts: int64 (N, 2), how far down and right each image moves; None for none.
        flips: bool (N,), which are mirrored left to right after that; None for none.
        border: no shift is larger than this many pixels.
        fill: the colour of what a shift leaves empty, broadcast over `inputs`.
    """
    if flips is not None:
        # Mirroring after a shift to the right is shifting the mirrored image to the left.
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
    """Positions in the training set of the fixed probe inputs of a seed."""
    chosen = stream(seed, "probe").permutation(data.size)[:inputs]
    return torch.from_numpy(chosen).to(data.inputs.device)
