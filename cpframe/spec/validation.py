"""Validation of tables against frozen dataclasses: the fields are the keys, the annotations are the rules."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import date, time
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cpframe.errors import Problem, list_names, nearest
from cpframe.plugins.parameters import adapter, dataclass_choices, hints, parameters
from cpframe.spec.document import Document
from cpframe.spec.positions import KeyPath
from cpframe.spec.toml import write_value

T = TypeVar("T")

_EXPECTED = {
    "bool_type": "true or false",
    "dataclass_type": "a table",
    "dict_type": "a table",
    "finite_number": "a finite number",
    "float_type": "a number",
    "frozen_set_type": "an array",
    "int_type": "a whole number",
    "list_type": "an array",
    "literal_error": "{expected}",
    "set_type": "an array",
    "string_type": "text",
    "too_long": "an array of at most {max_length} elements",
    "too_short": "an array of at least {min_length} elements",
    "tuple_type": "an array",
}
"""The expected value, by the type of pydantic's error."""

_LIMITS = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
}


def build(
    cls: type[T],
    table: object,
    path: KeyPath,
    document: Document,
    problems: list[Problem],
    others: Collection[str] = (),
) -> T | None:
    """Build an instance of a dataclass from a table of the spec.

    Every field is checked strictly (no text for a number, no true for 1) against its annotation. A field whose
    annotation is a dataclass, or a union of dataclasses that differ in their ``use``, takes a table. If the dataclass
    raises in ``__post_init__``, the problem is reported at the first key that the message has in backticks.

    Args:
        cls: a frozen dataclass.
        table: the value of the spec at `path`.
        path: the path of the table in the document.
        document: the document, which knows where each key was written.
        problems: every problem found is added.
        others: further keys that the table may have, which are not fields of `cls`.

    Returns:
        The instance, or None if there was a problem.
    """
    if not isinstance(table, Mapping):
        problems.append(document.problem(path, f"must be a table, not {describe(table)}"))
        return None
    before = len(problems)
    fields = parameters(cls)
    annotations = hints(cls)
    values: dict[str, Any] = {}
    for key in table:
        if key not in fields and key not in others:
            why = f"unknown key; {nearest(key, {*fields, *others}, 'keys')}"
            problems.append(document.problem((*path, key), why))
    for name, field in fields.items():
        if name in table:
            values[name] = _validate(annotations[name], table[name], (*path, name), document, problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(document.problem((*path, name), "is missing"))
    if len(problems) > before:
        return None
    create: Callable[..., T] = cls
    try:
        return create(**values)
    except ValueError as error:
        why = " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything, which is a problem of the spec
        why = f"{cls.__name__} rejects these values: {type(error).__name__}: {error}"
    named = next(((key,) for key in re.findall(r"`(\w+)`", why) if key in table), ())
    problems.append(document.problem(path + named, why))
    return None


def describe(value: object) -> str:
    """Describe a value in a message: as TOML, shortened to 60 characters, or as "a table"."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list) and any(isinstance(inner, Mapping) for inner in value):
        return "an array of tables"
    text = write_value(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _validate(hint: Any, value: object, path: KeyPath, document: Document, problems: list[Problem]) -> Any:
    choices = dataclass_choices(hint)
    if choices:
        return _build_choice(choices, value, path, document, problems)
    reasons = list(_unsupported(value))
    if not reasons:
        try:
            # JSON has arrays but no tuples, so a strict check of JSON accepts a TOML array for a tuple.
            return adapter(hint).validate_json(json.dumps(value))
        except ValidationError as error:
            reasons = _explain(error, value)
    for place, why in reasons:
        problems.append(document.problem(path + place, why))
    return None


def _unsupported(value: object, path: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Yield the values that TOML has but no parameter can have."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _unsupported(inner, (*path, key))
    elif isinstance(value, date | time):
        yield path, f"must not be a date or a time, {value}; put text in quotes"
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield path, "must be a whole number of at most 64 bits"


def _build_choice(
    choices: Mapping[str | None, type[Any]], value: object, path: KeyPath, document: Document, problems: list[Problem]
) -> Any:
    """Build an instance of the dataclass that a table names by its ``use``."""
    if list(choices) == [None]:
        return build(choices[None], value, path, document, problems)
    known = [name for name in choices if name is not None]
    use = value.get("use") if isinstance(value, Mapping) else None
    if isinstance(use, str) and use in known:
        return build(choices[use], value, path, document, problems)
    if isinstance(use, str):
        why = f"unknown name {use!r}; {nearest(use, known)}"
    elif use is not None:
        why = f"must be a name in quotes; {list_names(known)}"
    else:
        why = f"must be a table with a name, {{ use = {write_value(known[0])}, ... }}; {list_names(known)}"
    problems.append(document.problem(path if use is None else (*path, "use"), why))
    return None


def _explain(error: ValidationError, value: object) -> list[tuple[KeyPath, str]]:
    """Turn pydantic's errors into sentences, one per place in the value (a union gives one error per member)."""
    expected: dict[KeyPath, list[str]] = {}
    given: dict[KeyPath, object] = {}
    for details in error.errors():
        place, inner = _locate(details, value)
        given[place] = inner
        expected.setdefault(place, []).append(_expected(details))
    return [
        (place, f"must be {' or '.join(dict.fromkeys(words))}, not {describe(given[place])}")
        for place, words in expected.items()
    ]


def _expected(details: ErrorDetails) -> str:
    kind, message = details["type"], details["msg"]
    if kind == "missing":
        missing = details["loc"][-1]
        return "a longer array" if isinstance(missing, int) else f"a table with {missing!r}"
    if kind in _EXPECTED:
        return _EXPECTED[kind].format(**details.get("ctx", {}))
    rest = message.removeprefix("Input should be ")
    if rest == message:
        return f"valid ({message[:1].lower()}{message[1:]})"
    for long, short in _LIMITS.items():
        rest = rest.replace(long, short)
    return rest


def _locate(details: ErrorDetails, value: object) -> tuple[KeyPath, object]:
    """Return the place of an error inside the value, which is the part of its location that leads into the value."""
    place: KeyPath = ()
    for part in details["loc"]:
        inside_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if inside_list or (isinstance(value, dict) and part in value):
            value = value[part]  # type: ignore[index]
            place += (part,)
    return place, value
