"""The batches of one epoch: their order, the condition applied to them, and augmentation."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from cpframe.spec.model import Augment, Training
from cpframe.training.conditions import Condition, apply_condition, training_set
from cpframe.training.data import DeviceData
from cpframe.training.randomness import stream


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
