"""Sensitivity curves: the drop that a deficit of fixed length causes, against its onset."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist

from cpframe.analysis.comparisons import SlidingGroup
from cpframe.analysis.findings import Findings
from cpframe.analysis.statistics import estimate
from cpframe.errors import NothingToDrawError
from cpframe.report.figures import Plot
from cpframe.report.figures.labels import deficit_label, paginate, panel_title, prefix_variant, sample_size, sentences
from cpframe.report.figures.removal import has_drops
from cpframe.report.figures.style import (
    INK,
    add_legend,
    add_note,
    draw_band,
    draw_line,
    label_axes,
    label_whole_epochs,
    line_styles,
    make_panels,
)
from cpframe.report.formatting import points
from cpframe.report.variant_names import VariantNames, study_variants


def draw(findings: Findings) -> list[Plot]:
    """Draw one panel per sliding group.

    Raises:
        NothingToDrawError: if no complete trajectory with a deficit has a complete no-deficit trajectory of its seed.
    """
    groups = [group for group in findings.slidings if any(map(has_drops, group.curves))]
    if not groups:
        raise NothingToDrawError(
            "no complete pair of a sliding trajectory and its no-deficit trajectory; "
            'add [[protocols]] use = "sliding" to the spec, or finish the run'
        )
    styles, names = line_styles(findings.study), study_variants(findings.study)
    same_window = len({(group.length, group.epochs) for group in groups}) == 1
    plots = []
    for page in paginate(groups):
        figure, axes = make_panels(len(page), 2.1 if len(page) == 1 else 1.5)
        handles: dict[str, Artist] = {}
        for panel, group in zip(axes, page, strict=True):
            panel.axhline(0, color=INK, linewidth=0.5, zorder=1)
            for curve in filter(has_drops, reversed(group.curves)):  # the first deficit is drawn on top
                drops = [(point.at, estimate(point.drops.values())) for point in curve.points if point.drops]
                x, style = [at for at, _ in drops], styles[curve.deficit]
                draw_band(panel, style, x, [100 * d.low for _, d in drops], [100 * d.high for _, d in drops])
                handles[curve.deficit] = draw_line(panel, style, x, [100 * d.mean for _, d in drops])
            label_whole_epochs(panel)
            panel.set_title(panel_title(names.label(group.variant), "" if same_window else _window(group)))
        label_axes(axes, "Deficit onset, epoch", "Sensitivity,\npercentage points")
        add_legend(figure, {deficit_label(name): handles[name] for name in styles if name in handles})
        seeds = sample_size(len(point.drops) for group in page for curve in group.curves for point in curve.points)
        add_note(
            figure,
            sentences(
                seeds,
                "Sensitivity: drop in final accuracy below the no-deficit trajectory, paired by seed",
                "Bands: 95% t intervals",
                f"Deficits last {_window(groups[0])}" if same_window else "",
            ),
        )
        plots.append((figure, _describe(page, names)))
    return plots


def _window(group: SlidingGroup) -> str:
    return f"{group.length} of {group.epochs} epochs"


def _describe(groups: Sequence[SlidingGroup], names: VariantNames) -> str:
    """Describe the highest point of every curve."""
    parts = []
    for group in groups:
        maxima = []
        for curve in filter(has_drops, group.curves):
            drops = {point.at: estimate(point.drops.values()) for point in curve.points if point.drops}
            onset = max(drops, key=lambda at: drops[at].mean)
            maxima.append(f"{points(drops[onset])} to {deficit_label(curve.deficit)} at onset {onset}")
        sentence = f"the largest sensitivity in percentage points is {'; '.join(maxima)}, for {_window(group)}"
        parts.append(prefix_variant(names.label(group.variant), sentence))
    return sentences(*parts)
