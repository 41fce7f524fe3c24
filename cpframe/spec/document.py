"""A spec as tables, and where each of its keys was written: in the file, a profile, or on the command line."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import tomli

from cpframe.errors import Problem, SpecError, nearest
from cpframe.spec.dotted_keys import Table, dotted, key_path, parse
from cpframe.spec.overlay import lay, spread
from cpframe.spec.positions import KeyPath, key_lines

_PLAIN = {
    "Cannot overwrite a value": "this key has a value already",
    'Expected "\'"': "a closing quote is missing",
    "Illegal character '\\n'": "a closing quote is missing",
    "Unterminated string": "a closing quote is missing",
    "Invalid statement": "this is neither `key = value` nor a [table]",
    "Invalid value": "this is no value; text needs quotes",
}
"""What the parser means, for the commonest slips."""


@dataclass(frozen=True)
class Document:
    """The tables of a spec after its profile and the command line were laid over it.

    Attributes:
        path: of the spec's file.
        text: of the spec's file.
        tables: the parsed TOML, without ``profiles``.
        origins: for the path of a key, where it was written: ``file:line`` or ``--set key=value``.
        variant: name of the ``[variants.NAME]`` that is laid over the rest; empty where there is none.
    """

    path: Path
    text: str
    tables: Table
    origins: Mapping[KeyPath, str]
    variant: str = ""

    def where(self, path: KeyPath) -> str:
        """Say where the key at `path` was written, or else the nearest table around it."""
        return self.origins.get(self._written(path), str(self.path))

    def problem(self, path: KeyPath, why: str) -> Problem:
        """What is wrong with the key at `path`, which is told by the name it was written under."""
        where, written = self.where(path), self._written(path)
        own: KeyPath = ("variants", self.variant)
        # an element of an array is numbered there by a digit in its dotted key
        there = [self.origins.get(own + one) for one in (written, tuple(map(str, written)))]
        return Problem(where, dotted(own + path if self.variant and where in there else path), why)

    def _written(self, path: KeyPath) -> KeyPath:
        """The key at `path`, or the nearest table around it, that was written somewhere."""
        known = (path[:length] for length in range(len(path), -1, -1) if path[:length] in self.origins)
        return next(known, ())

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
        path: KeyPath = key_path(key)
        if path[0] == "variants":
            path, value, origins = self._of_variants(path, value, origins)
        lay(tables, path, value, origins, (), places)
        return replace(self, tables=tables, origins=places)

    def _of_variants(
        self, path: KeyPath, value: object, origins: Mapping[KeyPath, str]
    ) -> tuple[KeyPath, object, Mapping[KeyPath, str]]:
        """Take apart the dotted keys of what is to be laid over variants, which are those that the spec names."""
        known = self.tables.get("variants")
        names = [path[1]] if len(path) > 1 else value if isinstance(value, dict) else []
        for name in names:
            if isinstance(known, dict) and known and name not in known:
                raise KeyError(f"{name!r} is not a variant of this spec; {nearest(str(name), known)}")
        if len(path) > 2:
            return (*path[:2], *key_path(str(path[2])), *path[3:]), value, origins
        tables: Table = {"variants": {path[1]: value} if len(path) > 1 else value}
        places = {path + place: spot for place, spot in origins.items()}
        for place, why in _spread_variants(tables, (), places):
            raise KeyError(f"{dotted(place)} {why}")
        value = tables["variants"][path[1]] if len(path) > 1 else tables["variants"]
        return path, value, {place[len(path) :]: spot for place, spot in places.items()}


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
        tables = parse(text)
    except tomli.TOMLDecodeError as error:
        why = f"is not valid TOML: {_PLAIN.get(error.msg, error.msg)}"
        raise SpecError([Problem(f"{path}:{error.lineno}", "", why)]) from None
    except ValueError as error:
        raise SpecError([Problem(str(path), "", str(error))]) from None
    origins = {place: f"{path}:{line}" for place, line in key_lines(text).items()}
    profiles = tables.pop("profiles", {})
    slips = _spread_variants(tables, (), origins)
    if profile is not None and isinstance(profiles, dict) and isinstance(profiles.get(profile), dict):
        slips += _spread_variants(profiles[profile], ("profiles", profile), origins)
    document = Document(path, text, tables, origins)
    problems = [document.problem(place, why) for place, why in slips]
    if not isinstance(profiles, dict):
        problems.append(document.problem(("profiles",), "should be tables, [profiles.NAME]"))
    else:
        for name in [name for name, table in profiles.items() if not isinstance(table, dict)]:
            place = ("profiles", name)
            problems.append(document.problem(place, f"should be a table, [{dotted(place)}]"))
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


def _spread_variants(tables: Table, above: KeyPath, places: dict[KeyPath, str]) -> list[tuple[KeyPath, str]]:
    """Take apart, in place, the dotted keys of every variant; returns those that cannot be, with the reason."""
    variants = tables.get("variants")
    slips: list[tuple[KeyPath, str]] = []
    if not isinstance(variants, dict):
        return slips
    for name, table in variants.items():
        if isinstance(table, dict):
            variants[name], found = spread(table, (*above, "variants", name), places)
            slips += found
    return slips


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SpecError([Problem(str(path), "", "there is no such file")]) from None
    except UnicodeDecodeError:
        raise SpecError([Problem(str(path), "", "is not a text file in UTF-8")]) from None
    except OSError as error:
        raise SpecError([Problem(str(path), "", f"cannot be read: {error.strerror}")]) from None


def _value(text: str) -> object:
    """Read a value as TOML; what is no TOML is a plain word, so that quotes are not needed in a shell."""
    try:
        tables = parse(f"value = {text}")
    except ValueError:
        return text
    return tables["value"] if len(tables) == 1 else text


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
