"""The report on a study in a terminal, or in a file where the output goes to one.

Nothing is told by colour alone. Lines fit consoles of 80 cells and more.
"""

from __future__ import annotations

from rich.console import Console

from cpframe.records import StudyRecord
from cpframe.report.findings import controls_section, verdict_section
from cpframe.report.fisher import fisher_sections
from cpframe.report.losses import removal_sections, sliding_sections
from cpframe.report.overview import head_section, metrics_section
from cpframe.report.page import page_for

_SECTIONS = (
    head_section,
    removal_sections,
    sliding_sections,
    verdict_section,
    fisher_sections,
    metrics_section,
    controls_section,
)


def render(study: StudyRecord, console: Console) -> None:
    """Print the whole report on a study.

    Args:
        study: finished or not; what is not there yet is left out, and counted.
        console: as wide as the report shall be, 80 cells or more; without colours where it shows none.
    """
    page = page_for(study, console)
    for section in _SECTIONS:
        for part in section(page):
            console.print(part, highlight=False, markup=False, emoji=False)
