"""The share of each layer in the Fisher information through training, as heat maps."""

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
from cpframe.report.figures import Plot
from cpframe.report.figures.fisher import fisher_curves, measurement
from cpframe.report.figures.labels import prefix_variant, sample_size, sentences, timeline_label
from cpframe.report.figures.style import INK, WIDTH, add_note, label_whole_epochs
from cpframe.report.formatting import percent, shorten
from cpframe.report.variant_names import study_variants

_ROW = 0.135  # height in inches of a layer with a name
_NAMED_LAYERS = 12  # the most layers with names in a panel
_COLOURS = "viridis"  # its lightness alone gives the order, whatever colours a reader confuses


def draw(findings: Findings) -> list[Plot]:
    """Draw one plot per Fisher metric and variant: a map without a deficit, and one per deficit.

    Raises:
        NothingToDrawError: if the study has no Fisher metric with two layers or more.
    """
    found = []
    for name, curves in fisher_curves(findings):
        chosen = representatives(findings.study, findings.groups, curves)
        if by_layer := [curve for curve in chosen if curve.values.ndim == 2 and len(curve.layers) > 1]:
            found.append((name, by_layer))
    if not found:
        raise NothingToDrawError(
            "Fisher information was not measured per layer, or the network has only one layer; "
            'add [metrics.fisher] use = "fisher-trace" to the spec of a network with at least two layers'
        )
    names = study_variants(findings.study)
    top = max(_highest(curve) for _, curves in found for curve in curves)
    return [_draw_variant(name, curves, names.label(curves[0].variant), top) for name, curves in found]


def _highest(curve: MetricCurve) -> float:
    shares = layer_shares(curve)
    return float(shares[np.isfinite(shares)].max(initial=0.0))


def shares_by_epoch(curve: MetricCurve) -> Floats:
    """Return the layers' shares at every epoch from the first measurement to the last, (layer, epoch).

    An epoch without a measurement has the shares of the nearest one.
    """
    epochs = np.arange(curve.epoch[0], curve.epoch[-1] + 1)
    middles = (curve.epoch[1:] + curve.epoch[:-1]) / 2
    shares: Floats = layer_shares(curve)[np.searchsorted(middles, epochs)].T
    return shares


def _draw_variant(name: str, curves: Sequence[MetricCurve], label: str, top: float) -> Plot:
    """Draw the maps of one variant; the colours of all maps of a study go from 0 to `top`."""
    rows = min(_NAMED_LAYERS, len(curves[0].layers))
    figure = Figure(figsize=(WIDTH, len(curves) * (rows * _ROW + 0.3) + 1.0), layout="constrained")
    axes = list(figure.subplots(len(curves), 1, sharex=True, squeeze=False).flat)
    for panel, curve in zip(axes, curves, strict=True):
        shares = shares_by_epoch(curve)
        extent = (curve.epoch[0] - 0.5, curve.epoch[-1] + 0.5, len(shares) - 0.5, -0.5)
        image = panel.imshow(
            shares, cmap=_COLOURS, vmin=0, vmax=top, aspect="auto", extent=extent, interpolation="nearest"
        )
        _name_layers(panel, curve)
        panel.set_title(timeline_label(curve.deficit, curve.onset, curve.offset), pad=7)
        if curve.offset > curve.onset:  # a bar above the map, over the epochs under the deficit
            above = panel.transData + ScaledTranslation(0, 2 / 72, figure.dpi_scale_trans)
            panel.plot(
                [curve.onset, curve.offset], [-0.5, -0.5], color=INK, linewidth=2, solid_capstyle="butt",
                transform=above, clip_on=False, scalex=False, scaley=False,
            )  # fmt: skip
    axes[0].set_xlim(0, max(int(curve.epoch[-1]) for curve in curves) + 0.5)
    label_whole_epochs(axes[-1])
    axes[-1].set_xlabel("Epoch")
    bar = figure.colorbar(image, ax=axes, location="top", aspect=40, pad=0.01, format=PercentFormatter(1.0, symbol=""))
    bar.set_label("Share of the Fisher trace, %")
    bar.outline.set_visible(False)
    add_note(
        figure,
        sentences(
            label,
            f"Metric {shorten(name, 24)}: {measurement(curves[0])}",
            f"Mean of {sample_size(curve.n for curve in curves)}",
            "Layers in forward order, from the input down to the output",
            "Bars above a map: epochs under the deficit",
        ),
    )
    return figure, _describe(curves, label)


def _name_layers(panel: Axes, curve: MetricCurve) -> None:
    """Name all layers, or evenly spaced ones where there are too many."""
    count = len(curve.layers)
    named = np.unique(np.linspace(0, count - 1, min(count, _NAMED_LAYERS)).round().astype(int))
    panel.set_yticks(named, [shorten(curve.layers[i], 14) for i in named])
    panel.tick_params(axis="y", length=0)
    for side in ("left", "bottom"):
        panel.spines[side].set_visible(False)


def _describe(curves: Sequence[MetricCurve], label: str) -> str:
    """Describe the layer with the largest share at the end of every map."""
    parts = []
    for curve in curves:
        end = layer_shares(curve)[-1]
        timeline = timeline_label(curve.deficit, curve.onset, curve.offset)
        if np.isfinite(end).all():
            largest = int(end.argmax())
            parts.append(f"{percent(float(end[largest]))}% in {shorten(curve.layers[largest], 24)} ({timeline})")
    return sentences(prefix_variant(label, f"the largest share at the end is {'; '.join(parts)}"))
