"""The bundled deficits: degraded inputs or labels, and the idle control.

A deficit that is fixed per image depends only on the image and its position in the training set, never on the other
images of the batch. Random numbers are drawn on the CPU, so they are the same on every device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from cpframe.api import Batch, Count, Deficits, Generator, hookimpl
from cpframe_plugins.batches import check_images, check_labels, streams, to_device_of
from cpframe_plugins.transfer import CoarseLabels, OtherImages, Rotation

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CHUNK = 1024  # images blurred at a time, which bounds the memory beyond input and output


@dataclass(frozen=True)
class Blur:
    """Shrink each image to `size` x `size` pixels and enlarge it again, as a cataract blurs.

    Images are shrunk with a triangle filter as wide as the scale (antialiasing, like PIL's ``BILINEAR``) and enlarged
    by bilinear interpolation, both in floating point, without rounding to grey levels.

    Attributes:
        size: the side of the small image in pixels, below the side of the images; the paper uses 8 for 32.
    """

    size: Count = 8
    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Blur the inputs.

        Raises:
            ValueError: the inputs are not images, or `size` is not below their sides.
        """
        import torch
        from torch.nn.functional import interpolate

        del rng
        check_images("blur", batch.inputs)
        height, width = batch.inputs.shape[-2:]
        if self.size >= min(height, width):
            raise ValueError(
                f"blur: `size` must be below {min(height, width)} for images of {height} x {width} pixels, "
                f"not {self.size}"
            )
        blurred = torch.empty_like(batch.inputs)
        for start in range(0, len(blurred), _CHUNK):
            chunk = slice(start, start + _CHUNK)
            small = interpolate(batch.inputs[chunk], (self.size, self.size), mode="bilinear", antialias=True)
            blurred[chunk] = interpolate(small, (height, width), mode="bilinear")
        # Rounding can move a value out of [0, 1]: a pixel's weights sum to 1 only approximately.
        return batch._replace(inputs=blurred.clamp_(0, 1))


@dataclass(frozen=True)
class VerticalFlip:
    """Turn each image upside down (top and bottom exchanged, left and right kept)."""

    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Flip the inputs.

        Raises:
            ValueError: the inputs are not images.
        """
        del rng
        check_images("vertical-flip", batch.inputs)
        return batch._replace(inputs=batch.inputs.flip(-2))


@dataclass(frozen=True)
class LabelPermutation:
    """Permute the labels by one permutation of the classes, which is fixed throughout training.

    The permutation is drawn uniformly from all except the identity, so some classes may keep their label.
    """

    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Permute the labels.

        Raises:
            ValueError: the targets are not class labels, or there are fewer than two classes.
        """
        check_labels("label-permutation", batch)
        identity = np.arange(batch.outputs)
        permutation = rng.permutation(batch.outputs)
        while np.array_equal(permutation, identity):
            permutation = rng.permutation(batch.outputs)
        return batch._replace(targets=to_device_of(batch.targets, permutation)[batch.targets])


@dataclass(frozen=True)
class RandomLabels:
    """Replace each label by a class drawn uniformly from all classes, including the correct one.

    Attributes:
        fresh: whether a label is drawn each time an image is seen, rather than once for the whole training.
    """

    fresh: bool = False

    @property
    def deterministic(self) -> bool:
        """Whether an image keeps its label throughout training."""
        return not self.fresh

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Replace the labels.

        Raises:
            ValueError: the targets are not class labels, or there are fewer than two classes.
        """
        check_labels("random-labels", batch)
        count = len(batch.targets)
        if self.fresh:
            labels = rng.integers(batch.outputs, size=count)
        else:
            labels = np.empty(count, dtype=np.int64)
            for row, stream in enumerate(streams(batch.positions, rng)):
                labels[row] = stream.integers(batch.outputs)
        return batch._replace(targets=to_device_of(batch.targets, labels))


@dataclass(frozen=True)
class Noise:
    """Replace each image by noise that is independent for every pixel and channel; labels are kept.

    Attributes:
        distribution: ``gaussian``: mean 0.5 and standard deviation 0.25, clipped to [0, 1] (4.6 % of the values are);
            ``uniform``: on [0, 1).
        fixed: whether an image is replaced by the same noise each time, rather than by fresh noise.
    """

    distribution: Literal["uniform", "gaussian"] = "gaussian"
    fixed: bool = False

    @property
    def deterministic(self) -> bool:
        """Whether an image is replaced by the same noise throughout training."""
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
        return batch._replace(inputs=to_device_of(batch.inputs, noise))

    def _draw(self, rng: Generator, shape: tuple[int, ...]) -> NDArray[np.float32]:
        if self.distribution == "uniform":
            return rng.random(shape, dtype=np.float32)
        noise = 0.5 + 0.25 * rng.standard_normal(shape, dtype=np.float32)
        return noise.clip(0, 1)


@dataclass(frozen=True)
class Idle:
    """No training while the learning-rate schedule runs on: the control for the effect of the schedule alone."""

    idle: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> None:
        """Return None: no update is made."""
        del batch, rng


@hookimpl
def cpframe_deficits() -> Deficits:
    """Offer the bundled deficits."""
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
