"""A table of a spec checked against a frozen dataclass: its fields are the keys, its annotations the rules."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Collection, Iterator, Mapping
from datetime import date, time
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from cpframe.errors import Problem, nearest
from cpframe.plugins.parameters import adapter, hints, parameters, tables
from cpframe.spec.document import Document
from cpframe.spec.positions import KeyPath

_WORDS = {
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
    "too_long": "an array of {max_length} or fewer",
    "too_short": "an array of {min_length} or more",
    "tuple_type": "an array",
}
"""What should be there instead, by the type of pydantic's error."""

_LIMITS = {
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "greater than": "above",
    "less than": "below",
}


def build(
    cls: type[Any],
    table: object,
    path: KeyPath,
    document: Document,
    problems: list[Problem],
    others: Collection[str] = (),
) -> Any:
    """Build an instance of the dataclass `cls` from a table of the spec.

    Every field is checked strictly (no text for a number, no true for 1) against its own annotation. A field whose
    annotation is a dataclass, or a union of dataclasses told apart by their ``use``, takes a table of its own. What
    the dataclass refuses in ``__post_init__`` is told at the key that its message names first in backticks.

    Args:
        cls: a frozen dataclass.
        table: what the spec says at `path`.
        path: of the table in the document.
        document: says where each key was written.
        problems: every problem found is added.
        others: keys of the table that belong to somebody else.

    Returns:
        The instance, or None when there was a problem.
    """
    if not isinstance(table, Mapping):
        problems.append(document.problem(path, f"should be a table, not {shown(table)}"))
        return None
    before = len(problems)
    fields = parameters(cls)
    rules = hints(cls)
    values: dict[str, Any] = {}
    for key in table:
        if key not in fields and key not in others:
            why = f"is not a key of {'this table' if path else 'a spec'}; {nearest(key, {*fields, *others})}"
            problems.append(document.problem((*path, key), why))
    for name, field in fields.items():
        if name in table:
            values[name] = _checked(rules[name], table[name], (*path, name), document, problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(document.problem((*path, name), "is missing"))
    if len(problems) > before:
        return None
    try:
        return cls(**values)
    except ValueError as error:
        why = " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001 - a plugin is a stranger's code: whatever it raises is told, no crash
        why = f"{cls.__name__} cannot be made of these values: {type(error).__name__}: {error}"
    named = next(((key,) for key in re.findall(r"`(\w+)`", why) if key in table), ())
    problems.append(document.problem(path + named, why))
    return None


def shown(value: object) -> str:
    """Write a value as TOML does, cut to what fits into a message."""
    if isinstance(value, Mapping):
        return "a table"
    if isinstance(value, list):
        if any(isinstance(inner, Mapping) for inner in value):
            return "an array of tables"
        text = f"[{', '.join(map(shown, value))}]"
    else:
        # str for what JSON has not, or has under another name: dates, nan, inf
        text = json.dumps(value, ensure_ascii=False) if isinstance(value, str | bool) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _checked(hint: Any, value: object, path: KeyPath, document: Document, problems: list[Problem]) -> Any:
    choices = tables(hint)
    if choices:
        return _nested(choices, value, path, document, problems)
    reasons = list(_foreign(value))
    if not reasons:
        try:
            # JSON knows arrays but no tuples, so that a strict check still takes a TOML array for a tuple.
            return adapter(hint).validate_json(json.dumps(value))
        except ValidationError as error:
            reasons = _reasons(error, value)
    for place, why in reasons:
        problems.append(document.problem(path + place, why))
    return None


def _foreign(value: object, place: KeyPath = ()) -> Iterator[tuple[KeyPath, str]]:
    """Values of TOML that no parameter has."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _foreign(inner, (*place, key))
    elif isinstance(value, date | time):
        yield place, f"cannot be a date or a time, {value}; if text is meant, it needs quotes"
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        yield place, "should be a number of at most 64 bits"


def _nested(
    choices: Mapping[str | None, type[Any]], value: object, path: KeyPath, document: Document, problems: list[Problem]
) -> Any:
    if list(choices) == [None]:
        return build(choices[None], value, path, document, problems)
    known = [name for name in choices if name is not None]
    use = value.get("use") if isinstance(value, Mapping) else None
    if isinstance(use, str) and use in known:
        return build(choices[use], value, path, document, problems)
    spot = path if use is None else (*path, "use")
    if isinstance(use, str):
        why = f"{shown(use)} is not known here; {nearest(use, known)}"
    elif use is not None:
        why = f"should be a name in quotes; {nearest('', known)}"
    else:
        why = f"should be a table that says which, {{ use = {json.dumps(known[0])}, ... }}; {nearest('', known)}"
    problems.append(document.problem(spot, why))
    return None


def _reasons(error: ValidationError, value: object) -> list[tuple[KeyPath, str]]:
    """Turn pydantic's errors into sentences, one for each place (a union gives one for each of its members)."""
    whys: dict[KeyPath, list[str]] = {}
    found: dict[KeyPath, object] = {}
    for details in error.errors():
        place, inner = _place(details, value)
        found[place] = inner
        whys.setdefault(place, []).append(_word(details))
    return [
        (place, f"should be {' or '.join(dict.fromkeys(words))}, not {shown(found[place])}")
        for place, words in whys.items()
    ]


def _word(details: ErrorDetails) -> str:
    kind, message = details["type"], details["msg"]
    if kind == "missing":
        missing = details["loc"][-1]
        return "a longer array" if isinstance(missing, int) else f"a table with {missing!r}"
    if kind in _WORDS:
        return _WORDS[kind].format(**details.get("ctx", {}))
    rest = message.removeprefix("Input should be ")
    if rest == message:
        return f"valid ({message[:1].lower()}{message[1:]})"
    for long, short in _LIMITS.items():
        rest = rest.replace(long, short)
    return rest


def _place(details: ErrorDetails, value: object) -> tuple[KeyPath, object]:
    """Where inside the value an error is: the part of its location that really leads into the value."""
    place: KeyPath = ()
    for part in details["loc"]:
        inside_list = isinstance(value, list) and isinstance(part, int) and part < len(value)
        if inside_list or (isinstance(value, dict) and part in value):
            value = value[part]  # type: ignore[index]
            place += (part,)
    return place, value
