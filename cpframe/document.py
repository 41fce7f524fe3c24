"""A spec as tables, and where each of its keys was written: in the file, a profile, or on the command line."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli

from cpframe.problems import Problem, SpecError, nearest
from cpframe.toml_lines import KeyPath, key_lines

Table = dict[str, Any]

_DEPTH = 32
"""Tables and arrays inside one another: more than any spec needs, and less than Python's recursion bears."""
_PLAIN = {
    "Cannot overwrite a value": "this key has a value already",
    'Expected "\'"': "a closing quote is missing",
    "Illegal character '\\n'": "a closing quote is missing",
    "Unterminated string": "a closing quote is missing",
    "Invalid statement": "this is neither `key = value` nor a [table]",
    "Invalid value": "this is no value; text needs quotes",
}
"""What the parser means, for the commonest slips."""
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Document:
    """The tables of a spec after its profile and the command line were laid over it.

    Attributes:
        path: of the spec's file.
        text: of the spec's file.
        tables: the parsed TOML, without ``profiles``.
        origins: for the path of a key, where it was written: ``file:line`` or ``--set key=value``.
    """

    path: Path
    text: str
    tables: Table
    origins: Mapping[KeyPath, str]

    def where(self, path: KeyPath) -> str:
        """Say where the key at `path` was written, or else the nearest table around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return str(self.path)

    def laid_over(self, key: str, value: object, origins: Mapping[KeyPath, str]) -> Document:
        """Return the document with `value` at the dotted `key`.

        Args:
            key: parts joined by dots, quoted as in TOML where they have dots of their own; the elements of arrays are
                numbered from 0.
            value: a table is laid over the table that is there, key by key, unless their ``use`` differ: then it
                takes its place, since the parameters of one component mean nothing to another.
            origins: where the value was written, by path from the value (the value itself has the path ()).

        Raises:
            KeyError: when the key is none, or leads through something that is no table, or past the end of an array;
                a sentence for the user.
        """
        tables, places = copy.deepcopy(self.tables), dict(self.origins)
        _lay(tables, key_path(key), value, origins, (), places)
        return Document(self.path, self.text, tables, places)


def read_document(
    path: Path, profile: str | None = None, overrides: Sequence[str] = ()
) -> tuple[Document, list[Problem]]:
    """Read a spec's file, lay a profile over it, then each ``key=value`` of `overrides` in turn.

    Returns:
        The document, and the problems with what could not be laid over it.

    Raises:
        SpecError: when the file cannot be read or is no TOML.
    """
    text = _read(path)
    try:
        tables = _parse(text)
    except tomli.TOMLDecodeError as error:
        why = f"is not valid TOML: {_PLAIN.get(error.msg, error.msg)}"
        raise SpecError([Problem(f"{path}:{error.lineno}", "", why)]) from None
    except ValueError as error:
        raise SpecError([Problem(str(path), "", str(error))]) from None
    origins = {place: f"{path}:{line}" for place, line in key_lines(text).items()}
    profiles = tables.pop("profiles", {})
    document = Document(path, text, tables, origins)
    problems: list[Problem] = []
    if not isinstance(profiles, dict):
        problems.append(Problem(document.where(("profiles",)), "profiles", "should be tables, [profiles.NAME]"))
    else:
        for name in [name for name, table in profiles.items() if not isinstance(table, dict)]:
            place = ("profiles", name)
            problems.append(Problem(document.where(place), dotted(place), f"should be a table, [{dotted(place)}]"))
            del profiles[name]
        document = _profiled(document, profiles, profile, problems)
    for override in overrides:
        origin = f"--set {override}"
        key, equals, value = override.partition("=")
        if not equals or not key.strip():
            problems.append(Problem(origin, "", "should read key=value, as in --set optimizer.lr=0.1"))
        else:
            document = _attempt(document, key.strip(), _value(value.strip()), {(): origin}, origin, problems)
    return document, problems


def _profiled(
    document: Document, profiles: Mapping[str, Table], profile: str | None, problems: list[Problem]
) -> Document:
    if profile is None:
        return document
    if profile not in profiles:
        why = f"is not a profile of this spec; {nearest(profile, profiles)}"
        problems.append(Problem(str(document.path), f"--profile {profile}", why))
    for key, value in profiles.get(profile, {}).items():
        base = ("profiles", profile, key)
        inner = {place[3:]: spot for place, spot in document.origins.items() if place[:3] == base}
        document = _attempt(document, key, value, inner, inner[()], problems)
    return document


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpecError([Problem(str(path), "", "there is no such file")]) from None
    except UnicodeDecodeError:
        raise SpecError([Problem(str(path), "", "is not a text file in UTF-8")]) from None
    except OSError as error:
        raise SpecError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from None


def _parse(text: str) -> Table:
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


def _value(text: str) -> object:
    """Read a value as TOML; what is no TOML is a plain word, so that quotes are not needed in a shell."""
    try:
        tables = _parse(f"value = {text}")
    except ValueError:
        return text
    return tables["value"] if len(tables) == 1 else text


def key_path(key: str) -> tuple[str, ...]:
    """Take a dotted key apart.

    Raises:
        KeyError: when it is none; a sentence for the user.
    """
    path: list[str] = []
    try:
        value: object = _parse(f"{key} = 0")
    except ValueError:
        value = None
    while isinstance(value, dict) and len(value) == 1:
        ((part, value),) = value.items()
        path.append(part)
    if value != 0:
        raise KeyError("is not a key; write parts joined by dots, as in optimizer.lr")
    return tuple(path)


def _attempt(
    document: Document, key: str, value: object, origins: Mapping[KeyPath, str], where: str, problems: list[Problem]
) -> Document:
    try:
        if key_path(key)[0] == "profiles":
            raise KeyError("cannot be set: profiles are what is laid over a spec, and are chosen by --profile")
        return document.laid_over(key, value, origins)
    except KeyError as error:
        problems.append(Problem(where, key, str(error.args[0])))
        return document


def _lay(
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
        _lay(tables[step], path[1:], value, origins, here, places)
        return
    present = tables.get(step) if isinstance(tables, dict) else tables[step]
    if isinstance(value, dict) and isinstance(present, dict) and _same_use(present, value):
        for key, inner in value.items():
            below = {place[1:]: spot for place, spot in origins.items() if place[:1] == (key,)}
            _lay(present, (key,), inner, below or origins, here, places)
        return
    for place in [place for place in places if place[: len(here)] == here]:
        del places[place]
    places.update({here + place: spot for place, spot in origins.items()})
    tables[step] = copy.deepcopy(value)


def _same_use(present: Table, value: Table) -> bool:
    return value.get("use", present.get("use")) == present.get("use")


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


def dotted(path: KeyPath) -> str:
    """Write a path as a dotted key, quoted where TOML asks for it, with array elements as ``[number]``."""
    return "".join(_dotted_parts(path))


def _dotted_parts(path: KeyPath) -> Iterator[str]:
    for place, part in enumerate(path):
        if isinstance(part, int):
            yield f"[{part}]"
        else:
            yield "." * (place > 0) + (part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False))
