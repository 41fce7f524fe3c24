"""The report on a study in a terminal, or in a file if the output is redirected.

Nothing is shown by colour alone. Lines fit consoles of 60 cells and more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, RenderableType

from cpframe.analysis.critical_periods import THRESHOLD
from cpframe.analysis.findings import Findings
from cpframe.records.model import StudyRecord
from cpframe.report.sections import choose_sections
from cpframe.report.terminal import NARROWEST
from cpframe.report.terminal.layout import make_view


def report_console(width: int | None = None) -> Console:
    """Return a console for the standard output with the given width, or its own, but at least the smallest width."""
    console = Console(width=width)
    return console if console.width >= NARROWEST else Console(width=NARROWEST)


def render(study: StudyRecord, console: Console, sections: Sequence[str] = (), threshold: float = THRESHOLD) -> None:
    """Print the report on a study.

    Args:
        study: the study, finished or not.
        console: the console, at least 60 cells wide.
        sections: the names of the sections to show in full. Without any, all sections are shown, with a selection of
            timelines and variants if there are many.
        threshold: the largest drop that counts as recovered, as a fraction of 1.

    Raises:
        KeyError: if there is no section of that name.
    """
    for part in report_parts(study, console, sections, threshold):
        console.print(part, highlight=False, markup=False, emoji=False)


def report_parts(
    study: StudyRecord, console: Console, sections: Sequence[str], threshold: float
) -> Iterator[RenderableType]:
    """Yield what `render` prints, part by part; the arguments are those of `render`."""
    chosen = choose_sections(sections)
    view = make_view(Findings(study, threshold), console, full=bool(sections))
    for section in chosen:
        yield from section.terminal(view)
