"""A cache of function results, once per process, that keeps the types of a function's parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


def cached(size: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return `functools.lru_cache` for `size` results; its own annotation loses the types of parameters."""
    return cast("Callable[[Callable[P, R]], Callable[P, R]]", lru_cache(size))
