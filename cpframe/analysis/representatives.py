"""Which of many curves stand for the others where there is room for a few."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from cpframe.analysis.comparisons import RemovalGroup, SlidingGroup, deficits_of, largest_drops, variant_key
from cpframe.analysis.metric_curves import MetricCurve
from cpframe.records.model import CLEAN, StudyRecord

Window = tuple[int, int]


def by_variant(curves: Iterable[MetricCurve]) -> tuple[tuple[MetricCurve, ...], ...]:
    """The curves of each variant, in the order in which variants appear."""
    found: dict[str, list[MetricCurve]] = {}
    for curve in curves:
        found.setdefault(variant_key(curve.variant), []).append(curve)
    return tuple(map(tuple, found.values()))


def ordered(study: StudyRecord, curves: Iterable[MetricCurve]) -> tuple[MetricCurve, ...]:
    """Without a deficit first, then by deficit, protocol and window."""
    order = [CLEAN, *deficits_of(study)]
    return tuple(sorted(curves, key=lambda c: (order.index(c.deficit), c.protocol, c.offset, c.onset, c.epochs)))


def telling(study: StudyRecord, groups: Iterable[RemovalGroup | SlidingGroup]) -> tuple[str, Window] | None:
    """The deficit that cost most, and its (onset, offset), idle aside: under removal if any was removed.

    Returns:
        None where no cost is known.
    """
    costs: dict[tuple[bool, str, Window], float] = {}
    for group in groups:
        for curve in group.curves:
            for point in curve.points:
                if point.drops and curve.deficit not in study.idle:
                    key = isinstance(group, RemovalGroup), curve.deficit, (point.onset, point.offset)
                    costs[key] = max(costs.get(key, -np.inf), float(np.mean(list(point.drops.values()))))
    return max(costs, key=lambda key: (key[0], costs[key]))[1:] if costs else None


def representatives(
    study: StudyRecord, groups: Sequence[RemovalGroup | SlidingGroup], curves: Sequence[MetricCurve]
) -> tuple[MetricCurve, ...]:
    """The curve without a deficit, and one curve a deficit.

    All deficits are shown at one window where they have it, so that they can be compared: the one at which any cost
    most (see `telling`). A deficit that lacks it is shown where it cost most itself.

    Args:
        study: that the curves are of.
        groups: of `cpframe.analysis.comparisons.all_groups`.
        curves: of one variant, one at least.

    Returns:
        As `ordered` has them; a deficit's first curve where costs are unknown.
    """
    rank = preferred_windows(study, groups, curves[0].variant)
    chosen: dict[str, MetricCurve] = {}
    for curve in sorted(ordered(study, curves), key=lambda c: rank(c.deficit, (c.onset, c.offset))):
        chosen.setdefault(curve.deficit, curve)
    return ordered(study, chosen.values())


def preferred_windows(
    study: StudyRecord, groups: Iterable[RemovalGroup | SlidingGroup], variant: Mapping[str, object]
) -> Callable[[str, Window], int]:
    """How `representatives` ranks a deficit's windows in a variant: 0 the one all are shown at, 1 its own."""
    here = [group for group in groups if variant_key(group.variant) == variant_key(variant)]
    told = telling(study, here)
    own = largest_drops(here) | largest_drops(group for group in here if isinstance(group, RemovalGroup))
    return lambda deficit, window: 0 if told and window == told[1] else 1 if window == own.get(deficit) else 2
