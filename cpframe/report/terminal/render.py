"""The report on a study in a terminal, or in a file where the output goes to one.

Nothing is told by colour alone. Lines fit consoles of 60 cells and more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from rich.console import Console, RenderableType

from cpframe.analysis.critical_periods import THRESHOLD
from cpframe.analysis.findings import Findings
from cpframe.records.model import StudyRecord
from cpframe.report.terminal.accuracy import removal_sections, sliding_sections
from cpframe.report.terminal.controls import controls_section
from cpframe.report.terminal.layers import layer_sections
from cpframe.report.terminal.layout import Page, page_for
from cpframe.report.terminal.link import link_sections
from cpframe.report.terminal.metrics import metrics_section
from cpframe.report.terminal.overview import overview_section
from cpframe.report.terminal.phases import phase_sections
from cpframe.report.terminal.plasticity import plasticity_sections
from cpframe.report.terminal.verdicts import verdict_details, verdict_panel

Section = Callable[[Page], Iterator[RenderableType]]

_SECTIONS: dict[str, tuple[Section, ...]] = {
    "verdict": (verdict_panel, overview_section, verdict_details),
    "curves": (removal_sections, sliding_sections),
    "phases": (phase_sections,),
    "layers": (layer_sections,),
    "plasticity": (plasticity_sections,),
    "link": (link_sections,),
    "metrics": (metrics_section,),
    "controls": (controls_section,),
}
SECTIONS = tuple(_SECTIONS)
"""Their names, in the order of the report."""

NARROWEST, WIDEST = 60, 400
"""Cells that a report can be asked to fit."""


def report_console(width: int | None = None) -> Console:
    """The standard output, in the width asked for or its own, but no narrower than a report can be."""
    console = Console(width=width)
    return console if console.width >= NARROWEST else Console(width=NARROWEST)


def render(study: StudyRecord, console: Console, sections: Sequence[str] = (), threshold: float = THRESHOLD) -> None:
    """Print the report on a study.

    Args:
        study: finished or not; what is not there yet is left out, and counted.
        console: as wide as the report shall be, 60 cells or more; without colours where it shows none.
        sections: of `SECTIONS`; these are then told in full, in the order of the report. Without any, all of them
            are told, with the timelines that are most telling where there are many.
        threshold: see `cpframe.analysis.findings.Findings`.

    Raises:
        KeyError: if there is no such section.
    """
    page = page_for(Findings(study, threshold), console, full=bool(sections))
    wanted = {name: _SECTIONS[name] for name in sections or SECTIONS}
    for name in sorted(wanted, key=SECTIONS.index):
        for section in wanted[name]:
            for part in section(page):
                console.print(part, highlight=False, markup=False, emoji=False)
