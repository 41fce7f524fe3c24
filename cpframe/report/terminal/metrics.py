"""The metrics other than Fisher information."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.records.model import CLEAN
from cpframe.report.formatting import shorten
from cpframe.report.terminal.layout import View, heading
from cpframe.report.wording.study import array_words, change_words, changing_metrics


def metric_lines(view: View) -> Iterator[RenderableType]:
    """Yield the first and last value of every other metric and variant: without a deficit, or of the first curve.

    If the view is full, every curve has a line.
    """
    rows: list[tuple[str, str]] = []
    for metric, curves in changing_metrics(view.findings).items():
        for members in view.by_variant(curves):
            clean = [curve for curve in members if curve.deficit == CLEAN] or members
            shown = members if view.full else clean[:1]
            rows += [(metric, change_words(curve, view.names.label(curve.variant))) for curve in shown]
    rows += array_words(view.study).items()
    if not rows:
        return
    yield heading(view, "Other metrics", {})
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for metric, words in rows:
        table.add_row(Text(shorten(metric, 24), "bold"), words)
    yield table
