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
from cpframe.report.figures import published
from cpframe.report.figures.labels import count_told, listed, name_of, numbered, timeline_of
from cpframe.report.figures.style import (
    QUIET,
    Drawing,
    Pen,
    draw_band,
    draw_line,
    label_axes,
    legend_above,
    note_below,
    panels,
    pens,
    whole_epochs,
)
from cpframe.report.formatting import number, shorten
from cpframe.report.variant_names import study_variants

_LOWEST_PEAK = 1 / 20
"""A curve whose peak is a smaller part of the tallest one's would lie on the axis: then the scale is logarithmic."""
_MARKS = 6  # on a line


def fisher_curves(findings: Findings) -> list[tuple[str, tuple[MetricCurve, ...]]]:
    """Every metric that is Fisher information, with its curves, once for each variant.

    Raises:
        NothingToDrawError: where there is none.
    """
    found = [(name, members) for name, curves in findings.fisher.items() for members in by_variant(curves)]
    if not found:
        raise NothingToDrawError('no Fisher information; [metrics.fisher] use = "fisher-trace" gives it')
    return found


def fisher_drawings(findings: Findings) -> list[Drawing]:
    """For every Fisher metric and variant a panel a deficit: the curve that cost most, and what had none.

    Raises:
        NothingToDrawError: without a metric that is Fisher information.
    """
    return [
        _drawing(numbered("fisher", place), name, curves, findings)
        for place, (name, curves) in enumerate(fisher_curves(findings))
    ]


def _drawing(stem: str, name: str, curves: Sequence[MetricCurve], findings: Findings) -> Drawing:
    label = study_variants(findings.study).label(curves[0].variant)
    looks, blurs = pens(findings.study), published.published_blurs(findings.study)
    chosen = representatives(findings.study, findings.groups, curves)
    without = [curve for curve in chosen if curve.deficit == CLEAN]
    shown = [curve for curve in chosen if curve.deficit != CLEAN] or without
    figure, axes = panels(len(shown), 2.1 if len(shown) == 1 else 1.4)
    handles: dict[str, Artist] = {}
    thin = False
    for panel, curve in zip(axes, shown, strict=True):
        if curve.offset > curve.onset:
            panel.axvspan(curve.onset, curve.offset, color=QUIET, alpha=0.15, linewidth=0, zorder=0)
        others = [c for c in curves if c.deficit == curve.deficit and c.protocol == curve.protocol and c is not curve]
        thin = thin or bool(others)
        for other in others:
            panel.plot(other.epoch, other.total, color=looks[curve.deficit].colour, linewidth=0.5, alpha=0.55, zorder=2)
        for drawn in [curve] if curve.deficit == CLEAN else [*without, curve]:
            handles[drawn.deficit] = _draw(panel, looks[drawn.deficit], drawn)
        if curve.deficit in blurs and curve.quantity == FISHER_TRACE:
            handles[published.NAME] = _draw_published(panel)
        panel.set_title(timeline_of(curve.deficit, curve.onset, curve.offset))
        whole_epochs(panel)
    _scale(axes, chosen)
    about = chosen[0]
    units = f", {about.units.replace('nat^2', 'nat²')}" if about.units else ""
    label_axes(axes, "epoch", f"Fisher trace{units}")
    legend_above(figure, {name_of(key): handles[key] for key in [*looks, published.NAME] if key in handles})
    measured = listed([part for part in (label, shorten(name, 24), about.estimator) if part])
    note_below(
        figure,
        f"{measured}, on {about.source} inputs; sum over layers, mean of {count_told(c.n for c in chosen)}; "
        f"bands: 95 % t intervals; shaded: deficit{'; thin: its other windows' if thin else ''}.",
    )
    return Drawing(stem, "Fisher information through training", _seen(chosen, label), figure)


def _draw(panel: Axes, pen: Pen, curve: MetricCurve) -> Artist:
    low, high = interval(curve.total_by_seed)
    draw_band(panel, pen, curve.epoch, low, high)
    return draw_line(panel, pen, curve.epoch, curve.total, markevery=max(1, len(curve.epoch) // _MARKS))


def interval(sample: Floats) -> tuple[Floats, Floats]:
    """Ends of the 95 % t interval of the mean over seeds: (n, M) to two of (M,), nan for fewer than two seeds."""
    estimates = [estimate(column) for column in sample.T]
    return np.array([e.low for e in estimates]), np.array([e.high for e in estimates])


def _draw_published(panel: Axes) -> Artist:
    courses = published.FISHER
    for course in courses:
        panel.plot([course.first, course.last], [course.peak] * 2, "-", color=QUIET, linewidth=0.8, zorder=3)
    x = [(course.first + course.last) / 2 for course in courses] + [published.END_EPOCH] * len(courses)
    y = [course.peak for course in courses] + [course.end for course in courses]
    (marks,) = panel.plot(x, y, "x", color=QUIET, zorder=3)
    return marks


def _scale(axes: Sequence[Axes], curves: Sequence[MetricCurve]) -> None:
    """From 0, unless a curve would then be flat on the axis: then by powers of ten."""
    peaks = [float(curve.total.max()) for curve in curves]
    if min(peaks) < _LOWEST_PEAK * max(peaks) and min(float(curve.total.min()) for curve in curves) > 0:
        axes[0].set_yscale("log")
        axes[0].yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    else:
        axes[0].set_ylim(bottom=min(0.0, *(float(curve.total.min()) for curve in curves)))


def _seen(curves: Sequence[MetricCurve], label: str) -> str:
    """Peak and end of every curve."""
    told = []
    for curve in curves:
        found = phases_of(curve)
        who = timeline_of(curve.deficit, curve.onset, curve.offset)
        end = f"{number(float(curve.total[-1]))} at epoch {int(curve.epoch[-1])}"
        if found and found.shape == "peak":
            told.append(f"{who} peaks at {number(found.peak)} in epoch {found.peak_epoch}, and is {end}")
        else:
            told.append(f"{who} has no peak, and is {end}")
    return f"{label + ': ' if label else ''}{listed(told)}."
