"""Overlays: a value replaces, or is merged into, the value at a key, and its origin is recorded."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from cpframe.spec.dotted_keys import dotted_key, key_path
from cpframe.spec.positions import KeyPath
from cpframe.spec.toml import Table


def overlay(
    tables: Any,
    path: KeyPath,
    value: object,
    value_origins: Mapping[KeyPath, str],
    above: KeyPath,
    origins: dict[KeyPath, str],
) -> None:
    """Put a value at a path, in place.

    Args:
        tables: the table or array that is changed.
        path: the path of the value, relative to `tables`.
        value: the value; a table is merged into a table that is there, unless their ``use`` differ.
        value_origins: the origins of the value and its keys, by path relative to the value.
        above: the path of `tables` in the document.
        origins: the origins of the document, which are updated.

    Raises:
        KeyError: when the path leads into a value that is not a table, or past the end of an array.
    """
    key = _key_in(tables, path[0], above)
    here = (*above, key)
    if len(path) > 1:
        if isinstance(tables, dict) and key not in tables:
            tables[key] = {}
            origins[here] = value_origins[()]
        overlay(tables[key], path[1:], value, value_origins, here, origins)
        return
    present = tables.get(key) if isinstance(tables, dict) else tables[key]
    if isinstance(value, dict) and _is_merged(present, value):
        for inner_key, inner in value.items():
            below = {place[1:]: origin for place, origin in value_origins.items() if place[:1] == (inner_key,)}
            overlay(present, (inner_key,), inner, below or value_origins, here, origins)
        return
    for place in [place for place in origins if place[: len(here)] == here]:
        del origins[place]
    origins.update({here + place: origin for place, origin in value_origins.items()})
    tables[key] = copy.deepcopy(value)


def _is_merged(present: object, value: Table) -> bool:
    """Return whether a table is merged into the present value, key by key, and does not replace it."""
    if isinstance(present, list):
        return bool(value) and all(key.isdecimal() for key in value)
    return isinstance(present, dict) and value.get("use", present.get("use")) == present.get("use")


def _key_in(tables: object, part: str | int, above: KeyPath) -> str | int:
    """Return the key of a table, or the number of an array element, that a part of a dotted key means."""
    name = dotted_key(above)
    if isinstance(tables, dict):
        return part
    if not isinstance(tables, list):
        raise KeyError(f"{name} is not a table, so no key can be set in it")
    numbers = {str(number): number for number in range(len(tables))}
    if str(part) not in numbers:
        raise KeyError(f"{name} is an array of length {len(tables)}, numbered from 0; it has no element {str(part)!r}")
    return numbers[str(part)]


def expand_dotted_keys(
    table: Table, above: KeyPath, origins: dict[KeyPath, str]
) -> tuple[Table, list[tuple[KeyPath, str]]]:
    """Expand the dotted keys of a table: ``"a.b" = 1`` becomes ``a = { b = 1 }``.

    Overlays then find a key whether it was written in quotes or as a table.

    Args:
        table: the table; it is not changed.
        above: the path of the table in the document.
        origins: the origins of the document; those of the expanded keys are added.

    Returns:
        The expanded table, and the keys that could not be expanded and are left out, each with the reason.
    """
    expanded: Table = {}
    problems: list[tuple[KeyPath, str]] = []
    for key, value in table.items():
        here = (*above, key)
        try:
            path = key_path(key)
            _insert(expanded, path, value)
        except KeyError as error:
            problems.append((here, str(error.args[0])))
            continue
        for place, origin in [(place, origin) for place, origin in origins.items() if place[: len(here)] == here]:
            expanded_place = (*above, *path, *place[len(here) :])
            for depth in range(len(above) + 1, len(expanded_place) + 1):
                origins.setdefault(expanded_place[:depth], origin)
    return expanded, problems


def _insert(table: Table, path: KeyPath, value: object) -> None:
    """Put a value at a key that is not yet set; tables are merged, whatever their ``use``."""
    for part in path[:-1]:
        table = table.setdefault(str(part), {})
        if not isinstance(table, dict):
            raise KeyError("is set twice in this table")
    last = str(path[-1])
    if isinstance(value, dict) and isinstance(table.setdefault(last, {}), dict):
        for key, inner in value.items():
            _insert(table[last], (key,), inner)
    elif last in table:
        raise KeyError("is set twice in this table")
    else:
        table[last] = copy.deepcopy(value)
