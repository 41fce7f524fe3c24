"""Sections on final accuracy: tables of the removal and sliding protocols."""

from __future__ import annotations

from collections.abc import Iterator

from cpframe.analysis.comparisons import Point, RemovalGroup, SlidingGroup
from cpframe.analysis.findings import Findings
from cpframe.analysis.statistics import estimate
from cpframe.report.formatting import NONE, percent, plural
from cpframe.report.html.labels import Labels, drop_cell
from cpframe.report.html.markup import Column, Html, element, joined, table

_NOTE = (
    "Bold: points below no deficit, paired by seed, ± the 95 % t interval; ▼ loss, ▲ gain whose interval excludes 0. "
    "Below it the final accuracy in percent, and n, the seeds."
)


def removal_tables(findings: Findings, labels: Labels) -> Iterator[Html]:
    """One table for every removal group."""
    groups = [group for group in findings.removals if group.curves]
    for group in groups:
        caption = f"Deficit until an epoch, then {plural(group.recovery, 'clean epoch')}"
        yield _table(group, labels, caption, "until")
    if groups:
        yield element("p", _NOTE, class_="note")


def sliding_tables(findings: Findings, labels: Labels) -> Iterator[Html]:
    """One table for every sliding group."""
    for group in findings.slidings:
        caption = f"A deficit of {plural(group.length, 'epoch')} in {group.epochs}, by its onset"
        yield _table(group, labels, caption, "onset")
    if findings.slidings:
        yield element("p", _NOTE, class_="note")


def _table(group: RemovalGroup | SlidingGroup, labels: Labels, caption: str, at: str) -> Html:
    reference = estimate(group.reference.values())
    start = f"{percent(reference.mean)} % (n = {reference.n})" if reference.n else "not yet there"
    columns = [Column(at), *(Column(labels.name(curve.deficit)) for curve in group.curves)]
    cells = [{point.at: _cell(point) for point in curve.points} for curve in group.curves]
    ats = sorted(set().union(*cells))
    rows = [[str(epoch), *(column.get(epoch, Html()) for column in cells)] for epoch in ats]
    return table(f"{caption}{labels.variant(group.variant)}; no deficit: {start}", columns, rows)


def _cell(point: Point) -> Html:
    score, drop = estimate(point.scores.values()), estimate(point.drops.values())
    if not score.n:
        return element("span", NONE)
    end = element("small", f"{percent(score.mean)} %, n {score.n}")
    return joined((drop_cell(drop) if drop.n else element("span", NONE), end), " ")
