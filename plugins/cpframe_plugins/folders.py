"""Class folders: which images of a folder are wanted, and reading those, and only those."""

from __future__ import annotations

import os
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np

from cpframe.api import DataError, Generator
from cpframe_plugins.images import Labelled, Pixels, area_average, quotas

_SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})

ClassFiles = dict[str, list[Path]]
"""The image files of every class, both in the order of their names."""


class Chosen(NamedTuple):
    """Image files and the number of the class of each."""

    files: list[Path]
    labels: list[int]


def class_files(folder: Path) -> ClassFiles:
    """The images in the class folders of `folder`, however deep; what is hidden (.name) is passed over.

    Raises:
        DataError: when there are fewer than two class folders, or one of them has no image.
    """
    classes = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    if len(classes) < 2:
        raise DataError(
            f"image-folder: {folder} must hold one folder of images for every class, at least two; "
            f"it holds {', '.join(entry.name for entry in classes) or 'none'}"
        )
    found = {entry.name: _images(entry) for entry in classes}
    empty = [name for name, files in found.items() if not files]
    if empty:
        raise DataError(
            f"image-folder: there is no image in the class folders {', '.join(empty)} of {folder}; "
            f"images end in {', '.join(sorted(_SUFFIXES))}"
        )
    return found


def _images(folder: Path) -> list[Path]:
    images = (path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and not path.name.startswith("."))
    return sorted(images, key=lambda path: (str(path.parent), path.name))


def first(found: ClassFiles, wanted: int | None, parameter: str) -> Chosen:
    """The first files of every class, by name, in equal numbers.

    Raises:
        DataError: when a class has too few.
    """
    counts = quotas([len(files) for files in found.values()], wanted, parameter)
    return _chosen([files[:count] for files, count in zip(found.values(), counts, strict=True)])


def parted(found: ClassFiles, train: int | None, test: int, rng: Generator) -> tuple[Chosen, Chosen]:
    """A random split of every class into training files and test files; both are balanced if `train` is given.

    The test files do not depend on `train`.

    Raises:
        DataError: when a class has too few, or nothing is left for training.
    """
    drawn = [[files[place] for place in rng.permutation(len(files))] for files in found.values()]
    tests = quotas([len(files) for files in drawn], test, "image-folder: `test`")
    rest = [files[count:] for files, count in zip(drawn, tests, strict=True)]
    if not any(rest):
        raise DataError(f"image-folder: `test` = {test} takes every image, and none is left for training")
    trains = quotas([len(files) for files in rest], train, "image-folder: what `test` leaves, `train`")
    return (
        _chosen([files[:count] for files, count in zip(rest, trains, strict=True)]),
        _chosen([files[:count] for files, count in zip(drawn, tests, strict=True)]),
    )


def _chosen(classes: Sequence[Sequence[Path]]) -> Chosen:
    return Chosen(
        [file for files in classes for file in files],
        [label for label, files in enumerate(classes) for _ in files],
    )


def decode(chosen: Chosen, grey: bool, size: int | None) -> Labelled:
    """Read the files as uint8 (N, C, H, W), grey or RGB, area-averaged to `size` x `size` if that is given.

    Pixels are taken as stored: transparency is dropped, and the rotation that a camera noted is not carried out.

    Raises:
        DataError: when a file cannot be decoded or has more than 8 bits a channel, or shapes differ without `size`.
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
                f"{file} has {_sides(pixels)}; with `size` all are brought to one"
            )
        images[row] = pixels
    if images is None:
        raise DataError("image-folder: there is no image to read")
    return Labelled(images, np.array(chosen.labels, dtype=np.int64))


def _pixels(file: Path, grey: bool) -> Pixels:
    from PIL import Image

    try:
        with Image.open(file) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(f"image-folder: {file} has more than 8 bits a channel; convert it to 8 bits")
            pixels = np.asarray(image.convert("L" if grey else "RGB"))
    except DataError:
        raise
    except Exception as error:  # decoders raise what they like on a damaged file
        raise DataError(f"image-folder: {file} cannot be read as an image, it may be damaged: {error}") from error
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def _sides(pixels: Pixels) -> str:
    return f"{pixels.shape[-1]} x {pixels.shape[-2]}"


def fingerprint(root: Path) -> str:
    """Return a hash of the names below a folder, with the size and the time of the last change of every file."""
    digest = blake2b(digest_size=16)
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        with os.scandir(folder) as entries:
            for entry in sorted(entries, key=lambda entry: entry.name):
                if entry.is_dir():
                    waiting.append(Path(entry.path))
                else:
                    facts = entry.stat()
                    name = Path(entry.path).relative_to(root)
                    digest.update(f"{name}\n{facts.st_size} {facts.st_mtime_ns}\n".encode())
    return digest.hexdigest()
