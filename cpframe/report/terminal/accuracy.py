"""Sections on final accuracy: removal curves and sensitivity to the onset."""

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
from cpframe.report.formatting import NONE, mark, percent, plural, shorten, window
from cpframe.report.terminal.charts import Line, Span, line_chart, whisker
from cpframe.report.terminal.layout import Page, heading, legend, name_with_look, note, plain_table

_CELL = 22  # cells of one deficit in the removal table
_CHART_ROWS = 14


def removal_sections(page: Page) -> Iterator[RenderableType]:
    """A table and a chart for every removal group."""
    for group in page.findings.removals:
        if not group.curves or not page.shows(group.variant):
            continue
        yield heading(
            page, f"Removal: deficit until an epoch, then {plural(group.recovery, 'clean epoch')}", group.variant
        )
        if not any(point.scores for curve in group.curves for point in curve.points):
            yield note("No trajectory with a deficit is complete yet.")
            continue
        most = max(1, (page.width - 5) // (_CELL + 2))
        each = math.ceil(len(group.curves) / math.ceil(len(group.curves) / most))
        for first in range(0, len(group.curves), each):
            yield Text()
            yield _removal_table(page, group, group.curves[first : first + each])
        yield note(
            "end: final accuracy, %. drop: points below no deficit, paired by seed, ± its 95% interval; "
            "▼ loss, ▲ gain whose interval excludes 0. n: seeds."
        )
        if group.reference:
            yield from _removal_chart(page, group)


def _removal_table(page: Page, group: RemovalGroup, curves: Sequence[Curve]) -> Table:
    table = plain_table()
    table.add_column("\nuntil", justify="right", no_wrap=True)
    for curve in curves:
        header = name_with_look(page, curve.deficit, shorten(curve.deficit, _CELL - 2))
        header.append(f"\n{'end':>5} {'drop':>5} {'':<6} {'n':>3}", "dim")
        table.add_column(header, no_wrap=True, min_width=_CELL)
    reference = estimate(group.reference.values())
    if reference.n:
        table.add_row("0", *[Text(f"{percent(reference.mean):>5}   no deficit {reference.n:>3}")] * len(curves))
    cells = [{point.at: _loss_cell(point) for point in curve.points} for curve in curves]
    for at in sorted(set().union(*cells)):
        table.add_row(str(at), *(column.get(at, Text("")) for column in cells))
    return table


def _loss_cell(point: Point) -> Text:
    score, drop = estimate(point.scores.values()), estimate(point.drops.values())
    return Text.assemble(f"{percent(score.mean):>5} ", _loss(drop), f" {score.n:>3}")


def _loss(drop: Estimate) -> Text:
    """A drop, its interval and its mark, in 12 cells."""
    half = "" if math.isnan(drop.half_width) else f"±{percent(drop.half_width)}"
    return Text(f"{percent(drop.mean):>5}{half:<6}{mark(drop)}", "bold" if mark(drop) != " " else "")


def _removal_chart(page: Page, group: RemovalGroup) -> Iterator[RenderableType]:
    """Accuracies as no deficit's mean minus the paired drops: a seed that is missing somewhere moves no point."""
    start = estimate(group.reference.values()).mean
    lines = []
    for curve in reversed(group.curves):  # the first deficit is drawn last, above the others
        ends = [(p.at, start - estimate(p.drops.values()).mean) for p in curve.points if p.drops]
        x, y = [0.0, *(float(at) for at, _ in ends)], [100 * start, *(100 * end for _, end in ends)]
        lines.append(Line(page.looks[curve.deficit], x, y, range(1, len(x))))
    lines.append(Line(page.looks[CLEAN], [0.0], [100 * start], [0]))
    heights = [y for line in lines for y in line.y]
    ats = sorted({round(x) for line in lines for x in line.x})
    room = 0.05 * (max(heights) - min(heights)) or 1.0
    yield Text("\nfinal accuracy, %, against the epoch of removal (no deficit minus the paired drop)")
    yield legend(page, [CLEAN, *(curve.deficit for curve in group.curves)])
    yield line_chart(lines, (0, ats[-1]), (min(heights) - room, max(heights) + room), ats, (page.width, _CHART_ROWS))


def sliding_sections(page: Page) -> Iterator[RenderableType]:
    """A table of sensitivities, with their intervals drawn, for every sliding group."""
    for group in page.findings.slidings:
        if not page.shows(group.variant):
            continue
        title = f"Sliding: a deficit of {plural(group.length, 'epoch')}, {plural(group.epochs, 'epoch')} in all"
        yield heading(page, title, group.variant)
        reference = estimate(group.reference.values())
        if reference.n:
            at_end = f"No deficit at epoch {group.epochs}: {percent(reference.mean)} % (n = {reference.n})."
        else:
            at_end = f"No deficit: its training has not yet reached epoch {group.epochs}."
        yield note(at_end)
        yield _sliding_table(page, group)
        yield note(
            "sensitivity: points below no deficit at the same epoch, paired by seed, ± its 95% interval; "
            "▼ loss, ▲ gain whose interval excludes 0. n: seeds."
        )


def _sliding_table(page: Page, group: SlidingGroup) -> Table:
    rows = [(curve, point, estimate(point.drops.values())) for curve in group.curves for point in curve.points]
    ends = [end for _, _, drop in rows for end in (drop.mean, drop.low, drop.high) if math.isfinite(end)]
    span: Span = min([0.0, *ends]), max([0.0, *ends])
    names = {curve.deficit: shorten(curve.deficit, 14) for curve in group.curves}
    windows = [window(point.onset, point.offset) for _, point, _ in rows]
    labels = 2 + max(map(cell_len, names.values())), max(len("epochs"), *map(len, windows))
    taken = max(len("deficit"), labels[0]) + labels[1] + 5 + 12 + 3 + 5 * 2
    columns = max(9, page.width - taken)
    table = plain_table()
    table.add_column("deficit", no_wrap=True)
    table.add_column("epochs", no_wrap=True)
    table.add_column("end", justify="right", no_wrap=True, min_width=5)
    table.add_column("sensitivity", no_wrap=True, min_width=12)
    table.add_column("n", justify="right", no_wrap=True, min_width=3)
    table.add_column(_scale(span, columns), no_wrap=True)
    for (curve, point, drop), epochs in zip(rows, windows, strict=True):
        first = point is curve.points[0]
        table.add_row(
            name_with_look(page, curve.deficit, names[curve.deficit]) if first else "",
            epochs,
            percent(estimate(point.scores.values()).mean),
            _loss(drop),
            str(drop.n),
            whisker(drop.low, drop.mean, drop.high, span, columns, page.looks[curve.deficit]) if drop.n else NONE,
        )
    return table


def _scale(span: Span, columns: int) -> Text:
    """The labels of a scale in points: its ends, and 0 where there is room."""
    low, high = f"{percent(span[0])}" if span[0] < 0 else "0", percent(span[1])
    zero = round((columns - 1) * float(np.divide(-span[0], (span[1] - span[0]) or 1)))
    middle = "0" if len(low) < zero < columns - len(high) - 1 else ""
    line = f"{low:<{zero if middle else len(low)}}{middle}"
    return Text(f"{line}{high:>{columns - len(line)}}", "dim")
