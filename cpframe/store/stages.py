"""One folder a stage: ``history.h5`` and the state it names; the rename of the history is the one commit point."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import h5py

from cpframe.records import History
from cpframe.store.files import NotThereError, StoreError, built_in_memory, digest, opened, write_atomically
from cpframe.store.histories import read_history, write_history

FORMAT = 1


@dataclass(frozen=True)
class StageRecord:
    """A stage as it is committed.

    Attributes:
        status: ``complete``, ``unfinished``, or ``failed`` (the training diverged; it is not tried again).
        reason: of the failure, else empty.
        history: of its epochs so far.
        state: name of the file with weights and optimizer after the last of them; empty when it is not kept.
        digest: of the state's bytes (BLAKE2b, hexadecimal).
    """

    status: Literal["complete", "unfinished", "failed"]
    reason: str
    history: History
    state: str
    digest: str


def commit(
    folder: Path,
    status: Literal["complete", "unfinished", "failed"],
    reason: str,
    history: History,
    state: bytes | None,
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
    _write(folder, StageRecord(status, reason, history, name, "" if state is None else digest(state).hex()))


def drop_state(folder: Path) -> None:
    """Forget the state of a stage from which nothing more will go on."""
    record = read_stage(folder)
    if record is not None and record.state:
        _write(folder, replace(record, state="", digest=""))


def read_stage(folder: Path) -> StageRecord | None:
    """Read what is committed of a stage, or None when there is nothing.

    Raises:
        StoreError: when it is damaged or of another format version.
    """
    path = folder / "history.h5"
    try:
        with opened(path, "a stage's history") as file:
            if file.attrs.get("format") != FORMAT:
                raise StoreError(f"{path}: is of format {file.attrs.get('format')}; this cpframe reads format {FORMAT}")
            attributes = {name: str(file.attrs[name]) for name in ("status", "reason", "state", "digest")}
            return StageRecord(history=read_history(file["history"]), **attributes)  # type: ignore[arg-type]
    except NotThereError:
        return None


def read_state(folder: Path, record: StageRecord) -> bytes:
    """Read the state that a stage's record names.

    Raises:
        StoreError: when it is not there, or its bytes are not those that were committed.
    """
    path = folder / record.state
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    if digest(content).hex() != record.digest:
        raise StoreError(f"{path}: is damaged: its bytes are not those that were committed")
    return content


def _write(folder: Path, record: StageRecord) -> None:
    def fill(file: h5py.File) -> None:
        file.attrs["format"] = FORMAT
        for name in ("status", "reason", "state", "digest"):
            file.attrs[name] = getattr(record, name)
        write_history(file.create_group("history"), record.history)

    write_atomically(folder / "history.h5", built_in_memory(fill))
    for stale in folder.glob("state-*"):
        if stale.name != record.state:
            with suppress(OSError):
                stale.unlink()
