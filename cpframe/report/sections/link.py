"""The section on the relation between Fisher information and sensitivity."""

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
    from cpframe.report.terminal.link import link_charts

    return link_charts(view)


def _html(page: Page) -> Iterator[Html]:
    from cpframe.report.html.fisher import link_tables

    return page.with_figures("link", link_tables(page))


def _document(findings: Findings) -> Iterator[object]:
    from cpframe.report.json_values import fields_of, group_keys

    for metric, links in findings.links.items():
        for link in links:
            values = {
                "deficit": link.deficit,
                "points": [fields_of(point) for point in link.points],
                "fit": fields_of(link.fit),
            }
            yield {"metric": metric, "units": link.units} | group_keys(link.group) | values


SECTION = Section(
    "link",
    "Fisher information and sensitivity",
    "Fisher information against sensitivity, with an exponential fit",
    _terminal,
    _html,
    _document,
    figures=("link",),
)
