"""Bundled data sets: scikit-learn's digits, four of torchvision's, and folders of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpframe.api import Count, DataError, Datasets, Natural, Splits, hookimpl
from cpframe_plugins import downloads, folders, images
from cpframe_plugins.downloads import Source
from cpframe_plugins.images import Labelled, Normalisation, first_of_each_class

_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_MNIST = Source("MNIST", 10, tuple(f"MNIST/raw/{name}.gz" for name in _IDX), "MNIST/raw", _IDX)
_FASHION_MNIST = Source(
    "Fashion-MNIST", 10, tuple(f"FashionMNIST/raw/{name}.gz" for name in _IDX), "FashionMNIST/raw", _IDX
)
_CIFAR10 = Source(
    "CIFAR-10",
    10,
    ("cifar-10-python.tar.gz",),
    "cifar-10-batches-py",
    (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
)
_CIFAR100 = Source("CIFAR-100", 100, ("cifar-100-python.tar.gz",), "cifar-100-python", ("train", "test", "meta"))

# The paper's. Its deviations are the mean over images of that within each (all pixels together give about 0.25).
_CIFAR10_NORMALISATION = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


@dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits of 8 x 8 grey pixels, which come with scikit-learn; nothing is downloaded.

    Attributes:
        train: the number of training images, drawn at random; all others are the test set.
        split_seed: of that draw.
    """

    train: Count = 300
    split_seed: Natural = 0

    def __call__(self, folder: Path) -> Splits:
        """Load; the data folder is not used.

        Raises:
            DataError: when no image would be left for the test.
        """
        from sklearn.datasets import load_digits

        del folder
        digits = load_digits()
        count = len(digits.target)
        if self.train >= count:
            raise DataError(
                f"digits: `train` = {self.train} leaves no test image; there are {count}, so at most {count - 1}"
            )
        # 17 levels, 0 to 16, to 0 to 255
        pixels = np.rint(digits.images[:, None] * (255 / 16)).astype(np.uint8)
        labels = digits.target.astype(np.int64)
        order = np.random.default_rng(self.split_seed).permutation(count)
        train, test = order[: self.train], order[self.train :]
        return images.splits(Labelled(pixels[train], labels[train]), Labelled(pixels[test], labels[test]), 10)


@dataclass(frozen=True)
class Mnist:
    """MNIST: 60,000 + 10,000 handwritten digits, 28 x 28 grey pixels; downloaded once by torchvision.

    Normalised by mean and deviation of the training images used, as they are after `pad` and `size`.

    Attributes:
        pad: black pixels added on every side; 2, as in the paper, makes 32 x 32.
        size: side of the images in the end, area-averaged after `pad`; as they are, if not given.
        train: how many training images, the first of each class in equal numbers; all, if not given.
        test: likewise of the test images.
    """

    pad: Natural = 2
    size: Count | None = None
    train: Count | None = None
    test: Count | None = None

    def __call__(self, folder: Path) -> Splits:
        """Load from, or else download into, the data folder.

        Raises:
            DataError: when that cannot be done, or there are not as many images as asked for.
        """
        from torchvision.datasets import MNIST

        parts = downloads.load(MNIST, _MNIST, folder)
        return _prepared("mnist", parts, _MNIST.classes, self.train, self.test, self.pad, self.size)


@dataclass(frozen=True)
class FashionMnist:
    """Fashion-MNIST: 60,000 + 10,000 pieces of clothing, 28 x 28 grey pixels; downloaded once by torchvision.

    Normalised by mean and deviation of the training images used, as they are after `pad` and `size`.

    Attributes:
        pad: black pixels added on every side; 2 makes 32 x 32.
        size: side of the images in the end, area-averaged after `pad`; as they are, if not given.
        train: how many training images, the first of each class in equal numbers; all, if not given.
        test: likewise of the test images.
    """

    pad: Natural = 2
    size: Count | None = None
    train: Count | None = None
    test: Count | None = None

    def __call__(self, folder: Path) -> Splits:
        """Load from, or else download into, the data folder.

        Raises:
            DataError: when that cannot be done, or there are not as many images as asked for.
        """
        from torchvision.datasets import FashionMNIST

        parts = downloads.load(FashionMNIST, _FASHION_MNIST, folder)
        return _prepared("fashion-mnist", parts, _FASHION_MNIST.classes, self.train, self.test, self.pad, self.size)


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10: 50,000 + 10,000 colour images of 32 x 32 pixels; downloaded once by torchvision.

    Normalised by the paper's constants, whatever part of it is used.

    Attributes:
        size: side of the images, area-averaged; 32, as they are, if not given.
        train: how many training images, the first of each class in equal numbers; all, if not given.
        test: likewise of the test images.
    """

    size: Count | None = None
    train: Count | None = None
    test: Count | None = None

    def __call__(self, folder: Path) -> Splits:
        """Load from, or else download into, the data folder.

        Raises:
            DataError: when that cannot be done, or there are not as many images as asked for.
        """
        from torchvision.datasets import CIFAR10

        parts = downloads.load(CIFAR10, _CIFAR10, folder)
        normal = _CIFAR10_NORMALISATION
        return _prepared("cifar10", parts, _CIFAR10.classes, self.train, self.test, 0, self.size, normal)


@dataclass(frozen=True)
class Cifar100:
    """CIFAR-100: 50,000 + 10,000 colour images of 32 x 32 pixels, 100 classes; downloaded once by torchvision.

    Normalised by mean and deviation of the training images used.

    Attributes:
        size: side of the images, area-averaged; 32, as they are, if not given.
        train: how many training images, the first of each class in equal numbers; all, if not given.
        test: likewise of the test images.
    """

    size: Count | None = None
    train: Count | None = None
    test: Count | None = None

    def __call__(self, folder: Path) -> Splits:
        """Load from, or else download into, the data folder.

        Raises:
            DataError: when that cannot be done, or there are not as many images as asked for.
        """
        from torchvision.datasets import CIFAR100

        parts = downloads.load(CIFAR100, _CIFAR100, folder)
        return _prepared("cifar100", parts, _CIFAR100.classes, self.train, self.test, 0, self.size)


@dataclass(frozen=True)
class ImageFolder:
    """Images of your own, in a folder for every class; the classes are numbered in the order of their names.

    With folders ``train`` and ``test`` (or ``val``) these are the two parts, and the first files of each class, by
    name, are taken. Otherwise the folder itself holds the class folders, and a random part of each is the test set.
    Normalised by mean and deviation of the training images used.

    Attributes:
        path: of the folder, inside the data folder, or absolute.
        size: side of the images, area-averaged, which brings oblong ones to squares; as they are, if not given.
        grey: one channel, rather than red, green and blue.
        train: how many training images, of each class in equal numbers; all, if not given.
        test: likewise of the test images; needed where the folder has no test part of its own.
        split_seed: of the random split, where the folder has no test part of its own.
    """

    path: str
    size: Count | None = None
    grey: bool = False
    train: Count | None = None
    test: Count | None = None
    split_seed: Natural = 0

    def __call__(self, folder: Path) -> Splits:
        """Read the images that are wanted, and only those.

        Raises:
            DataError: when the folder or an image cannot be read, the folder is not laid out as it should be, there
                are not as many images as asked for, or they differ in shape and no `size` is given.
        """
        root = folder / Path(self.path).expanduser()
        try:
            if not root.is_dir():
                raise DataError(
                    f"image-folder: there is no folder {root}; a relative `path` starts from the data folder"
                )
            classes, train, test = self._chosen(root)
        except OSError as error:
            raise DataError(f"image-folder: {root} cannot be read: {error}") from error
        training, testing = (folders.decode(part, self.grey, self.size) for part in (train, test))
        return images.splits(training, testing, classes)

    def fingerprint(self, folder: Path) -> str:
        """Change with names, sizes and times of the files; nothing where they cannot be read, which is told later."""
        root = folder / Path(self.path).expanduser()
        try:
            return folders.fingerprint(root)
        except OSError:
            return ""

    def _chosen(self, root: Path) -> tuple[int, folders.Chosen, folders.Chosen]:
        """The number of classes, the training files and the test files."""
        held_out = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
        if held_out is None or not (root / "train").is_dir():
            found = folders.class_files(root)
            if self.test is None:
                raise DataError(
                    f"image-folder: {root} has no folders train and test, so `test` must say how many to hold out"
                )
            return len(found), *folders.parted(found, self.train, self.test, np.random.default_rng(self.split_seed))
        training, testing = folders.class_files(root / "train"), folders.class_files(held_out)
        if odd := sorted(training.keys() ^ testing.keys()):
            raise DataError(
                f"image-folder: {root / 'train'} and {held_out} must have the same classes; "
                f"only one of them has {', '.join(odd)}"
            )
        train = folders.first(training, self.train, "image-folder: `train`")
        return len(training), train, folders.first(testing, self.test, "image-folder: `test`")


def _prepared(
    name: str,
    parts: tuple[Labelled, Labelled],
    classes: int,
    train: int | None,
    test: int | None,
    margin: int,
    size: int | None,
    normal: Normalisation | None = None,
) -> Splits:
    """Choose, pad and resize the images of a data set, in this order."""
    prepared = []
    for part, wanted, parameter in zip(parts, (train, test), ("train", "test"), strict=True):
        chosen = first_of_each_class(part, classes, wanted, f"{name}: `{parameter}`")
        pixels = images.pad(chosen.images, margin)
        prepared.append(Labelled(pixels if size is None else images.area_average(pixels, size), chosen.labels))
    return images.splits(prepared[0], prepared[1], classes, normal)


@hookimpl
def cpframe_datasets() -> Datasets:
    """Digits, MNIST, Fashion-MNIST, CIFAR-10, CIFAR-100, and folders of images."""
    return {
        "digits": Digits,
        "mnist": Mnist,
        "fashion-mnist": FashionMnist,
        "cifar10": Cifar10,
        "cifar100": Cifar100,
        "image-folder": ImageFolder,
    }
