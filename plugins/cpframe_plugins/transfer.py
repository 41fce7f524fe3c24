"""Other tasks and other data sets as deficits: what a network learns before it turns to the study's own.

Pre-training on a neighbouring task takes the place of degraded input; whether it leaves a scar is the same question.
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
from cpframe_plugins.batches import beside, check_images, check_labels
from cpframe_plugins.images import Labels, Pixels, area_average, luma

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class CoarseLabels:
    """Merge the classes into groups: the number of its group, from 0, is an image's label.

    The outputs of the network stay as they are; those beyond the groups have nothing to learn meanwhile.

    Attributes:
        groups: how many runs of neighbouring classes of one length; or the classes of every group, as in
            ``[[0, 1, 8, 9], [2, 3, 4, 5, 6, 7]]``, each class in one group.
    """

    groups: Annotated[int, Field(ge=2)] | tuple[tuple[Natural, ...], ...] = 2
    deterministic: ClassVar[bool] = True

    def __post_init__(self) -> None:
        """Check groups that are written out.

        Raises:
            ValueError: when there are fewer than two, one is empty, or a class is named more than once.
        """
        if isinstance(self.groups, int):
            return
        named = [one for group in self.groups for one in group]
        if len(self.groups) < 2 or not all(self.groups):
            raise ValueError("`groups` should be at least two, each with the numbers of its classes")
        if repeated := [one for place, one in enumerate(named) if one in named[:place]]:
            raise ValueError(f"`groups` names the class {repeated[0]} more than once")

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Replace the labels.

        Raises:
            ValueError: when the targets are no class labels, or the groups do not fit their number.
        """
        del rng
        check_labels("coarse-labels", batch)
        return batch._replace(targets=beside(self._group_of(batch.outputs), batch.targets)[batch.targets])

    def _group_of(self, classes: int) -> Labels:
        """The number of the group of every class."""
        if isinstance(self.groups, int):
            if classes % self.groups:
                raise ValueError(
                    f"coarse-labels cannot make `groups` = {self.groups} of one length of {classes} classes"
                )
            return np.arange(classes) // (classes // self.groups)
        group_of = {one: number for number, group in enumerate(self.groups) for one in group}
        if odd := sorted(group_of.keys() ^ set(range(classes))):
            word = "lack the class" if odd[0] < classes else "name a class that there is not,"
            raise ValueError(f"coarse-labels: the `groups` of {classes} classes, from 0, {word} {odd[0]}")
        return np.array([group_of[one] for one in range(classes)])


@dataclass(frozen=True)
class Rotation:
    """Turn each image by 0, 90, 180 or 270 degrees, drawn each time it is seen; which, 0 to 3, is its label.

    The task of Gidaris, Singh and Komodakis 2018, "Unsupervised Representation Learning by Predicting Image Rotations".
    Turned counterclockwise. A mirrored image that is then turned by 90 degrees looks like one turned by 270 degrees and
    then mirrored: where the training images are flipped as well, have ``training.order = "augment-first"``.
    """

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        """Turn the inputs and replace the labels.

        Raises:
            ValueError: when the inputs are no square images, the targets no class labels, or of fewer than 4 classes.
        """
        import torch

        check_images("rotation", batch.inputs)
        check_labels("rotation", batch)
        height, width = batch.inputs.shape[-2:]
        if height != width:
            raise ValueError(f"rotation needs square images; these have {height} x {width} pixels")
        if batch.outputs < 4:
            raise ValueError(f"rotation has four labels, and this network {batch.outputs} outputs")
        turns = beside(rng.integers(4, size=len(batch.inputs)), batch.targets)
        turned = torch.stack([batch.inputs.rot90(turn, (-2, -1)) for turn in range(4)])
        chosen = torch.arange(len(turns), device=turns.device)
        return batch._replace(inputs=turned[turns, chosen], targets=turns)


@dataclass(frozen=True)
class Bundled:
    """The training images of a bundled data set.

    Attributes:
        use: which.
        train: how many of them, of each class in equal numbers; by default all, and of ``digits`` 300.
    """

    use: Literal["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"]
    train: Count | None = None

    @property
    def dataset(self) -> Dataset:
        """The bundled data set, with one test image, which nobody looks at."""
        if self.use == "digits":
            return datasets.Digits() if self.train is None else datasets.Digits(self.train)
        others: Mapping[str, Callable[..., Dataset]] = {
            "mnist": datasets.Mnist,
            "fashion-mnist": datasets.FashionMnist,
            "cifar10": datasets.Cifar10,
            "cifar100": datasets.Cifar100,
        }
        return others[self.use](train=self.train, test=1)


@dataclass(frozen=True)
class Folder:
    """The training images of a folder of images of your own, as the data set ``image-folder`` reads it.

    Attributes:
        path: of the folder, inside the data folder, or absolute.
        size: side of the images, to which all are brought first; needed where they differ in shape.
        train: how many of them, of each class in equal numbers; all, if not given.
        use: names the kind.
    """

    path: str
    size: Count | None = None
    train: Count | None = None
    use: Literal["image-folder"] = "image-folder"

    @property
    def dataset(self) -> datasets.ImageFolder:
        """The data set behind it, with one test image, which nobody looks at."""
        return datasets.ImageFolder(self.path, self.size, train=self.train, test=1)


@dataclass(frozen=True)
class OtherImages:
    """Show the images and labels of another data set.

    The place of every training image is taken by one of theirs, the same through training, drawn so that none is shown
    twice before all are. They are brought to the size of the study's images by area averaging, and to their channels:
    grey is repeated, colour becomes its luma. What normalises them is the study's own mean and deviation, not theirs: a
    data set darker or paler than the study's stays so.

    Attributes:
        dataset: ``{ use = "mnist" }``, or another bundled data set; ``{ use = "image-folder", path = "..." }``.
    """

    dataset: Bundled | Folder

    def loaded(self, folder: Path) -> Deficit:
        """The deficit with their images in hand.

        Raises:
            DataError: when they cannot be had.
        """
        try:
            splits = self.dataset.dataset(folder)
        except DataError as error:
            raise DataError(f"other-images: {error}") from None
        return _Shown(self.dataset.use, splits.train_inputs.numpy(), splits.train_targets.numpy(), splits.task.outputs)

    def fingerprint(self, folder: Path) -> str:
        """Change with the files of a folder of images; empty for what is downloaded."""
        return self.dataset.dataset.fingerprint(folder) if isinstance(self.dataset, Folder) else ""


@dataclass(frozen=True, eq=False)
class _Shown:
    """Images, uint8 (n, C, H, W), and labels, int64 (n,), of a data set with so many classes, in place of others."""

    name: str
    images: Pixels
    labels: Labels
    classes: int
    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        check_images("other-images", batch.inputs)
        check_labels("other-images", batch)
        if self.classes > batch.outputs:
            raise ValueError(f"{self.name} has {self.classes} classes, and this network {batch.outputs} outputs")
        channels, height, width = batch.inputs.shape[1:]
        order = rng.permutation(len(self.images))
        rows = order[batch.positions.cpu().numpy() % len(order)]
        images = _fitted(self, channels, height, width)[rows]
        inputs: Tensor = beside(images, batch.inputs).to(batch.inputs.dtype) / 255
        return batch._replace(inputs=inputs, targets=beside(self.labels[rows], batch.targets))


@lru_cache(maxsize=2)
def _fitted(shown: _Shown, channels: int, height: int, width: int) -> Pixels:
    """All images of a data set with the channels and of the size of others, once a process."""
    images = shown.images
    if channels == 1 and images.shape[1] == 3:
        images = luma(images)
    elif channels == 3 and images.shape[1] == 1:
        images = images.repeat(3, axis=1)
    elif channels != images.shape[1]:
        raise ValueError(f"{shown.name} has {images.shape[1]} channels, which cannot be made {channels}")
    return area_average(images, height, width)
