"""Information plasticity: how much information changes layers after a deficit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

from rich.console import RenderableType
from rich.table import Table

from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.plasticity import Plasticity, plasticity_after_deficit
from cpframe.report.formatting import percent, shorten
from cpframe.report.terminal.charts import whisker
from cpframe.report.terminal.layout import View, column_widths, heading, label_curve, note, plain_table
from cpframe.report.wording.fisher import PLASTICITY_COLUMNS, PLASTICITY_NOTE, plasticity_cells

_NARROWEST_SCALE = 9  # cells; the scale is left out in narrower consoles
_LEFT_OUT = "mean layer", "epochs"  # in narrow consoles, in this order
_HEADS = {
    "epochs": "\n\nepochs",
    "redistributed (%)": "redis-\ntributed\n(%)",
    "measurement error (%)": "measure-\nment\nerror (%)",
    "mean layer": "\nmean\nlayer",
    "mean layer change": "\nmean layer\nchange",
    "n": "\n\nn",
}


def plasticity_tables(view: View) -> Iterator[RenderableType]:
    """Yield, for every Fisher metric by layer and variant, the information redistributed after a deficit."""
    for metric, curves in view.findings.fisher.items():
        for members in view.by_variant(curves):
            found = [(c, plasticity) for c in view.choose(members) if (plasticity := plasticity_after_deficit(c))]
            if found:
                yield heading(view, f"Plasticity: {shorten(metric, 40)}", members[0].variant)
                yield _table(view, found)
                more = " --section plasticity shows all timelines." if len(found) < len(members) else ""
                yield note(f"{PLASTICITY_NOTE}{more}")


def _table(view: View, found: Sequence[tuple[MetricCurve, Plasticity]]) -> Table:
    rows = [dict(zip(PLASTICITY_COLUMNS, plasticity_cells(*pair), strict=True)) for pair in found]
    labels = [label_curve(view, curve) for curve, _ in found]
    first = max(label.cell_len for label in labels)
    widths = _fit_columns(rows, view.width - first)
    scale = view.width - first - sum(widths.values()) - 2 * (len(widths) + 1)
    top = max(max(plasticity.redistributed.mean, plasticity.redistributed.high, 0.0) for _, plasticity in found)
    table = plain_table()
    table.add_column("", no_wrap=True, min_width=first)
    for name, width in widths.items():
        justify: Literal["left", "right"] = "left" if name == "redistributed (%)" else "right"
        table.add_column(_HEADS[name], justify=justify, no_wrap=True, min_width=width)
    has_scale = scale >= _NARROWEST_SCALE
    if has_scale:
        table.add_column(f"\n\n0{percent(top):>{scale - 1}}", header_style="dim", no_wrap=True)
    for label, cells, (curve, plasticity) in zip(labels, rows, found, strict=True):
        value, look = plasticity.redistributed, view.looks[curve.deficit]
        bar = [whisker(value.low, value.mean, value.high, (0.0, top), scale, look)] if has_scale else []
        table.add_row(label, *(cells[name] for name in widths), *bar)
    return table


def _fit_columns(rows: Sequence[Mapping[str, str]], available: int) -> dict[str, int]:
    """Return the columns that fit next to the labels, with their widths."""
    cells = [[row[name] for name in PLASTICITY_COLUMNS] for row in rows]
    heads = [_HEADS[name] for name in PLASTICITY_COLUMNS]
    widths = dict(zip(PLASTICITY_COLUMNS, column_widths(heads, cells), strict=True))
    for name in _LEFT_OUT:
        if sum(widths.values()) + 2 * len(widths) > available:
            del widths[name]
    return widths
