"""Folders of images with one folder per class: selecting files, and reading only those."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpframe.api import DataError, Generator
from cpframe_plugins.images import LabelledImages, Pixels, area_average, class_counts

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

ClassFiles = dict[str, list[Path]]
"""The image files by class name, classes and files in the order of their names."""


class LabelledFiles(NamedTuple):
    """Image files and the class number of each."""

    files: list[Path]
    labels: list[int]


def class_files(folder: Path) -> ClassFiles:
    """Return the images in the class folders of `folder`, at any depth, without hidden files and folders (.name).

    Raises:
        DataError: there are fewer than two class folders, or one of them has no image.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise DataError(
            f"image-folder: {folder} must contain at least two folders of images, one per class; "
            f"it contains {', '.join(entry.name for entry in classes) or 'none'}"
        )
    found = {entry.name: _image_files(entry) for entry in classes}
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise DataError(
            f"image-folder: no images in the class folders {', '.join(empty)} of {folder}; "
            f"file names of images end in {', '.join(sorted(_SUFFIXES))}"
        )
    return found


def _image_files(folder: Path) -> list[Path]:
    images = (path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."))
    return sorted(images, key=lambda path: (str(path.parent), path.name))


def first(classes: ClassFiles, total: int | None, parameter: str) -> LabelledFiles:
    """Return the first files of every class in the order of their names, in equal numbers, `total` in all.

    Raises:
        DataError: a class has too few files.
    """
    counts = class_counts([len(files) for files in classes.values()], total, parameter)
    return _label([files[:count] for files, count in zip(classes.values(), counts, strict=True)])


def split(classes: ClassFiles, train: int | None, test: int, rng: Generator) -> tuple[LabelledFiles, LabelledFiles]:
    """Split every class at random into training files and test files, `train` and `test` in all.

    The test files do not depend on `train`.

    Raises:
        DataError: a class has too few files, or none remains for training.
    """
    shuffled = [[files[index] for index in rng.permutation(len(files))] for files in classes.values()]
    tests = class_counts([len(files) for files in shuffled], test, "image-folder: `test`")
    rest = [files[count:] for files, count in zip(shuffled, tests, strict=True)]
    if not any(rest):
        raise DataError(f"image-folder: `test` = {test} takes every image; at least one must remain for training")
    trains = class_counts([len(files) for files in rest], train, "image-folder: without the test images, `train`")
    return (
        _label([files[:count] for files, count in zip(rest, trains, strict=True)]),
        _label([files[:count] for files, count in zip(shuffled, tests, strict=True)]),
    )


def _label(classes: Sequence[Sequence[Path]]) -> LabelledFiles:
    return LabelledFiles(
        [file for files in classes for file in files],
        [label for label, files in enumerate(classes) for _ in files],
    )


def decode(chosen: LabelledFiles, grey: bool, size: int | None) -> LabelledImages:
    """Read the files as uint8 (N, C, H, W), grey or RGB, resized to `size` x `size` by area averaging if that is given.

    Pixels are used as stored: transparency is dropped, and the orientation in a photograph's metadata is ignored.

    Raises:
        DataError: a file cannot be decoded or has more than 8 bits per channel, or shapes differ and `size` is None.
    """
    images: Pixels | None = None
    for row, file in enumerate(chosen.files):
        pixels = _pixels(file, grey)
        if size is not None:
            pixels = area_average(pixels[None], size)[0]
        if images is None:
            images = np.empty((len(chosen.files), *pixels.shape), dtype=np.uint8)
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"image-folder: images differ in size: {chosen.files[0]} has {_sides(images)} pixels (width x height), "
                f"{file} has {_sides(pixels)}; set `size` to resize all of them"
            )
        images[row] = pixels
    if images is None:
        raise DataError("image-folder: no image is selected")
    return LabelledImages(images, np.array(chosen.labels, dtype=np.int64))


def _pixels(file: Path, grey: bool) -> Pixels:
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"image-folder: {file} has more than 8 bits per channel; convert it to 8 bits")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except DataError:
        raise
    except Exception as error:  # decoders raise exceptions of many types for a damaged file
        raise DataError(f"image-folder: {file} cannot be read as an image; it may be damaged: {error}") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _sides(pixels: Pixels) -> str:
    return f"{pixels.shape[-1]} x {pixels.shape[-2]}"


def fingerprint(root: Path) -> str:
    """Return a hash of the names of all files below a folder, their sizes and the times of their last change."""
    digest = blake2b(digest_size=16)
    pending = [root]
    while pending:
        folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir():
                    pending.append(Path(entry.path))
                else:
                    status = entry.stat()
                    name = Path(entry.path).relative_to(root)
                    digest.update(f"{name}\n{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
