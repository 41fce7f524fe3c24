"""Sensitivity: what a deficit of fixed length costs, against the epoch at which it begins."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist

from cpframe.analysis.comparisons import SlidingGroup
from cpframe.analysis.findings import Findings
from cpframe.analysis.statistics import estimate
from cpframe.errors import NothingToDrawError
from cpframe.report.figures.labels import PAGE, in_pages, listed, name_of, panel_title, seeds_told
from cpframe.report.figures.removal import paired
from cpframe.report.figures.style import (
    INK,
    Drawing,
    draw_band,
    draw_line,
    label_axes,
    legend_above,
    note_below,
    panels,
    pens,
    whole_epochs,
)
from cpframe.report.formatting import points
from cpframe.report.variant_names import VariantNames, study_variants


def sensitivity_drawings(findings: Findings) -> list[Drawing]:
    """One panel for every sliding group.

    Raises:
        NothingToDrawError: without a pair of complete trajectories, one with a deficit and one without.
    """
    groups = [group for group in findings.slidings if any(map(paired, group.curves))]
    if not groups:
        raise NothingToDrawError(
            "no complete sliding trajectory with its no-deficit pair; "
            '[[protocols]] use = "sliding" gives them, once they are trained'
        )
    looks, names = pens(findings.study), study_variants(findings.study)
    drawings = []
    for stem, some in in_pages("sensitivity", groups, PAGE):
        figure, axes = panels(len(some), 2.1 if len(some) == 1 else 1.5)
        handles: dict[str, Artist] = {}
        for panel, group in zip(axes, some, strict=True):
            panel.axhline(0, color=INK, linewidth=0.5, zorder=1)
            for curve in filter(paired, reversed(group.curves)):  # the first deficit lies above the others
                drops = [(point.at, estimate(point.drops.values())) for point in curve.points if point.drops]
                x, pen = [at for at, _ in drops], looks[curve.deficit]
                draw_band(panel, pen, x, [100 * d.low for _, d in drops], [100 * d.high for _, d in drops])
                line = draw_line(panel, pen, x, [100 * d.mean for _, d in drops])
                handles[curve.deficit] = line
            whole_epochs(panel)
            panel.set_title(panel_title(names.label(group.variant), "" if _alike(groups) else _course(group)))
        label_axes(axes, "onset of the deficit, epoch", "sensitivity, points")
        legend_above(figure, {name_of(name): handles[name] for name in looks if name in handles})
        told = seeds_told([p.drops for group in some for curve in group.curves for p in curve.points])
        note_below(
            figure,
            f"{told}; percentage points below no deficit, paired by seed; bands: 95 % t intervals"
            + (f"; a deficit of {_course(groups[0])}." if _alike(groups) else "."),
        )
        drawings.append(Drawing(stem, "Sensitivity against the onset of the deficit", _seen(some, names), figure))
    return drawings


def _course(group: SlidingGroup) -> str:
    return f"{group.length} of {group.epochs} epochs"


def _alike(groups: Sequence[SlidingGroup]) -> bool:
    return len({(group.length, group.epochs) for group in groups}) == 1


def _seen(groups: Sequence[SlidingGroup], names: VariantNames) -> str:
    """Where every curve is highest."""
    told = []
    for group in groups:
        tops = []
        for curve in filter(paired, group.curves):
            drops = {point.at: estimate(point.drops.values()) for point in curve.points if point.drops}
            top = max(drops, key=lambda at: drops[at].mean)
            tops.append(f"{name_of(curve.deficit)} costs most, {points(drops[top])} points, from onset {top}")
        where = ", ".join(filter(None, (names.label(group.variant), _course(group))))
        told.append(f"{where}: {listed(tops)}.")
    return " ".join(told)
