"""Stage folders: ``history.h5`` and the state that it names; the rename of the history is the only commit point.

Only the process that holds the lock of a folder (`lock_folder`) writes in it; every process may read it at any time.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import h5py

from cpframe.errors import StoreError
from cpframe.records.model import History
from cpframe.store.atomic import (
    DamagedError,
    MissingFileError,
    build_h5,
    digest,
    open_h5,
    write_atomically,
)
from cpframe.store.byte_index import index_row, read_index, read_row, write_index
from cpframe.store.h5_low_level import set_attributes
from cpframe.store.history_h5 import write_history

FORMAT = 3
"""The version of the format of stage folders."""
_HISTORY = "history.h5"
_TEXTS = ("status", "reason", "state", "digest")


@dataclass(frozen=True)
class StageRecord:
    """The committed part of a stage.

    Attributes:
        status: ``complete``, ``unfinished``, or ``failed`` (the training diverged; it is not tried again).
        reason: the reason of a failure, else empty.
        history: the epochs so far.
        state: the name of the file with weights and optimizer after the last epoch; empty without such a file.
        digest: the digest of the state's bytes (BLAKE2b, hexadecimal).
        kept: whether the state is kept after the last stage that continues from it.
    """

    status: Literal["complete", "unfinished", "failed"]
    reason: str
    history: History
    state: str
    digest: str
    kept: bool = False


def stage_folder(store: Path, stage: str) -> Path:
    """Return the folder of a stage; stages of other format versions are in other folders, and are not touched."""
    return store / f"format-{FORMAT}" / stage


def other_formats(store: Path) -> list[str]:
    """Return the folders of a store that hold stages of other format versions: ``["format-1"]``."""
    return sorted(path.name for path in store.glob("format-*") if path.name != f"format-{FORMAT}")


def commit(
    folder: Path,
    status: Literal["complete", "unfinished", "failed"],
    reason: str,
    history: History,
    state: bytes | None,
    *,
    kept: bool = False,
) -> None:
    """Commit a stage: write the state, then the history that names it, then delete the previous state.

    Args:
        folder: the folder of the stage.
        status: the status of the stage.
        reason: the reason of a failure, else empty.
        history: the epochs so far.
        state: the bytes of the state after the last epoch, or None.
        kept: whether the state is kept after the last stage that continues from it.

    Raises:
        StoreError: when a file cannot be written; the previous commit is unchanged.
    """
    name = "" if state is None else f"state-{int(history.epoch[-1]):06d}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be created: {error.strerror}") from None
    if state is not None:
        write_atomically(folder / name, state)
    _write(folder, StageRecord(status, reason, history, name, "" if state is None else digest(state).hex(), kept))


def drop_state(folder: Path) -> None:
    """Delete the state of a complete stage from which no other stage will continue; the history still names it."""
    for state in folder.glob("state-*.pt"):
        with suppress(OSError):
            state.unlink()


def remake_folder(folder: Path) -> Path:
    """Return the folder in which a complete stage is trained again for its state, so that its history stays whole."""
    return folder / folder.name


def drop_remake(folder: Path) -> None:
    """Delete the folder in which a stage was trained again."""
    shutil.rmtree(remake_folder(folder), ignore_errors=True)


def read_stage(folder: Path) -> StageRecord | None:
    """Return the committed part of a stage, or None.

    If the state that the history names does not exist, the record has no state.

    Raises:
        DamagedError: when the history is damaged, of another format version, or of another stage.
        StoreError: when it cannot be read.
    """
    record = _read_history(folder)
    if record is not None and record.state and not (folder / record.state).exists():
        return replace(record, state="", digest="")
    return record


def read_state(folder: Path, record: StageRecord) -> bytes:
    """Return the bytes of the state that a record names.

    Raises:
        DamagedError: when the state is missing, or differs from what was committed.
        StoreError: when it cannot be read.
    """
    path = folder / record.state
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{path}: is missing") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    if digest(content).hex() != record.digest:
        raise DamagedError(f"{path}: is damaged: its bytes differ from those that were committed")
    return content


def recover(folder: Path) -> tuple[StageRecord | None, bytes | None, list[str]]:
    """Read a stage and its state; damaged files are renamed to ``*.damaged``, so that their content is made again.

    Returns:
        The record and the state, as far as they are intact, and one message per damaged file.

    Raises:
        StoreError: when a file cannot be read, or a damaged file cannot be renamed.
    """
    try:
        record = _read_history(folder)
    except DamagedError as error:
        _move_aside(folder / _HISTORY)
        return None, None, [f"{error}; renamed to {_HISTORY}.damaged, and its epochs are trained again"]
    if record is None or not record.state:
        return record, None, []
    if record.status == "complete" and not record.kept and not (folder / record.state).exists():
        return replace(record, state="", digest=""), None, []  # it was dropped
    try:
        return record, read_state(folder, record), []
    except DamagedError as error:
        _move_aside(folder / record.state)
        record = replace(record, state="", digest="")
        _write(folder, record)
        return record, None, [f"{error}; it is made again if a stage needs it"]


def _read_history(folder: Path) -> StageRecord | None:
    path = folder / _HISTORY
    try:
        with open_h5(path, "a stage's history") as (file, content):
            if "history" not in file:
                raise DamagedError(f"{path}: is not a stage's history")
            if file.attrs.get("format") != FORMAT:
                raise DamagedError(
                    f"{path}: has format {file.attrs.get('format')}; this version of cpframe reads format {FORMAT}"
                )
            if file.attrs["stage"] != folder.name:
                raise DamagedError(f"{path}: is the history of another stage, {file.attrs['stage']}")
            texts = {name: str(file.attrs[name]) for name in _TEXTS}
            row, order = read_index(file)
            history = read_row(row, content, order)
            return StageRecord(history=history, kept=bool(file.attrs["kept"]), **texts)  # type: ignore[arg-type]
    except MissingFileError:
        return None


def _move_aside(path: Path) -> None:
    try:
        if path.exists():
            path.replace(path.with_name(f"{path.name}.damaged"))
    except OSError as error:
        raise StoreError(f"{path}: is damaged, and cannot be renamed: {error.strerror}") from None


def _write(folder: Path, record: StageRecord) -> None:
    def fill(file: h5py.File) -> None:
        root = file["/"].id
        set_attributes(root, format=FORMAT, stage=folder.name, kept=int(record.kept))
        set_attributes(root, **{name: getattr(record, name) for name in _TEXTS})
        write_index(file, index_row(record.history, write_history(file.create_group("history"), record.history)))

    write_atomically(folder / _HISTORY, build_h5(fill))
    for stale in folder.glob("state-*"):
        if stale.name != record.state and not stale.name.endswith(".damaged"):
            with suppress(OSError):
                stale.unlink()
