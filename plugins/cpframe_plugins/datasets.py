"""The bundled data sets: scikit-learn's digits, four data sets of torchvision, and folders of images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpframe.api import Count, DataError, Datasets, Natural, Splits, hookimpl
from cpframe_plugins import downloads, folders, images
from cpframe_plugins.downloads import Source
from cpframe_plugins.images import LabelledImages, Normalisation, first_of_each_class

_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_MNIST = Source("mnist", "MNIST", 10, tuple(f"MNIST/raw/{name}.gz" for name in _IDX), "MNIST/raw", _IDX)
_FASHION_MNIST = Source(
    "fashion-mnist",
    "Fashion-MNIST",
    10,
    tuple(f"FashionMNIST/raw/{name}.gz" for name in _IDX),
    "FashionMNIST/raw",
    _IDX,
)
_CIFAR10 = Source(
    "cifar10",
    "CIFAR-10",
    10,
    ("cifar-10-python.tar.gz",),
    "cifar-10-batches-py",
    (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta"),
)
_CIFAR100 = Source(
    "cifar100", "CIFAR-100", 100, ("cifar-100-python.tar.gz",), "cifar-100-python", ("train", "test", "meta")
)

# The paper's constants. Its deviations are means over the deviations within images; over all pixels it is about 0.25.
_CIFAR10_NORMALISATION = Normalisation((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))


@dataclass(frozen=True)
class Digits:
    """1,797 handwritten digits of 8 x 8 grey pixels, which scikit-learn contains; nothing is downloaded.

    Attributes:
        train: the number of training images, drawn at random; all other images form the test set.
        split_seed: the seed of that draw.
    """

    train: Count = 300
    split_seed: Natural = 0

    def __call__(self, folder: Path) -> Splits:
        """Load the data set; the data folder is not used.

        Raises:
            DataError: no image would remain for the test.
        """
        from sklearn.datasets import load_digits

        del folder
        digits = load_digits()
        count = len(digits.target)
        if self.train >= count:
            raise DataError(
                f"digits: `train` must be at most {count - 1}, not {self.train}: "
                f"at least one of the {count} images must remain for the test"
            )
        # scale the grey levels from 0 ... 16 to 0 ... 255
        pixels = np.rint(digits.images[:, None] * (255 / 16)).astype(np.uint8)
        labels = digits.target.astype(np.int64)
        order = np.random.default_rng(self.split_seed).permutation(count)
        train, test = order[: self.train], order[self.train :]
        training, testing = (LabelledImages(pixels[rows], labels[rows]) for rows in (train, test))
        return images.splits(training, testing, 10)


@dataclass(frozen=True)
class Mnist:
    """MNIST: 60,000 + 10,000 handwritten digits of 28 x 28 grey pixels; torchvision downloads them once.

    Normalised by the mean and deviation of the selected training images after `pad` and `size` are applied.

    Attributes:
        pad: the number of black pixels added on every side; 2, as in the paper, gives 32 x 32.
        size: the side to which images are resized by area averaging after `pad`; by default they are not resized.
        train: the number of training images, the first of each class in equal numbers; by default all.
        test: the number of test images, selected in the same way; by default all.
    """

    pad: Natural = 2
    size: Count | None = None
    train: Count | None = None
    test: Count | None = None

    def __call__(self, folder: Path) -> Splits:
        """Load the data set from the data folder, into which it is downloaded if it is missing.

        Raises:
            DataError: the data set cannot be read or downloaded, or has fewer images than `train` or `test`.
        """
        from torchvision.datasets import MNIST

        train, test = _load(MNIST, _MNIST, folder, self.train, self.test)
        return images.splits(_resize(train, self.size, self.pad), _resize(test, self.size, self.pad), _MNIST.classes)


@dataclass(frozen=True)
class FashionMnist:
    """Fashion-MNIST: 60,000 + 10,000 items of clothing of 28 x 28 grey pixels; torchvision downloads them once.

    Normalised by the mean and deviation of the selected training images after `pad` and `size` are applied.

    Attributes:
        pad: the number of black pixels added on every side; 2 gives 32 x 32.
        size: the side to which images are resized by area averaging after `pad`; by default they are not resized.
        train: the number of training images, the first of each class in equal numbers; by default all.
        test: the number of test images, selected in the same way; by default all.
    """

    pad: Natural = 2
    size: Count | None = None
    train: Count | None = None
    test: Count | None = None

    def __call__(self, folder: Path) -> Splits:
        """Load the data set from the data folder, into which it is downloaded if it is missing.

        Raises:
            DataError: the data set cannot be read or downloaded, or has fewer images than `train` or `test`.
        """
        from torchvision.datasets import FashionMNIST

        train, test = _load(FashionMNIST, _FASHION_MNIST, folder, self.train, self.test)
        return images.splits(
            _resize(train, self.size, self.pad), _resize(test, self.size, self.pad), _FASHION_MNIST.classes
        )


@dataclass(frozen=True)
class Cifar10:
    """CIFAR-10: 50,000 + 10,000 colour images of 32 x 32 pixels; torchvision downloads them once.

    Normalised by the paper's constants, whichever images are selected.

    Attributes:
        size: the side to which images are resized by area averaging; by default they are not resized.
        train: the number of training images, the first of each class in equal numbers; by default all.
        test: the number of test images, selected in the same way; by default all.
    """

    size: Count | None = None
    train: Count | None = None
    test: Count | None = None

    def __call__(self, folder: Path) -> Splits:
        """Load the data set from the data folder, into which it is downloaded if it is missing.

        Raises:
            DataError: the data set cannot be read or downloaded, or has fewer images than `train` or `test`.
        """
        from torchvision.datasets import CIFAR10

        train, test = _load(CIFAR10, _CIFAR10, folder, self.train, self.test)
        return images.splits(
            _resize(train, self.size), _resize(test, self.size), _CIFAR10.classes, _CIFAR10_NORMALISATION
        )


@dataclass(frozen=True)
class Cifar100:
    """CIFAR-100: 50,000 + 10,000 colour images of 32 x 32 pixels in 100 classes; torchvision downloads them once.

    Normalised by the mean and deviation of the selected training images.

    Attributes:
        size: the side to which images are resized by area averaging; by default they are not resized.
        train: the number of training images, the first of each class in equal numbers; by default all.
        test: the number of test images, selected in the same way; by default all.
    """

    size: Count | None = None
    train: Count | None = None
    test: Count | None = None

    def __call__(self, folder: Path) -> Splits:
        """Load the data set from the data folder, into which it is downloaded if it is missing.

        Raises:
            DataError: the data set cannot be read or downloaded, or has fewer images than `train` or `test`.
        """
        from torchvision.datasets import CIFAR100

        train, test = _load(CIFAR100, _CIFAR100, folder, self.train, self.test)
        return images.splits(_resize(train, self.size), _resize(test, self.size), _CIFAR100.classes)


@dataclass(frozen=True)
class ImageFolder:
    """Your own images, with one folder per class; the classes are numbered in the order of their names.

    If there are folders ``train`` and ``test`` (or ``val``), they are the training set and the test set, and the first
    files of each class in the order of their names are selected. Otherwise the folder itself holds the class folders,
    and a random part of each class is the test set. Normalised by the mean and deviation of the selected training
    images.

    Attributes:
        path: the path of the folder, absolute or relative to the data folder.
        size: the side to which images are resized by area averaging, which makes them square; by default they are not
            resized.
        grey: whether images are read with one channel, rather than as red, green and blue.
        train: the number of training images, with equal numbers of each class; by default all.
        test: the number of test images, with equal numbers of each class; required if there is no test folder.
        split_seed: the seed of the random split if there is no test folder.
    """

    path: str
    size: Count | None = None
    grey: bool = False
    train: Count | None = None
    test: Count | None = None
    split_seed: Natural = 0

    def __call__(self, folder: Path) -> Splits:
        """Read the selected images, and no others.

        Raises:
            DataError: the folder or an image cannot be read, the class folders are not as described above, there are
                fewer images than `train` or `test`, or images differ in shape and `size` is not given.
        """
        root = folder / Path(self.path).expanduser()
        try:
            if not root.is_dir():
                raise DataError(
                    f"image-folder: no such folder: {root}; a relative `path` is relative to the data folder"
                )
            classes, train, test = self._select(root)
        except OSError as error:
            raise DataError(f"image-folder: {root} cannot be read: {error}") from error
        training, testing = (folders.decode(part, self.grey, self.size) for part in (train, test))
        return images.splits(training, testing, classes)

    def fingerprint(self, folder: Path) -> str:
        """Return a hash of the files' names, sizes and times; empty if they cannot be read, which loading reports."""
        root = folder / Path(self.path).expanduser()
        try:
            return folders.fingerprint(root)
        except OSError:
            return ""

    def _select(self, root: Path) -> tuple[int, folders.LabelledFiles, folders.LabelledFiles]:
        """Return the number of classes, the training files and the test files."""
        held_out = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
        if held_out is None or not (root / "train").is_dir():
            classes = folders.class_files(root)
            if self.test is None:
                raise DataError(
                    f"image-folder: {root} has no folders train and test, so `test` must be given: "
                    "the number of images to hold out"
                )
            return len(classes), *folders.split(classes, self.train, self.test, np.random.default_rng(self.split_seed))
        training, testing = folders.class_files(root / "train"), folders.class_files(held_out)
        if unmatched := sorted(training.keys() ^ testing.keys()):
            raise DataError(
                f"image-folder: {root / 'train'} and {held_out} must have the same classes; "
                f"only one of them has {', '.join(unmatched)}"
            )
        train = folders.first(training, self.train, "image-folder: `train`")
        return len(training), train, folders.first(testing, self.test, "image-folder: `test`")


def _load(
    dataset: Any, source: Source, folder: Path, train: int | None, test: int | None
) -> tuple[LabelledImages, LabelledImages]:
    """Return the first `train` training images and `test` test images of a torchvision data set; None means all."""
    training, testing = downloads.load(dataset, source, folder)
    return (
        first_of_each_class(training, source.classes, train, f"{source.use}: `train`"),
        first_of_each_class(testing, source.classes, test, f"{source.use}: `test`"),
    )


def _resize(part: LabelledImages, size: int | None, margin: int = 0) -> LabelledImages:
    """Pad images by `margin` pixels, then resize them to `size` x `size` if that is given."""
    pixels = images.pad(part.images, margin)
    return LabelledImages(pixels if size is None else images.area_average(pixels, size), part.labels)


@hookimpl
def cpframe_datasets() -> Datasets:
    """Offer the bundled data sets."""
    return {
        "digits": Digits,
        "mnist": Mnist,
        "fashion-mnist": FashionMnist,
        "cifar10": Cifar10,
        "cifar100": Cifar100,
        "image-folder": ImageFolder,
    }
