"""Sections on Fisher information through training: its course and its phases."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.phases import MULTIPLE, NOTICEABLE, RISEN, phases_of
from cpframe.analysis.representatives import representatives
from cpframe.report.formatting import NONE, number, printable, shorten, window
from cpframe.report.terminal.charts import Line, labels_below, line_chart, resample, sparkline, ticks
from cpframe.report.terminal.layout import (
    Page,
    curve_label,
    deficit_label,
    heading,
    in_lines,
    name_with_look,
    note,
    plain_table,
    shown_curves,
)

_CHART_ROWS = 16


def phase_sections(page: Page) -> Iterator[RenderableType]:
    """For every Fisher metric and variant: a chart of the most telling curves, and a table of phases."""
    for metric, curves in page.findings.fisher.items():
        for members in page.by_variant(curves):
            yield from _section(page, metric, members)


def _section(page: Page, metric: str, curves: Sequence[MetricCurve]) -> Iterator[RenderableType]:
    about = curves[0]
    what = "; ".join(filter(None, (about.estimator, about.units, f"measured on {about.source} inputs")))
    yield heading(page, f"Fisher information: {shorten(metric, 40)}", about.variant)
    yield note(f"{printable(what)}; the sum over layers, as the mean over seeds.")
    yield from _chart(page, representatives(page.study, page.findings.groups, curves))
    yield Text()
    shown = shown_curves(page, curves)
    yield _phase_table(page, shown)
    explained = (
        f"rise: {RISEN:.0%} of the way to the peak is done; half: halfway down from the peak to the end; flat: from "
        f"when on it stays within {NOTICEABLE:.0%} of its end, or within the noise. What changes by less than "
        f"{NOTICEABLE:.0%} of the peak, or within the noise ({MULTIPLE:g} standard errors of a difference, by how "
        "seeds differ), is level. A bracket marks where a deficit begins or ends."
    )
    if len(shown) < len(curves):
        explained += f" {len(shown)} of {len(curves)} timelines are shown; all of them: --section phases."
    yield note(explained)


def _chart(page: Page, curves: Sequence[MetricCurve]) -> Iterator[RenderableType]:
    lines = []
    for curve in reversed(curves):
        found = phases_of(curve)
        mark = found.peak_epoch if found and found.shape == "peak" else int(curve.epoch[-1])
        at = int(np.searchsorted(curve.epoch, mark))
        lines.append(Line(page.looks[curve.deficit], curve.epoch.tolist(), curve.total.tolist(), [at]))
    last = max(int(curve.epoch[-1]) for curve in curves)
    top = max(float(curve.total.max()) for curve in curves)
    yield Text()
    yield in_lines([curve_label(page, curve) for curve in curves], page.width)
    epochs = [round(value) for value in ticks(0, last, 8)]
    yield line_chart(lines, (0, last), (0, 1.05 * top), epochs, (page.width, _CHART_ROWS))
    yield note("Each line bears its glyph at the peak; without a peak, at the end.")


def _phase_table(page: Page, curves: Sequence[MetricCurve]) -> Table:
    last = max(int(curve.epoch[-1]) for curve in curves)
    top = max(float(curve.total.max()) for curve in curves)
    table = plain_table()
    rows = [*_rows(page, curves)]
    heads = ("rise", "peak", "at", "half", "flat", "end", "n")
    widths = [max(map(len, column)) for column in zip(heads, *(cells for _, _, cells in rows if cells), strict=True)]
    first = max(label.cell_len for label, _, _ in rows)
    columns = max(4, page.width - first - sum(widths) - 2 * (len(widths) + 1))
    table.add_column("epochs", no_wrap=True, min_width=first)
    places = {int((columns - 1) * value / last): str(round(value)) for value in ticks(0, last, columns // 8)}
    table.add_column(Text(labels_below(places, columns), "dim"), no_wrap=True, min_width=columns)
    for head, width in zip(heads, widths, strict=True):
        table.add_column(head, justify="right", no_wrap=True, min_width=width)
    for label, curve, cells in rows:
        bars = _bars(page, curve, last, top, columns) if curve else Text()
        table.add_row(label, bars, *cells)
    return table


def _rows(page: Page, curves: Sequence[MetricCurve]) -> Iterator[tuple[Text, MetricCurve | None, tuple[str, ...]]]:
    """One row a curve; where there are several a deficit, its name has a row for itself above them."""
    for deficit, members in groupby(curves, key=lambda curve: curve.deficit):
        if not page.full:
            yield from ((curve_label(page, curve), curve, phase_cells(curve)) for curve in members)
            continue
        yield name_with_look(page, deficit, deficit_label(deficit)), None, ()
        for curve in members:
            label = Text(f"  {window(curve.onset, curve.offset) or 'all clean'} of {curve.epochs}")
            yield label, curve, phase_cells(curve)


def _bars(page: Page, curve: MetricCurve, last: int, top: float, columns: int) -> Text:
    """The course as a sparkline: coloured under the deficit, its ends in brackets."""
    edges = np.arange(columns + 1) * last / columns
    during = (curve.onset < edges[1:]) & (edges[:-1] < curve.offset)
    styles = [page.looks[curve.deficit].style if d else "" for d in during]
    bars = sparkline(resample(curve.epoch, curve.total, last, columns), top, styles)
    if not during.any():
        return bars
    first, end = int(during.argmax()), int(during.nonzero()[0][-1])
    pieces: list[Text] = []
    if first > 0:
        pieces += [bars[: first - 1], Text("[", "bold")]
    pieces.append(bars[first : end + 1])
    if end + 1 < columns:
        pieces += [Text(")", "bold"), bars[end + 2 :]]
    return Text().join(pieces)


def phase_cells(curve: MetricCurve) -> tuple[str, ...]:
    """Epoch of the rise, peak, its epoch, epochs of half and flat, end, n."""
    found = phases_of(curve)
    if found is None:
        return NONE, NONE, NONE, NONE, NONE, number(float(curve.total[-1])), str(curve.n)
    half = "rising" if found.shape == "rising" else "level" if found.level else _epoch(found.half_epoch)
    peak = number(found.peak), str(found.peak_epoch)
    return _epoch(found.rise_epoch), *peak, half, _epoch(found.plateau_epoch), number(found.end), str(curve.n)


def _epoch(epoch: float) -> str:
    return NONE if math.isnan(epoch) else str(round(epoch))
