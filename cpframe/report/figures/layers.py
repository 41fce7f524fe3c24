"""Each layer's share of the Fisher information through training, as heat maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from matplotlib.transforms import ScaledTranslation

from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import MetricCurve, layer_shares
from cpframe.analysis.representatives import representatives
from cpframe.errors import NothingToDrawError
from cpframe.records.model import Floats
from cpframe.report.figures.fisher import fisher_curves
from cpframe.report.figures.labels import count_told, listed, numbered, timeline_of
from cpframe.report.figures.style import (
    INK,
    WIDTH,
    Drawing,
    note_below,
    whole_epochs,
)
from cpframe.report.formatting import percent, shorten
from cpframe.report.variant_names import study_variants

_ROW = 0.135  # inches of a layer whose name is written
_NAMED = 12  # layers with names in a panel at most
_COLOURS = "viridis"  # its lightness alone tells the order, whatever colours one confuses


def layers_drawings(findings: Findings) -> list[Drawing]:
    """For every Fisher metric and variant a map without a deficit, and one of each deficit's costliest window.

    Raises:
        NothingToDrawError: without Fisher information of two layers or more.
    """
    found = [
        (
            name,
            [
                curve
                for curve in representatives(findings.study, findings.groups, curves)
                if curve.values.ndim == 2 and len(curve.layers) > 1
            ],
        )
        for name, curves in fisher_curves(findings)
    ]
    found = [(name, curves) for name, curves in found if curves and curves[0].values.shape[1] > 1]
    if not found:
        raise NothingToDrawError(
            "Fisher information of one layer only, or not by layer; "
            '[metrics.fisher] use = "fisher-trace" gives it for networks of two layers or more'
        )
    names = study_variants(findings.study)
    top = max(_highest(curve) for _, curves in found for curve in curves)
    return [
        _drawing(numbered("layers", place), name, curves, names.label(curves[0].variant), top)
        for place, (name, curves) in enumerate(found)
    ]


def _highest(curve: MetricCurve) -> float:
    shares = layer_shares(curve)
    return float(shares[np.isfinite(shares)].max(initial=0.0))


def shares_by_epoch(curve: MetricCurve) -> Floats:
    """Shares at every whole epoch from the first measurement to the last: (layer, epoch), the nearest measurement's."""
    whole = np.arange(curve.epoch[0], curve.epoch[-1] + 1)
    middles = (curve.epoch[1:] + curve.epoch[:-1]) / 2
    shares: Floats = layer_shares(curve)[np.searchsorted(middles, whole)].T
    return shares


def _drawing(stem: str, name: str, curves: Sequence[MetricCurve], label: str, top: float) -> Drawing:
    """All maps of a study have one scale of colours, from 0 to `top`."""
    rows = min(_NAMED, len(curves[0].layers))
    figure = Figure(figsize=(WIDTH, len(curves) * (rows * _ROW + 0.3) + 1.0), layout="constrained")
    axes = list(figure.subplots(len(curves), 1, sharex=True, squeeze=False).flat)
    maps = [shares_by_epoch(curve) for curve in curves]
    for panel, curve, shares in zip(axes, curves, maps, strict=True):
        extent = (curve.epoch[0] - 0.5, curve.epoch[-1] + 0.5, len(shares) - 0.5, -0.5)
        image = panel.imshow(
            shares, cmap=_COLOURS, vmin=0, vmax=top, aspect="auto", extent=extent, interpolation="nearest"
        )
        _name_rows(panel, curve)
        panel.set_title(timeline_of(curve.deficit, curve.onset, curve.offset), pad=7)
        if curve.offset > curve.onset:  # a bar on top, over the epochs of the deficit
            above = panel.transData + ScaledTranslation(0, 2 / 72, figure.dpi_scale_trans)
            panel.plot(
                [curve.onset, curve.offset], [-0.5, -0.5], color=INK, linewidth=2, solid_capstyle="butt",
                transform=above, clip_on=False, scalex=False, scaley=False,
            )  # fmt: skip
    axes[0].set_xlim(0, max(int(curve.epoch[-1]) for curve in curves) + 0.5)
    whole_epochs(axes[-1])
    axes[-1].set_xlabel("epoch")
    bar = figure.colorbar(image, ax=axes, location="top", aspect=40, pad=0.01, format=PercentFormatter(1.0, symbol=""))
    bar.set_label("share of the Fisher trace, %")
    bar.outline.set_visible(False)
    about = curves[0]
    measured = listed([part for part in (label, shorten(name, 24), about.estimator) if part])
    note_below(
        figure,
        f"{measured}, on {about.source} inputs; of the mean of {count_told(c.n for c in curves)}. "
        "Layers in forward order, the input's first. Bars above a map: epochs under the deficit.",
    )
    return Drawing(stem, "Each layer's share of the Fisher information", _seen(curves, label), figure)


def _name_rows(panel: Axes, curve: MetricCurve) -> None:
    """Name the layers, or as many as fit, evenly chosen."""
    count = len(curve.layers)
    named = np.unique(np.linspace(0, count - 1, min(count, _NAMED)).round().astype(int))
    panel.set_yticks(named, [shorten(curve.layers[i], 14) for i in named])
    panel.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        panel.spines[side].set_visible(False)


def _seen(curves: Sequence[MetricCurve], label: str) -> str:
    """The layer with the largest share at the end of every map."""
    told = []
    for curve in curves:
        end = layer_shares(curve)[-1]
        who = timeline_of(curve.deficit, curve.onset, curve.offset)
        if np.isfinite(end).all():
            largest = int(end.argmax())
            told.append(f"{who} ends with {percent(float(end[largest]))} % in {shorten(curve.layers[largest], 24)}")
    return f"{label + ': ' if label else ''}{listed(told)}."
