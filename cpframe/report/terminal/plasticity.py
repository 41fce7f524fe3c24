"""The section on information plasticity: how much information changes layers after a deficit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.table import Table

from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.plasticity import Plasticity, mean_layers, plasticity_after_deficit
from cpframe.analysis.statistics import Estimate
from cpframe.report.formatting import NONE, percent, points, shorten
from cpframe.report.terminal.charts import whisker
from cpframe.report.terminal.layout import Page, curve_label, heading, note, plain_table, shown_curves


def plasticity_sections(page: Page) -> Iterator[RenderableType]:
    """For every Fisher metric by layer and every variant: what is redistributed once a deficit has ended."""
    for metric, curves in page.findings.fisher.items():
        for members in page.by_variant(curves):
            moved = [
                (curve, found) for curve in shown_curves(page, members) if (found := plasticity_after_deficit(curve))
            ]
            if moved:
                yield heading(page, f"Plasticity: {shorten(metric, 40)}", members[0].variant)
                yield _table(page, moved)
                layers = moved[0][0].by_seed.shape[2]
                explained = (
                    "moved: of all the information, the part (%) that lies in another layer at the end of the training "
                    "than at the end of the deficit, or without one at the first measurement (half the summed changes "
                    "of the shares; a measure of ours), ± its 95% interval over seeds; floor: what errors of "
                    "measurement alone make of it. centre: the mean layer, from 1 to "
                    f"{layers}, weighted by its share; shift: its move, + towards the output."
                )
                if len(moved) < len(members):
                    explained += " All timelines: --section plasticity."
                yield note(explained)


def _table(page: Page, moved: Sequence[tuple[MetricCurve, Plasticity]]) -> Table:
    heads = ("epochs", "moved", "floor", "centre", "shift", "n")
    rows = [plasticity_cells(curve, found) for curve, found in moved]
    labels = [curve_label(page, curve) for curve, _ in moved]
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    first = max(label.cell_len for label in labels)
    columns = page.width - first - sum(widths) - 2 * (len(heads) + 1)
    top = max(max(found.redistributed.mean, found.redistributed.high, 0.0) for _, found in moved)
    table = plain_table()
    table.add_column("", no_wrap=True, min_width=first)
    for head, width in zip(heads, widths, strict=True):
        table.add_column(head, justify="left" if head == "moved" else "right", no_wrap=True, min_width=width)
    drawn = columns >= 9
    if drawn:
        table.add_column(f"0{percent(top):>{columns - 1}}", header_style="dim", no_wrap=True)
    for label, cells, (curve, found) in zip(labels, rows, moved, strict=True):
        span = (0.0, top)
        look = page.looks[curve.deficit]
        bar = (
            whisker(found.redistributed.low, found.redistributed.mean, found.redistributed.high, span, columns, look)
            if drawn
            else ""
        )
        table.add_row(label, *cells, *([bar] if drawn else []))
    return table


def plasticity_cells(curve: MetricCurve, found: Plasticity) -> tuple[str, ...]:
    """Epochs, moved, floor, centre, shift, n; see the note below the table."""
    course = dict(zip(curve.epoch.tolist(), mean_layers(curve).tolist(), strict=True))
    return (
        f"{found.first}-{found.last}",
        points(found.redistributed),
        NONE if math.isnan(found.measurement_error) else percent(found.measurement_error),
        f"{course[found.first]:.1f}→{course[found.last]:.1f}",
        _signed(found.mean_layer_change),
        str(found.redistributed.n),
    )


def _signed(shift: Estimate) -> str:
    half = "" if math.isnan(shift.half_width) else f"±{shift.half_width:.2f}"
    return f"{shift.mean:+.2f}{half}" if math.isfinite(shift.mean) else NONE
