"""Data sets that torchvision knows: read from the data folder, downloaded into it once.

Torchvision prints its progress while it downloads. It checks the sums of what it downloads, and of the CIFAR files
each time they are read; a file that breaks off is always an error, never a smaller data set.
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
from cpframe_plugins.images import Labelled

# What torchvision raises on files that are missing, truncated or corrupt, on folders that cannot be read or written,
# and when a download fails.
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
    """Where a data set of torchvision's lies.

    Attributes:
        name: for messages.
        classes: how many there are.
        archives: what is downloaded, or put there by hand; paths inside the data folder.
        folder: where the unpacked files lie, inside the data folder.
        files: their names in it.
    """

    name: str
    classes: int
    archives: tuple[str, ...]
    folder: str
    files: tuple[str, ...]


def load(dataset: Any, source: Source, folder: Path) -> tuple[Labelled, Labelled]:
    """Training and test images of a torchvision data set, downloaded first if they are not in `folder`.

    Args:
        dataset: the torchvision class, of the family of ``MNIST`` or ``CIFAR10``.
        source: where its files lie.
        folder: the data folder; it need not exist, and need not be writable when the files are there.

    Raises:
        DataError: when the files are damaged, or are missing and cannot be downloaded.
    """
    with suppress(*_FAILURES):
        return _read(dataset, source, folder)
    _complete(dataset, source, folder)
    try:
        return _read(dataset, source, folder)
    except _FAILURES as error:
        raise DataError(
            f"{source.name}: the files in {folder / source.folder} are damaged or cannot be read ({_told(error)}); "
            "delete that folder and run again, and it is made anew"
        ) from error


def _complete(dataset: Any, source: Source, folder: Path) -> None:
    """Download and unpack, unless all files are there; one process at a time, while the others wait."""
    from filelock import FileLock

    files = [folder / source.folder / name for name in source.files]
    incomplete = not all(map(_is_file, files))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{source.name}.lock"):
            if not all(map(_is_file, files)):
                dataset(folder, train=True, download=True)
    except _FAILURES as error:
        if incomplete:  # otherwise there was nothing to do but to wait, and reading says what is wrong
            raise DataError(
                f"{source.name} is not in {folder / source.folder} and cannot be downloaded ({_told(error)}); "
                f"put {', '.join(source.archives)} into {folder}, or name a data folder that has the data set"
            ) from error


def _is_file(path: Path) -> bool:
    """Whether a file is there, as far as one may see."""
    with suppress(OSError):
        return path.is_file()
    return False


def _read(dataset: Any, source: Source, folder: Path) -> tuple[Labelled, Labelled]:
    with warnings.catch_warnings():
        # numpy 2.4.0 to 2.4.4 find fault with the way in which the CIFAR files were pickled, long ago
        warnings.simplefilter("ignore", np.exceptions.VisibleDeprecationWarning)
        train, test = (dataset(folder, train=part, download=False) for part in (True, False))
    return _labelled(train, source.classes), _labelled(test, source.classes)


def _labelled(part: Any, classes: int) -> Labelled:
    pixels = np.asarray(part.data)
    images = pixels[:, None] if pixels.ndim == 3 else pixels.transpose(0, 3, 1, 2)
    labels = np.asarray(part.targets, dtype=np.int64)
    if len(images) != len(labels):
        raise ValueError(f"there are {len(images)} images but {len(labels)} labels")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(f"labels go from {labels.min()} to {labels.max()}, but there are {classes} classes")
    return Labelled(np.ascontiguousarray(images), labels)


def _told(error: BaseException) -> str:
    """What an error says, on one line; torchvision only asserts that a file is as long as its header says."""
    return " ".join(str(error).split()) or "a file is cut short, or is not of the format"
