"""Overrides of single values: ``key=value`` texts of the command line, or a mapping from Python."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cpframe.errors import Problem
from cpframe.spec.dotted_keys import dotted_key
from cpframe.spec.positions import KeyPath
from cpframe.spec.source import plain_value
from cpframe.spec.toml import parse, write_value

Overrides = Sequence[str] | Mapping[str, object]
"""Texts ``key=value``, whose value is TOML or plain text; or values by dotted key: ``{"optimizer.lr": 0.1}``."""

_MAPPING = "overrides"


@dataclass(frozen=True)
class Override:
    """One value that replaces a value of the spec.

    Attributes:
        key: the dotted key.
        value: the value, in the types of TOML.
        origin: where it was written, for messages: ``--set key=value``, or ``overrides``.
        text: ``key=value``, for the record.
    """

    key: str
    value: object
    origin: str
    text: str


def read_overrides(overrides: Overrides, problems: list[Problem]) -> list[Override]:
    """Read overrides in their order; those that cannot be read are added to `problems`."""
    if isinstance(overrides, Mapping):
        return _read_mapping(overrides, problems)
    return _read_texts([overrides] if isinstance(overrides, str) else overrides, problems)


def _read_texts(texts: Iterable[str], problems: list[Problem]) -> list[Override]:
    read = []
    for text in texts:
        origin = f"--set {text}"
        key, equals, value = text.partition("=")
        if equals and key.strip():
            read.append(Override(key.strip(), _parse_value(value.strip()), origin, text))
        else:
            problems.append(Problem(origin, "", "must have the form key=value, as in --set optimizer.lr=0.1"))
    return read


def _parse_value(text: str) -> object:
    """Parse a value as TOML; anything else is plain text, so that text needs no quotes in a shell."""
    try:
        tables = parse(f"value = {text}")
    except ValueError:
        return text
    return tables["value"] if len(tables) == 1 else text


def _read_mapping(overrides: Mapping[Any, object], problems: list[Problem]) -> list[Override]:
    read = []
    for key, value in overrides.items():
        if not isinstance(key, str):
            problems.append(Problem(_MAPPING, repr(key), "must be text, a dotted key such as optimizer.lr"))
            continue
        wrong: list[tuple[KeyPath, str]] = []
        plain = plain_value(value, (), wrong)
        problems += [Problem(_MAPPING, _join(key, path), why) for path, why in wrong]
        if not wrong:
            read.append(Override(key, plain, _MAPPING, f"{key}={write_value(plain)}"))
    return read


def _join(key: str, path: KeyPath) -> str:
    rest = dotted_key(path)
    return key + ("." if rest and not rest.startswith("[") else "") + rest
