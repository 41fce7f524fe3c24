"""The controls: what the idle control explains, and which controls are missing."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.report.formatting import shorten
from cpframe.report.terminal.layout import View, flow, heading, name_with_glyph, note
from cpframe.report.wording.study import IDLE_NOTE, IDLE_QUESTION, NOTHING_MISSING, idle_words


def control_lines(view: View) -> Iterator[RenderableType]:
    """Yield whether lost training explains each removal curve, and the controls that the study lacks."""
    yield heading(view, "Controls", {})
    confounds, missing = view.findings.confounds, view.findings.missing_controls
    if confounds:
        yield Text(IDLE_QUESTION, "italic")
        answers: dict[str, list[Text]] = {}
        for confound in confounds:
            name = name_with_glyph(view, confound.deficit, shorten(confound.deficit, 16))
            words = idle_words(confound, view.names.label(confound.group.variant))
            answers.setdefault(words, []).append(name)
        for words, names in answers.items():
            yield flow([*names, Text(words)], view.width)
        if any(confound.at for confound in confounds):
            yield note(IDLE_NOTE)
        yield Text()
    if not missing:
        yield Text(NOTHING_MISSING)
        return
    yield Text("Missing controls", "italic")
    table = Table.grid(padding=(0, 1))
    for control in missing:
        table.add_row("▸", Text.assemble((control.what, "bold"), ": ", control.why))
    yield table
