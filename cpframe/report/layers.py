"""Maps of the layers' shares of a metric through training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.curves import MetricCurve, layer_shares
from cpframe.records import Floats
from cpframe.report.charts import heat_row, heat_scale, labels_below, resample, ruler, ticks
from cpframe.report.page import Page, note
from cpframe.report.words import percent, shorten

_BESIDE = 58  # cells a map needs to stand beside another one
_BANDS = 24  # rows of a map at most


def layer_maps(page: Page, curves: Sequence[tuple[Text, MetricCurve]]) -> Iterator[RenderableType]:
    """Draw each layer's share of the total over time, one map a curve, all on one scale.

    Args:
        page: to draw on.
        curves: with their titles; those that are not by layer, or of one layer, are left out.
    """
    shown = [(title, curve) for title, curve in curves if curve.values.ndim == 2 and curve.values.shape[1] > 1]
    if not shown:
        return
    banded = [_bands(curve) for _, curve in shown]
    top = max((float(np.nanmax(shares)) for _, shares in banded if np.isfinite(shares).any()), default=0.0)
    last = max(int(curve.epoch[-1]) for _, curve in shown)
    beside = max(1, min(len(shown), page.width // _BESIDE))
    width = (page.width - 3 * (beside - 1)) // beside
    maps = [
        _layer_map(page, title, curve, names, shares, top, last, width)
        for (title, curve), (names, shares) in zip(shown, banded, strict=True)
    ]
    yield Text("\nEach layer's share of the total through training")
    yield heat_scale(f"{percent(top)} %", 20, coloured=page.coloured)
    for first in range(0, len(maps), beside):
        row = Table.grid(padding=(0, 3, 0, 0), pad_edge=False)
        row.add_row(*maps[first : first + beside])
        yield Text()
        yield row


def _bands(curve: MetricCurve) -> tuple[list[str], Floats]:
    """Names and shares of the rows of a map: the layers, or the sums of neighbours where there are too many."""
    shares = layer_shares(curve)
    count = shares.shape[1]
    names = [shorten(name, 12) for name in curve.layers] or [str(i + 1) for i in range(count)]
    if count <= _BANDS:
        return names, shares
    starts = [count * i // _BANDS for i in range(_BANDS)]
    ends = [*starts[1:], count]
    merged = [f"layers {start + 1}-{end}" for start, end in zip(starts, ends, strict=True)]
    return merged, np.add.reduceat(shares, starts, axis=1)


def _layer_map(
    page: Page, title: Text, curve: MetricCurve, names: Sequence[str], shares: Floats, top: float, last: int, width: int
) -> Group:
    margin = max(map(cell_len, names))
    columns = width - margin - 8
    cells = resample(curve.epoch, shares, last, columns)
    places = {int((columns - 1) * value / last): str(round(value)) for value in ticks(0, last, columns // 8)}
    lines = [Text.assemble(title, (f"{'end %':>{width - title.cell_len}}", "dim"))]
    for i, name in enumerate(names):
        row = heat_row(cells[:, i], top, coloured=page.coloured)
        lines.append(
            Text.assemble((f"{'':{margin - cell_len(name)}}{name} ", "dim"), row, f"{percent(float(shares[-1, i])):>7}")
        )
    if curve.offset > curve.onset:
        bar = ruler(curve.onset, curve.offset, last, columns, page.looks[curve.deficit].style)
        lines.append(Text.assemble(" " * (margin + 1), bar, ("deficit", "dim")))
    lines.append(note(f"{'':{margin + 1}}{labels_below(places, columns)}"))
    return Group(*lines)
