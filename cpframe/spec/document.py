"""A spec as tables with its profile and overrides applied, and the place where each of its keys was written."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cpframe.errors import Problem, nearest
from cpframe.spec.dotted_keys import dotted_key, key_path
from cpframe.spec.overlay import expand_dotted_keys, overlay
from cpframe.spec.overrides import Overrides, read_overrides
from cpframe.spec.positions import KeyPath
from cpframe.spec.source import SpecSource, read_source
from cpframe.spec.toml import Table


@dataclass(frozen=True)
class Document:
    """The tables of a spec after its profile and the overrides were applied.

    Attributes:
        label: the name of the spec in messages: the path of its file, ``<text>`` or ``<dict>``.
        path: the path of the spec's file; None for a spec that is not a file.
        text: the TOML text, before profile and overrides.
        tables: the parsed TOML, without ``profiles``.
        origins: where each key was written, by its path: ``file:line``, ``<text>:line``, ``<dict>``,
            ``--set key=value`` or ``overrides``.
        profile: the name of the profile that was applied, or None.
        overrides: the overrides that were applied, as ``key=value``.
        variant: the name of the ``[variants.NAME]`` that was applied, or empty.
    """

    label: str
    path: Path | None
    text: str
    tables: Table
    origins: Mapping[KeyPath, str]
    profile: str | None = None
    overrides: tuple[str, ...] = ()
    variant: str = ""

    @property
    def name(self) -> str:
        """The name of the file without its ending; ``study`` for a spec that is not a file."""
        return "study" if self.path is None else self.path.stem

    def where(self, path: KeyPath) -> str:
        """Return where the key at `path`, or else the nearest table around it, was written."""
        return self.origins.get(self._written(path), self.label)

    def problem(self, path: KeyPath, why: str) -> Problem:
        """Return a problem of the key at `path`, under the name by which the key was written."""
        where, written = self.where(path), self._written(path)
        variant: KeyPath = ("variants", self.variant)
        # Variants are written with dotted keys, in which an array element is numbered by text.
        in_variant = [self.origins.get(variant + place) for place in (written, tuple(map(str, written)))]
        return Problem(where, dotted_key(variant + path if self.variant and where in in_variant else path), why)

    def _written(self, path: KeyPath) -> KeyPath:
        """Return the path itself, or that of the nearest table around it, that has an origin."""
        known = (path[:length] for length in range(len(path), -1, -1) if path[:length] in self.origins)
        return next(known, ())

    def with_value(self, key: str, value: object, origins: Mapping[KeyPath, str]) -> Document:
        """Return the document with a value at a dotted key.

        Args:
            key: the dotted key; a part that contains dots is quoted as in TOML, and array elements are numbered from 0.
            value: the value. A table is merged into the table that is there, key by key, unless their ``use`` differ:
                then it replaces that table, because the parameters of one component mean nothing to another.
            origins: where the value and its keys were written, by path relative to the value.

        Raises:
            KeyError: when the key is not valid, leads into a value that is not a table, or past the end of an array;
                the message is meant for the user.
        """
        tables, all_origins = copy.deepcopy(self.tables), dict(self.origins)
        path: KeyPath = key_path(key)
        if path[0] == "variants":
            path, value, origins = self._expand_variant_keys(path, value, origins)
        overlay(tables, path, value, origins, (), all_origins)
        return replace(self, tables=tables, origins=all_origins)

    def _expand_variant_keys(
        self, path: KeyPath, value: object, origins: Mapping[KeyPath, str]
    ) -> tuple[KeyPath, object, Mapping[KeyPath, str]]:
        """Expand the dotted keys in a value for ``variants``, all of whose names must be variants of the spec."""
        known = self.tables.get("variants")
        names = [path[1]] if len(path) > 1 else value if isinstance(value, dict) else []
        for name in names:
            if isinstance(known, dict) and known and name not in known:
                raise KeyError(f"unknown variant {name!r}; {nearest(str(name), known, 'variants')}")
        if len(path) > 2:
            return (*path[:2], *key_path(str(path[2])), *path[3:]), value, origins
        tables: Table = {"variants": {path[1]: value} if len(path) > 1 else value}
        expanded = {path + place: origin for place, origin in origins.items()}
        for place, why in _expand_variants(tables, (), expanded):
            raise KeyError(f"{dotted_key(place)} {why}")
        value = tables["variants"][path[1]] if len(path) > 1 else tables["variants"]
        return path, value, {place[len(path) :]: origin for place, origin in expanded.items()}


def read_document(
    source: SpecSource, profile: str | None = None, overrides: Overrides = ()
) -> tuple[Document, list[Problem]]:
    """Read a spec and apply a profile, then the overrides in their order.

    Args:
        source: a path, TOML text or a dict.
        profile: the name of a ``[profiles.NAME]`` table, or None.
        overrides: texts ``key=value``, or a mapping of dotted keys to values.

    Returns:
        The document, and the problems with what could not be applied.

    Raises:
        SpecError: when the file cannot be read, the text is not TOML, or the dict has values that TOML does not have.
    """
    read = read_source(source)
    tables, origins = read.tables, read.origins
    profiles = tables.pop("profiles", {})
    wrong = _expand_variants(tables, (), origins)
    if profile is not None and isinstance(profiles, dict) and isinstance(profiles.get(profile), dict):
        wrong += _expand_variants(profiles[profile], ("profiles", profile), origins)
    document = Document(read.label, read.path, read.text, tables, origins, profile)
    problems = [document.problem(path, why) for path, why in wrong]
    if not isinstance(profiles, dict):
        problems.append(document.problem(("profiles",), "must contain only tables, [profiles.NAME]"))
    else:
        for name in [name for name, table in profiles.items() if not isinstance(table, dict)]:
            path = ("profiles", name)
            problems.append(document.problem(path, f"must be a table, [{dotted_key(path)}]"))
            del profiles[name]
        document = _apply_profile(document, profiles, problems)
    read_ones = read_overrides(overrides, problems)
    for one in read_ones:
        document = _apply(document, one.key, one.value, {(): one.origin}, problems)
    return replace(document, overrides=tuple(one.text for one in read_ones)), problems


def _apply_profile(document: Document, profiles: Mapping[str, Table], problems: list[Problem]) -> Document:
    profile = document.profile
    if profile is None:
        return document
    if profile not in profiles:
        why = f"unknown profile; {nearest(profile, profiles, 'profiles')}"
        problems.append(Problem(document.label, dotted_key(("profiles", profile)), why))
    for key, value in profiles.get(profile, {}).items():
        base = ("profiles", profile, key)
        origins = {place[3:]: origin for place, origin in document.origins.items() if place[:3] == base}
        document = _apply(document, key, value, origins, problems)
    return document


def _expand_variants(tables: Table, above: KeyPath, origins: dict[KeyPath, str]) -> list[tuple[KeyPath, str]]:
    """Expand, in place, the dotted keys of every variant; return those that cannot be expanded, with the reason."""
    variants = tables.get("variants")
    problems: list[tuple[KeyPath, str]] = []
    if not isinstance(variants, dict):
        return problems
    for name, table in variants.items():
        if isinstance(table, dict):
            variants[name], wrong = expand_dotted_keys(table, (*above, "variants", name), origins)
            problems += wrong
    return problems


def _apply(
    document: Document, key: str, value: object, origins: Mapping[KeyPath, str], problems: list[Problem]
) -> Document:
    """Return the document with a value at a key; where that is impossible, add a problem and return it unchanged."""
    try:
        if key_path(key)[0] == "profiles":
            raise KeyError("cannot be overridden; choose a profile with --profile, or with `profile` in Python")
        return document.with_value(key, value, origins)
    except KeyError as error:
        problems.append(Problem(origins[()], key, str(error.args[0])))
        return document
