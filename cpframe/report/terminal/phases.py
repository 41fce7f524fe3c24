"""Fisher information through training: a chart and its phases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

import numpy as np
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.phases import phases_of
from cpframe.analysis.representatives import representatives
from cpframe.report.formatting import printable, shorten, window
from cpframe.report.terminal.charts import Line, labels_below, line_chart, resample, sparkline, ticks
from cpframe.report.terminal.layout import (
    View,
    column_widths,
    flow,
    heading,
    label_curve,
    label_deficit,
    name_with_glyph,
    note,
    plain_table,
)
from cpframe.report.wording.fisher import PHASE_COLUMNS, PHASE_NOTE, phase_cells

_CHART_ROWS = 16


def phase_tables(view: View) -> Iterator[RenderableType]:
    """Yield, for every Fisher metric and variant, a chart of a few curves and a table of phases."""
    for metric, curves in view.findings.fisher.items():
        for members in view.by_variant(curves):
            yield from _metric(view, metric, members)


def _metric(view: View, metric: str, curves: Sequence[MetricCurve]) -> Iterator[RenderableType]:
    about = curves[0]
    facts = "; ".join(filter(None, (about.estimator, about.units, f"measured on {about.source} inputs")))
    yield heading(view, f"Fisher information: {shorten(metric, 40)}", about.variant)
    yield note(f"{printable(facts)}; the sum over layers, averaged over seeds.")
    yield from _chart(view, representatives(view.study, view.findings.groups, curves))
    yield Text()
    shown = view.choose(curves)
    yield _phase_table(view, shown)
    explanation = f"{PHASE_NOTE} Brackets mark where a deficit begins and ends."
    if len(shown) < len(curves):
        explanation += f" {len(shown)} of {len(curves)} timelines are shown; --section phases shows all."
    yield note(explanation)


def _chart(view: View, curves: Sequence[MetricCurve]) -> Iterator[RenderableType]:
    lines = []
    for curve in reversed(curves):
        found = phases_of(curve)
        marked = found.peak_epoch if found and found.shape == "peak" else int(curve.epoch[-1])
        position = int(np.searchsorted(curve.epoch, marked))
        lines.append(Line(view.looks[curve.deficit], curve.epoch.tolist(), curve.total.tolist(), [position]))
    last = max(int(curve.epoch[-1]) for curve in curves)
    top = max(float(curve.total.max()) for curve in curves)
    yield Text()
    yield flow([label_curve(view, curve) for curve in curves], view.width)
    epochs = [round(value) for value in ticks(0, last, 8)]
    yield line_chart(lines, (0, last), (0, 1.05 * top), epochs, (view.width, _CHART_ROWS))
    yield note("Each line has its glyph at the peak, or at the end if it has no peak.")


def _phase_table(view: View, curves: Sequence[MetricCurve]) -> Table:
    last = max(int(curve.epoch[-1]) for curve in curves)
    top = max(float(curve.total.max()) for curve in curves)
    table = plain_table()
    rows = [*_rows(view, curves)]
    heads = [name.replace(" ", "\n") if " " in name else f"\n{name}" for name in PHASE_COLUMNS]
    widths = column_widths(heads, [cells for _, _, cells in rows if cells])
    first = max(label.cell_len for label, _, _ in rows)
    columns = max(4, view.width - first - sum(widths) - 2 * (len(widths) + 1))
    table.add_column("\nepochs", no_wrap=True, min_width=first)
    places = {int((columns - 1) * value / last): str(round(value)) for value in ticks(0, last, columns // 8)}
    table.add_column(Text(f"\n{labels_below(places, columns)}", "dim"), no_wrap=True, min_width=columns)
    for head, width in zip(heads, widths, strict=True):
        table.add_column(head, justify="right", no_wrap=True, min_width=width)
    for label, curve, cells in rows:
        bars = _bars(view, curve, last, top, columns) if curve else Text()
        table.add_row(label, bars, *cells)
    return table


def _rows(view: View, curves: Sequence[MetricCurve]) -> Iterator[tuple[Text, MetricCurve | None, tuple[str, ...]]]:
    """Yield one row per curve; if the view is full, below a row with the name of the deficit."""
    for deficit, members in groupby(curves, key=lambda curve: curve.deficit):
        if not view.full:
            yield from ((label_curve(view, curve), curve, phase_cells(curve)) for curve in members)
            continue
        yield name_with_glyph(view, deficit, label_deficit(deficit)), None, ()
        for curve in members:
            label = Text(f"  {window(curve.onset, curve.offset) or 'all clean'} of {curve.epochs}")
            yield label, curve, phase_cells(curve)


def _bars(view: View, curve: MetricCurve, last: int, top: float, columns: int) -> Text:
    """Return the curve as a sparkline, coloured under the deficit, which stands in brackets."""
    edges = np.arange(columns + 1) * last / columns
    during = (curve.onset < edges[1:]) & (edges[:-1] < curve.offset)
    styles = [view.looks[curve.deficit].style if d else "" for d in during]
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
