"""Fisher information without a deficit against the sensitivity to a deficit in the same epochs, with a fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke

from cpframe.analysis.findings import Findings
from cpframe.analysis.fisher_sensitivity import Link
from cpframe.errors import NothingToDrawError
from cpframe.report.figures import Plot
from cpframe.report.figures.labels import deficit_label, fisher_axis, paginate, panel_title, sample_size, sentences
from cpframe.report.figures.style import (
    INK,
    PAPER,
    QUIET,
    SMALL,
    LineStyle,
    add_legend,
    add_note,
    draw_line,
    label_axes,
    line_styles,
    make_panels,
)
from cpframe.report.variant_names import study_variants
from cpframe.report.wording.fisher import fit_words

_FORMULA = "F\u00a0=\u00a0a\u00a0exp(c\u00a0S)\u00a0+\u00a0b"  # no line break inside

_NamedLink = tuple[str, Link]
"""The name of a Fisher metric, and one of its links."""


def draw(findings: Findings) -> list[Plot]:
    """Draw one panel per Fisher metric, sliding group and deficit: one point per onset, and the fit.

    Raises:
        NothingToDrawError: if the study has no Fisher metric, or no deficit at two onsets.
    """
    names = list(findings.fisher)
    found = [(name, link) for name, links in findings.links.items() for link in links]
    if not found:
        missing = "deficit at two or more onsets was trained" if names else "Fisher information was measured"
        raise NothingToDrawError(
            f'no {missing}; add [[protocols]] use = "sliding" and [metrics.fisher] use = "fisher-trace" to the spec'
        )
    styles, variants = line_styles(findings.study), study_variants(findings.study)
    several = len(names) > 1
    plots = []
    for page in paginate(found):
        figure, axes = make_panels(len(page), 2.1 if len(page) == 1 else 1.6, share_y="none" if several else "all")
        titles = [
            _title(name if several else "", link, found, variants.label(link.group.variant)) for name, link in page
        ]
        handles: dict[str, Artist] = {}
        for panel, (_, link), title in zip(axes, page, titles, strict=True):
            _draw_link(panel, link, styles[link.deficit], handles)
            panel.set_title(title)
        label_axes(axes, "Sensitivity,\npercentage points", fisher_axis(page[0][1].units))
        add_legend(figure, {deficit_label(key): handles[key] for key in (*styles, "fit") if key in handles})
        add_note(
            figure,
            sentences(
                sample_size(point.sensitivity.n for _, link in page for point in link.points),
                "One point per onset, joined in order: mean Fisher trace without a deficit over the window, "
                "against the sensitivity to a deficit in it",
                "Whiskers: 95% t intervals",
                f"Dashed: fit of {_FORMULA}" if "fit" in handles else "",
            ),
        )
        fits = [f"{title}: {fit_words(link.fit)}" for title, (_, link) in zip(titles, page, strict=True)]
        plots.append((figure, sentences(*fits)))
    return plots


def _draw_link(panel: Axes, link: Link, style: LineStyle, handles: dict[str, Artist]) -> None:
    x = [100 * point.sensitivity.mean for point in link.points]
    y = [point.fisher for point in link.points]
    reach = [100 * point.sensitivity.half_width for point in link.points]
    panel.errorbar(
        x, y, xerr=np.nan_to_num(reach), fmt="none", ecolor=style.colour, elinewidth=0.7, alpha=0.7, zorder=2
    )
    handles.setdefault(link.deficit, draw_line(panel, style, x, y, linestyle="none"))
    panel.plot(x, y, color=style.colour, linewidth=0.4, alpha=0.7, zorder=1)
    panel.margins(x=0.2, y=0.35)  # space for the labels of the onsets
    low, high = sorted((0, -1), key=lambda point: y[point])
    _label_onset(panel, link, low, "top")
    _label_onset(panel, link, high, "bottom")
    if link.fit.kind in ("exponential", "straight"):
        smooth = np.linspace(min(x), max(x), 100)
        (handles["fit"],) = panel.plot(smooth, link.fit.at(smooth / 100), "--", color=INK, linewidth=0.8, zorder=2)


def _label_onset(panel: Axes, link: Link, number: int, alignment: Literal["top", "bottom"]) -> None:
    """Label the onset of a point, below the point for the alignment ``top`` and above it for ``bottom``."""
    point = link.points[number]
    label = panel.annotate(
        f"onset {point.onset}", (100 * point.sensitivity.mean, point.fisher), (0, -4 if alignment == "top" else 4),
        textcoords="offset points", ha="center", va=alignment, fontsize=SMALL, color=QUIET, zorder=1.5,
    )  # fmt: skip
    # Where labels and data meet, the label hides the joining line, and points and whiskers are drawn over the label.
    label.set_path_effects([withStroke(linewidth=2, foreground=PAPER)])


def _title(metric: str, link: Link, found: Sequence[_NamedLink], label: str) -> str:
    """Return a title that distinguishes a link from the others of the study."""
    windows = {(other.group.length, other.group.epochs) for _, other in found}
    window = f"{link.group.length} of {link.group.epochs} epochs" if len(windows) > 1 else ""
    return panel_title(deficit_label(link.deficit), label, window, metric)
