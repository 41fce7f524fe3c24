"""The sources of a spec: a file, a TOML text or a dict becomes tables, with the origin of every key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
import tomli
import tomli_w

from cpframe.errors import Problem, SpecError
from cpframe.spec.dotted_keys import dotted_key
from cpframe.spec.positions import KeyPath, key_lines
from cpframe.spec.toml import MAX_DEPTH, Table, parse

SpecSource = Path | str | Mapping[str, object]
"""A path; a string that is a path or TOML text; or a dict of the same structure as the TOML."""

_TEXT = "<text>"
_DICT = "<dict>"
_PLAIN = {
    "Cannot overwrite a value": "this key already has a value",
    'Expected "\'"': "a closing quote is missing",
    "Illegal character '\\n'": "a closing quote is missing",
    "Unterminated string": "a closing quote is missing",
    "Invalid statement": "expected `key = value` or a [table]",
    "Invalid value": "expected a value; text needs quotes",
}
"""Plain words for the parser's most frequent messages."""


@dataclass(frozen=True)
class SourceTables:
    """A spec as it was written, before profile and overrides.

    Attributes:
        label: the name of the source in messages: the path, ``<text>`` or ``<dict>``.
        path: the path of the file, or None.
        text: the TOML text; of a dict, TOML that was written from it.
        tables: the parsed text.
        origins: where each key was written, by its path: ``file:line``, ``<text>:line`` or ``<dict>``.
    """

    label: str
    path: Path | None
    text: str
    tables: Table
    origins: dict[KeyPath, str]


def read_source(source: SpecSource) -> SourceTables:
    """Read a spec from a file, a text or a dict.

    A string is TOML text if it contains a line break or "=" and is not the path of a file; else it is a path.

    Raises:
        SpecError: when the file cannot be read, the text is not TOML, or the dict has values that TOML does not have.
    """
    if isinstance(source, Mapping):
        return _read_mapping(source)
    if isinstance(source, str) and _is_text(source):
        tables = _parse(source, _TEXT)
        origins = {path: f"{_TEXT}:{line}" for path, line in key_lines(source).items()}
        return SourceTables(_TEXT, None, source, tables, origins)
    path = Path(source)
    text = _read_file(path)
    tables = _parse(text, str(path))
    return SourceTables(str(path), path, text, tables, {key: f"{path}:{line}" for key, line in key_lines(text).items()})


def _is_text(source: str) -> bool:
    if "\n" in source:
        return True
    return "=" in source and not source.endswith(".toml") and not os.path.exists(source)  # noqa: PTH110 - raises nothing


def _read_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpecError([Problem(str(path), "", "no such file")]) from None
    except UnicodeDecodeError:
        raise SpecError([Problem(str(path), "", "must be a text file in UTF-8")]) from None
    except OSError as error:
        raise SpecError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from None


def _parse(text: str, label: str) -> Table:
    try:
        return parse(text)
    except tomli.TOMLDecodeError as error:
        why = f"invalid TOML: {_PLAIN.get(error.msg, error.msg)}"
        raise SpecError([Problem(f"{label}:{error.lineno}", "", why)]) from None
    except ValueError as error:
        raise SpecError([Problem(label, "", str(error))]) from None


def _read_mapping(source: Mapping[str, object]) -> SourceTables:
    problems: list[tuple[KeyPath, str]] = []
    plain = plain_value(source, (), problems)
    if problems or not isinstance(plain, dict):
        raise SpecError([Problem(_DICT, dotted_key(path), why) for path, why in problems])
    text = tomli_w.dumps(plain)
    return SourceTables(_DICT, None, text, _parse(text, _DICT), dict.fromkeys(key_lines(text), _DICT))


def plain_value(value: object, path: KeyPath, problems: list[tuple[KeyPath, str]]) -> object:
    """Return a Python value in the types of TOML: tuples and arrays as lists, numbers of numpy as Python numbers.

    Args:
        value: the value.
        path: the path of the value.
        problems: the values that TOML does not have are added, each with its path and the reason.
    """
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if isinstance(value, Mapping | list | tuple | range) and value and len(path) >= MAX_DEPTH - 1:
        problems.append((path, f"nests tables or arrays more than {MAX_DEPTH} levels deep"))
    elif isinstance(value, Mapping):
        wrong = [key for key in value if not isinstance(key, str)]
        problems += [(path, f"must have keys that are text, not {key!r}") for key in wrong]
        return {key: plain_value(inner, (*path, key), problems) for key, inner in value.items() if key not in wrong}
    elif isinstance(value, list | tuple | range):
        return [plain_value(inner, (*path, number), problems) for number, inner in enumerate(value)]
    elif isinstance(value, PurePath):
        return str(value)
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        problems.append((path, "must be a whole number of at most 64 bits"))
    elif not isinstance(value, str | int | float):
        name = "None" if value is None else f"a value of type {type(value).__name__}"
        problems.append((path, f"must be text, a number, true or false, an array or a table, not {name}"))
    return value
