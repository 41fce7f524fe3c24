"""TOML as cpframe uses it: parsed within the bounds of a spec, and single values written on one line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import tomli

Table = dict[str, Any]

MAX_DEPTH = 32
"""The most levels of nested tables and arrays: more than any spec needs, and fewer than Python's recursion allows."""
BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def parse(text: str) -> Table:
    """Parse TOML.

    Raises:
        tomli.TOMLDecodeError: when the text is not TOML.
        ValueError: when the text exceeds the bounds of a spec.
    """
    try:
        tables = tomli.loads(text)
    except tomli.TOMLDecodeError:
        raise
    except RecursionError:
        raise ValueError(f"nests tables or arrays too deeply; at most {MAX_DEPTH} levels are allowed") from None
    except ValueError:
        raise ValueError("contains a whole number with thousands of digits; at most 64 bits are allowed") from None
    level: list[object] = [tables]
    for _ in range(MAX_DEPTH):
        level = [inner for value in level for inner in _elements(value)]
    if level:
        raise ValueError(f"nests tables or arrays more than {MAX_DEPTH} levels deep")
    return tables


def _elements(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else []


def write_key(part: str) -> str:
    """Write one part of a key, with quotes if TOML requires them."""
    return part if BARE_KEY.fullmatch(part) else write_text(part)


def write_text(text: str) -> str:
    """Write a string in double quotes."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def write_value(value: object) -> str:
    """Write a value on one line, with tables inline."""
    if isinstance(value, Mapping):
        pairs = ", ".join(f"{write_key(key)} = {write_value(inner)}" for key, inner in value.items())
        return f"{{ {pairs} }}" if pairs else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(write_value, value))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return write_text(value) if isinstance(value, str) else str(value)
