"""Deficits and windows as they are named all over the page, with the glyph and colour of the terminal report."""

from __future__ import annotations

from collections.abc import Mapping

from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.statistics import Estimate
from cpframe.records.model import CLEAN, StudyRecord
from cpframe.report.figures.style import line_styles
from cpframe.report.formatting import looks, mark, points, printable, window
from cpframe.report.html.inline_svg import COLOURS
from cpframe.report.html.markup import Html, element, joined
from cpframe.report.variant_names import study_variants


class Labels:
    """The names of one study's deficits and variants.

    Args:
        study: whose deficits these are.

    Attributes:
        names: of the study's variants.
    """

    def __init__(self, study: StudyRecord) -> None:
        """Look up the looks once."""
        self.names = study_variants(study)
        self._glyphs = {name: look.glyph for name, look in looks(study).items()}
        self._colours = {name: style.colour for name, style in line_styles(study).items()}

    def colour(self, deficit: str) -> str:
        """Of a deficit, in CSS."""
        colour = self._colours[deficit]
        return COLOURS.get(colour, colour)

    def name(self, deficit: str) -> Html:
        """Glyph and name."""
        glyph = element(
            "span", self._glyphs[deficit], class_="glyph", style=f"color: {self.colour(deficit)}", aria_hidden="true"
        )
        return joined((glyph, "no deficit" if deficit == CLEAN else printable(deficit)), " ")

    def variant(self, variant: Mapping[str, object]) -> str:
        """The variant as an addition to a caption; empty without a grid."""
        label = self.names.label(variant)
        return f" ({label})" if label else ""

    def timeline(self, curve: MetricCurve) -> Html:
        """Glyph, name, window and length."""
        told = window(curve.onset, curve.offset)
        return joined(
            (self.name(curve.deficit), element("span", f"{told} of {curve.epochs}".lstrip(), class_="when")), " "
        )


def drop_cell(drop: Estimate) -> Html:
    """A paired drop with its interval, bold and marked where the interval excludes 0."""
    sign = mark(drop).strip()
    if not sign:
        return element("span", points(drop))
    word = "loss" if sign == "▼" else "gain"
    return element("b", points(drop), " ", element("span", sign, role="img", aria_label=word, title=word))
