"""The section on verdicts: what may be claimed of each deficit. In the terminal the facts about the study follow."""

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
    from cpframe.report.terminal.overview import study_facts
    from cpframe.report.terminal.verdicts import verdict_details, verdict_panel

    yield from verdict_panel(view)
    yield from study_facts(view)
    yield from verdict_details(view)


def _html(page: Page) -> Iterator[Html]:
    from cpframe.report.html.verdicts import verdict_cards

    return verdict_cards(page)


def _document(findings: Findings) -> Iterator[object]:
    from cpframe.report.json_values import fields_of, group_keys

    for claim in findings.claims:
        keys = group_keys(claim.group) | {"deficit": claim.deficit}
        yield keys | fields_of(claim.verdict) | {"period": fields_of(findings.period(claim))}


SECTION = Section(
    "verdict", "Verdict", "what may be claimed of each deficit, and its critical period", _terminal, _html, _document
)
