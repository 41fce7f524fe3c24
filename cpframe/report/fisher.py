"""Sections on Fisher information through training: its course, its phases, and its place among the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.comparisons import Removal, all_groups, deficits_of, largest_drops, variant_key
from cpframe.analysis.curves import MetricCurve, is_fisher, metric_curves, metric_names
from cpframe.analysis.phases import NOTICEABLE, RISEN, WINDOW, phases
from cpframe.records import CLEAN
from cpframe.report.charts import Line, labels_below, line_chart, resample, sparkline, ticks
from cpframe.report.layers import layer_maps
from cpframe.report.page import Page, heading, in_lines, name_with_look, note, plain_table
from cpframe.report.words import NONE, number, printable, shorten, window

_CHART_ROWS = 16


def fisher_sections(page: Page) -> Iterator[RenderableType]:
    """For every Fisher metric and variant: a chart, a table of phases, and maps of the layers' shares."""
    for metric in metric_names(page.study):
        if not is_fisher(page.study, metric):
            continue
        variants: dict[str, list[MetricCurve]] = {}
        for curve in metric_curves(page.study, metric):
            variants.setdefault(variant_key(curve.variant), []).append(curve)
        for curves in variants.values():
            yield from _section(page, metric, _ordered(page, curves))


def _section(page: Page, metric: str, curves: Sequence[MetricCurve]) -> Iterator[RenderableType]:
    about = curves[0]
    what = "; ".join(filter(None, (about.estimator, about.units, f"measured on {about.source} inputs")))
    yield heading(page, f"Fisher information: {shorten(metric, 40)}", about.variant)
    yield note(f"{printable(what)}; the sum over layers, as the mean over seeds.")
    selected = _selected(page, curves)
    yield from _chart(page, selected)
    yield Text()
    yield _phase_table(page, curves)
    yield note(
        f"All bars share one scale; a bracket marks where the deficit begins or ends. Of a running median of {WINDOW} "
        f"measurements: rise, the epoch at which {RISEN:.0%} of the rise was done; peak, at its epoch; half, the epoch "
        "at which it had fallen halfway from the peak to the end. What changes by less than "
        f"{NOTICEABLE:.0%} of the peak, or within the noise, is level."
    )
    yield from layer_maps(page, [(_label(page, curve), curve) for curve in selected])


def _ordered(page: Page, curves: Sequence[MetricCurve]) -> list[MetricCurve]:
    """Without a deficit first, then by deficit, protocol and window."""
    order = [CLEAN, *deficits_of(page.study)]
    return sorted(curves, key=lambda c: (order.index(c.deficit), c.protocol, c.offset, c.onset, c.epochs))


def _selected(page: Page, curves: Sequence[MetricCurve]) -> list[MetricCurve]:
    """The curve without a deficit, and of each deficit the one that cost most: under removal if it was removed.

    The first curve where costs are unknown.
    """
    groups = [g for g in all_groups(page.study) if variant_key(g.variant) == variant_key(curves[0].variant)]
    worst = largest_drops(groups) | largest_drops(g for g in groups if isinstance(g, Removal))
    chosen: dict[str, MetricCurve] = {}
    for curve in curves:
        if curve.deficit == CLEAN or worst.get(curve.deficit) == (curve.onset, curve.offset):
            chosen.setdefault(curve.deficit, curve)
    return list(chosen.values()) or [curves[0]]


def _name(deficit: str) -> str:
    return "no deficit" if deficit == CLEAN else shorten(deficit, 16)


def _label(page: Page, curve: MetricCurve) -> Text:
    return name_with_look(page, curve.deficit, f"{_name(curve.deficit)} {window(curve.onset, curve.offset)}".rstrip())


def _chart(page: Page, curves: Sequence[MetricCurve]) -> Iterator[RenderableType]:
    lines = []
    for curve in reversed(curves):
        found = phases(curve.epoch, curve.total)
        mark = found.peak_epoch if found and found.shape == "peak" else int(curve.epoch[-1])
        at = int(np.searchsorted(curve.epoch, mark))
        lines.append(Line(page.looks[curve.deficit], curve.epoch.tolist(), curve.total.tolist(), [at]))
    last = max(int(curve.epoch[-1]) for curve in curves)
    top = max(float(curve.total.max()) for curve in curves)
    yield Text()
    yield in_lines([_label(page, curve) for curve in curves], page.width)
    epochs = [round(value) for value in ticks(0, last, 8)]
    yield line_chart(lines, (0, last), (0, 1.05 * top), epochs, (page.width, _CHART_ROWS))
    yield note("Each line bears its glyph at the peak; without a peak, at the end.")


def _phase_table(page: Page, curves: Sequence[MetricCurve]) -> Table:
    last = max(int(curve.epoch[-1]) for curve in curves)
    top = max(float(curve.total.max()) for curve in curves)
    table = plain_table()
    windows = [f"  {window(curve.onset, curve.offset) or 'all clean'} of {curve.epochs}" for curve in curves]
    cells = [_phase_cells(curve) for curve in curves]
    heads = ("rise", "peak", "at", "half", "end", "n")
    widths = [max(map(len, column)) for column in zip(heads, *cells, strict=True)]
    names = {curve.deficit: name_with_look(page, curve.deficit, _name(curve.deficit)) for curve in curves}
    first = max(*map(len, windows), *(name.cell_len for name in names.values()))
    columns = max(4, page.width - first - sum(widths) - 2 * (len(widths) + 1))
    table.add_column("epochs", no_wrap=True, min_width=first)
    places = {int((columns - 1) * value / last): str(round(value)) for value in ticks(0, last, columns // 8)}
    table.add_column(Text(labels_below(places, columns), "dim"), no_wrap=True, min_width=columns)
    for head, width in zip(heads, widths, strict=True):
        table.add_column(head, justify="right", no_wrap=True, min_width=width)
    for deficit, rows in groupby(zip(curves, windows, cells, strict=True), key=lambda row: row[0].deficit):
        table.add_row(names[deficit])
        for curve, epochs, numbers in rows:
            table.add_row(epochs, _bars(page, curve, last, top, columns), *numbers)
    return table


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


def _phase_cells(curve: MetricCurve) -> tuple[str, ...]:
    found = phases(curve.epoch, curve.total)
    if found is None:
        return NONE, NONE, NONE, NONE, number(float(curve.total[-1])), str(curve.n)
    half = {"rising": "rising", "none": "level"}.get(found.shape) or _epoch(found.half_epoch)
    peak = number(found.peak), str(found.peak_epoch)
    return _epoch(found.rise_epoch), *peak, half, number(found.end), str(curve.n)


def _epoch(epoch: float) -> str:
    return NONE if math.isnan(epoch) else str(round(epoch))
