"""The description of a section: its name, and how it is shown in every form of the report."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cpframe.analysis.findings import Findings
    from cpframe.report.html.layout import Page
    from cpframe.report.html.markup import Html
    from cpframe.report.terminal.layout import View


@dataclass(frozen=True)
class Section:
    """One section of a report.

    The three functions import what they need when they are called, so that the list of sections can be read quickly.

    Attributes:
        name: the name for ``--section``, the key in the JSON document, and the anchor on the HTML page.
        title: the heading on the HTML page.
        summary: the contents in a few words, for the help text.
        terminal: yields what the terminal report prints; nothing if the study has no data for it.
        html: yields the contents on the HTML page; nothing if the study has no data for it. None for a section that
            the page does not have.
        document: returns the value in the JSON document, see `cpframe.report.json_values.plain`.
        figures: the names of the figures that `html` places next to its tables; the page shows the other figures of
            the section above its contents.
    """

    name: str
    title: str
    summary: str
    terminal: Callable[[View], Iterable[RenderableType]]
    html: Callable[[Page], Iterable[Html]] | None
    document: Callable[[Findings], object]
    figures: tuple[str, ...] = ()
