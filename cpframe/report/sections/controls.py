"""The section on controls: what the idle control explains, and which controls the study lacks."""

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
    from cpframe.report.terminal.controls import control_lines

    return control_lines(view)


def _html(page: Page) -> Iterator[Html]:
    from cpframe.report.html.about import control_lists

    return control_lists(page)


def _document(findings: Findings) -> object:
    from cpframe.report.json_values import fields_of, group_keys

    return {
        "confounds": [group_keys(c.group) | fields_of(c, "group") for c in findings.confounds],
        "missing": [fields_of(control) for control in findings.missing_controls],
    }


SECTION = Section(
    "controls", "Controls", "what the idle control explains, and the missing controls", _terminal, _html, _document
)
