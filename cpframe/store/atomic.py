"""Files that are whole or not there: atomic writes, one writer a folder, HDF5 in memory, and distrust of strangers."""

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

_LARGEST = 2**30
"""Bytes of the largest dataset that is read: far beyond any study, not beyond the memory of a machine."""
_SEAL = b"\ncpframe sealed\n"
"""Ends a file, with the digest of all that is before it; HDF5 ignores what follows its own end."""
_DIGEST_BYTES = 16


class StoreError(Exception):
    """A file or folder of the store that cannot be used; its message is shown to the user as it stands."""


class NotThereError(StoreError):
    """There is no such file."""


class DamagedError(StoreError):
    """What is there is not what was written: damaged, of another format version, or no file of ours at all."""


class InUseError(StoreError):
    """The folder is in use by another run."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, which is made if need be, against any other run; the lock dies with its process.

    A folder that was made for this and in which nothing was kept is taken away again.

    Raises:
        InUseError: when another run holds it.
        StoreError: when the folder cannot be made or written.
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
        with suppress(OSError):  # somebody else may have come, or have taken it all away
            if made and all(entry == path for entry in folder.iterdir()):
                path.unlink()
                for parent in made:
                    parent.rmdir()
        lock.release()


def check_writable(folder: Path) -> None:
    """See whether files can be written in a folder, or where it is to be made; nothing is left there.

    Raises:
        StoreError: when not.
    """
    there = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}; choose another folder with --store") from None


def write_atomically(path: Path, content: bytes) -> None:
    """Put `content` at `path` so that at any instant the old file or the new one is there, whole.

    Raises:
        StoreError: when it cannot be written; the old file is untouched.
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
        raise StoreError(f"{path}: cannot be written: {reason}; what was there before is whole") from None
    # The new file is in place; this makes it outlast a power cut too. Not every system can do it for folders.
    with suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def digest(content: bytes | memoryview) -> bytes:
    """Tell bytes from any others: BLAKE2b of 128 bits."""
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()


def built_in_memory(fill: Callable[[h5py.File], None]) -> bytes:
    """Return the bytes of the HDF5 file that `fill` fills, sealed; nothing touches the disk."""
    with h5py.File.in_memory() as file:
        fill(file)
        file.flush()
        return sealed(bytes(file.id.get_file_image()))


def sealed(content: bytes) -> bytes:
    """Append the seal by which `opened` knows that the bytes are those that were written."""
    return content + _SEAL + digest(content)


@contextmanager
def opened(path: Path, what: str) -> Iterator[tuple[h5py.File, bytes]]:
    """Open an HDF5 file of which little is read through HDF5, and give its bytes.

    The seal is checked before HDF5 is let near: on damaged bytes its library may hang or crash. Only what lies at the
    top of the file is checked for what a stranger should not send: read nothing below.

    Args:
        path: of the file.
        what: it should be, for the message: "a results file of cpframe".

    Raises:
        StoreError: when it is not there, is no such file, is damaged, or holds at its top what a stranger should not
            send: links out of the file, data stored elsewhere, and what would exhaust the memory.
    """
    content = unsealed(path, what)
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            for name in file:
                _refuse_link(file, name, f"{path}: /{name}")
                if not isinstance(file[name], h5py.Group):
                    _refuse_data(file[name], f"{path}: /{name}")
            yield file, content
    except StoreError:
        raise
    except Exception as error:  # noqa: BLE001 - sealed by somebody who is not us: h5py may raise anything on it
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedError(f"{path}: is not {what} ({reason})") from None


def unsealed(path: Path, what: str) -> bytes:
    """Read a file and check its seal; the seal stays at the end of what is returned, as HDF5 does not mind it.

    Raises:
        StoreError: when it is not there, cannot be read, or is not what was written.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise NotThereError(f"{path}: there is no such file") from None
    except IsADirectoryError:
        raise DamagedError(f"{path}: is a folder, not {what}") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror or error}") from None
    body, seal = memoryview(content)[: -len(_SEAL) - _DIGEST_BYTES], content[-len(_SEAL) - _DIGEST_BYTES :]
    if not seal.startswith(_SEAL):
        raise DamagedError(f"{path}: is not {what}, or was cut short or changed by another program")
    if seal != _SEAL + digest(body):
        raise DamagedError(f"{path}: is damaged: its bytes are not those that were written")
    return content


def is_sealed(path: Path) -> bool:
    """Whether a file looks like one of the store, by its end; False where it cannot be read."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - len(_SEAL) - _DIGEST_BYTES))
            return file.read().startswith(_SEAL)
    except OSError:
        return False


def _refuse_link(group: h5py.Group, name: str, where: str) -> None:
    if group.id.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
        raise DamagedError(f"{where} is a link to somewhere else: refused")


def _refuse_data(member: h5py.Dataset | h5py.Datatype, where: str) -> None:
    if not isinstance(member, h5py.Dataset) or member.external or member.is_virtual or member.shape is None:
        raise DamagedError(f"{where} is stored elsewhere, or holds no data: refused")
    if member.nbytes > _LARGEST:
        raise DamagedError(f"{where} is absurdly large, {member.nbytes} bytes: refused")
