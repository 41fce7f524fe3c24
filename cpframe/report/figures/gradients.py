"""The mean and the standard deviation of the gradient per layer through training, with and without a deficit."""

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
from cpframe.report.figures import Plot
from cpframe.report.figures.fisher import mean_interval
from cpframe.report.figures.labels import prefix_variant, sample_size, sentences, timeline_label
from cpframe.report.figures.style import (
    add_legend,
    add_note,
    label_axes,
    label_whole_epochs,
    make_panels,
    shade_deficit,
)
from cpframe.report.formatting import number, shorten
from cpframe.report.variant_names import study_variants

# From the input to the output: colours of Okabe and Ito and mixtures of them, all visible on black and on white.
_COLOURS = LinearSegmentedColormap.from_list("layers", ("#0072b2", "#cc79a7", "#e69f00"))
_NAMED_LAYERS = 9  # the most layers in the legend
_DASHES: tuple[Any, ...] = ("-", (0, (4, 1.2)), (0, (1, 1)))
_STATISTICS = ("mean", "std")

_Pair = tuple[MetricCurve, MetricCurve]
"""The curves of one timeline: the norm of the mean, and the norm of the standard deviation."""


def draw(findings: Findings) -> list[Plot]:
    """Draw one plot per gradient metric, variant and deficit: means in the upper row, standard deviations below.

    Raises:
        NothingToDrawError: if no metric of the study gives both per layer.
    """
    found: list[tuple[str, list[_Pair]]] = []
    means, stds = (_curves_by_metric(findings, quantity) for quantity in (GRADIENT_MEAN, GRADIENT_STD))
    for name in means:
        std_of = {_timeline(curve): curve for curve in stds.get(name, ())}
        by_layer = [curve for curve in means[name] if curve.values.ndim == 2]
        for curves in by_variant([curve for curve in by_layer if _timeline(curve) in std_of]):
            chosen = representatives(findings.study, findings.groups, curves)
            clean = [curve for curve in chosen if curve.deficit == CLEAN]
            deficits = [curve for curve in chosen if curve.deficit != CLEAN]
            trained = [curve for curve in deficits if curve.deficit not in findings.study.idle] or deficits
            found += [
                (name, [(mean, std_of[_timeline(mean)]) for mean in columns])
                for columns in [[*clean, curve] for curve in trained] or [clean]
            ]
    if not found:
        raise NothingToDrawError(
            'no gradients were measured per layer; add [metrics.gradient] use = "gradient" to the spec'
        )
    names = study_variants(findings.study)
    return [_draw_pairs(name, pairs, names.label(pairs[0][0].variant)) for name, pairs in found]


def _curves_by_metric(findings: Findings, quantity: str) -> dict[str, Sequence[MetricCurve]]:
    """Return the curves of one of the two quantities of a gradient metric, by the metric's name in the spec."""
    chosen = ((key, curves) for key, curves in findings.other_metrics.items() if curves)
    return {key.rpartition("-")[0]: curves for key, curves in chosen if curves[0].quantity == quantity}


def _timeline(curve: MetricCurve) -> tuple[object, ...]:
    return str(curve.variant), curve.protocol, curve.deficit, curve.onset, curve.offset, curve.epochs


def _draw_pairs(name: str, pairs: Sequence[_Pair], label: str) -> Plot:
    columns = len(pairs)
    figure, axes = make_panels(2 * columns, 1.6, columns=columns, share_y="row")
    layers = pairs[0][0].layers
    for row, statistic in enumerate(_STATISTICS):
        for column, pair in enumerate(pairs):
            panel, curve = axes[row * columns + column], pair[row]
            shade_deficit(panel, curve.onset, curve.offset)
            _draw_layers(panel, curve)
            label_whole_epochs(panel)
            if row == 0:
                panel.set_title(timeline_label(curve.deficit, curve.onset, curve.offset))
        axes[row * columns].set_ylabel(f"log₁₀ norm of the {statistic}")
    label_axes(axes[columns:], "Epoch", f"log₁₀ norm of the {_STATISTICS[1]}", columns=columns)
    add_legend(figure, {shorten(layers[i], 16): _handle(i, len(layers)) for i in _named_layers(len(layers))})
    first = pairs[0][0]
    add_note(
        figure,
        sentences(
            label,
            f"Metric {shorten(name, 24)}: mean and standard deviation (std) of single-example gradients, on "
            f"{first.source} inputs",
            f"Norms over the weights of a layer, in {first.units or 'units of the loss'} per unit of weight",
            f"Mean of the logarithms, {sample_size(curve.n for curve, _ in pairs)}",
            "Bands: 95% t intervals",
            "Shaded: epochs under the deficit",
        ),
    )
    return figure, _describe(pairs, label)


def log_norms(curve: MetricCurve) -> Floats:
    """Return the decimal logarithms of a curve's values, (seed, M, layer); nan where a norm is 0."""
    return np.log10(curve.by_seed, out=np.full_like(curve.by_seed, np.nan), where=curve.by_seed > 0)


def _draw_layers(panel: Axes, curve: MetricCurve) -> None:
    norms = log_norms(curve)
    for i in range(norms.shape[2]):
        colour = _colour(i, norms.shape[2])
        low, high = mean_interval(norms[:, :, i])
        panel.fill_between(curve.epoch, low, high, color=colour, alpha=0.15, linewidth=0, zorder=1)
        panel.plot(curve.epoch, norms[:, :, i].mean(axis=0), color=colour, linestyle=_DASHES[i % 3], linewidth=1.0)


def _handle(layer: int, count: int) -> Line2D:
    return Line2D([], [], color=_colour(layer, count), linestyle=_DASHES[layer % 3], linewidth=1.2)


def _colour(layer: int, count: int) -> tuple[float, float, float, float]:
    return _COLOURS(layer / max(1, count - 1))


def _named_layers(count: int) -> NDArray[np.int64]:
    """Return the indices of the layers in the legend: all, or evenly spaced ones with the first and the last."""
    return np.unique(np.linspace(0, count - 1, min(count, _NAMED_LAYERS)).round().astype(np.int64))


def _describe(pairs: Sequence[_Pair], label: str) -> str:
    """Describe the mean gradient of the first layer at its first and last measurement."""
    parts = []
    for curve, _ in pairs:
        timeline = timeline_label(curve.deficit, curve.onset, curve.offset)
        first, last = (number(float(curve.values[row, 0])) for row in (0, -1))
        parts.append(f"from {first} to {last} ({timeline})")
    layer = shorten(pairs[0][0].layers[0], 24)
    return sentences(prefix_variant(label, f"the norm of the mean gradient of {layer} goes {'; '.join(parts)}"))
