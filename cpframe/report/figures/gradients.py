"""Size and spread of the gradient, layer by layer through training, with and without a deficit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.representatives import by_variant, representatives
from cpframe.errors import NothingToDrawError
from cpframe.records.model import CLEAN, GRADIENT_MEAN, GRADIENT_STD, Floats
from cpframe.report.figures.fisher import interval
from cpframe.report.figures.labels import count_told, listed, numbered, timeline_of
from cpframe.report.figures.style import (
    QUIET,
    Drawing,
    label_axes,
    legend_above,
    note_below,
    panels,
    whole_epochs,
)
from cpframe.report.formatting import number, shorten
from cpframe.report.variant_names import study_variants

# From the input to the output: colours of Okabe and Ito, in between mixed; all of them show on black and on white.
_LAYERS = LinearSegmentedColormap.from_list("layers", ("#0072b2", "#cc79a7", "#e69f00"))
_NAMED = 9
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.2)), (0, (1, 1)))
_PARTS = ("mean", "std")


def gradients_drawings(findings: Findings) -> list[Drawing]:
    """For every gradient metric, variant and deficit: norm of the mean above, of the standard deviation below.

    Raises:
        NothingToDrawError: without a metric that gives both by layer.
    """
    drawn = []
    means, stds = (_by_metric(findings, quantity) for quantity in (GRADIENT_MEAN, GRADIENT_STD))
    for name in means:
        spreads = {_key(curve): curve for curve in stds.get(name, ())}
        by_layer = [curve for curve in means[name] if curve.values.ndim == 2]
        for curves in by_variant([curve for curve in by_layer if _key(curve) in spreads]):
            chosen = representatives(findings.study, findings.groups, curves)
            without = [curve for curve in chosen if curve.deficit == CLEAN]
            with_one = [curve for curve in chosen if curve.deficit != CLEAN]
            trained = [curve for curve in with_one if curve.deficit not in findings.study.idle] or with_one
            drawn += [
                (name, [(side, spreads[_key(side)]) for side in sides])
                for sides in [[*without, curve] for curve in trained] or [without]
            ]
    if not drawn:
        raise NothingToDrawError('no gradients by layer; [metrics.gradient] use = "gradient" gives them')
    names = study_variants(findings.study)
    return [
        _drawing(numbered("gradients", place), name, pairs, names.label(pairs[0][0].variant))
        for place, (name, pairs) in enumerate(drawn)
    ]


def _by_metric(findings: Findings, quantity: str) -> dict[str, Sequence[MetricCurve]]:
    """Return the curves of one of the quantities that a gradient metric gives, by the metric's name in the spec."""
    chosen = ((key, curves) for key, curves in findings.other_metrics.items() if curves)
    return {key.rpartition("-")[0]: curves for key, curves in chosen if curves[0].quantity == quantity}


def _key(curve: MetricCurve) -> tuple[object, ...]:
    return str(curve.variant), curve.protocol, curve.deficit, curve.onset, curve.offset, curve.epochs


def _drawing(stem: str, name: str, pairs: Sequence[tuple[MetricCurve, MetricCurve]], label: str) -> Drawing:
    beside = len(pairs)
    figure, axes = panels(2 * beside, 1.6, beside=beside, share_y="row")
    layers = pairs[0][0].layers
    for row, part in enumerate(_PARTS):
        for column, pair in enumerate(pairs):
            panel, curve = axes[row * beside + column], pair[row]
            if curve.offset > curve.onset:
                panel.axvspan(curve.onset, curve.offset, color=QUIET, alpha=0.15, linewidth=0, zorder=0)
            _draw(panel, curve)
            whole_epochs(panel)
            if row == 0:
                panel.set_title(timeline_of(curve.deficit, curve.onset, curve.offset))
        axes[row * beside].set_ylabel(f"log₁₀ norm of the {part}")
    label_axes(axes[beside:], "epoch", f"log₁₀ norm of the {_PARTS[1]}", beside=beside)
    legend_above(figure, {shorten(layers[i], 16): _handle(i, len(layers)) for i in _named(len(layers))})
    about = pairs[0][0]
    units = f"{about.units} for each unit of a weight" if about.units else "units of the loss for each unit of a weight"
    told = listed([part for part in (label, shorten(name, 24)) if part])
    note_below(
        figure,
        f"{told}: mean and standard deviation (std) over single examples' gradients, on {about.source} inputs; norms "
        f"over a layer's weights, in {units}; mean of the logarithms of {count_told(c.n for c, _ in pairs)}, bands: "
        "95 % t intervals; shaded: deficit.",
    )
    return Drawing(stem, f"Gradients through training: {_whom(pairs)}", _seen(pairs), figure)


def log_norms(curve: MetricCurve) -> Floats:
    """Decimal logarithms, (seed, M, layer); nan where a norm is 0."""
    return np.log10(curve.by_seed, out=np.full_like(curve.by_seed, np.nan), where=curve.by_seed > 0)


def _draw(panel: Axes, curve: MetricCurve) -> None:
    norms = log_norms(curve)
    for i in range(norms.shape[2]):
        colour = _colour(i, norms.shape[2])
        low, high = interval(norms[:, :, i])
        panel.fill_between(curve.epoch, low, high, color=colour, alpha=0.15, linewidth=0, zorder=1)
        panel.plot(curve.epoch, norms[:, :, i].mean(axis=0), color=colour, linestyle=_DASHES[i % 3], linewidth=1.0)


def _handle(layer: int, count: int) -> Line2D:
    return Line2D([], [], color=_colour(layer, count), linestyle=_DASHES[layer % 3], linewidth=1.2)


def _colour(layer: int, count: int) -> tuple[float, float, float, float]:
    return _LAYERS(layer / max(1, count - 1))


def _named(count: int) -> NDArray[np.int64]:
    """The layers in the legend: all, or some chosen evenly, first and last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, _NAMED)).round().astype(np.int64))


def _whom(pairs: Sequence[tuple[MetricCurve, MetricCurve]]) -> str:
    return " and ".join(timeline_of(curve.deficit, curve.onset, curve.offset) for curve, _ in pairs)


def _seen(pairs: Sequence[tuple[MetricCurve, MetricCurve]]) -> str:
    """First and last norm of the first layer's mean gradient, of which a deficit might starve it."""
    told = []
    for curve, _ in pairs:
        who = timeline_of(curve.deficit, curve.onset, curve.offset)
        course = f"{number(float(curve.values[0, 0]))} to {number(float(curve.values[-1, 0]))}"
        told.append(f"{who}: {shorten(curve.layers[0], 24)} goes from {course}")
    return f"Norm of the mean gradient of the first layer; {listed(told)}."
