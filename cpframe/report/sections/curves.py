"""The section on final accuracies: the removal curves, and the sensitivity to the onset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cpframe.report.sections.section import Section

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cpframe.analysis.comparisons import Point, RemovalGroup, SlidingGroup
    from cpframe.analysis.findings import Findings
    from cpframe.report.html.layout import Page
    from cpframe.report.html.markup import Html
    from cpframe.report.terminal.layout import View


def _terminal(view: View) -> Iterator[RenderableType]:
    from cpframe.report.terminal.accuracy import removal_tables, sliding_tables

    yield from removal_tables(view)
    yield from sliding_tables(view)


def _html(page: Page) -> Iterator[Html]:
    from cpframe.report.html.accuracy import removal_tables, sliding_tables

    yield from page.with_figures("removal", removal_tables(page))
    yield from page.with_figures("sensitivity", sliding_tables(page))


def _document(findings: Findings) -> object:
    return {
        "removal": [_group(group) for group in findings.removals],
        "sliding": [_group(group) for group in findings.slidings],
    }


def _group(group: RemovalGroup | SlidingGroup) -> object:
    from cpframe.analysis.statistics import estimate
    from cpframe.report.json_values import group_keys

    curves = [{"deficit": curve.deficit, "points": [_point(point) for point in curve.points]} for curve in group.curves]
    return group_keys(group) | {"reference": estimate(group.reference.values()), "deficits": curves}


def _point(point: Point) -> object:
    from cpframe.analysis.statistics import bootstrap_interval, estimate

    resampled = bootstrap_interval(point.drops.values())
    return {
        "at": point.at,
        "onset": point.onset,
        "offset": point.offset,
        "score": estimate(point.scores.values()),
        "drop": estimate(point.drops.values()),
        "bootstrap": {"low": resampled.low, "high": resampled.high},
        "drops": point.drops,
        "rate_matched": point.rate_matched,
    }


SECTION = Section(
    "curves",
    "Final accuracy",
    "final accuracy against the end and the onset of a deficit",
    _terminal,
    _html,
    _document,
    figures=("removal", "sensitivity"),
)
