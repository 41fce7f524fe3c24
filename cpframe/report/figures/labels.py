"""Words in and about figures: names, titles, how many seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import TypeVar

from cpframe.records.model import CLEAN
from cpframe.report.formatting import plural, shorten, window

_Item = TypeVar("_Item")

PAGE = 6
"""Panels in one figure at most; more go into another file."""


def in_pages(stem: str, items: Sequence[_Item], most: int) -> Iterator[tuple[str, Sequence[_Item]]]:
    """Split what does not fit one figure: the stem of each file (``removal``, ``removal-2``) and what goes there."""
    for start in range(0, len(items), most):
        yield numbered(stem, start // most), items[start : start + most]


def numbered(stem: str, place: int) -> str:
    """``removal`` for the first, at place 0, ``removal-2`` for the next."""
    return stem if place == 0 else f"{stem}-{place + 1}"


def name_of(deficit: str) -> str:
    """A deficit's name as legends have it."""
    return "no deficit" if deficit == CLEAN else shorten(deficit, 20)


def timeline_of(deficit: str, onset: int, offset: int) -> str:
    """A deficit and its window: ``blur [0, 40)``."""
    return f"{name_of(deficit)} {window(onset, offset)}".rstrip()


def panel_title(*parts: str) -> str:
    """What tells a panel from its neighbours; `settle` breaks it to the panel's width."""
    return ", ".join(part for part in parts if part)


def seeds_told(samples: Iterable[Sized]) -> str:
    """``n = 5 seeds``, or ``n = 3 to 5 seeds`` where trajectories are missing."""
    return count_told(len(sample) for sample in samples)


def count_told(counts: Iterable[int]) -> str:
    """Likewise, of numbers of seeds; zeros are left out."""
    some = sorted({count for count in counts if count})
    if not some:
        return "n = 0 seeds"
    if len(some) == 1:
        return f"n = {plural(some[0], 'seed')}"
    return f"n = {some[0]} to {some[-1]} seeds"


def listed(parts: Sequence[str]) -> str:
    """Parts as a list in a sentence."""
    return "; ".join(parts)
