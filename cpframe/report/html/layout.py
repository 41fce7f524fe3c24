"""The parts that all sections of the page share: the findings with their labels and figures, and names of deficits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from cpframe.analysis.findings import Findings
from cpframe.report.figures import Drawing
from cpframe.report.html.inline_svg import picture
from cpframe.report.html.labels import Labels
from cpframe.report.html.markup import Html, concatenate, element


@dataclass(frozen=True)
class Page:
    """The findings on a study and the parts from which a page shows them.

    Attributes:
        findings: the findings.
        labels: the names of deficits and variants.
        drawings: the drawings of every figure for which the study has data, by the name of the figure.
    """

    findings: Findings
    labels: Labels
    drawings: Mapping[str, Sequence[Drawing]]

    def with_figures(self, name: str, tables: Iterable[Html] = ()) -> Iterator[Html]:
        """Yield the drawings of a figure next to tables, or above them if there are several; whichever exist."""
        contents = concatenate(tables)
        drawings = self.drawings.get(name, ())
        if not drawings:
            yield contents
            return
        figures = element("div", *map(picture, drawings), class_="figures")
        yield element("div", figures, element("div", contents), class_="under" if len(drawings) > 1 else "beside")
