"""What the bundled deficits share: checks of a batch, and random streams for single images."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from cpframe.api import Batch, Generator

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor


def streams(positions: Tensor, rng: Generator) -> Iterator[Generator]:
    """A random stream for each image, which depends on `rng` and its position in the training set alone."""
    key = rng.integers(2**64, dtype=np.uint64)
    for position in positions.tolist():
        yield Generator(np.random.Philox(key=np.array([key, position], dtype=np.uint64)))


def beside(values: NDArray[np.int64] | NDArray[np.float32] | NDArray[np.uint8], tensor: Tensor) -> Tensor:
    """The values on the device of `tensor`."""
    import torch

    return torch.from_numpy(values).to(tensor.device)


def check_images(name: str, inputs: Tensor) -> None:
    """Make sure that inputs are images, for the deficit of that name; raises ValueError."""
    if inputs.dim() != 4:
        raise ValueError(f"{name} needs images, (N, C, H, W); these inputs have shape {tuple(inputs.shape)}")


def check_labels(name: str, batch: Batch) -> None:
    """Make sure that targets are labels of two classes or more, for the deficit of that name; raises ValueError."""
    if batch.targets.dim() != 1 or batch.targets.is_floating_point():
        kind = str(batch.targets.dtype).removeprefix("torch.")
        raise ValueError(
            f"{name} needs class labels, int64 (N,); these targets are {kind} of shape {tuple(batch.targets.shape)}"
        )
    if batch.outputs < 2:
        raise ValueError(f"{name} needs at least two classes; there is {batch.outputs}")
