"""``cpframe report``: the report on a study, for the terminal, for programs and as a page."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from cpframe.commands.display import html_block, plain_text
from cpframe.errors import NotInstalledError, nearest
from cpframe.records.model import StudyRecord
from cpframe.report.sections import section_names
from cpframe.report.terminal.render import render, report_console, report_parts

if TYPE_CHECKING:
    from cpframe.report.json_values import Plain


@dataclass(frozen=True)
class Report:
    """The report on a study. It shows itself: printed, in a terminal by rich, and as a page in a notebook.

    Attributes:
        study: the study, which need not be complete.
        sections: the names of the sections to show in full; all of them, abridged, if empty.
        threshold: a deficit counts as recovered when its drop is at most this many percentage points, in [0, 100).
    """

    study: StudyRecord
    sections: tuple[str, ...] = ()
    threshold: float = 1.0

    def __post_init__(self) -> None:
        """Check the sections and the threshold.

        Raises:
            ValueError: when there is no such section, or the threshold is out of range.
        """
        for name in self.sections:
            if name not in section_names():
                raise ValueError(f"unknown section {name!r}; {nearest(name, section_names(), 'sections')}")
        if not (math.isfinite(self.threshold) and 0 <= self.threshold < 100):
            raise ValueError(f"threshold must be at least 0 and below 100 percentage points, not {self.threshold:g}")

    def print(self, width: int | None = None) -> None:
        """Print the report to the standard output, without escape codes where that is no terminal.

        Args:
            width: the number of columns; None for those of the terminal.
        """
        render(self.study, report_console(width), self.sections, self._threshold)

    def document(self) -> dict[str, Plain]:
        """Return the report as plain data, as ``--json`` prints it; cpframe/report/README.md has the keys."""
        from cpframe.report.json_document import study_document

        return study_document(self.study, self.sections, self._threshold)

    def to_json(self) -> str:
        """Return the report as one JSON document."""
        return json.dumps(self.document(), indent=1, allow_nan=False)

    def write_html(self, path: str | PathLike[str]) -> str:
        """Write the report with all sections as one self-contained page of HTML, and return its path.

        Raises:
            NotInstalledError: when matplotlib, which draws the figures, is not installed.
            StoreError: when the file cannot be written.
        """
        from cpframe.commands.plot import write_page

        return write_page(self.study, Path(path), self._threshold)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the parts of the report; text of a results file is no markup."""
        del options
        for part in report_parts(self.study, console, self.sections, self._threshold):
            yield Text(part) if isinstance(part, str) else part

    def __str__(self) -> str:
        """Return the report as plain text, 100 columns wide."""
        return plain_text(self)

    def _repr_html_(self) -> str:
        """Return the page in a frame of its own, for a notebook; without matplotlib, the text with its colours."""
        from html import escape

        from cpframe.commands.plot import page_text

        try:
            page = page_text(self.study, self._threshold)
        except NotInstalledError:
            return html_block(self)
        return f'<iframe srcdoc="{escape(page)}" style="width:100%;height:40em;border:0"></iframe>'

    @property
    def _threshold(self) -> float:
        """The threshold as a fraction of 1."""
        return self.threshold / 100
