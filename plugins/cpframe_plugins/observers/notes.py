"""Notes of observers in a study's folder: one file per destination, so that no two observers write the same file."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path


def digest(*parts: str) -> str:
    """Return 16 hexadecimal digits that identify these texts in this order."""
    return blake2b("".join(f"{len(part)}:{part}" for part in parts).encode(), digest_size=8).hexdigest()


def read_note(path: Path) -> list[str]:
    """Return the words of a note; none if the file does not exist or is not text."""
    try:
        return path.read_text().split()
    except (FileNotFoundError, UnicodeDecodeError):
        return []


def write_note(path: Path, words: list[str]) -> None:
    """Replace a note atomically: if the process ends, the file holds either the old note or the new one."""
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("w") as file:
        file.write("".join(f"{word}\n" for word in words))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
