"""The data sets of torchvision: read from the data folder, and downloaded into it once.

Torchvision prints its progress while it downloads. It verifies the checksums of all downloaded files, and those of the
CIFAR files whenever they are read; a truncated file is always an error, never a smaller data set.
"""

from __future__ import annotations

import http.client
import pickle
import warnings
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cpframe.api import DataError
from cpframe_plugins.images import LabelledImages

# All that torchvision raises when files are missing, truncated or corrupt, when folders cannot be read or written, and
# when a download fails.
_FAILURES = (
    OSError,
    RuntimeError,
    ValueError,
    TypeError,
    AssertionError,
    LookupError,
    EOFError,
    pickle.UnpicklingError,
    http.client.HTTPException,
)


@dataclass(frozen=True)
class Source:
    """A data set of torchvision and its files.

    Attributes:
        use: the name of the data set in a spec.
        name: the name of the data set in messages.
        classes: the number of classes.
        archives: the paths of the downloaded archives, relative to the data folder.
        folder: the path of the unpacked files' folder, relative to the data folder.
        files: the names of the unpacked files.
    """

    use: str
    name: str
    classes: int
    archives: tuple[str, ...]
    folder: str
    files: tuple[str, ...]


def load(dataset: Any, source: Source, folder: Path) -> tuple[LabelledImages, LabelledImages]:
    """Return the training and test images of a torchvision data set; download them if they are not in `folder`.

    Args:
        dataset: the torchvision class, with the interface of ``MNIST`` or ``CIFAR10``.
        source: the files of the data set.
        folder: the data folder, which need not exist, nor be writable if it holds the files.

    Raises:
        DataError: the files are damaged, or are missing and cannot be downloaded.
    """
    with suppress(*_FAILURES):
        return _read(dataset, source, folder)
    _download_if_missing(dataset, source, folder)
    try:
        return _read(dataset, source, folder)
    except _FAILURES as error:
        raise DataError(
            f"{source.name}: the files in {folder / source.folder} are damaged or cannot be read ({_message(error)}); "
            "delete that folder and run again to restore it"
        ) from error


def _download_if_missing(dataset: Any, source: Source, folder: Path) -> None:
    """Download and unpack unless all files exist; one process at a time does so, and the others wait for it."""
    from filelock import FileLock

    files = [folder / source.folder / name for name in source.files]
    incomplete = not all(map(_is_file, files))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{source.name}.lock"):
            if not all(map(_is_file, files)):
                dataset(folder, train=True, download=True)
    except _FAILURES as error:
        if incomplete:  # otherwise nothing had to be downloaded, and reading the files reports the fault
            raise DataError(
                f"{source.name} is not in {folder / source.folder} and cannot be downloaded ({_message(error)}); "
                f"put {', '.join(source.archives)} into {folder}, or choose a data folder that has the data set"
            ) from error


def _is_file(path: Path) -> bool:
    """Return whether a file exists and may be seen."""
    with suppress(OSError):
        return path.is_file()
    return False


def _read(dataset: Any, source: Source, folder: Path) -> tuple[LabelledImages, LabelledImages]:
    with warnings.catch_warnings():
        # numpy 2.4.0 to 2.4.4 warn about the pickle format of the CIFAR files.
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        train, test = (dataset(folder, train=part, download=False) for part in (True, False))
    return _arrays(train, source.classes), _arrays(test, source.classes)


def _arrays(part: Any, classes: int) -> LabelledImages:
    pixels = np.asarray(part.data)
    images = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    labels = np.asarray(part.targets, dtype=np.int64)
    if len(images) != len(labels):
        raise ValueError(f"each image must have one label: {len(images)} images and {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels must be from 0 to {classes - 1}, not from {labels.min()} to {labels.max()}")
    return LabelledImages(np.ascontiguousarray(images), labels)


def _message(error: BaseException) -> str:
    """Return an error's message on one line; torchvision's bare assertions mean a file of the wrong length."""
    return " ".join(str(error).split()) or "a file is truncated or has the wrong format"
