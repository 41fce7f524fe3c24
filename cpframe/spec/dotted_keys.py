"""Dotted keys, such as ``optimizer.lr``: parsed into paths, and written from paths."""

from __future__ import annotations

from collections.abc import Iterator

from cpframe.spec.positions import KeyPath
from cpframe.spec.toml import BARE_KEY, parse, write_key


def key_path(key: str) -> tuple[str, ...]:
    """Parse a dotted key.

    Raises:
        KeyError: when it is not a key; the message is meant for the user.
    """
    path: list[str] = []
    try:
        value: object = parse(f"{key} = 0")
    except ValueError:
        value = None
    while isinstance(value, dict) and len(value) == 1:
        ((part, value),) = value.items()
        path.append(part)
    if value != 0:
        raise KeyError("is not a valid key; write parts joined by dots, as in optimizer.lr")
    return tuple(path)


def is_word(name: str) -> bool:
    """Return whether a name consists of letters, digits, - and _, so that it needs no quotes."""
    return BARE_KEY.fullmatch(name) is not None


def dotted_key(path: KeyPath) -> str:
    """Write a path as a dotted key, with quotes where TOML requires them, and array elements as ``[number]``."""
    return "".join(_parts(path))


def _parts(path: KeyPath) -> Iterator[str]:
    for index, part in enumerate(path):
        yield f"[{part}]" if isinstance(part, int) else "." * (index > 0) + write_key(part)
