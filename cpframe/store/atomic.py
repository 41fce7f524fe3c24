"""Whole files: atomic writes, one writer per folder, HDF5 built in memory, and checks of files from elsewhere."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path

import filelock
import h5py

from cpframe.errors import StoreError

_LARGEST = 2**30
"""The largest dataset that is read, in bytes: more than any study has, and less than the memory of a machine."""
_SEAL = b"\ncpframe sealed\n"
"""The end of a file, followed by the digest of everything before it; HDF5 ignores bytes after its own end."""
_DIGEST_BYTES = 16


class MissingFileError(StoreError):
    """A file that does not exist."""


class DamagedError(StoreError):
    """A file that differs from what was written: damaged, of another format version, or not a file of cpframe."""


class InUseError(StoreError):
    """A folder that another run is using."""


@contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Lock a folder against other runs, and create it if necessary; the lock ends with its process.

    A folder that was created here and in which nothing was written is removed again.

    Raises:
        InUseError: when another run holds the lock.
        StoreError: when the folder cannot be created or written.
    """
    path = folder / ".lock"
    try:
        made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path, timeout=0)
        lock.acquire()
    except filelock.Timeout:
        raise InUseError(f"{folder}: in use by another run; wait for it, or choose another folder with --out") from None
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from None
    try:
        yield
    finally:
        with suppress(OSError):  # another run may have used the folder, or have removed it
            if made and all(entry == path for entry in folder.iterdir()):
                path.unlink()
                for parent in made:
                    parent.rmdir()
        lock.release()


def check_writable(folder: Path) -> None:
    """Check that files can be written in a folder, or where it would be created; nothing is left there.

    Raises:
        StoreError: when they cannot.
    """
    present = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=present):
            pass
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}; choose another folder with --store") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file so that at any instant the old or the new content is there, whole.

    Raises:
        StoreError: when the file cannot be written; the old file is unchanged.
    """
    aside = path.with_name(f"{path.name}.part")
    try:
        with aside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink(missing_ok=True)
        reason = error.strerror or error
        raise StoreError(f"{path}: cannot be written: {reason}; the previous file is unchanged") from None
    # The new file is in place; this makes the rename survive a power cut. Not every system can do it for folders.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def digest(content: bytes | memoryview) -> bytes:
    """Return the digest of bytes: BLAKE2b of 128 bits."""
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()


def build_h5(fill: Callable[[h5py.File], None]) -> bytes:
    """Return the sealed bytes of the HDF5 file that `fill` fills; nothing is written to the disk."""
    with h5py.File.in_memory() as file:
        fill(file)
        file.flush()
        return seal(bytes(file.id.get_file_image()))


def seal(content: bytes) -> bytes:
    """Append the seal, by which `open_h5` recognises the bytes that were written."""
    return content + _SEAL + digest(content)


@contextmanager
def open_h5(path: Path, what: str) -> Iterator[tuple[h5py.File, bytes]]:
    """Open a sealed HDF5 file and yield it together with its bytes.

    The seal is checked first, because HDF5's library may hang or crash on damaged bytes. The members at the top level
    are checked for links out of the file, for data stored in other files and for sizes beyond the memory; nothing
    below them is checked, so nothing below them may be read through HDF5.

    Args:
        path: the path of the file.
        what: the noun for the expected file, for messages: "a results file of cpframe".

    Raises:
        StoreError: when the file is missing, is another sort of file, is damaged, or fails a check.
    """
    content = read_sealed(path, what)
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            for name in file:
                _refuse_link(file, name, f"{path}: /{name}")
                if not isinstance(file[name], h5py.Group):
                    _refuse_data(file[name], f"{path}: /{name}")
            yield file, content
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - h5py may raise anything on a file that another program has sealed
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedError(f"{path}: is not {what} ({reason})") from None


def read_sealed(path: Path, what: str) -> bytes:
    """Return the bytes of a file after a check of its seal, which is included; HDF5 ignores it.

    Args:
        path: the path of the file.
        what: the noun for the expected file, for messages.

    Raises:
        StoreError: when the file is missing, cannot be read, or differs from what was written.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise MissingFileError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DamagedError(f"{path}: is a folder, not {what}") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
    body, end = memoryview(content)[: -len(_SEAL) - _DIGEST_BYTES], content[-len(_SEAL) - _DIGEST_BYTES :]
    if not end.startswith(_SEAL):
        raise DamagedError(f"{path}: is not {what}, or was cut short or changed by another program")
    if end != _SEAL + digest(body):
        raise DamagedError(f"{path}: is damaged: its bytes differ from those that were written")
    return content


def has_seal(path: Path) -> bool:
    """Return whether a file ends like a file of the store; False if it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(_SEAL) - _DIGEST_BYTES))
            return file.read().startswith(_SEAL)
    except OSError:
        return False


def _refuse_link(group: h5py.Group, name: str, where: str) -> None:
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise DamagedError(f"{where} cannot be read: it is a link")


def _refuse_data(member: h5py.Dataset | h5py.Datatype, where: str) -> None:
    if not isinstance(member, h5py.Dataset) or member.external or member.is_virtual or member.shape is None:
        raise DamagedError(f"{where} cannot be read: its data are missing or in another file")
    if member.nbytes > _LARGEST:
        raise DamagedError(f"{where} cannot be read: it has {member.nbytes} bytes; at most {_LARGEST} are allowed")
