"""Heat maps of the layers' shares of Fisher information through training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.comparisons import variant_key
from cpframe.analysis.metric_curves import MetricCurve, layer_shares
from cpframe.analysis.representatives import largest_effect, representatives
from cpframe.records.model import CLEAN, Floats
from cpframe.report.formatting import percent, shorten
from cpframe.report.terminal.charts import heat_row, heat_scale, labels_below, resample, ruler, ticks
from cpframe.report.terminal.layout import View, heading, label_curve, note

_MAP_WIDTH = 58  # cells of a map that stands next to another one
_MOST_ROWS = 24  # of a map


@dataclass(frozen=True)
class _Scale:
    """The scale that all maps of a metric share.

    Attributes:
        top: the share of the brightest cell.
        last: the epoch at the right end.
        width: the cells of a map with its labels.
    """

    top: float
    last: int
    width: int


def layer_maps(view: View) -> Iterator[RenderableType]:
    """Yield, for every Fisher metric by layer and variant, the share of each layer over time, all on one scale."""
    for metric, curves in view.findings.fisher.items():
        for members in view.by_variant(curves):
            by_layer = [curve for curve in members if curve.values.ndim == 2 and curve.values.shape[1] > 1]
            if by_layer:
                yield heading(view, f"Layers: {shorten(metric, 40)}", members[0].variant)
                yield from _maps(view, _choose(view, by_layer), len(by_layer))


def _choose(view: View, curves: Sequence[MetricCurve]) -> Sequence[MetricCurve]:
    """Return all curves if the view is full, else that without a deficit and that of the largest drop."""
    if view.full:
        return curves
    few = representatives(view.study, view.findings.groups, curves)
    groups = [g for g in view.findings.groups if variant_key(g.variant) == variant_key(curves[0].variant)]
    effect = largest_effect(view.study, groups)
    return [curve for curve in few if effect is None or curve.deficit in (CLEAN, effect[0])] or few


def _maps(view: View, shown: Sequence[MetricCurve], available: int) -> Iterator[RenderableType]:
    per_row = max(1, min(len(shown), view.width // _MAP_WIDTH))
    width = (view.width - 3 * (per_row - 1)) // per_row
    rows = [_rows(curve) for curve in shown]
    finite = [float(np.nanmax(shares)) for _, shares in rows if np.isfinite(shares).any()]
    scale = _Scale(max(finite, default=0.0), max(int(curve.epoch[-1]) for curve in shown), width)
    maps = [_layer_map(view, curve, *row, scale) for curve, row in zip(shown, rows, strict=True)]
    yield Text("Each layer's share of the total Fisher information through training")
    yield heat_scale(f"{percent(scale.top)}%", 20, coloured=view.coloured)
    for first in range(0, len(maps), per_row):
        grid = Table.grid(padding=(0, 3, 0, 0), pad_edge=False)
        grid.add_row(*maps[first : first + per_row])
        yield Text()
        yield grid
    if len(shown) < available:
        yield note(f"{len(shown)} of {available} timelines are shown; --section layers shows all.")


def _rows(curve: MetricCurve) -> tuple[list[str], Floats]:
    """Return the names and shares of the rows of a map: the layers, or sums of neighbours if there are too many."""
    shares = layer_shares(curve)
    count = shares.shape[1]
    names = [shorten(name, 12) for name in curve.layers] or [str(i + 1) for i in range(count)]
    if count <= _MOST_ROWS:
        return names, shares
    starts = [count * i // _MOST_ROWS for i in range(_MOST_ROWS)]
    ends = [*starts[1:], count]
    merged = [f"layers {start + 1}-{end}" for start, end in zip(starts, ends, strict=True)]
    return merged, np.add.reduceat(shares, starts, axis=1)


def _layer_map(view: View, curve: MetricCurve, names: Sequence[str], shares: Floats, scale: _Scale) -> Group:
    title, margin = label_curve(view, curve), max(map(cell_len, names))
    columns, last = scale.width - margin - 8, scale.last
    cells = resample(curve.epoch, shares, last, columns)
    places = {int((columns - 1) * value / last): str(round(value)) for value in ticks(0, last, columns // 8)}
    lines = [Text.assemble(title, (f"{'at the end, %':>{scale.width - title.cell_len}}", "dim"))]
    for i, name in enumerate(names):
        label, end = f"{'':{margin - cell_len(name)}}{name} ", f"{percent(float(shares[-1, i])):>7}"
        lines.append(Text.assemble((label, "dim"), heat_row(cells[:, i], scale.top, coloured=view.coloured), end))
    if curve.offset > curve.onset:
        bar = ruler(curve.onset, curve.offset, last, columns, view.looks[curve.deficit].style)
        lines.append(Text.assemble(" " * (margin + 1), bar, ("deficit", "dim")))
    lines.append(note(f"{'':{margin + 1}}{labels_below(places, columns)}"))
    return Group(*lines)
