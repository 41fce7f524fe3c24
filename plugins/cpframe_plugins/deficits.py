"""Bundled deficits: what degrades the input or the labels, and the idle control.

A deficit that is fixed per image depends on the image and its position in the training set alone, never on the
other images of the batch. Random numbers are drawn on the CPU, so they are the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from cpframe.api import Batch, Count, Deficits, Generator, hookimpl
from cpframe_plugins.batches import beside, check_images, check_labels, streams
from cpframe_plugins.transfer import CoarseLabels, OtherImages, Rotation

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 1024  # images blurred at once: bounds the memory beyond input and output


@dataclass(frozen=True)
class Blur:
    """Shrink each image to `size` x `size` pixels and enlarge it again, as a cataract blurs.

    On the way down a triangle filter as wide as the scale (antialiasing, PIL's rule for ``BILINEAR``), on the way
    up plain bilinear interpolation; in floating point throughout, without rounding to grey levels.

    Attributes:
        size: side of the small image, in pixels; below the side of the images. The paper: 8, of 32.
    """

    size: Count = 8
    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Blur the inputs.

        Raises:
            ValueError: when the inputs are no images, or `size` is not below their sides.
        """
        import torch
        from torch.nn.functional import interpolate

        del rng
        check_images("blur", batch.inputs)
        height, width = batch.inputs.shape[-2:]
        if self.size >= min(height, width):
            raise ValueError(
                f"blur to `size` = {self.size} would not blur images of {height} x {width} pixels; "
                f"`size` must be below {min(height, width)}"
            )
        blurred = torch.empty_like(batch.inputs)
        for start in range(0, len(blurred), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            small = interpolate(batch.inputs[chunk], (self.size, self.size), mode="bilinear", antialias=True)
            blurred[chunk] = interpolate(small, (height, width), mode="bilinear")
        # the weights of a pixel sum to 1 only up to rounding
        return batch._replace(inputs=blurred.clamp_(0, 1))


@dataclass(frozen=True)
class VerticalFlip:
    """Turn each image upside down (top and bottom exchanged, left and right kept)."""

    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Flip the inputs.

        Raises:
            ValueError: when the inputs are no images.
        """
        del rng
        check_images("vertical-flip", batch.inputs)
        return batch._replace(inputs=batch.inputs.flip(-2))


@dataclass(frozen=True)
class LabelPermutation:
    """Exchange the labels by one permutation of the classes, fixed through training.

    The permutation is drawn evenly from all but the identity; it may leave some classes as they are.
    """

    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Permute the labels.

        Raises:
            ValueError: when the targets are no class labels, or there are fewer than two classes.
        """
        check_labels("label-permutation", batch)
        identity = np.arange(batch.outputs)
        permutation = rng.permutation(batch.outputs)
        while np.array_equal(permutation, identity):
            permutation = rng.permutation(batch.outputs)
        return batch._replace(targets=beside(permutation, batch.targets)[batch.targets])


@dataclass(frozen=True)
class RandomLabels:
    """Replace each label by a class drawn evenly from all, the right one included.

    Attributes:
        fresh: draw anew each time an image is seen, rather than once for the whole training.
    """

    fresh: bool = False

    @property
    def deterministic(self) -> bool:
        """Whether an image keeps its label through training."""
        return not self.fresh

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Replace the labels.

        Raises:
            ValueError: when the targets are no class labels, or there are fewer than two classes.
        """
        check_labels("random-labels", batch)
        count = len(batch.targets)
        if self.fresh:
            labels = rng.integers(batch.outputs, size=count)
        else:
            labels = np.empty(count, dtype=np.int64)
            for row, stream in enumerate(streams(batch.positions, rng)):
                labels[row] = stream.integers(batch.outputs)
        return batch._replace(targets=beside(labels, batch.targets))


@dataclass(frozen=True)
class Noise:
    """Replace each image by random noise, every pixel and channel on its own; labels are kept.

    Attributes:
        distribution: ``gaussian``: mean 0.5, standard deviation 0.25, what falls outside [0, 1] moved to its ends
            (4.6 % of the values); ``uniform``: on [0, 1).
        fixed: an image is the same noise each time, rather than fresh noise.
    """

    distribution: Literal["uniform", "gaussian"] = "gaussian"
    fixed: bool = False

    @property
    def deterministic(self) -> bool:
        """Whether an image is the same noise through training."""
        return self.fixed

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Replace the inputs."""
        shape = tuple(batch.inputs.shape)
        if self.fixed:
            noise = np.empty(shape, dtype=np.float32)
            for row, stream in enumerate(streams(batch.positions, rng)):
                noise[row] = self._draw(stream, shape[1:])
        else:
            noise = self._draw(rng, shape)
        return batch._replace(inputs=beside(noise, batch.inputs))

    def _draw(self, rng: Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if self.distribution == "uniform":
            return rng.random(shape, dtype=np.float32)
        noise = 0.5 + 0.25 * rng.standard_normal(shape, dtype=np.float32)
        return noise.clip(0, 1)


@dataclass(frozen=True)
class Idle:
    """No training at all while the learning-rate schedule runs on: the control for what the schedule alone does."""

    idle: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> None:
        """Show the learner nothing."""
        del batch, rng


@hookimpl
def cpframe_deficits() -> Deficits:
    """Blur, vertical flip, label permutation, random labels, noise, idle, and other tasks and data sets."""
    return {
        "blur": Blur,
        "vertical-flip": VerticalFlip,
        "label-permutation": LabelPermutation,
        "random-labels": RandomLabels,
        "noise": Noise,
        "idle": Idle,
        "coarse-labels": CoarseLabels,
        "rotation": Rotation,
        "other-images": OtherImages,
    }
