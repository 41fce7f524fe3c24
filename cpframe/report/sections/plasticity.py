"""The section on information plasticity: the information that changes layers after a deficit."""

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
    from cpframe.report.terminal.plasticity import plasticity_tables

    return plasticity_tables(view)


def _html(page: Page) -> Iterator[Html]:
    from cpframe.report.html.fisher import plasticity_tables

    return plasticity_tables(page)


def _document(findings: Findings) -> Iterator[object]:
    from cpframe.analysis.plasticity import plasticity_after_deficit
    from cpframe.report.json_values import fields_of, fisher_curves_by_layer

    for keys, curve in fisher_curves_by_layer(findings):
        if found := plasticity_after_deficit(curve):
            yield keys | fields_of(found)


SECTION = Section(
    "plasticity",
    "Information plasticity",
    "how much information changes layers after a deficit",
    _terminal,
    _html,
    _document,
)
