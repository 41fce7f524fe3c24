"""Values laid over tables, key by key, with account kept of where each was written."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from cpframe.spec.dotted_keys import Table, dotted, key_path
from cpframe.spec.positions import KeyPath


def lay(
    tables: Any,
    path: KeyPath,
    value: object,
    origins: Mapping[KeyPath, str],
    above: KeyPath,
    places: dict[KeyPath, str],
) -> None:
    """Lay `value` at `path` into `tables`, which stands at `above`, and note in `places` where it was written."""
    step = _step(tables, path[0], above)
    here = (*above, step)
    if len(path) > 1:
        if isinstance(tables, dict) and step not in tables:
            tables[step] = {}
            places[here] = origins[()]
        lay(tables[step], path[1:], value, origins, here, places)
        return
    present = tables.get(step) if isinstance(tables, dict) else tables[step]
    if isinstance(value, dict) and _takes(present, value):
        for key, inner in value.items():
            below = {place[1:]: spot for place, spot in origins.items() if place[:1] == (key,)}
            lay(present, (key,), inner, below or origins, here, places)
        return
    for place in [place for place in places if place[: len(here)] == here]:
        del places[place]
    places.update({here + place: spot for place, spot in origins.items()})
    tables[step] = copy.deepcopy(value)


def _takes(present: object, value: Table) -> bool:
    """Whether a table is laid over what is there key by key, and does not take its place."""
    if isinstance(present, list):
        return bool(value) and all(key.isdecimal() for key in value)
    return isinstance(present, dict) and value.get("use", present.get("use")) == present.get("use")


def _step(tables: object, part: str | int, above: KeyPath) -> str | int:
    name = dotted(above)
    if isinstance(tables, dict):
        return part
    if not isinstance(tables, list):
        raise KeyError(f"{name} is not a table, so nothing can be set inside it")
    numbers = {str(number): number for number in range(len(tables))}
    if str(part) not in numbers:
        raise KeyError(f"{name} is an array of {len(tables)}, numbered from 0: it has no {str(part)!r}")
    return numbers[str(part)]


def spread(table: Table, above: KeyPath, places: dict[KeyPath, str]) -> tuple[Table, list[tuple[KeyPath, str]]]:
    """Take the dotted keys of a table apart: ``"a.b" = 1`` becomes ``a = { b = 1 }``.

    So a key is the same one, and is met by what is laid over it, whether it was written in quotes or as a table.

    Args:
        table: left as it is.
        above: where it stands.
        places: where every key was written; the keys taken apart are noted in it as well.

    Returns:
        The table, and the keys that could not be taken apart and are left out, each with the reason.
    """
    whole: Table = {}
    slips: list[tuple[KeyPath, str]] = []
    for key, value in table.items():
        here = (*above, key)
        try:
            path = key_path(key)
            _insert(whole, path, value)
        except KeyError as error:
            slips.append((here, str(error.args[0])))
            continue
        for place, spot in [(place, spot) for place, spot in places.items() if place[: len(here)] == here]:
            there = (*above, *path, *place[len(here) :])
            for depth in range(len(above) + 1, len(there) + 1):
                places.setdefault(there[:depth], spot)
    return whole, slips


def _insert(table: Table, path: KeyPath, value: object) -> None:
    """Put a value where nothing is yet; tables are joined, whatever their ``use``."""
    for part in path[:-1]:
        table = table.setdefault(str(part), {})
        if not isinstance(table, dict):
            raise KeyError("is said twice in this table")
    last = str(path[-1])
    if isinstance(value, dict) and isinstance(table.setdefault(last, {}), dict):
        for key, inner in value.items():
            _insert(table[last], (key,), inner)
    elif last in table:
        raise KeyError("is said twice in this table")
    else:
        table[last] = copy.deepcopy(value)
