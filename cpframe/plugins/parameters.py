"""The parameters of a component: the fields of its dataclass, and the values that their annotations allow."""

from __future__ import annotations

import dataclasses
import types
from functools import lru_cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter
from pydantic.errors import PydanticUserError


def parameters(cls: type[Any]) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields that a spec may set, by name."""
    return {field.name: field for field in dataclasses.fields(cls) if field.init}


def hints(cls: type[Any]) -> dict[str, Any]:
    """Return the resolved annotations of a dataclass, by field.

    Raises:
        NameError: when an annotation contains a name that the module does not have at run time.
    """
    return get_type_hints(cls, include_extras=True)


@lru_cache(maxsize=1024)
def adapter(hint: Any) -> TypeAdapter[Any]:
    """Return the strict validator of an annotation: it takes no text for a number, and no true for 1."""
    return TypeAdapter(hint, config=ConfigDict(strict=True))


def dataclass_choices(hint: Any) -> dict[str | None, type[Any]]:
    """Return the dataclasses that an annotation ``A`` or ``A | B`` allows, by their ``use``; else an empty dict.

    A dataclass declares its name, or several, by a field ``use: Literal["name"]``; one without this field has the name
    None.
    """
    return {use: choice for choice in _dataclasses(hint) for use in _uses(choice)}


def check_annotations(cls: type[Any]) -> None:
    """Check that every field of a dataclass can be validated against values of a spec.

    Raises:
        NameError: when an annotation contains a name that the module does not have at run time.
        TypeError: when no value of a spec can have the type of a field.
    """
    annotations = hints(cls)
    for name in parameters(cls):
        choices = _dataclasses(annotations[name])
        uses = [use for choice in choices for use in _uses(choice)]
        if len(choices) > 1 and (None in uses or len(set(uses)) < len(uses)):
            why = 'every dataclass of a union needs a distinct field `use: Literal["..."]`'
            raise TypeError(f"{cls.__name__}.{name}: {why}")
        for choice in choices:
            check_annotations(choice)
        if not choices:
            try:
                adapter(annotations[name])
            except PydanticUserError:
                raise TypeError(
                    f"{cls.__name__}.{name}: no value of a spec can have the type {annotations[name]}"
                ) from None


def _dataclasses(hint: Any) -> list[type[Any]]:
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    options = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return [option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)]


def _uses(choice: type[Any]) -> tuple[str | None, ...]:
    hint = hints(choice).get("use")
    return tuple(map(str, get_args(hint))) if get_origin(hint) is Literal else (None,)
