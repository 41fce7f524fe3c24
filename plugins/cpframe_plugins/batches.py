"""Checks of a batch and random streams for single images, which the bundled deficits share."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cpframe.api import Batch, Generator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def streams(positions: Tensor, rng: Generator) -> Iterator[Generator]:
    """Yield a random stream for each image that depends only on `rng` and its position in the training set."""
    key = rng.integers(2**64, dtype=np.uint64)
    for position in positions.tolist():
        yield Generator(np.random.Philox(key=np.array([key, position], dtype=np.uint64)))


def to_device_of(tensor: Tensor, values: NDArray[np.int64] | NDArray[np.float32] | NDArray[np.uint8]) -> Tensor:
    """Return the values as a tensor on the device of `tensor`."""
    import torch

    return torch.from_numpy(values).to(tensor.device)


def check_images(name: str, inputs: Tensor) -> None:
    """Check that inputs are images.

    Args:
        name: the deficit's name, for the message.
        inputs: the inputs of a batch.

    Raises:
        ValueError: they are not (N, C, H, W).
    """
    if inputs.dim() != 4:
        raise ValueError(f"{name} needs images, (N, C, H, W), not inputs of shape {tuple(inputs.shape)}")


def check_labels(name: str, batch: Batch) -> None:
    """Check that the targets are labels of at least two classes.

    Args:
        name: the deficit's name, for the message.
        batch: the batch.

    Raises:
        ValueError: they are not whole numbers (N,), or there are fewer than two classes.
    """
    if batch.targets.dim() != 1 or batch.targets.is_floating_point():
        kind = str(batch.targets.dtype).removeprefix("torch.")
        raise ValueError(
            f"{name} needs class labels, int64 (N,), not {kind} targets of shape {tuple(batch.targets.shape)}"
        )
    if batch.outputs < 2:
        raise ValueError(f"{name} needs at least two classes, not {batch.outputs}")
