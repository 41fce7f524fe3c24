"""The choice of a few curves that represent many, for reports and figures with limited space."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from cpframe.analysis.comparisons import RemovalGroup, SlidingGroup, deficits_of, largest_drops, variant_key
from cpframe.analysis.metric_curves import MetricCurve
from cpframe.records.model import CLEAN, StudyRecord

Window = tuple[int, int]


def by_variant(curves: Iterable[MetricCurve]) -> tuple[tuple[MetricCurve, ...], ...]:
    """Return the curves of each variant, in the order in which the variants appear."""
    found: dict[str, list[MetricCurve]] = {}
    for curve in curves:
        found.setdefault(variant_key(curve.variant), []).append(curve)
    return tuple(map(tuple, found.values()))


def sort_curves(study: StudyRecord, curves: Iterable[MetricCurve]) -> tuple[MetricCurve, ...]:
    """Sort curves: without a deficit first, then by deficit, protocol and window."""
    order = [CLEAN, *deficits_of(study)]
    return tuple(sorted(curves, key=lambda c: (order.index(c.deficit), c.protocol, c.offset, c.onset, c.epochs)))


def largest_effect(study: StudyRecord, groups: Iterable[RemovalGroup | SlidingGroup]) -> tuple[str, Window] | None:
    """Return the deficit with the largest mean drop and its (onset, offset), idle controls aside.

    Drops under the removal protocol take precedence over drops under the sliding protocol.

    Returns:
        None if no drop is known.
    """
    drops: dict[tuple[bool, str, Window], float] = {}
    for group in groups:
        for curve in group.curves:
            for point in curve.points:
                if point.drops and curve.deficit not in study.idle:
                    key = isinstance(group, RemovalGroup), curve.deficit, (point.onset, point.offset)
                    drops[key] = max(drops.get(key, -np.inf), float(np.mean(list(point.drops.values()))))
    return max(drops, key=lambda key: (key[0], drops[key]))[1:] if drops else None


def representatives(
    study: StudyRecord, groups: Sequence[RemovalGroup | SlidingGroup], curves: Sequence[MetricCurve]
) -> tuple[MetricCurve, ...]:
    """Return the curve without a deficit, and one curve per deficit.

    All deficits are shown at the same window if they have it, so that they can be compared: the window of the largest
    drop (see `largest_effect`). A deficit without that window is shown at the window of its own largest drop.

    Args:
        study: the study.
        groups: the groups of `cpframe.analysis.comparisons.all_groups`.
        curves: the curves of one variant, at least one.

    Returns:
        The curves, sorted by `sort_curves`; the first curve of a deficit if drops are unknown.
    """
    rank = preferred_windows(study, groups, curves[0].variant)
    chosen: dict[str, MetricCurve] = {}
    for curve in sorted(sort_curves(study, curves), key=lambda c: rank(c.deficit, (c.onset, c.offset))):
        chosen.setdefault(curve.deficit, curve)
    return sort_curves(study, chosen.values())


def preferred_windows(
    study: StudyRecord, groups: Iterable[RemovalGroup | SlidingGroup], variant: Mapping[str, object]
) -> Callable[[str, Window], int]:
    """Return the rank of a deficit's window in a variant: 0 for the common one, 1 for its own largest drop, else 2."""
    members = [group for group in groups if variant_key(group.variant) == variant_key(variant)]
    largest = largest_effect(study, members)
    common = largest[1] if largest else None
    own = largest_drops(members) | largest_drops(group for group in members if isinstance(group, RemovalGroup))
    return lambda deficit, window: 0 if window == common else 1 if window == own.get(deficit) else 2
