"""The relation between Fisher information and sensitivity: a chart and a fit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.comparisons import variant_key
from cpframe.analysis.fisher_sensitivity import Link
from cpframe.report.formatting import number, points, printable, shorten
from cpframe.report.terminal.charts import Line, line_chart
from cpframe.report.terminal.layout import View, heading, legend, name_with_glyph, note
from cpframe.report.wording.fisher import fit_words, has_curve, link_note

_CHART_ROWS = 12


def link_charts(view: View) -> Iterator[RenderableType]:
    """Yield, for every Fisher metric and variant with windows, a chart against sensitivity, and a fit."""
    for metric, found in view.findings.links.items():
        for _, members in groupby(found, key=lambda link: variant_key(link.group.variant)):
            links = list(members)
            if not view.shows(links[0].group.variant):
                continue
            yield heading(view, f"Fisher information and sensitivity: {shorten(metric, 40)}", links[0].group.variant)
            fitted = [link for link in links if math.isfinite(link.fit.c)]
            if not fitted and not view.full:
                yield Text(f"No fit: {'; '.join(dict.fromkeys(fit_words(link.fit) for link in links))}.")
                continue
            if fitted:
                yield from _chart(view, fitted)
            yield _table(view, links)
            yield note(link_note(printable(links[0].units)))


def _chart(view: View, links: Sequence[Link]) -> Iterator[RenderableType]:
    lines = []
    for link in links:
        look = view.looks[link.deficit]
        sensitivity = np.array([point.sensitivity.mean for point in link.points])
        if has_curve(link.fit):
            smooth = np.linspace(sensitivity.min(), sensitivity.max(), 100)
            lines.append(Line(look, (100 * smooth).tolist(), link.fit.at(smooth).tolist()))
        pairs = sorted((100 * point.sensitivity.mean, point.fisher) for point in link.points)
        lines += [Line(look, [s], [f], [0]) for s, f in pairs]
    x, y = [value for line in lines for value in line.x], [value for line in lines for value in line.y]
    margin = 0.05 * (max(y) - min(y))
    whole = range(math.ceil(min(x)), math.floor(max(x)) + 1)
    yield Text("Fisher information without a deficit against the sensitivity to the same window, in points")
    yield legend(view, dict.fromkeys(link.deficit for link in links))
    yield line_chart(lines, (min(x), max(x)), (min(y) - margin, max(y) + margin), whole, (view.width, _CHART_ROWS))


def _table(view: View, links: Sequence[Link]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for link in links:
        name = name_with_glyph(view, link.deficit, shorten(link.deficit, 16))
        table.add_row(name, f"windows of {link.group.length}", fit_words(link.fit))
        if view.full:
            pairs = (f"{p.onset}: {points(p.sensitivity)}, {number(p.fisher)}" for p in link.points)
            table.add_row("", "onset: S, F", "; ".join(pairs))
    return table
