"""Panel titles broken into lines, once the size of the panels is known."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from cpframe.report.figures.text_wrap import wrap_text

_MAX_LINES = 3  # of a title, unless two titles would then be the same
_USABLE_WIDTH = 0.97  # of a panel: the width of a text varies slightly with the resolution
_SAFE_WIDTH = 0.55  # of a column with its axis labels: a title this narrow fits whatever the layout is


def wrap_titles(figure: Figure) -> None:
    """Break the titles of all panels into lines that fit the panels, and make the figure taller for these lines."""
    titles = {panel: text for panel in figure.axes if (text := _title(panel)) is not None}
    if any(_column_share(panel, text) > _SAFE_WIDTH for panel, text in titles.items()):
        _wrap(figure, titles)


def _column_share(panel: Axes, title: Text) -> float:
    """Return the width of a title as a fraction of the width of the panel's column in the figure."""
    position, figure = panel.get_subplotspec(), panel.get_figure(root=True)
    columns = position.get_gridspec().ncols if position else 1
    return columns * title.get_window_extent().width / figure.bbox.width if figure else 1.0


def _title(panel: Axes) -> Text | None:
    title = panel.get_title(loc="left")
    texts = (child for child in panel.get_children() if isinstance(child, Text) and child.get_text() == title)
    return next(texts, None) if title else None


def _wrap(figure: Figure, titles: dict[Axes, Text]) -> None:
    whole = [text.get_text() for text in titles.values()]
    for text in titles.values():  # a title that is too long would change the width of the panels
        text.set_text("")
    if engine := figure.get_layout_engine():
        engine.execute(figure)  # lays the panels out without the cost of drawing them
    for text, title in zip(titles.values(), whole, strict=True):
        text.set_text(title)
    widths = [_USABLE_WIDTH * panel.bbox.width for panel in titles]
    wrapped = [wrap_text(text, width, _MAX_LINES) for text, width in zip(titles.values(), widths, strict=True)]
    if len(set(wrapped)) < len(set(whole)):
        wrapped = [wrap_text(text, width) for text, width in zip(titles.values(), widths, strict=True)]
    added_lines: dict[int, int] = {}
    for (panel, text), title in zip(titles.items(), wrapped, strict=True):
        text.set_text(title)
        position = panel.get_subplotspec()
        row = position.rowspan.start if position else 0
        added_lines[row] = max(added_lines.get(row, 0), title.count("\n"))
    width, height = figure.get_size_inches()
    size = max(float(text.get_fontsize()) for text in titles.values())
    figure.set_size_inches(width, height + 1.2 * size / 72 * sum(added_lines.values()))
