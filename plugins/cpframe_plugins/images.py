"""What the bundled image sets share: how many images of each class, area averaging, padding, normalisation.

Images are numpy arrays here, uint8 (N, C, H, W), and labels int64 (N,); `splits` turns them into tensors at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cpframe.api import DataError, Splits, classification

Pixels = NDArray[np.uint8]
Labels = NDArray[np.int64]

_CHUNK = 1024  # images averaged at once: bounds the memory of their float64 copies


class Labelled(NamedTuple):
    """Images, uint8 (N, C, H, W), and their labels, int64 (N,)."""

    images: Pixels
    labels: Labels


class Normalisation(NamedTuple):
    """Mean and standard deviation per channel, of pixels scaled to [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


def quotas(available: Sequence[int], wanted: int | None, parameter: str) -> list[int]:
    """How many images to take of each class so that `wanted` are taken in all, in equal numbers.

    Where that does not divide, the first classes give one more; None takes all there are.

    Args:
        available: how many images there are of each class.
        wanted: how many are to be taken in all, or None.
        parameter: the name of the parameter that asks for them, with its data set, for the message.

    Raises:
        DataError: when a class has too few.
    """
    if wanted is None:
        return list(available)
    classes = len(available)
    share, extra = divmod(wanted, classes)
    taken = [share + (number < extra) for number in range(classes)]
    if any(take > have for take, have in zip(taken, available, strict=True)):
        scarcest = min(available)
        most = classes * scarcest + list(available).index(scarcest)
        raise DataError(
            f"{parameter} = {wanted} asks for more images than there are: {sum(available)} in all, of which {most} "
            f"can be taken in equal numbers from the {classes} classes"
        )
    return taken


def first_of_each_class(part: Labelled, classes: int, wanted: int | None, parameter: str) -> Labelled:
    """The first images of every class, as `quotas` says, in the order in which they stand.

    Raises:
        DataError: when a class has too few.
    """
    if wanted is None:
        return part
    available = np.bincount(part.labels, minlength=classes).tolist()
    firsts = [
        np.flatnonzero(part.labels == label)[:take] for label, take in enumerate(quotas(available, wanted, parameter))
    ]
    chosen = np.sort(np.concatenate(firsts))
    return Labelled(part.images[chosen], part.labels[chosen])


def area_average(images: Pixels, height: int, width: int | None = None) -> Pixels:
    """Resize images, (N, C, H, W), to `height` x `width`, or to squares: each pixel is the mean over what it covers.

    Rounded to the nearest grey level, ties to the even one. Weights are kept as whole numbers, so the mean is exact
    and the same on every machine.
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
    """Overlap of every new pixel with every old one, (size, side), in units of 1 / (side * size) of the image."""
    new, old = np.arange(size)[:, None] * side, np.arange(side)[None, :] * size
    overlap = np.minimum(new + side, old + size) - np.maximum(new, old)
    return np.asarray(np.maximum(overlap, 0), dtype=np.float64)


def luma(images: Pixels) -> Pixels:
    """Red, green and blue, (N, 3, H, W), to grey, (N, 1, H, W): 0.299 R + 0.587 G + 0.114 B (ITU-R BT.601).

    In whole numbers and rounded as PIL does it.
    """
    red, green, blue = images.astype(np.uint32).transpose(1, 0, 2, 3)
    grey: Pixels = ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)
    return grey[:, None]


def pad(images: Pixels, margin: int) -> Pixels:
    """Surround images by `margin` black pixels on every side."""
    return np.pad(images, ((0, 0), (0, 0), (margin, margin), (margin, margin)))


def normalisation(images: Pixels) -> Normalisation:
    """Mean and standard deviation of each channel over all pixels; 1 for the latter where all are equal."""
    levels = np.arange(256)
    means, stds = [], []
    for channel in range(images.shape[1]):
        counts = np.bincount(images[:, channel].ravel(), minlength=256)
        # whole numbers of any size: exact, whatever the number of images
        pixels, total, squares = int(counts.sum()), int(counts @ levels), int(counts @ levels**2)
        variance = (pixels * squares - total**2) / pixels**2
        means.append(total / pixels / 255)
        stds.append(variance**0.5 / 255 if variance else 1.0)
    return Normalisation(tuple(means), tuple(stds))


def splits(train: Labelled, test: Labelled, classes: int, normal: Normalisation | None = None) -> Splits:
    """A classification data set from its parts; normalised by `normal`, or else by the training images."""
    import torch

    mean, std = normalisation(train.images) if normal is None else normal
    return Splits(
        train_inputs=torch.from_numpy(np.ascontiguousarray(train.images)),
        train_targets=torch.from_numpy(np.ascontiguousarray(train.labels)),
        test_inputs=torch.from_numpy(np.ascontiguousarray(test.images)),
        test_targets=torch.from_numpy(np.ascontiguousarray(test.labels)),
        mean=mean,
        std=std,
        task=classification(classes),
    )
