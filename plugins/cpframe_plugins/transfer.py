"""Other tasks and other data sets as deficits: pre-training takes the place of degraded input.

The question is the same: whether pre-training on another task leaves a drop after training on the study's own task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field

from cpframe.api import Batch, Count, DataError, Dataset, Deficit, Generator, Natural
from cpframe_plugins import datasets
from cpframe_plugins.batches import check_images, check_labels, to_device_of
from cpframe_plugins.images import Labels, Pixels, area_average, luma

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CoarseLabels:
    """Merge classes into groups: an image's label is the number of its group, from 0.

    The network keeps all its outputs; during the deficit, outputs beyond the groups are the label of no image.

    Attributes:
        groups: the number of groups, each of equally many consecutive classes; or the classes of every group, such as
            ``[[0, 1, 8, 9], [2, 3, 4, 5, 6, 7]]``, with each class in one group.
    """

    groups: Annotated[int, Field(ge=2)] | tuple[tuple[Natural, ...], ...] = 2
    deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check groups that are given as lists of classes.

        Raises:
            ValueError: there are fewer than two groups, one is empty, or a class is repeated.
        """
        if isinstance(self.groups, int):
            return
        members = [member for group in self.groups for member in group]
        if len(self.groups) < 2 or not all(self.groups):
            raise ValueError("`groups` must contain at least two groups, each with at least one class number")
        if repeated := [member for index, member in enumerate(members) if member in members[:index]]:
            raise ValueError(f"`groups` must contain each class once; class {repeated[0]} is repeated")

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Replace the labels.

        Raises:
            ValueError: the targets are not class labels, or the groups do not fit the number of classes.
        """
        del rng
        check_labels("coarse-labels", batch)
        return batch._replace(targets=to_device_of(batch.targets, self._group_of_class(batch.outputs))[batch.targets])

    def _group_of_class(self, classes: int) -> Labels:
        """Return the group number of every class."""
        if isinstance(self.groups, int):
            if classes % self.groups:
                raise ValueError(
                    f"coarse-labels: `groups` must be a divisor of the number of classes, {classes}, not {self.groups}"
                )
            return np.arange(classes) // (classes // self.groups)
        group_of = {member: number for number, group in enumerate(self.groups) for member in group}
        if unmatched := sorted(group_of.keys() ^ set(range(classes))):
            fault = "is missing" if unmatched[0] < classes else "is unknown"
            raise ValueError(
                f"coarse-labels: `groups` must contain the classes 0 to {classes - 1}; class {unmatched[0]} {fault}"
            )
        return np.array([group_of[label] for label in range(classes)])


@dataclass(frozen=True)
class Rotation:
    """Rotate each image counterclockwise by k * 90 degrees, k = 0, ..., 3, drawn each time it is seen; k is its label.

    The task of Gidaris, Singh and Komodakis (2018), "Unsupervised Representation Learning by Predicting Image
    Rotations". An image that is rotated by 90 degrees and then mirrored looks like its mirror image rotated by 270
    degrees, so set ``training.order = "augment-first"`` if training images are flipped.
    """

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Rotate the inputs and replace the labels.

        Raises:
            ValueError: the inputs are not square images, the targets are not class labels, or there are fewer than 4
                classes.
        """
        import torch

        check_images("rotation", batch.inputs)
        check_labels("rotation", batch)
        height, width = batch.inputs.shape[-2:]
        if height != width:
            raise ValueError(f"rotation needs square images, not {height} x {width} pixels")
        if batch.outputs < 4:
            raise ValueError(f"rotation needs a network with at least 4 outputs, not {batch.outputs}")
        turns = to_device_of(batch.targets, rng.integers(4, size=len(batch.inputs)))
        rotated = torch.stack([batch.inputs.rot90(turn, (-2, -1)) for turn in range(4)])
        rows = torch.arange(len(turns), device=turns.device)
        return batch._replace(inputs=rotated[turns, rows], targets=turns)


@dataclass(frozen=True)
class Bundled:
    """The training images of a bundled data set.

    Attributes:
        use: the name of the data set.
        train: the number of images, with equal numbers of each class; by default all, and 300 for ``digits``.
    """

    use: Literal["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"]
    train: Count | None = None

    @property
    def dataset(self) -> Dataset:
        """The bundled data set; its test images are not used."""
        if self.use == "digits":
            return datasets.Digits() if self.train is None else datasets.Digits(self.train)
        downloaded: Mapping[str, Callable[..., Dataset]] = {
            "mnist": datasets.Mnist,
            "fashion-mnist": datasets.FashionMnist,
            "cifar10": datasets.Cifar10,
            "cifar100": datasets.Cifar100,
        }
        return downloaded[self.use](train=self.train, test=1)


@dataclass(frozen=True)
class Folder:
    """The training images of a folder, which is read like the data set ``image-folder``.

    Attributes:
        path: the path of the folder, absolute or relative to the data folder.
        size: the side to which all images are resized first; required if they differ in shape.
        train: the number of images, with equal numbers of each class; by default all.
        use: the name of this choice in a spec.
    """

    path: str
    size: Count | None = None
    train: Count | None = None
    use: Literal["image-folder"] = "image-folder"

    @property
    def dataset(self) -> datasets.ImageFolder:
        """The data set of the folder; its test images are not used."""
        return datasets.ImageFolder(self.path, self.size, train=self.train, test=1)


@dataclass(frozen=True)
class OtherImages:
    """Replace images and labels by those of another data set.

    Every training image is replaced by one image of the other data set, the same throughout training; all of them are
    used once before any is used again. They are resized to the study's images by area averaging and converted to their
    channels: grey images are repeated, colour images become their luma. They are normalised by the study's mean and
    deviation, not by their own, so a data set that is darker than the study's remains darker.

    Attributes:
        dataset: ``{ use = "mnist" }`` or another bundled data set, or ``{ use = "image-folder", path = "..." }``.
    """

    dataset: Bundled | Folder

    def loaded(self, folder: Path) -> Deficit:
        """Load the other data set and return the deficit that shows it.

        Raises:
            DataError: the data set cannot be read or downloaded.
        """
        try:
            splits = self.dataset.dataset(folder)
        except DataError as error:
            raise DataError(f"other-images: {error}") from None
        return _LoadedImages(
            self.dataset.use, splits.train_inputs.numpy(), splits.train_targets.numpy(), splits.task.outputs
        )

    def fingerprint(self, folder: Path) -> str:
        """Return a hash of the files of a folder of images; empty for a downloaded data set."""
        return self.dataset.dataset.fingerprint(folder) if isinstance(self.dataset, Folder) else ""


@dataclass(frozen=True, eq=False)
class _LoadedImages:
    """Images, uint8 (n, C, H, W), and labels, int64 (n,), that replace those of a batch."""

    name: str
    images: Pixels
    labels: Labels
    classes: int
    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        check_images("other-images", batch.inputs)
        check_labels("other-images", batch)
        if self.classes > batch.outputs:
            raise ValueError(
                f"other-images: {self.name} has {self.classes} classes and needs a network with as many outputs, "
                f"not {batch.outputs}"
            )
        channels, height, width = batch.inputs.shape[1:]
        order = rng.permutation(len(self.images))
        rows = order[batch.positions.cpu().numpy() % len(order)]
        images = _convert(self, channels, height, width)[rows]
        inputs: Tensor = to_device_of(batch.inputs, images).to(batch.inputs.dtype) / 255
        return batch._replace(inputs=inputs, targets=to_device_of(batch.targets, self.labels[rows]))


@lru_cache(maxsize=2)
def _convert(loaded: _LoadedImages, channels: int, height: int, width: int) -> Pixels:
    """Convert all images to a number of channels and a size, once per process."""
    images = loaded.images
    if channels == 1 and images.shape[1] == 3:
        images = luma(images)
    elif channels == 3 and images.shape[1] == 1:
        images = images.repeat(3, axis=1)
    elif channels != images.shape[1]:
        raise ValueError(
            f"other-images: {loaded.name} has {images.shape[1]} channels, which cannot be converted to {channels}; "
            "only 1 and 3 channels can be converted to each other"
        )
    return area_average(images, height, width)
