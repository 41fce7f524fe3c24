"""Maps of the layers' shares of a metric through training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

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
from cpframe.report.terminal.layout import Page, curve_label, heading, note

_BESIDE = 58  # cells a map needs to stand beside another one
_BANDS = 24  # rows of a map at most


def layer_sections(page: Page) -> Iterator[RenderableType]:
    """For every Fisher metric by layer and variant: each layer's share of the total over time, all on one scale."""
    for metric, curves in page.findings.fisher.items():
        for members in page.by_variant(curves):
            by_layer = [curve for curve in members if curve.values.ndim == 2 and curve.values.shape[1] > 1]
            if by_layer:
                yield heading(page, f"Layers: {shorten(metric, 40)}", members[0].variant)
                yield from _maps(page, _selected(page, by_layer), len(by_layer))


def _selected(page: Page, curves: Sequence[MetricCurve]) -> Sequence[MetricCurve]:
    """All, or the curve without a deficit and that of the deficit that cost most."""
    if page.full:
        return curves
    few = representatives(page.study, page.findings.groups, curves)
    here = [g for g in page.findings.groups if variant_key(g.variant) == variant_key(curves[0].variant)]
    told = largest_effect(page.study, here)
    return [curve for curve in few if told is None or curve.deficit in (CLEAN, told[0])] or few


def _maps(page: Page, shown: Sequence[MetricCurve], of: int) -> Iterator[RenderableType]:
    banded = [_bands(curve) for curve in shown]
    top = max((float(np.nanmax(shares)) for _, shares in banded if np.isfinite(shares).any()), default=0.0)
    last = max(int(curve.epoch[-1]) for curve in shown)
    beside = max(1, min(len(shown), page.width // _BESIDE))
    width = (page.width - 3 * (beside - 1)) // beside
    maps = [
        _layer_map(page, curve, names, shares, top, last, width)
        for curve, (names, shares) in zip(shown, banded, strict=True)
    ]
    yield Text("Each layer's share of the total through training")
    yield heat_scale(f"{percent(top)} %", 20, coloured=page.coloured)
    for first in range(0, len(maps), beside):
        row = Table.grid(padding=(0, 3, 0, 0), pad_edge=False)
        row.add_row(*maps[first : first + beside])
        yield Text()
        yield row
    if len(shown) < of:
        yield note(f"{len(shown)} of {of} timelines are shown; all of them: --section layers.")


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
    page: Page, curve: MetricCurve, names: Sequence[str], shares: Floats, top: float, last: int, width: int
) -> Group:
    title, margin = curve_label(page, curve), max(map(cell_len, names))
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
