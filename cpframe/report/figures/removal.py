"""Removal curves: final accuracy against the epoch at which the deficit ends."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.artist import Artist
from matplotlib.axes import Axes

from cpframe.analysis.comparisons import Curve, RemovalGroup
from cpframe.analysis.findings import Findings
from cpframe.analysis.statistics import Estimate, estimate
from cpframe.errors import NothingToDrawError
from cpframe.records.model import CLEAN
from cpframe.report.figures import published
from cpframe.report.figures.labels import PAGE, in_pages, listed, name_of, panel_title, seeds_told
from cpframe.report.figures.style import (
    INK,
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
from cpframe.report.formatting import percent, plural, points
from cpframe.report.variant_names import VariantNames, study_variants


def removal_drawings(findings: Findings) -> list[Drawing]:
    """One panel for every removal group: no deficit's mean minus the paired drop, so that a lost seed moves no point.

    Raises:
        NothingToDrawError: without a pair of complete trajectories, one with a deficit and one without.
    """
    groups = [group for group in findings.removals if group.reference and any(map(paired, group.curves))]
    if not groups:
        raise NothingToDrawError(
            "no complete removal trajectory with its no-deficit pair; "
            '[[protocols]] use = "removal" gives them, once they are trained'
        )
    names = study_variants(findings.study)
    looks, blurs = pens(findings.study), published.published_blurs(findings.study)
    drawings = []
    for stem, some in in_pages("removal", groups, PAGE):
        figure, axes = panels(len(some), 2.1 if len(some) == 1 else 1.5)
        handles: dict[str, Artist] = {}
        for panel, group in zip(axes, some, strict=True):
            _draw(panel, group, looks, handles)
            if group.recovery == published.RECOVERY and blurs & {curve.deficit for curve in group.curves}:
                (handles[published.NAME],) = panel.plot(
                    list(published.REMOVAL), list(published.REMOVAL.values()), "x:", color=QUIET, zorder=3
                )
            panel.set_title(_title(group, groups, names.label(group.variant)))
        label_axes(axes, "epoch of removal", "final accuracy, %")
        order = [*looks, published.NAME]
        legend_above(figure, {name_of(name): handles[name] for name in order if name in handles})
        told = seeds_told([p.drops for group in some for curve in group.curves for p in curve.points])
        note_below(
            figure,
            f"{told}; no deficit minus the paired drop, bands: 95 % t intervals of the drop"
            + (f"; {plural(groups[0].recovery, 'clean epoch')} after removal." if _one_recovery(groups) else "."),
        )
        drawings.append(Drawing(stem, "Final accuracy against the epoch of removal", _seen(some, names), figure))
    return drawings


def paired(curve: Curve) -> bool:
    """Whether any of its points has a seed with and without the deficit."""
    return any(point.drops for point in curve.points)


def _draw(panel: Axes, group: RemovalGroup, looks: dict[str, Pen], handles: dict[str, Artist]) -> None:
    start = 100 * estimate(group.reference.values()).mean
    handles.setdefault(CLEAN, panel.axhline(start, color=INK, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1))
    for curve in reversed(group.curves):  # the first deficit lies above the others
        drops = [(point.at, estimate(point.drops.values())) for point in curve.points if point.drops]
        if not drops:
            continue
        x, pen = [0, *(at for at, _ in drops)], looks[curve.deficit]
        low, high = ([start, *(start - 100 * end for end in ends)] for ends in _ends([drop for _, drop in drops]))
        draw_band(panel, pen, x, low, high)
        line = draw_line(
            panel, pen, x, [start, *(start - 100 * drop.mean for _, drop in drops)], markevery=slice(1, None)
        )
        handles[curve.deficit] = line
    whole_epochs(panel)


def _ends(drops: Sequence[Estimate]) -> tuple[list[float], list[float]]:
    """Of the intervals, the end that is lowest in accuracy first."""
    return [drop.high for drop in drops], [drop.low for drop in drops]


def _title(group: RemovalGroup, groups: Sequence[RemovalGroup], label: str) -> str:
    after = "" if _one_recovery(groups) else f"{group.recovery} clean epochs after"
    return panel_title(label, after)


def _one_recovery(groups: Sequence[RemovalGroup]) -> bool:
    return len({group.recovery for group in groups}) == 1


def _seen(groups: Sequence[RemovalGroup], names: VariantNames) -> str:
    """Where every curve ends."""
    told = []
    for group in groups:
        ends = []
        for curve in filter(paired, group.curves):
            last = [point for point in curve.points if point.drops][-1]
            drop = estimate(last.drops.values())
            ends.append(f"{name_of(curve.deficit)} until {last.at} ends {points(drop)} points below it")
        start = percent(estimate(group.reference.values()).mean)
        where = names.label(group.variant)
        told.append(f"{where + ': without' if where else 'Without'} a deficit {start} %; {listed(ends)}.")
    return " ".join(told)
