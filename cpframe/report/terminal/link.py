"""The section on how Fisher information goes with sensitivity."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.comparisons import variant_key
from cpframe.analysis.fisher_sensitivity import PARAMETERS, ExponentialFit, FitKind, Link
from cpframe.report.formatting import number, plural, points, printable, shorten
from cpframe.report.terminal.charts import Line, line_chart
from cpframe.report.terminal.layout import Page, heading, legend, name_with_look, note

_CHART_ROWS = 12
_WORDS: dict[FitKind, str] = {
    "exponential": "an exponential",
    "straight": "a straight line does as well",
    "undetermined": "undetermined: c is not bounded",
    "too few points": f"too few onsets: {PARAMETERS + 1} are needed at least",
    "constant": "constant: there is nothing to fit",
}
_DRAWN = ("exponential", "straight")  # what is undetermined is no curve to look at


def link_sections(page: Page) -> Iterator[RenderableType]:
    """For every Fisher metric and variant with windows: sensitivity against Fisher information, and a fit."""
    for metric, found in page.findings.links.items():
        for _, members in groupby(found, key=lambda link: variant_key(link.group.variant)):
            links = list(members)
            if not page.shows(links[0].group.variant):
                continue
            yield heading(page, f"Fisher and sensitivity: {shorten(metric, 40)}", links[0].group.variant)
            fitted = [link for link in links if math.isfinite(link.fit.c)]
            if not fitted and not page.full:
                yield Text(f"No fit: {'; '.join(dict.fromkeys(fit_words(link.fit) for link in links))}.")
                continue
            if fitted:
                yield from _chart(page, fitted)
            yield _table(page, links)
            units = printable(links[0].units)
            yield note(
                f"F = a exp(c S) + b, S the sensitivity in points{f', F in {units}' if units else ''}: the Fisher "
                "information without a deficit, averaged over the window that begins at the onset (the pairing is "
                "ours). Intervals of c at 95%."
            )


def _chart(page: Page, links: Sequence[Link]) -> Iterator[RenderableType]:
    lines = []
    for link in links:
        look = page.looks[link.deficit]
        sensitivity = np.array([point.sensitivity.mean for point in link.points])
        if link.fit.kind in _DRAWN:
            smooth = np.linspace(sensitivity.min(), sensitivity.max(), 100)
            lines.append(Line(look, (100 * smooth).tolist(), link.fit.at(smooth).tolist()))
        pairs = sorted((100 * point.sensitivity.mean, point.fisher) for point in link.points)
        lines += [Line(look, [s], [f], [0]) for s, f in pairs]
    x, y = [value for line in lines for value in line.x], [value for line in lines for value in line.y]
    room = 0.05 * (max(y) - min(y))
    whole = range(math.ceil(min(x)), math.floor(max(x)) + 1)
    yield Text("Fisher information without a deficit, against the sensitivity to its window in points")
    yield legend(page, dict.fromkeys(link.deficit for link in links))
    yield line_chart(lines, (min(x), max(x)), (min(y) - room, max(y) + room), whole, (page.width, _CHART_ROWS))


def _table(page: Page, links: Sequence[Link]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    for link in links:
        name = name_with_look(page, link.deficit, shorten(link.deficit, 16))
        table.add_row(name, f"windows of {link.group.length}", fit_words(link.fit))
        if page.full:
            told = (f"{p.onset}: {points(p.sensitivity)}, {number(p.fisher)}" for p in link.points)
            table.add_row("", "onset: S, F", "; ".join(told))
    return table


def fit_words(fit: ExponentialFit) -> str:
    """The fit in words, c for each percentage point."""
    words = f"{_WORDS[fit.kind]} ({plural(fit.n, 'onset')})"
    if not math.isfinite(fit.c):
        return words
    if fit.kind not in _DRAWN:
        return f"{words}; R² {fit.r_squared:.2f} at best"
    low, high = (number(end / 100) for end in (fit.c_low, fit.c_high))
    return (
        f"{words}; c {number(fit.c / 100)} a point ({low} to {high}), a {number(fit.a)}, b {number(fit.b)}; "
        f"R² {fit.r_squared:.2f}, residuals {number(fit.residual)}"
    )
