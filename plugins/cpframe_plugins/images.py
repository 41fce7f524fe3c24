"""Functions of the bundled image data sets: balanced selection, area averaging, padding and normalisation.

Images are numpy arrays here, uint8 (N, C, H, W), and labels are int64 (N,); `splits` converts them to tensors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpframe.api import DataError, Splits, classification

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

_CHUNK = 1024  # images averaged at a time, which bounds the memory of their float64 copies


class LabelledImages(NamedTuple):
    """Images, uint8 (N, C, H, W), and their labels, int64 (N,)."""

    images: Pixels
    labels: Labels


class Normalisation(NamedTuple):
    """The mean and the standard deviation of each channel, for pixels scaled to [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def class_counts(available: Sequence[int], total: int | None, parameter: str) -> list[int]:
    """Return the number of images to select from each class so that there are `total` in all, in equal numbers.

    If the classes do not divide `total`, one more image is selected from each of the first classes.

    Args:
        available: the number of images in each class.
        total: the number of images to select in all; None selects every image.
        parameter: the data set and its parameter that sets `total`, for the message.

    Raises:
        DataError: a class has too few images.
    """
    if total is None:
        return list(available)
    classes = len(available)
    share, extra = divmod(total, classes)
    counts = [share + (number < extra) for number in range(classes)]
    if any(count > limit for count, limit in zip(counts, available, strict=True)):
        fewest = min(available)
        most = classes * fewest + list(available).index(fewest)
        raise DataError(
            f"{parameter} must be at most {most}, not {total}: of the {sum(available)} images, {most} can be selected "
            f"in equal numbers from the {classes} classes"
        )
    return counts


def first_of_each_class(part: LabelledImages, classes: int, total: int | None, parameter: str) -> LabelledImages:
    """Return the first images of every class, as many as `class_counts` gives, in their present order.

    Raises:
        DataError: a class has too few images.
    """
    if total is None:
        return part
    available = np.bincount(part.labels, minlength=classes).tolist()
    counts = class_counts(available, total, parameter)
    rows = [np.flatnonzero(part.labels == label)[:count] for label, count in enumerate(counts)]
    chosen = np.sort(np.concatenate(rows))
    return LabelledImages(part.images[chosen], part.labels[chosen])


def area_average(images: Pixels, height: int, width: int | None = None) -> Pixels:
    """Resize images (N, C, H, W) to `height` x `width`, by default square: each pixel is the mean over its area.

    Means are rounded to the nearest grey level, ties to the even one. The weights are whole numbers, so the means are
    exact and the same on every machine.
    """
    size = height, height if width is None else width
    sides = images.shape[-2:]
    if sides == size:
        return images
    rows, columns = (_overlaps(side, new) for side, new in zip(sides, size, strict=True))
    averaged = np.empty((*images.shape[:-2], *size), dtype=np.uint8)
    for start in range(0, len(images), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        totals = rows @ images[chunk].astype(np.float64) @ columns.T
        averaged[chunk] = np.rint(totals / (sides[0] * sides[1]))
    return averaged


def _overlaps(side: int, size: int) -> NDArray[np.float64]:
    """Return the overlap of every new pixel with every old one, (size, side), in units of 1 / (side * size)."""
    new, old = np.arange(size)[:, None] * side, np.arange(side)[None, :] * size
    overlap = np.minimum(new + side, old + size) - np.maximum(new, old)
    return np.asarray(np.maximum(overlap, 0), dtype=np.float64)


def luma(images: Pixels) -> Pixels:
    """Convert RGB images (N, 3, H, W) to grey (N, 1, H, W): 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    Computed in whole numbers and rounded as PIL does.
    """
    red, green, blue = images.astype(np.uint32).transpose(1, 0, 2, 3)
    grey: Pixels = ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)
    return grey[:, None]


def pad(images: Pixels, margin: int) -> Pixels:
    """Surround images by `margin` black pixels on every side."""
    return np.pad(images, ((0, 0), (0, 0), (margin, margin), (margin, margin)))


def normalisation(images: Pixels) -> Normalisation:
    """Return the mean and standard deviation of each channel over all pixels; a deviation of 0 is replaced by 1."""
    levels = np.arange(256)
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        # Python's whole numbers have any size, so these sums are exact for any number of images.
        pixels, total, squares = int(counts.sum()), int(counts @ levels), int(counts @ levels**2)
        variance = (pixels * squares - total**2) / pixels**2
        means.append(total / pixels / 255)
        stds.append(variance**0.5 / 255 if variance else 1.0)
    return Normalisation(tuple(means), tuple(stds))


def splits(train: LabelledImages, test: LabelledImages, classes: int, constants: Normalisation | None = None) -> Splits:
    """Return a classification data set, normalised by `constants` or by default by the training images."""
    import torch

    mean, std = normalisation(train.images) if constants is None else constants
    return Splits(
        train_inputs=torch.from_numpy(np.ascontiguousarray(train.images)),
        train_targets=torch.from_numpy(np.ascontiguousarray(train.labels)),
        test_inputs=torch.from_numpy(np.ascontiguousarray(test.images)),
        test_targets=torch.from_numpy(np.ascontiguousarray(test.labels)),
        mean=mean,
        std=std,
        task=classification(classes),
    )
