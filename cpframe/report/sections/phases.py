"""The section on Fisher information through training and its phases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cpframe.report.sections.section import Section

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cpframe.analysis.findings import Findings
    from cpframe.report.html.layout import Page
    from cpframe.report.html.markup import Html
    from cpframe.report.terminal.layout import View


def _terminal(view: View) -> Iterator[RenderableType]:
    from cpframe.report.terminal.phases import phase_tables

    return phase_tables(view)


def _html(page: Page) -> Iterator[Html]:
    from cpframe.report.html.fisher import phase_tables

    return page.with_figures("fisher", phase_tables(page))


def _document(findings: Findings) -> Iterator[object]:
    from cpframe.analysis.phases import phases_of
    from cpframe.analysis.statistics import estimate
    from cpframe.report.json_values import fields_of, fisher_curves, measurement_keys

    for keys, curve in fisher_curves(findings):
        totals = [estimate(column) for column in curve.total_by_seed.T]
        found = phases_of(curve)
        values = {
            "epoch": curve.epoch,
            "total": curve.total,
            "low": [total.low for total in totals],
            "high": [total.high for total in totals],
            "phases": fields_of(found) if found else None,
        }
        yield keys | measurement_keys(curve) | values


SECTION = Section(
    "phases",
    "Fisher information",
    "Fisher information through training, and its phases",
    _terminal,
    _html,
    _document,
    figures=("fisher",),
)
