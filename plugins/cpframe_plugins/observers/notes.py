"""What an observer notes in the study's folder: a file for each place that it sends to, so none is written by two."""

from __future__ import annotations

import os
from hashlib import blake2b
from pathlib import Path


def digest(*parts: str) -> str:
    """16 hexadecimal digits that tell these texts, in this order, from any others."""
    return blake2b("".join(f"{len(part)}:{part}" for part in parts).encode(), digest_size=8).hexdigest()


def noted(path: Path) -> list[str]:
    """The words of a note; none where there is none, or what is there is no text."""
    try:
        return path.read_text().split()
    except (FileNotFoundError, UnicodeDecodeError):
        return []


def note(path: Path, words: list[str]) -> None:
    """Put a note in the place of the one before; whatever ends the process, one of the two is there, whole."""
    aside = path.with_name(f"{path.name}.part")
    with aside.open("w") as file:
        file.write("".join(f"{word}\n" for word in words))
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
