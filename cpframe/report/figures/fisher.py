"""Fisher information through training, summed over layers, with and without each deficit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.ticker import StrMethodFormatter

from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.phases import phases_of
from cpframe.analysis.representatives import by_variant, representatives
from cpframe.analysis.statistics import estimate
from cpframe.errors import NothingToDrawError
from cpframe.records.model import CLEAN, FISHER_TRACE, Floats
from cpframe.report.figures import Plot, published
from cpframe.report.figures.labels import (
    deficit_label,
    fisher_axis,
    prefix_variant,
    sample_size,
    sentences,
    timeline_label,
)
from cpframe.report.figures.style import (
    QUIET,
    LineStyle,
    add_legend,
    add_note,
    draw_band,
    draw_line,
    label_axes,
    label_whole_epochs,
    line_styles,
    make_panels,
    shade_deficit,
)
from cpframe.report.formatting import number, shorten
from cpframe.report.variant_names import study_variants

_LOWEST_PEAK = 1 / 20
"""The smallest peak, as a fraction of the largest, that is still visible on a linear scale."""
_MARKS = 6  # per line


def draw(findings: Findings) -> list[Plot]:
    """Draw one plot per Fisher metric and variant, with one panel per deficit.

    A panel shows the deficit in its representative window, and the training without a deficit.

    Raises:
        NothingToDrawError: if the study has no Fisher metric.
    """
    return [_draw_variant(name, curves, findings) for name, curves in fisher_curves(findings)]


def fisher_curves(findings: Findings) -> list[tuple[str, tuple[MetricCurve, ...]]]:
    """Return the name and the curves of every Fisher metric, once per variant.

    Raises:
        NothingToDrawError: if the study has no Fisher metric.
    """
    found = [(name, members) for name, curves in findings.fisher.items() for members in by_variant(curves)]
    if not found:
        raise NothingToDrawError(
            'no Fisher information was measured; add [metrics.fisher] use = "fisher-trace" to the spec'
        )
    return found


def _draw_variant(name: str, curves: Sequence[MetricCurve], findings: Findings) -> Plot:
    label = study_variants(findings.study).label(curves[0].variant)
    styles, blurs = line_styles(findings.study), published.published_deficits(findings.study)
    chosen = representatives(findings.study, findings.groups, curves)
    clean = [curve for curve in chosen if curve.deficit == CLEAN]
    shown = [curve for curve in chosen if curve.deficit != CLEAN] or clean
    figure, axes = make_panels(len(shown), 2.1 if len(shown) == 1 else 1.4)
    handles: dict[str, Artist] = {}
    thin_lines = False
    for panel, curve in zip(axes, shown, strict=True):
        shade_deficit(panel, curve.onset, curve.offset)
        others = [c for c in curves if c.deficit == curve.deficit and c.protocol == curve.protocol and c is not curve]
        thin_lines = thin_lines or bool(others)
        for other in others:
            colour = styles[curve.deficit].colour
            panel.plot(other.epoch, other.total, color=colour, linewidth=0.5, alpha=0.55, zorder=2)
        for drawn in [curve] if curve.deficit == CLEAN else [*clean, curve]:
            handles[drawn.deficit] = _draw_curve(panel, styles[drawn.deficit], drawn)
        if curve.deficit in blurs and curve.quantity == FISHER_TRACE:
            handles[published.NAME] = _draw_published(panel)
        panel.set_title(timeline_label(curve.deficit, curve.onset, curve.offset))
        label_whole_epochs(panel)
    _set_scale(axes, chosen)
    first = chosen[0]
    label_axes(axes, "Epoch", fisher_axis(first.units))
    add_legend(figure, {deficit_label(key): handles[key] for key in [*styles, published.NAME] if key in handles})
    add_note(
        figure,
        sentences(
            label,
            f"Metric {shorten(name, 24)}: {measurement(first)}, summed over layers",
            f"Mean of {sample_size(c.n for c in chosen)}",
            "Bands: 95% t intervals",
            f"Shaded: epochs under the deficit{'; thin lines: its other windows' if thin_lines else ''}",
        ),
    )
    return figure, _describe(chosen, label)


def measurement(curve: MetricCurve) -> str:
    """Return how and on which inputs a metric was measured."""
    return f"{curve.estimator or 'measured'}, on {curve.source} inputs"


def _draw_curve(panel: Axes, style: LineStyle, curve: MetricCurve) -> Artist:
    low, high = mean_interval(curve.total_by_seed)
    draw_band(panel, style, curve.epoch, low, high)
    return draw_line(panel, style, curve.epoch, curve.total, markevery=max(1, len(curve.epoch) // _MARKS))


def mean_interval(sample: Floats) -> tuple[Floats, Floats]:
    """Return the ends of the 95% t interval of the mean over seeds.

    Args:
        sample: the values, (seed, M).

    Returns:
        The lower and the upper ends, (M,) each; nan for fewer than two seeds.
    """
    estimates = [estimate(column) for column in sample.T]
    return np.array([e.low for e in estimates]), np.array([e.high for e in estimates])


def _draw_published(panel: Axes) -> Artist:
    curves = published.FISHER
    for curve in curves:
        panel.plot([curve.first_epoch, curve.last_epoch], [curve.peak] * 2, "-", color=QUIET, linewidth=0.8, zorder=3)
    x = [(curve.first_epoch + curve.last_epoch) / 2 for curve in curves] + [published.END_EPOCH] * len(curves)
    y = [curve.peak for curve in curves] + [curve.end for curve in curves]
    (marks,) = panel.plot(x, y, "x", color=QUIET, zorder=3)
    return marks


def _set_scale(axes: Sequence[Axes], curves: Sequence[MetricCurve]) -> None:
    """Set a linear scale from 0, or a logarithmic one where the smallest curve would lie on the x axis."""
    peaks = [float(curve.total.max()) for curve in curves]
    if min(peaks) < _LOWEST_PEAK * max(peaks) and min(float(curve.total.min()) for curve in curves) > 0:
        axes[0].set_yscale("log")
        axes[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        axes[0].set_ylim(bottom=min(0.0, *(float(curve.total.min()) for curve in curves)))


def _describe(curves: Sequence[MetricCurve], label: str) -> str:
    """Describe the peak and the end of every curve."""
    parts = []
    for curve in curves:
        phases = phases_of(curve)
        timeline = timeline_label(curve.deficit, curve.onset, curve.offset)
        end = f"is {number(float(curve.total[-1]))} at epoch {int(curve.epoch[-1])}"
        if phases and phases.shape == "peak":
            parts.append(f"peaks at {number(phases.peak)} in epoch {phases.peak_epoch} and {end} ({timeline})")
        else:
            parts.append(f"has no peak and {end} ({timeline})")
    return sentences(prefix_variant(label, f"the trace {'; '.join(parts)}"))
