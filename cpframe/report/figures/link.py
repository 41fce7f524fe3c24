"""Fisher information without a deficit against the sensitivity to one in the same epochs, with an exponential fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes

from cpframe.analysis.findings import Findings
from cpframe.analysis.fisher_sensitivity import Link
from cpframe.errors import NothingToDrawError
from cpframe.report.figures.labels import PAGE, in_pages, name_of, panel_title, seeds_told
from cpframe.report.figures.style import (
    INK,
    QUIET,
    Drawing,
    Pen,
    draw_line,
    label_axes,
    legend_above,
    note_below,
    panels,
    pens,
)
from cpframe.report.variant_names import VariantNames, study_variants
from cpframe.report.wording.fisher import fit_words

_FORMULA = "F\u00a0=\u00a0a\u00a0exp(c\u00a0S)\u00a0+\u00a0b"  # in one line

Named = tuple[str, Link]


def link_drawings(findings: Findings) -> list[Drawing]:
    """One panel for every Fisher metric, sliding group and deficit; a point an onset, and the fit where there is one.

    Raises:
        NothingToDrawError: without Fisher information, or without a deficit at two onsets.
    """
    names = list(findings.fisher)
    found = [(name, link) for name, made in findings.links.items() for link in made]
    if not found:
        missing = "no Fisher information" if not names else "no deficit that slid to two onsets or more"
        raise NothingToDrawError(
            f'{missing}; [[protocols]] use = "sliding" and [metrics.fisher] use = "fisher-trace" give both'
        )
    looks, variants = pens(findings.study), study_variants(findings.study)
    drawings = []
    for stem, some in in_pages("link", found, PAGE):
        figure, axes = panels(len(some), 2.1 if len(some) == 1 else 1.5, share_y="all" if len(names) == 1 else "none")
        handles: dict[str, Artist] = {}
        for panel, (name, link) in zip(axes, some, strict=True):
            _draw(panel, link, looks[link.deficit], handles)
            panel.set_title(
                panel_title(*_parts(name if len(names) > 1 else "", link, found, variants.label(link.group.variant)))
            )
        fitted = "fit" in handles
        units = some[0][1].units.replace("nat^2", "nat²")
        label_axes(axes, "sensitivity, points", f"Fisher trace, {units}" if units else "Fisher trace")
        legend_above(figure, {name_of(key): handles[key] for key in (*looks, "fit") if key in handles})
        told = seeds_told([range(point.sensitivity.n) for _, link in some for point in link.points])
        line = f"; line: {_FORMULA}" if fitted else ""
        note_below(
            figure,
            f"{told}; a point an onset, joined in their order: Fisher trace without a deficit, averaged over the "
            f"window, against the window's cost, paired by seed; whiskers: 95 % t intervals{line}.",
        )
        drawings.append(Drawing(stem, "Fisher information against sensitivity", _seen(some, names, variants), figure))
    return drawings


def _draw(panel: Axes, link: Link, pen: Pen, handles: dict[str, Artist]) -> None:
    x = [100 * point.sensitivity.mean for point in link.points]
    y = [point.fisher for point in link.points]
    reach = [100 * point.sensitivity.half_width for point in link.points]
    panel.errorbar(x, y, xerr=np.nan_to_num(reach), fmt="none", ecolor=pen.colour, elinewidth=0.7, alpha=0.7, zorder=2)
    handles.setdefault(link.deficit, draw_line(panel, pen, x, y, linestyle="none"))
    panel.margins(y=0.25)
    panel.plot(x, y, color=pen.colour, linewidth=0.4, alpha=0.7, zorder=1)  # in the order of the onsets
    for place in (0, -1):  # `settle` finds room for them
        panel.annotate(
            f"onset {link.points[place].onset}", (x[place], y[place]), (3, 3),
            textcoords="offset points", fontsize=6.5, color=QUIET, zorder=4,
        )  # fmt: skip
    if link.fit.kind in ("exponential", "straight"):
        smooth = np.linspace(min(x), max(x), 100)
        (handles["fit"],) = panel.plot(smooth, link.fit.at(smooth / 100), "--", color=INK, linewidth=0.8, zorder=2)


def _parts(metric: str, link: Link, found: Sequence[Named], label: str) -> list[str]:
    """What tells one from the others."""
    courses = {(other.group.length, other.group.epochs) for _, other in found}
    course = f"{link.group.length} of {link.group.epochs}" if len(courses) > 1 else ""
    return [part for part in (name_of(link.deficit), label, course, metric) if part]


def _seen(found: Sequence[Named], names: Sequence[str], variants: VariantNames) -> str:
    titles = []
    for name, link in found:
        label = variants.label(link.group.variant)
        titles.append(", ".join(_parts(name if len(names) > 1 else "", link, found, label)))
    return " ".join(f"{title}: {fit_words(link.fit)}." for title, (_, link) in zip(titles, found, strict=True))
