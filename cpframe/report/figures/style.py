"""How figures look: one column wide, 8 point type, the looks of the terminal report, and the same bytes every time."""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import Normal, Stroke
from matplotlib.ticker import MaxNLocator

from cpframe.records.model import Floats, Integers, StudyRecord
from cpframe.report.figures import Format
from cpframe.report.figures.text_wrap import broken
from cpframe.report.formatting import Look, looks

Numbers = Sequence[float] | Floats | Integers

WIDTH = 3.5
"""Of a figure, in inches: one column of a journal."""
INK = "#000000"
PAPER = "#ffffff"
QUIET = "#767676"
"""For what is not to be looked at first; it is told from black and from white alike."""

_SMALL = 6.5
_LINE = 60  # letters of a legend
_USUAL_LINES = 3  # of a note; for more the figure grows
_SPARE = 0.94  # of a figure's width, for what stands above and below its panels
_NO_DATE: dict[Format, dict[str, Any]] = {
    "png": {"Software": "cpframe"},
    "svg": {"Date": None, "Creator": "cpframe"},
    "pdf": {"CreationDate": None, "Creator": "cpframe"},
}
_SETTINGS: Any = {
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 4,
    "axes.titlesize": 8,
    "figure.constrained_layout.h_pad": 0.03,
    "figure.constrained_layout.w_pad": 0.03,
    "figure.dpi": 100,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],  # the first comes with matplotlib
    "font.size": 8,
    "legend.borderaxespad": 0.3,
    "legend.borderpad": 0.0,
    "legend.columnspacing": 1.2,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.handletextpad": 0.5,
    "legend.labelspacing": 0.3,
    "lines.linewidth": 1.1,
    "lines.markersize": 4.2,
    "pdf.compression": 6,
    "pdf.fonttype": 42,  # letters stay letters
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "svg.hashsalt": "cpframe",
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name begins no formula
    "xtick.color": INK,
    "xtick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.labelsize": 7.5,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
}
# Of the glyphs in words.py; the hollow ones are for what has no deficit, and for idle.
_MARKERS = {"●": "o", "■": "s", "▲": "^", "◆": "D", "▼": "v", "★": "*", "✚": "P", "○": "o", "◇": "D"}
_HOLLOW = "○◇"


@dataclass(frozen=True)
class Drawing:
    """A figure and what is to be said of it.

    Attributes:
        stem: of its file's name.
        title: a few words.
        seen: a sentence or two that say what is to be seen, for those who do not see it.
        figure: as wide as a column.
    """

    stem: str
    title: str
    seen: str
    figure: Figure


@dataclass(frozen=True)
class Pen:
    """How one deficit is drawn."""

    colour: str
    marker: str
    hollow: bool

    @property
    def pale(self) -> bool:
        """Whether the colour is hard to see on white by itself."""
        return _luminance(self.colour) > 0.6


@contextmanager
def styled() -> Iterator[None]:
    """Draw and save in here: the settings are ours, whatever the user's are, and theirs come back."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def rendered(figure: Figure, form: Format) -> bytes:
    """The file of a figure: the same bytes for the same figure, without a date."""
    with styled():
        target = io.BytesIO()
        figure.savefig(target, format=form, metadata=_NO_DATE[form])
        return target.getvalue()


def pens(study: StudyRecord) -> dict[str, Pen]:
    """The pen of every deficit of a study and of ``clean``, as in the terminal report."""
    return {name: _pen(look) for name, look in looks(study).items()}


def _pen(look: Look) -> Pen:
    colour = {"bright_white": INK, "grey62": QUIET}.get(look.style, look.style)
    return Pen(colour, _MARKERS[look.glyph], look.glyph in _HOLLOW)


def _luminance(colour: str) -> float:
    """Relative luminance as WCAG 2 defines it, from 0 to 1."""
    channels = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def panels(
    count: int, height: float, *, beside: int = 2, share_y: Literal["all", "row", "none"] = "all"
) -> tuple[Figure, list[Axes]]:
    """Make a figure of small panels that share their x axis, and their y axis too unless told otherwise.

    Args:
        count: of panels, at least 1.
        height: of a row of panels, in inches; titles, legends and notes come on top.
        beside: how many panels stand side by side at most.
        share_y: for which panels one scale holds.
    """
    columns = min(count, beside)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, rows * height + 0.55), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False)
    axes = list(grid.flat)
    for empty in axes[count:]:
        empty.remove()
    for shown in axes[:count]:  # a panel with nothing below it bears the labels of the axis
        if axes.index(shown) + columns >= count:
            shown.tick_params(labelbottom=True)
    return figure, axes[:count]


def label_axes(axes: Sequence[Axes], x: str, y: str, *, beside: int = 2) -> None:
    """Name the axes once: x below the last row, y left of the first column."""
    columns = min(len(axes), beside)
    for place, panel in enumerate(axes):
        if place % columns == 0:
            panel.set_ylabel(y)
        if place // columns == (len(axes) - 1) // columns:
            panel.set_xlabel(x)


def whole_epochs(panel: Axes) -> None:
    """Label whole epochs only."""
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))


def draw_line(panel: Axes, pen: Pen, x: Numbers, y: Numbers, **options: Any) -> Line2D:
    """Draw a line in the colour and with the marks of a deficit."""
    (line,) = panel.plot(x, y, color=pen.colour, marker=pen.marker, **options)
    line.set_markerfacecolor(PAPER if pen.hollow else pen.colour)
    line.set_markeredgewidth(0.8 if pen.hollow else 0.4)
    line.set_markeredgecolor(INK if pen.pale else pen.colour)
    if pen.pale:
        line.set_path_effects([Stroke(linewidth=line.get_linewidth() + 0.9, foreground=QUIET), Normal()])
    return line


def draw_band(panel: Axes, pen: Pen, x: Numbers, low: Numbers, high: Numbers) -> None:
    """Shade an interval; where it has no end, nothing is shaded."""
    panel.fill_between(x, low, high, color=pen.colour, alpha=0.3 if pen.pale else 0.18, linewidth=0, zorder=1)


def legend_above(figure: Figure, handles: Mapping[str, Artist]) -> None:
    """Put one legend above all panels, in as many columns as the labels leave room for."""
    letters = [len(name) + 6 for name in handles]  # with the sign before it
    columns = len(letters) if sum(letters) <= _LINE else max(1, _LINE // max(letters))
    room = _SPARE * figure.bbox.width
    for ncols in range(columns, 0, -1):
        legend = figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=ncols)
        if ncols == 1 or legend.get_window_extent().width <= room:
            break
        legend.remove()


def note_below(figure: Figure, text: str) -> None:
    """Write a remark in small print below all panels, broken into lines that fit."""
    note = figure.supxlabel(text, fontsize=_SMALL, color=QUIET, x=0.5)
    note.set_text(broken(note, _SPARE * figure.bbox.width, len(text)))
    width, height = figure.get_size_inches()
    more = max(0, note.get_text().count("\n") + 1 - _USUAL_LINES)
    figure.set_size_inches(width, height + 1.2 * _SMALL / 72 * more)
