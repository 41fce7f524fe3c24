"""A cache of function results, once per process, that keeps the types of a function's parameters."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


_CACHES: list[Callable[[], None]] = []


def clear_caches() -> None:
    """Forget all cached results: files may have changed since an earlier run in this process."""
    for clear in _CACHES:
        clear()


def cached(size: int) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return `functools.lru_cache` for `size` results; its own annotation loses the types of parameters."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        wrapped = lru_cache(size)(function)
        _CACHES.append(wrapped.cache_clear)
        return cast("Callable[P, R]", wrapped)

    return decorate
