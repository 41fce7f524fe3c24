"""Dotted keys: taken apart into paths, and paths written as keys; and TOML parsed, within the bounds of a spec."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import tomli

from cpframe.spec.positions import KeyPath

Table = dict[str, Any]

_DEPTH = 32
"""Tables and arrays inside one another: more than any spec needs, and less than Python's recursion bears."""
_WORD = re.compile(r"[A-Za-z0-9_-]+")


def parse(text: str) -> Table:
    """Parse TOML; raises `tomli.TOMLDecodeError` for what is none, and ValueError for what no spec needs."""
    try:
        tables = tomli.loads(text)
    except tomli.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError("nests tables or arrays far too deep") from None
    except ValueError:
        raise ValueError("has a whole number of thousands of digits; 64 bits is the most there can be") from None
    level: list[object] = [tables]
    for _ in range(_DEPTH):
        level = [inner for value in level for inner in _inside(value)]
    if level:
        raise ValueError(f"nests tables or arrays more than {_DEPTH} deep")
    return tables


def _inside(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def key_path(key: str) -> tuple[str, ...]:
    """Take a dotted key apart.

    Raises:
        KeyError: when it is none; a sentence for the user.
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
        raise KeyError("is not a key; write parts joined by dots, as in optimizer.lr")
    return tuple(path)


def is_word(name: str) -> bool:
    """Whether a name is made of letters, digits, - and _: then it needs no quotes."""
    return _WORD.fullmatch(name) is not None


def dotted(path: KeyPath) -> str:
    """Write a path as a dotted key, quoted where TOML asks for it, with array elements as ``[number]``."""
    return "".join(_dotted_parts(path))


def _dotted_parts(path: KeyPath) -> Iterator[str]:
    for place, part in enumerate(path):
        if isinstance(part, int):
            yield f"[{part}]"
        else:
            yield "." * (place > 0) + (part if is_word(part) else json.dumps(part, ensure_ascii=False))
