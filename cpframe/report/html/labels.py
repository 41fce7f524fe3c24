"""The names of deficits, variants and timelines on the page, with the glyphs and colours of the terminal report."""

from __future__ import annotations

from collections.abc import Mapping

from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.statistics import Estimate
from cpframe.records.model import CLEAN, StudyRecord
from cpframe.report.figures.style import line_styles
from cpframe.report.formatting import looks, mark, points, printable, window
from cpframe.report.html.inline_svg import COLOURS
from cpframe.report.html.markup import Html, concatenate, element
from cpframe.report.variant_names import study_variants


class Labels:
    """The labels of the deficits, variants and timelines of one study.

    Args:
        study: the study.

    Attributes:
        names: the names of the variants.
    """

    def __init__(self, study: StudyRecord) -> None:
        """Look up glyphs, colours and names once."""
        self.names = study_variants(study)
        self._glyphs = {name: look.glyph for name, look in looks(study).items()}
        self._colours = {name: style.colour for name, style in line_styles(study).items()}

    def colour(self, deficit: str) -> str:
        """Return the colour of a deficit in CSS."""
        colour = self._colours[deficit]
        return COLOURS.get(colour, colour)

    def name(self, deficit: str) -> Html:
        """Return the glyph and name of a deficit."""
        glyph = element(
            "span", self._glyphs[deficit], class_="glyph", style=f"color: {self.colour(deficit)}", aria_hidden="true"
        )
        return concatenate((glyph, "no deficit" if deficit == CLEAN else printable(deficit)), " ")

    def variant(self, variant: Mapping[str, object]) -> str:
        """Return the name of a variant in brackets, to follow a caption; empty without variants."""
        label = self.names.label(variant)
        return f" ({label})" if label else ""

    def timeline(self, curve: MetricCurve) -> Html:
        """Return the glyph, deficit, window and length of a timeline."""
        epochs = f"{window(curve.onset, curve.offset)} of {curve.epochs}".lstrip()
        return concatenate((self.name(curve.deficit), element("span", epochs, class_="when")), " ")


def drop_cell(drop: Estimate) -> Html:
    """Return a paired drop with its interval, bold and marked if the interval excludes 0."""
    sign = mark(drop).strip()
    if not sign:
        return element("span", points(drop))
    word = "drop" if sign == "▼" else "gain"
    return element("b", points(drop), " ", element("span", sign, role="img", aria_label=word, title=word))
