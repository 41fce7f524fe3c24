"""Tables of the final accuracies of the removal and sliding protocols."""

from __future__ import annotations

from collections.abc import Iterator

from cpframe.analysis.comparisons import Point, RemovalGroup, SlidingGroup
from cpframe.analysis.statistics import estimate
from cpframe.report.formatting import NONE, percent
from cpframe.report.html.labels import Labels, drop_cell
from cpframe.report.html.layout import Page
from cpframe.report.html.markup import Column, Html, concatenate, element, table
from cpframe.report.wording.accuracy import (
    REMOVAL_NOTE,
    SLIDING_NOTE,
    reference_words,
    removal_title,
    sliding_title,
)


def removal_tables(page: Page) -> Iterator[Html]:
    """Yield one table for every removal group."""
    groups = [group for group in page.findings.removals if group.curves]
    for group in groups:
        yield _table(group, page.labels, f"Removal: {removal_title(group)}", "until epoch")
    if groups:
        yield element("p", REMOVAL_NOTE, class_="note")


def sliding_tables(page: Page) -> Iterator[Html]:
    """Yield one table for every sliding group."""
    for group in page.findings.slidings:
        yield _table(group, page.labels, f"Sliding: {sliding_title(group)}", "onset")
    if page.findings.slidings:
        yield element("p", SLIDING_NOTE, class_="note")


def _table(group: RemovalGroup | SlidingGroup, labels: Labels, title: str, at: str) -> Html:
    columns = [Column(at), *(Column(labels.name(curve.deficit)) for curve in group.curves)]
    cells = [{point.at: _cell(point) for point in curve.points} for curve in group.curves]
    ats = sorted(set().union(*cells))
    rows = [[str(epoch), *(column.get(epoch, Html()) for column in cells)] for epoch in ats]
    return table(f"{title}{labels.variant(group.variant)}. {reference_words(group)}", columns, rows)


def _cell(point: Point) -> Html:
    """Return the drop, and below it the accuracy and the number of seeds."""
    score, drop = estimate(point.scores.values()), estimate(point.drops.values())
    if not score.n:
        return element("span", NONE)
    accuracy = element("small", f"{percent(score.mean)}%, n = {score.n}")
    return concatenate((drop_cell(drop) if drop.n else element("span", NONE), accuracy), " ")
