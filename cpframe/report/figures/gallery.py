"""Several figures of one study, drawn with cpframe's matplotlib settings."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from cpframe.analysis.findings import Findings
from cpframe.errors import NothingToDrawError
from cpframe.report.figures import Drawing, Figure
from cpframe.report.figures.layout import wrap_titles
from cpframe.report.figures.missing_glyphs import collect_missing_glyphs
from cpframe.report.figures.style import figure_style


def draw(findings: Findings, figures: Iterable[Figure]) -> tuple[dict[str, list[Drawing]], dict[str, str]]:
    """Draw figures of a study.

    Args:
        findings: the findings of the study, which need not be complete.
        figures: entries of `cpframe.report.figures.FIGURES`.

    Returns:
        The drawings by figure name, and the reason by figure name for each figure that lacks data.
    """
    drawings: dict[str, list[Drawing]] = {}
    missing: dict[str, str] = {}
    with figure_style(), collect_missing_glyphs():
        for figure in figures:
            try:
                drawings[figure.name] = figure.draw(findings)
            except NothingToDrawError as error:
                missing[figure.name] = str(error)
        for drawing in chain.from_iterable(drawings.values()):
            wrap_titles(drawing.figure)
    return drawings, missing
