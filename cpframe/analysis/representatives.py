"""Which of many curves stand for the others where there is room for a few."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cpframe.analysis.comparisons import Removal, all_groups, deficits_of, largest_drops, variant_key
from cpframe.analysis.curves import MetricCurve
from cpframe.records import CLEAN, StudyRecord


def by_variant(curves: Sequence[MetricCurve]) -> tuple[tuple[MetricCurve, ...], ...]:
    """The curves of each variant, in the order in which variants appear."""
    found: dict[str, list[MetricCurve]] = {}
    for curve in curves:
        found.setdefault(variant_key(curve.variant), []).append(curve)
    return tuple(map(tuple, found.values()))


def ordered(study: StudyRecord, curves: Sequence[MetricCurve]) -> tuple[MetricCurve, ...]:
    """Without a deficit first, then by deficit, protocol and window."""
    order = [CLEAN, *deficits_of(study)]
    return tuple(sorted(curves, key=lambda c: (order.index(c.deficit), c.protocol, c.offset, c.onset, c.epochs)))


def costliest_windows(study: StudyRecord, variant: Mapping[str, object]) -> dict[str, tuple[int, int]]:
    """Of each deficit the (onset, offset) that cost most in this variant: under removal if it was removed."""
    groups = [group for group in all_groups(study) if variant_key(group.variant) == variant_key(variant)]
    return largest_drops(groups) | largest_drops(group for group in groups if isinstance(group, Removal))


def representatives(study: StudyRecord, curves: Sequence[MetricCurve]) -> tuple[MetricCurve, ...]:
    """The curve without a deficit, and of each deficit the one that cost most (see `costliest_windows`).

    Args:
        study: that the curves are of.
        curves: of one variant, one at least.

    Returns:
        One curve a deficit; the first curve alone where costs are unknown and no deficit-free one is there.
    """
    worst = costliest_windows(study, curves[0].variant)
    chosen: dict[str, MetricCurve] = {}
    for curve in ordered(study, curves):
        if curve.deficit == CLEAN or worst.get(curve.deficit) == (curve.onset, curve.offset):
            chosen.setdefault(curve.deficit, curve)
    return tuple(chosen.values()) or (curves[0],)
