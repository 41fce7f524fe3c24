"""Texts that several figures share: names of deficits and timelines, panel titles, numbers of seeds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from cpframe.records.model import CLEAN
from cpframe.report.formatting import plural, shorten, window

_Item = TypeVar("_Item")

_PANELS_PER_FIGURE = 6


def paginate(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    """Split the panels of a figure into groups that fit one file each."""
    for start in range(0, len(items), _PANELS_PER_FIGURE):
        yield items[start : start + _PANELS_PER_FIGURE]


def deficit_label(deficit: str) -> str:
    """Return a deficit's name for legends."""
    return "no deficit" if deficit == CLEAN else shorten(deficit, 20)


def timeline_label(deficit: str, onset: int, offset: int) -> str:
    """Return a deficit and its window: ``blur [0, 40)``."""
    return f"{deficit_label(deficit)} {window(onset, offset)}".rstrip()


def panel_title(*parts: str) -> str:
    """Join the parts that distinguish a panel from the others; `wrap_titles` breaks the title to the panel's width."""
    return ", ".join(part for part in parts if part)


def sample_size(counts: Iterable[int]) -> str:
    """Return the number of seeds: ``n = 5 seeds``, or ``n = 3 to 5 seeds`` where it varies; zeros are ignored."""
    distinct = sorted({count for count in counts if count})
    if not distinct:
        return "n = 0 seeds"
    if len(distinct) == 1:
        return f"n = {plural(distinct[0], 'seed')}"
    return f"n = {distinct[0]} to {distinct[-1]} seeds"


def fisher_axis(units: str) -> str:
    """Return the axis label of a Fisher trace in the given units, which may be empty."""
    return f"Fisher trace, {units.replace('nat^2', 'nat²')}" if units else "Fisher trace"


def prefix_variant(label: str, sentence: str) -> str:
    """Return a sentence after the label of its variant, or with a capital letter where the label is empty."""
    return f"{label}: {sentence}" if label else sentence[:1].upper() + sentence[1:]


def sentences(*parts: str) -> str:
    """Return the non-empty parts as sentences, each with a full stop."""
    return " ".join(f"{part}." for part in parts if part)
