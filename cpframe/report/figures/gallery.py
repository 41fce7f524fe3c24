"""All figures by their names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain

from cpframe.analysis.findings import Findings
from cpframe.errors import NothingToDrawError
from cpframe.report.figures.filters import filters_drawings
from cpframe.report.figures.fisher import fisher_drawings
from cpframe.report.figures.gradients import gradients_drawings
from cpframe.report.figures.layers import layers_drawings
from cpframe.report.figures.layout import settle
from cpframe.report.figures.link import link_drawings
from cpframe.report.figures.missing_glyphs import letters_noted
from cpframe.report.figures.removal import removal_drawings
from cpframe.report.figures.sensitivity import sensitivity_drawings
from cpframe.report.figures.style import Drawing, styled

_DRAWN_BY: Mapping[str, Callable[[Findings], list[Drawing]]] = {
    "removal": removal_drawings,
    "sensitivity": sensitivity_drawings,
    "fisher": fisher_drawings,
    "layers": layers_drawings,
    "gradients": gradients_drawings,
    "filters": filters_drawings,
    "link": link_drawings,
}


def draw(findings: Findings, names: Iterable[str]) -> tuple[dict[str, list[Drawing]], dict[str, str]]:
    """Draw several figures.

    Args:
        findings: of a study, finished or not.
        names: of `cpframe.report.figures.FIGURES`.

    Returns:
        The drawings of those that there is data for, and of the others what is missing, both by name.
    """
    drawn: dict[str, list[Drawing]] = {}
    missing: dict[str, str] = {}
    with styled(), letters_noted():
        for name in names:
            try:
                drawn[name] = _DRAWN_BY[name](findings)
            except NothingToDrawError as error:
                missing[name] = str(error)
        for drawing in chain.from_iterable(drawn.values()):
            settle(drawing.figure)
    return drawn, missing
