"""The figures of a study, drawn with matplotlib.

`FIGURES` lists them. Each is drawn by the module of its name, whose function ``draw(findings)`` returns a list of
`Plot` or raises `NothingToDrawError`. To add a figure, write such a module and add an entry to `FIGURES`: the choices
of ``cpframe plot``, the table in the README and the HTML page are checked against or made from this list. The list
imports nothing heavy; matplotlib, an optional dependency, is imported when a figure is drawn.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure

    from cpframe.analysis.findings import Findings

Plot = tuple["MatplotlibFigure", str]
"""A matplotlib figure, and a sentence or two with its main numbers for readers who cannot see it."""


class Format(StrEnum):
    """A file format for figures."""

    PNG = "png"
    SVG = "svg"
    PDF = "pdf"


@dataclass(frozen=True)
class Drawing:
    """One file of a figure.

    Attributes:
        stem: the file name without its extension: ``removal``, ``removal-2``, ...
        title: the caption.
        description: a sentence or two with the main numbers, for readers who cannot see the figure.
        figure: the matplotlib figure, one journal column wide.
    """

    stem: str
    title: str
    description: str
    figure: MatplotlibFigure


@dataclass(frozen=True)
class Figure:
    """A figure that cpframe can draw of a study.

    Attributes:
        name: the name on the command line, in file names, and of the module that draws the figure.
        title: the heading.
        shows: what the figure shows, as a noun phrase.
        needs: the protocols and metrics that the spec must have.
        section: the name of the section in which the HTML page shows the figure.
    """

    name: str
    title: str
    shows: str
    needs: str
    section: str

    def draw(self, findings: Findings) -> list[Drawing]:
        """Draw the figure, in several files where its panels do not fit one.

        Raises:
            NothingToDrawError: if the study lacks the data.
        """
        plots: list[Plot] = import_module(f"{__name__}.{self.name}").draw(findings)
        title = self.shows[:1].upper() + self.shows[1:]
        return [
            Drawing(self.name if number == 1 else f"{self.name}-{number}", title, description, plot)
            for number, (plot, description) in enumerate(plots, 1)
        ]


FIGURES = (
    Figure(
        "removal",
        "Removal curves",
        "final accuracy against the epoch at which the deficit is removed",
        "the `removal` protocol",
        "curves",
    ),
    Figure(
        "sensitivity",
        "Sensitivity curves",
        "sensitivity to a deficit of fixed length against its onset",
        "the `sliding` protocol",
        "curves",
    ),
    Figure(
        "fisher",
        "Fisher information",
        "the Fisher trace through training, with and without each deficit",
        "the metric `fisher-trace`",
        "phases",
    ),
    Figure(
        "layers",
        "Fisher information per layer",
        "the share of each layer in the Fisher trace through training, as heat maps",
        "the metric `fisher-trace`, and a network of two layers or more",
        "layers",
    ),
    Figure(
        "gradients",
        "Gradients per layer",
        "norms of the mean and of the standard deviation of the gradient, per layer, through training",
        "the metric `gradient`",
        "metrics",
    ),
    Figure(
        "filters",
        "First-layer filters",
        "the filters of the first layer at the first and the last measurement, with and without each deficit",
        "the metric `first-layer-filters`",
        "metrics",
    ),
    Figure(
        "link",
        "Fisher information and sensitivity",
        "the Fisher trace without a deficit against the sensitivity, with an exponential fit",
        "the `sliding` protocol and the metric `fisher-trace`",
        "link",
    ),
)
"""All figures, in the order in which they are shown."""
