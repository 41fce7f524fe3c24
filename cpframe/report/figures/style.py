"""The style of all figures: one column wide, 8 point type, the colours and marks of the terminal report.

The same results always give files with the same bytes.
"""

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
from cpframe.report.figures.text_wrap import wrap_text
from cpframe.report.formatting import Look, looks

Numbers = Sequence[float] | Floats | Integers

WIDTH = 3.5
"""The width of a figure in inches: one journal column."""
INK = "#000000"
PAPER = "#ffffff"
QUIET = "#767676"
"""A grey for secondary elements, with enough contrast on black and on white."""

SMALL = 6.5
"""The size in points of the smallest text: notes and labels inside panels."""

_LEGEND_LETTERS = 60  # in one line of a legend
_LEGEND_ROW = 0.15  # inches
_NOTE_LINES = 3  # for which a figure has space; it grows for more
_USABLE_WIDTH = 0.94  # of a figure, for its legend and its note
_METADATA: dict[Format, dict[str, Any]] = {  # without a date, so that equal figures are equal files
    Format.PNG: {"Software": "cpframe"},
    Format.SVG: {"Date": None, "Creator": "cpframe"},
    Format.PDF: {"CreationDate": None, "Creator": "cpframe"},
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
    "font.sans-serif": ["DejaVu Sans", "Arial", "Helvetica"],  # matplotlib brings the first
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
    "pdf.fonttype": 42,  # TrueType: text stays text
    "savefig.dpi": 300,
    "svg.fonttype": "none",
    "svg.hashsalt": "cpframe",
    "text.color": INK,
    "text.parse_math": False,  # a dollar sign in a name does not begin a formula
    "xtick.color": INK,
    "xtick.labelsize": 7.5,
    "xtick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.color": INK,
    "ytick.labelsize": 7.5,
    "ytick.major.size": 2.5,
    "ytick.major.width": 0.6,
}
# By the glyphs of `cpframe.report.formatting.looks`; hollow marks are for no deficit and for idle.
_MARKERS = {"●": "o", "■": "s", "▲": "^", "◆": "D", "▼": "v", "★": "*", "✚": "P", "○": "o", "◇": "D"}
_HOLLOW = "○◇"


@dataclass(frozen=True)
class LineStyle:
    """The colour and the mark of a deficit.

    Attributes:
        colour: a hexadecimal RGB colour.
        marker: a matplotlib marker.
        hollow: whether the marker is drawn as an outline.
    """

    colour: str
    marker: str
    hollow: bool

    @property
    def pale(self) -> bool:
        """Whether the colour is hard to see on white, so that it needs a dark outline."""
        return _luminance(self.colour) > 0.6


@contextmanager
def figure_style() -> Iterator[None]:
    """Apply cpframe's matplotlib settings inside the context; the user's settings are restored afterwards."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        yield


def render(figure: Figure, format_: Format) -> bytes:
    """Return the contents of a figure's file, which are the same bytes for the same figure."""
    with figure_style():
        target = io.BytesIO()
        figure.savefig(target, format=format_.value, metadata=_METADATA[format_])
        return target.getvalue()


def line_styles(study: StudyRecord) -> dict[str, LineStyle]:
    """Return the line style of every deficit of a study and of ``clean``, as in the terminal report."""
    return {name: _line_style(look) for name, look in looks(study).items()}


def _line_style(look: Look) -> LineStyle:
    colour = {"bright_white": INK, "grey62": QUIET}.get(look.style, look.style)
    return LineStyle(colour, _MARKERS[look.glyph], look.glyph in _HOLLOW)


def _luminance(colour: str) -> float:
    """Return the relative luminance, from 0 to 1, as WCAG 2 defines it."""
    channels = np.array(mpl.colors.to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def make_panels(
    count: int, height: float, *, columns: int = 2, share_y: Literal["all", "row", "none"] = "all"
) -> tuple[Figure, list[Axes]]:
    """Create a figure of small panels that share their x axis.

    Args:
        count: the number of panels, at least 1.
        height: the height in inches of a row of panels, without titles, legends and notes.
        columns: the largest number of panels side by side.
        share_y: which panels share their y axis.
    """
    columns = min(count, columns)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, rows * height + 0.55), layout="constrained")
    grid = figure.subplots(rows, columns, sharex=True, sharey=share_y, squeeze=False)
    axes = list(grid.flat)
    for empty in axes[count:]:
        empty.remove()
    for number, panel in enumerate(axes[:count]):  # the lowest panel of each column has tick labels
        if number + columns >= count:
            panel.tick_params(labelbottom=True)
    return figure, axes[:count]


def label_axes(axes: Sequence[Axes], x: str, y: str, *, columns: int = 2) -> None:
    """Label the x axes of the last row and the y axes of the first column."""
    columns = min(len(axes), columns)
    for number, panel in enumerate(axes):
        if number % columns == 0:
            panel.set_ylabel(y)
        if number // columns == (len(axes) - 1) // columns:
            panel.set_xlabel(x)


def label_whole_epochs(panel: Axes) -> None:
    """Put the ticks of the x axis at whole epochs."""
    panel.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=6, steps=[1, 2, 5, 10]))


def draw_line(panel: Axes, style: LineStyle, x: Numbers, y: Numbers, **options: Any) -> Line2D:
    """Draw a line with the colour and the marks of a deficit."""
    (line,) = panel.plot(x, y, color=style.colour, marker=style.marker, **options)
    line.set_markerfacecolor(PAPER if style.hollow else style.colour)
    line.set_markeredgewidth(0.8 if style.hollow else 0.4)
    line.set_markeredgecolor(INK if style.pale else style.colour)
    if style.pale:
        line.set_path_effects([Stroke(linewidth=line.get_linewidth() + 0.9, foreground=QUIET), Normal()])
    return line


def draw_band(panel: Axes, style: LineStyle, x: Numbers, low: Numbers, high: Numbers) -> None:
    """Shade the interval between two curves; nothing is shaded where an end is nan."""
    panel.fill_between(x, low, high, color=style.colour, alpha=0.3 if style.pale else 0.18, linewidth=0, zorder=1)


def shade_deficit(panel: Axes, onset: int, offset: int) -> None:
    """Shade the epochs under the deficit, if there are any."""
    if offset > onset:
        panel.axvspan(onset, offset, color=QUIET, alpha=0.15, linewidth=0, zorder=0)


def add_legend(figure: Figure, handles: Mapping[str, Artist]) -> None:
    """Put one legend above all panels, in as many columns as fit, and make the figure taller for further rows."""
    letters = [len(name) + 6 for name in handles]  # six for the line before the name
    columns = len(letters) if sum(letters) <= _LEGEND_LETTERS else max(1, _LEGEND_LETTERS // max(letters))
    width = _USABLE_WIDTH * figure.bbox.width
    for ncols in range(columns, 0, -1):
        legend = figure.legend(list(handles.values()), list(handles), loc="outside upper center", ncols=ncols)
        if ncols == 1 or legend.get_window_extent().width <= width:
            break
        legend.remove()
    added_rows = math.ceil(len(handles) / ncols) - 1
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + _LEGEND_ROW * added_rows)


def add_note(figure: Figure, text: str) -> None:
    """Write a note in small print below all panels, and make the figure taller for a long one."""
    note = figure.supxlabel(text, fontsize=SMALL, color=QUIET, x=0.5)
    note.set_text(wrap_text(note, _USABLE_WIDTH * figure.bbox.width))
    added_lines = max(0, note.get_text().count("\n") + 1 - _NOTE_LINES)
    figure.set_size_inches(figure.get_figwidth(), figure.get_figheight() + 1.2 * SMALL / 72 * added_lines)
