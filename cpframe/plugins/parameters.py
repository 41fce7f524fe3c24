"""The parameters of a component: what the annotations of its dataclass allow a spec to say."""

from __future__ import annotations

import dataclasses
import types
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError


def parameters(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """The fields that a spec may set, by name."""
    return {field.name: field for field in dataclasses.fields(cls) if field.init}


def hints(cls: type[Any]) -> dict[str, Any]:
    """The annotations of a dataclass, resolved, by field.

    Raises:
        NameError: when an annotation names what its module does not have at run time.
    """
    return get_type_hints(cls, include_extras=True)


@lru_cache(maxsize=1024)
def adapter(hint: Any) -> TypeAdapter[Any]:
    """The strict check (no text for a number, no true for 1) of values against an annotation."""
    return TypeAdapter(hint, config=ConfigDict(strict=True))


def tables(hint: Any) -> dict[str | None, type[Any]]:
    """The dataclasses that an annotation allows, ``A`` or ``A | B``, by their ``use``; none for any other annotation.

    A dataclass says its name by a field ``use: Literal["name"]``, which may have more names than one; one without has
    the name None.
    """
    return {use: choice for choice in _dataclasses(hint) for use in _uses(choice)}


def check_annotations(cls: type[Any]) -> None:
    """Make sure that values of a spec can be checked against every field of a dataclass.

    Raises:
        NameError: when an annotation names what its module does not have at run time.
        TypeError: when a field is of a type that no value of a spec can have.
    """
    found = hints(cls)
    for name in parameters(cls):
        choices = _dataclasses(found[name])
        uses = [use for choice in choices for use in _uses(choice)]
        if len(choices) > 1 and (None in uses or len(set(uses)) < len(uses)):
            why = 'every dataclass of a union needs a field of its own, `use: Literal["..."]`'
            raise TypeError(f"{cls.__name__}.{name}: {why}")
        for choice in choices:
            check_annotations(choice)
        if not choices:
            try:
                adapter(found[name])
            except PydanticUserError:
                raise TypeError(f"{cls.__name__}.{name}: no value of a spec can be a {found[name]}") from None


def _dataclasses(hint: Any) -> list[type[Any]]:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return [option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)]


def _uses(choice: type[Any]) -> tuple[str | None, ...]:
    hint = hints(choice).get("use")
    return tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else (None,)
