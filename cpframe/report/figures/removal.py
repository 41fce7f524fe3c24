"""Removal curves: final accuracy against the epoch at which the deficit is removed."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from cpframe.analysis.comparisons import Curve, RemovalGroup
from cpframe.analysis.findings import Findings
from cpframe.analysis.statistics import estimate
from cpframe.errors import NothingToDrawError
from cpframe.records.model import CLEAN
from cpframe.report.figures import Plot, published
from cpframe.report.figures.labels import deficit_label, paginate, panel_title, prefix_variant, sample_size, sentences
from cpframe.report.figures.style import (
    INK,
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
)
from cpframe.report.formatting import percent, plural, points
from cpframe.report.variant_names import VariantNames, study_variants


def draw(findings: Findings) -> list[Plot]:
    """Draw one panel per removal group.

    A point is the mean accuracy without a deficit minus the mean paired drop, so that a missing seed does not shift it.

    Raises:
        NothingToDrawError: if no complete trajectory with a deficit has a complete no-deficit trajectory of its seed.
    """
    groups = [group for group in findings.removals if group.reference and any(map(has_drops, group.curves))]
    if not groups:
        raise NothingToDrawError(
            "no complete pair of a removal trajectory and its no-deficit trajectory; "
            'add [[protocols]] use = "removal" to the spec, or finish the run'
        )
    names = study_variants(findings.study)
    styles, blurs = line_styles(findings.study), published.published_deficits(findings.study)
    plots = []
    for page in paginate(groups):
        figure, axes = make_panels(len(page), 2.1 if len(page) == 1 else 1.5)
        handles: dict[str, Artist] = {}
        for panel, group in zip(axes, page, strict=True):
            _draw_group(panel, group, styles, handles)
            if group.recovery == published.RECOVERY and blurs & {curve.deficit for curve in group.curves}:
                (handles[published.NAME],) = panel.plot(
                    list(published.REMOVAL), list(published.REMOVAL.values()), "x:", color=QUIET, zorder=3
                )
            panel.set_title(_title(group, groups, names.label(group.variant)))
        label_axes(axes, "Epoch of removal", "Final accuracy, %")
        order = [*styles, published.NAME]
        add_legend(figure, {deficit_label(name): handles[name] for name in order if name in handles})
        seeds = sample_size(len(point.drops) for group in page for curve in group.curves for point in curve.points)
        recovery = f"{plural(groups[0].recovery, 'clean epoch')} after removal" if _same_recovery(groups) else ""
        add_note(
            figure,
            sentences(
                seeds,
                "Points: mean accuracy without a deficit minus the mean drop, paired by seed",
                "Bands: 95% t intervals of the drop",
                recovery,
            ),
        )
        plots.append((figure, _describe(page, names)))
    return plots


def has_drops(curve: Curve) -> bool:
    """Return whether any point of a curve has a seed with and without the deficit."""
    return any(point.drops for point in curve.points)


def _draw_group(panel: Axes, group: RemovalGroup, styles: dict[str, LineStyle], handles: dict[str, Artist]) -> None:
    start = 100 * estimate(group.reference.values()).mean
    handles.setdefault(CLEAN, panel.axhline(start, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1))
    for curve in reversed(group.curves):  # the first deficit is drawn on top
        drops = [(point.at, estimate(point.drops.values())) for point in curve.points if point.drops]
        if not drops:
            continue
        x, style = [0, *(at for at, _ in drops)], styles[curve.deficit]
        mean, low, high = (
            [start, *(start - 100 * drop for drop in values)]
            for values in zip(*((drop.mean, drop.high, drop.low) for _, drop in drops), strict=True)
        )
        draw_band(panel, style, x, low, high)
        handles[curve.deficit] = draw_line(panel, style, x, mean, markevery=slice(1, None))
    label_whole_epochs(panel)


def _title(group: RemovalGroup, groups: Sequence[RemovalGroup], label: str) -> str:
    recovery = "" if _same_recovery(groups) else f"{group.recovery} clean epochs"
    return panel_title(label, recovery)


def _same_recovery(groups: Sequence[RemovalGroup]) -> bool:
    return len({group.recovery for group in groups}) == 1


def _describe(groups: Sequence[RemovalGroup], names: VariantNames) -> str:
    """Describe the last point of every curve."""
    parts = []
    for group in groups:
        drops = []
        for curve in filter(has_drops, group.curves):
            last = [point for point in curve.points if point.drops][-1]
            drop = points(estimate(last.drops.values()))
            drops.append(f"{drop} with {deficit_label(curve.deficit)} removed at epoch {last.at}")
        label = names.label(group.variant)
        accuracy = percent(estimate(group.reference.values()).mean)
        parts += [
            prefix_variant(label, f"final accuracy without a deficit is {accuracy}%"),
            f"The drop in percentage points is {'; '.join(drops)}",
        ]
    return sentences(*parts)
