"""The last touch to a figure, once its panels have their places: titles broken to fit, remarks off the lines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.path import Path
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from cpframe.report.figures.text_wrap import broken

_MOST_LINES = 3  # of a title, unless it takes more to tell it from another one
_SPARE = 0.97  # of a panel's width: letters are a little wider at some resolutions than at others
_SURE = 0.55  # of a column, axis and all: so wide a title fits without a look at the layout
_CLEAR = 1.5  # pixels, a hundred an inch, between a remark and a line
_FARTHEST = 14  # points from a remark to what it is on
_SIDES = ((0, 1), (0, -1), (1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (-1, 0))
_PLACES = tuple((away, *side) for away, side in product(range(3, _FARTHEST + 1), _SIDES))
"""Where a remark can be: points away, and to which side across and up; the nearest first."""


def settle(figure: Figure) -> None:
    """Break the titles of all panels into lines that fit these, and move remarks to where they touch no line."""
    titles = {panel: text for panel in figure.axes if (text := _title(panel)) is not None}
    long = any(_share(panel, text) > _SURE for panel, text in titles.items())
    remarks = any(panel.texts for panel in figure.axes)
    if long:
        _break_titles(figure, titles)
    if remarks:
        _lay_out(figure)
        for panel in figure.axes:
            _move_remarks(panel)


def _lay_out(figure: Figure) -> None:
    """Give the panels their places, as drawing does, without the time that it takes."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)


def _share(panel: Axes, title: Text) -> float:
    """Of what a panel and its axis have side by side in the figure, the part that its title is wide."""
    place, figure = panel.get_subplotspec(), panel.get_figure(root=True)
    columns = place.get_gridspec().ncols if place else 1
    return columns * title.get_window_extent().width / figure.bbox.width if figure else 1.0


def _title(panel: Axes) -> Text | None:
    title = panel.get_title(loc="left")
    texts = (child for child in panel.get_children() if isinstance(child, Text) and child.get_text() == title)
    return next(texts, None) if title else None


def _break_titles(figure: Figure, titles: dict[Axes, Text]) -> None:
    whole = [text.get_text() for text in titles.values()]
    for text in titles.values():  # too long a one would move the panels
        text.set_text("")
    _lay_out(figure)
    for text, title in zip(titles.values(), whole, strict=True):
        text.set_text(title)
    rooms = [_SPARE * panel.bbox.width for panel in titles]
    found = [broken(text, room, _MOST_LINES) for text, room in zip(titles.values(), rooms, strict=True)]
    if len(set(found)) < len(set(whole)):
        found = [broken(text, room, len(text.get_text())) for text, room in zip(titles.values(), rooms, strict=True)]
    lines: dict[int, int] = {}
    for (panel, text), title in zip(titles.items(), found, strict=True):
        text.set_text(title)
        place = panel.get_subplotspec()
        row = place.rowspan.start if place else 0
        lines[row] = max(lines.get(row, 0), title.count("\n"))
    width, height = figure.get_size_inches()
    size = max(float(text.get_fontsize()) for text in titles.values())
    figure.set_size_inches(width, height + 1.2 * size / 72 * sum(lines.values()))


def _move_remarks(panel: Axes) -> None:
    paths, points = _drawn(panel)
    taken: list[Bbox] = []
    for remark in (text for text in panel.texts if isinstance(text, Annotation)):
        tried: list[tuple[int, int]] = []
        for i, place in enumerate(_PLACES):
            tried.append((_touched(remark, place, panel, paths, points, taken), i))
            if tried[-1][0] == 0:
                break
        _put(remark, _PLACES[min(tried)[1]])
        taken.append(remark.get_window_extent())


def _put(remark: Annotation, place: tuple[int, int, int]) -> None:
    away, across, up = place
    remark.xyann = away * across, away * up
    remark.set_horizontalalignment(("right", "center", "left")[across + 1])
    remark.set_verticalalignment(("top", "center", "bottom")[up + 1])


def _touched(
    remark: Annotation,
    place: tuple[int, int, int],
    panel: Axes,
    paths: Sequence[Path],
    points: Sequence[tuple[float, float]],
    taken: Sequence[Bbox],
) -> int:
    """How many lines, marks, other remarks and edges of the panel a remark touches in a place."""
    _put(remark, place)
    box = remark.get_window_extent().padded(_CLEAR)
    off = not (panel.bbox.contains(box.x0, box.y0) and panel.bbox.contains(box.x1, box.y1))
    marks = box.padded(3)  # half of a mark
    return (
        10 * off
        + sum(path.intersects_bbox(box, filled=False) for path in paths)
        + sum(marks.contains(x, y) for x, y in points)
        + 5 * sum(box.overlaps(other) for other in taken)
    )


def _drawn(panel: Axes) -> tuple[list[Path], list[tuple[float, float]]]:
    """The lines in a panel, and the middles of its marks, in pixels."""
    paths, points = [], []
    for line in panel.lines:
        path = line.get_transform().transform_path(line.get_path())
        if line.get_linestyle() != "None":
            paths.append(path)
        if line.get_marker() not in ("None", None, ""):
            points += [(float(x), float(y)) for x, y in np.asarray(path.vertices)]
    for collection in panel.collections:
        paths += [collection.get_transform().transform_path(path) for path in collection.get_paths()]
    return paths, points
