"""One folder a stage: ``history.h5`` and the state it names; the rename of the history is the one commit point.

A folder is written by whoever holds its lock (`locked`), and by nobody else; anybody may read it at any time.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import h5py

from cpframe.records.model import History
from cpframe.store.atomic import (
    DamagedError,
    NotThereError,
    StoreError,
    built_in_memory,
    digest,
    opened,
    write_atomically,
)
from cpframe.store.byte_index import history_at, places_of, read_index, write_index
from cpframe.store.h5_low_level import note
from cpframe.store.history_h5 import write_history

FORMAT = 2
_HISTORY = "history.h5"
_TEXTS = ("status", "reason", "state", "digest")


@dataclass(frozen=True)
class StageRecord:
    """A stage as it is committed.

    Attributes:
        status: ``complete``, ``unfinished``, or ``failed`` (the training diverged; it is not tried again).
        reason: of the failure, else empty.
        history: of its epochs so far.
        state: name of the file with weights and optimizer after the last of them; empty when there is none.
        digest: of the state's bytes (BLAKE2b, hexadecimal).
        kept: whether the state stays for good, even when no stage is to go on from it.
    """

    status: Literal["complete", "unfinished", "failed"]
    reason: str
    history: History
    state: str
    digest: str
    kept: bool = False


def stage_folder(store: Path, stage: str) -> Path:
    """The folder of a stage. Stages of another format version lie beside those of this one, and are left alone."""
    return store / f"format-{FORMAT}" / stage


def other_formats(store: Path) -> list[str]:
    """Formats of other versions of cpframe that a store holds stages of: ``["format-1"]``."""
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
    """Commit a stage: the state first, then the history that names it, then away with the state before.

    Raises:
        StoreError: when the disk refuses; what was committed before is whole.
    """
    name = "" if state is None else f"state-{int(history.epoch[-1]):06d}.pt"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be made: {error.strerror}") from None
    if state is not None:
        write_atomically(folder / name, state)
    _write(folder, StageRecord(status, reason, history, name, "" if state is None else digest(state).hex(), kept))


def drop_state(folder: Path) -> None:
    """Delete the state of a complete stage from which nothing more will go on; the history may go on naming it."""
    for state in folder.glob("state-*.pt"):
        with suppress(OSError):
            state.unlink()


def remake_folder(folder: Path) -> Path:
    """Where a complete stage, whose state was dropped or lost, is trained again for it: what is complete stays."""
    return folder / folder.name


def drop_remake(folder: Path) -> None:
    """Forget what was trained again of a stage."""
    shutil.rmtree(remake_folder(folder), ignore_errors=True)


def read_stage(folder: Path) -> StageRecord | None:
    """Read what is committed of a stage, or None when there is nothing.

    A state that the history names but that is not there is not in the record.

    Raises:
        DamagedError: when it is not what was written, of another format version, or of another stage.
        StoreError: when it cannot be read.
    """
    record = _committed(folder)
    if record is not None and record.state and not (folder / record.state).exists():
        return replace(record, state="", digest="")
    return record


def read_state(folder: Path, record: StageRecord) -> bytes:
    """Read the state that a stage's record names.

    Raises:
        DamagedError: when it is not there, or its bytes are not those that were committed.
        StoreError: when it cannot be read.
    """
    path = folder / record.state
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise DamagedError(f"{path}: is not there") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    if digest(content).hex() != record.digest:
        raise DamagedError(f"{path}: is damaged: its bytes are not those that were committed")
    return content


def recover(folder: Path) -> tuple[StageRecord | None, bytes | None, list[str]]:
    """Read a stage and its state; what is damaged is moved aside (``.damaged``), to be made again.

    Returns:
        What is left of it that is right: its record, its state; and a line for every damage.

    Raises:
        StoreError: when it cannot be read, or a damaged file cannot be moved.
    """
    try:
        record = _committed(folder)
    except DamagedError as error:
        _move_aside(folder / _HISTORY)
        return None, None, [f"{error}; moved aside, its epochs are trained again"]
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
        return record, None, [f"{error}; it is made again if it is needed"]


def _committed(folder: Path) -> StageRecord | None:
    path = folder / _HISTORY
    try:
        with opened(path, "a stage's history") as (file, content):
            if "history" not in file:
                raise DamagedError(f"{path}: is not a stage's history")
            if file.attrs.get("format") != FORMAT:
                raise DamagedError(
                    f"{path}: is of format {file.attrs.get('format')}; this cpframe reads format {FORMAT}"
                )
            if file.attrs["stage"] != folder.name:
                raise DamagedError(f"{path}: is the history of another stage, {file.attrs['stage']}")
            texts = {name: str(file.attrs[name]) for name in _TEXTS}
            row, order = read_index(file)
            history = history_at(row, content, order)
            return StageRecord(history=history, kept=bool(file.attrs["kept"]), **texts)  # type: ignore[arg-type]
    except NotThereError:
        return None


def _move_aside(path: Path) -> None:
    try:
        if path.exists():
            path.replace(path.with_name(f"{path.name}.damaged"))
    except OSError as error:
        raise StoreError(f"{path}: is damaged, and cannot be moved aside: {error.strerror}") from None


def _write(folder: Path, record: StageRecord) -> None:
    def fill(file: h5py.File) -> None:
        root = file["/"].id
        note(root, format=FORMAT, stage=folder.name, kept=int(record.kept))
        note(root, **{name: getattr(record, name) for name in _TEXTS})
        write_index(file, places_of(record.history, write_history(file.create_group("history"), record.history)))

    write_atomically(folder / _HISTORY, built_in_memory(fill))
    for stale in folder.glob("state-*"):
        if stale.name != record.state and not stale.name.endswith(".damaged"):
            with suppress(OSError):
                stale.unlink()
