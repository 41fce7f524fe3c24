"""The final accuracies: removal curves and sensitivity to the onset."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from rich.cells import cell_len
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.comparisons import Curve, Point, RemovalGroup, SlidingGroup
from cpframe.analysis.statistics import Estimate, estimate
from cpframe.records.model import CLEAN
from cpframe.report.formatting import NONE, mark, percent, shorten, window
from cpframe.report.terminal.charts import Line, Span, line_chart, whisker
from cpframe.report.terminal.layout import View, heading, legend, name_with_glyph, note, plain_table
from cpframe.report.wording.accuracy import (
    REMOVAL_CHART,
    REMOVAL_NOTE,
    SLIDING_NOTE,
    reference_words,
    removal_title,
    sliding_title,
)

_ACCURACY = len("accuracy")
_CELL = _ACCURACY + 17  # cells of one deficit in the removal table
_CHART_ROWS = 14


def removal_tables(view: View) -> Iterator[RenderableType]:
    """Yield tables and a chart for every removal group."""
    for group in view.findings.removals:
        if not group.curves or not view.shows(group.variant):
            continue
        yield heading(view, f"Removal: {removal_title(group)}", group.variant)
        if not any(point.scores for curve in group.curves for point in curve.points):
            yield note("No trajectory with a deficit is complete yet.")
            continue
        most = max(1, (view.width - len("until")) // (_CELL + 2))
        per_table = math.ceil(len(group.curves) / math.ceil(len(group.curves) / most))
        for first in range(0, len(group.curves), per_table):
            yield Text()
            yield _removal_table(view, group, group.curves[first : first + per_table])
        yield note(REMOVAL_NOTE)
        if group.reference:
            yield from _removal_chart(view, group)


def _removal_table(view: View, group: RemovalGroup, curves: Sequence[Curve]) -> Table:
    table = plain_table()
    table.add_column("until\nepoch", justify="right", no_wrap=True)
    for curve in curves:
        header = name_with_glyph(view, curve.deficit, shorten(curve.deficit, _CELL - 2))
        header.append(f"\naccuracy {'drop':>5} {'':<6} {'n':>3}", "dim")
        table.add_column(header, no_wrap=True, min_width=_CELL)
    reference = estimate(group.reference.values())
    if reference.n:
        cell = f"{percent(reference.mean):>{_ACCURACY}}   no deficit {reference.n:>3}"
        table.add_row("0", *[Text(cell)] * len(curves))
    cells = [{point.at: _removal_cell(point) for point in curve.points} for curve in curves]
    for at in sorted(set().union(*cells)):
        table.add_row(str(at), *(column.get(at, Text("")) for column in cells))
    return table


def _removal_cell(point: Point) -> Text:
    score, drop = estimate(point.scores.values()), estimate(point.drops.values())
    return Text.assemble(f"{percent(score.mean):>{_ACCURACY}} ", _drop_cell(drop), f" {score.n:>3}")


def _drop_cell(drop: Estimate) -> Text:
    """Return a drop, its interval and its mark, in 12 cells."""
    half = "" if math.isnan(drop.half_width) else f"±{percent(drop.half_width)}"
    return Text(f"{percent(drop.mean):>5}{half:<6}{mark(drop)}", "bold" if mark(drop) != " " else "")


def _removal_chart(view: View, group: RemovalGroup) -> Iterator[RenderableType]:
    """Yield a chart of the no-deficit mean minus the paired drops: a missing seed then moves no point."""
    start = estimate(group.reference.values()).mean
    lines = []
    for curve in reversed(group.curves):  # the first deficit is drawn last, on top of the others
        ends = [(p.at, start - estimate(p.drops.values()).mean) for p in curve.points if p.drops]
        x, y = [0.0, *(float(at) for at, _ in ends)], [100 * start, *(100 * end for _, end in ends)]
        lines.append(Line(view.looks[curve.deficit], x, y, range(1, len(x))))
    lines.append(Line(view.looks[CLEAN], [0.0], [100 * start], [0]))
    heights = [y for line in lines for y in line.y]
    ats = sorted({round(x) for line in lines for x in line.x})
    margin = 0.05 * (max(heights) - min(heights)) or 1.0
    yield Text(f"\n{REMOVAL_CHART}")
    yield legend(view, [CLEAN, *(curve.deficit for curve in group.curves)])
    y_span = min(heights) - margin, max(heights) + margin
    yield line_chart(lines, (0, ats[-1]), y_span, ats, (view.width, _CHART_ROWS))


def sliding_tables(view: View) -> Iterator[RenderableType]:
    """Yield a table of sensitivities, with their intervals drawn, for every sliding group."""
    for group in view.findings.slidings:
        if view.shows(group.variant):
            yield heading(view, f"Sliding: {sliding_title(group)}", group.variant)
            yield note(reference_words(group))
            yield _sliding_table(view, group)
            yield note(SLIDING_NOTE)


def _sliding_table(view: View, group: SlidingGroup) -> Table:
    rows = [(curve, point, estimate(point.drops.values())) for curve in group.curves for point in curve.points]
    ends = [end for _, _, drop in rows for end in (drop.mean, drop.low, drop.high) if math.isfinite(end)]
    span: Span = min([0.0, *ends]), max([0.0, *ends])
    names = {curve.deficit: shorten(curve.deficit, 14) for curve in group.curves}
    windows = [window(point.onset, point.offset) for _, point, _ in rows]
    labels = 2 + max(map(cell_len, names.values())), max(len("epochs"), *map(len, windows))
    taken = max(len("deficit"), labels[0]) + labels[1] + _ACCURACY + 12 + 3 + 5 * 2
    columns = max(9, view.width - taken)
    table = plain_table()
    table.add_column("deficit", no_wrap=True)
    table.add_column("epochs", no_wrap=True)
    table.add_column("accuracy", justify="right", no_wrap=True)
    table.add_column("sensitivity", no_wrap=True, min_width=12)
    table.add_column("n", justify="right", no_wrap=True, min_width=3)
    table.add_column(_scale(span, columns), no_wrap=True)
    for (curve, point, drop), epochs in zip(rows, windows, strict=True):
        first = point is curve.points[0]
        table.add_row(
            name_with_glyph(view, curve.deficit, names[curve.deficit]) if first else "",
            epochs,
            percent(estimate(point.scores.values()).mean),
            _drop_cell(drop),
            str(drop.n),
            whisker(drop.low, drop.mean, drop.high, span, columns, view.looks[curve.deficit]) if drop.n else NONE,
        )
    return table


def _scale(span: Span, columns: int) -> Text:
    """Return the labels of a scale in points: its ends, and 0 if it fits between them."""
    low, high = f"{percent(span[0])}" if span[0] < 0 else "0", percent(span[1])
    zero = round((columns - 1) * float(np.divide(-span[0], (span[1] - span[0]) or 1)))
    middle = "0" if len(low) < zero < columns - len(high) - 1 else ""
    line = f"{low:<{zero if middle else len(low)}}{middle}"
    return Text(f"{line}{high:>{columns - len(line)}}", "dim")
