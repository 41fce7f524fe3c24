"""Charts made of characters, drawn into a given number of cells and returned as rich text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from rich.text import Text

from cpframe.records.model import Floats, Integers
from cpframe.report.formatting import Look, number

Span = tuple[float, float]

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # of a braille cell: four rows, two columns
_LEVELS = "▁▂▃▄▅▆▇█"
_SHADES = " ░▒▓█"
# From dark blue over grey to yellow: lightness alone shows the value, and colour-blind readers can tell all hues apart.
_RAMP = ((12, 24, 62), (38, 62, 110), (94, 98, 116), (146, 138, 116), (204, 184, 92), (255, 232, 84))


@dataclass(frozen=True)
class Line:
    """One series of a line chart.

    Attributes:
        look: the glyph of the marks, and the colour of line and marks.
        x: the abscissas, increasing.
        y: the finite ordinates, as many as there are abscissas.
        marked: the indices of the points that are marked with the glyph.
    """

    look: Look
    x: Sequence[float]
    y: Sequence[float]
    marked: Sequence[int] = field(default=())


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return at most `most` round values from `low` to `high`, 1, 2 or 5 times a power of ten apart."""
    if not high > low or most < 1:
        return [low]
    exponent = math.floor(math.log10((high - low) / most))
    for factor in (1, 2, 5, 10, 20):
        step = factor * 10.0**exponent
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first + 1 <= most:
            return [i * step for i in range(first, last + 1)]
    return []


def tick_labels(values: Sequence[float]) -> list[tuple[float, str]]:
    """Return ticks and their labels, with as many digits as distinguish them."""
    step = min((b - a for a, b in pairwise(values)), default=0.0)
    if not 1e-4 <= step < 1e5:
        return [(value, number(value)) for value in values]
    return [(value, f"{value:.{max(0, -math.floor(math.log10(step) + 1e-9))}f}") for value in values]


def line_chart(
    lines: Sequence[Line], x_span: Span, y_span: Span, x_ticks: Sequence[int], size: tuple[int, int]
) -> Text:
    """Draw lines in braille dots, with labelled axes; later lines and marks are drawn over earlier ones.

    Args:
        lines: the lines to draw.
        x_span: the smallest and largest x on the chart.
        y_span: the smallest and largest y on the chart.
        x_ticks: the values of x to label; a label that would touch another one is left out.
        size: the size of the chart in cells (columns, rows), including two rows for the axis and its labels.
    """
    labels = tick_labels(ticks(*y_span, most=max(2, size[1] // 3)))
    margin = max((len(label) for _, label in labels), default=0)
    columns, rows = size[0] - margin - 2, size[1] - 2
    dots: dict[tuple[int, int], tuple[int, str]] = {}
    glyphs: dict[tuple[int, int], tuple[str, str]] = {}

    def place(x: float, y: float) -> tuple[int, int]:
        across = (x - x_span[0]) / ((x_span[1] - x_span[0]) or 1)
        down = (y_span[1] - y) / ((y_span[1] - y_span[0]) or 1)
        return round(across * (2 * columns - 1)), round(down * (4 * rows - 1))

    for line in lines:
        placed = [place(x, y) for x, y in zip(line.x, line.y, strict=True)]
        for (left, top), (right, bottom) in pairwise(placed):
            steps = max(abs(right - left), abs(bottom - top), 1)
            for i in range(steps + 1):
                column, row = left + round(i * (right - left) / steps), top + round(i * (bottom - top) / steps)
                bits, _ = dots.get((row // 4, column // 2), (0, ""))
                dots[row // 4, column // 2] = bits | _DOTS[row % 4][column % 2], line.look.style
        for position in line.marked:
            column, row = placed[position]
            glyphs[row // 4, column // 2] = line.look.glyph, f"bold {line.look.style}"

    shown = {place(x_span[0], value)[1] // 4: label for value, label in labels}
    text = Text()
    for row in range(rows):
        text.append(f"{shown.get(row, ''):>{margin}} {'┤' if row in shown else '│'}", "dim")
        for column in range(columns):
            bits, style = dots.get((row, column), (0, ""))
            glyph = glyphs.get((row, column), (chr(0x2800 + bits) if bits else " ", style))
            text.append(*glyph)
        text.append("\n")
    places = {place(value, y_span[0])[0] // 2: str(value) for value in x_ticks}
    axis = "".join("┬" if column in places else "─" for column in range(columns))
    text.append(f"{'':{margin}} └{axis}\n{'':{margin + 2}}{labels_below(places, columns)}", "dim")
    return text


def labels_below(places: Mapping[int, str], columns: int) -> str:
    """Return one line with every label centred below its column; a label that would touch another is left out."""
    line = ""
    for column, label in sorted(places.items()):
        start = min(max(0, column - (len(label) - 1) // 2), columns - len(label))
        if start >= len(line) + bool(line):
            line = f"{line:{start}}{label}"
    return line


def resample(epoch: Integers, values: Floats, last: int, columns: int) -> Floats:
    """Average measurements in columns of equal time, so that charts of different trainings are aligned.

    Args:
        epoch: the epochs, increasing, shape (M,) with M > 0.
        values: the values, shape (M,) or (M, layer).
        last: the epoch at the right end; the left end is epoch 0.
        columns: the number of columns.

    Returns:
        The mean of the values in each column, interpolated at every whole epoch, shape (columns,) or (columns, layer);
        nan before the first and after the last measurement.
    """
    whole = np.arange(epoch[0], epoch[-1] + 1)
    flat = values.reshape(len(values), -1)
    dense = np.stack([np.interp(whole, epoch, series) for series in flat.T], axis=1)
    edges = np.linspace(0, last, columns + 1)
    out = np.full((columns, flat.shape[1]), np.nan)
    for i in range(columns):
        inside = (whole > edges[i]) & (whole <= edges[i + 1])
        if inside.any():
            out[i] = dense[inside].mean(axis=0)
        elif whole[0] <= edges[i + 1] <= whole[-1]:  # columns narrower than an epoch
            out[i] = [np.interp(edges[i + 1], epoch, series) for series in flat.T]
    return out.reshape(columns, *values.shape[1:])


def sparkline(heights: Floats, top: float, styles: Sequence[str]) -> Text:
    """Return bars of eight heights from 0 to `top` in one line, one per cell; a blank for nan.

    Args:
        heights: the heights, shape (columns,).
        top: the height of a full bar.
        styles: the style of each column.
    """
    text = Text()
    for height, style in zip(heights, styles, strict=True):
        level = min(len(_LEVELS) - 1, int(len(_LEVELS) * height / top)) if math.isfinite(height) and top > 0 else None
        text.append(" " if level is None else _LEVELS[level], style)
    return text


def whisker(low: float, mean: float, high: float, span: Span, columns: int, look: Look) -> Text:
    """Return a mean and its interval on a scale with a line at 0: ``│  ├──●──┤``; the mean alone without an interval.

    Args:
        low: the lower end of the interval, or nan.
        mean: the mean.
        high: the upper end of the interval, or nan.
        span: the values at the first and last cell, which enclose 0. Values outside are drawn at the edge.
        columns: the number of cells.
        look: the glyph and colour of the mean.
    """

    def column(value: float) -> int:
        across = (value - span[0]) / ((span[1] - span[0]) or 1)
        return round(min(max(across, 0.0), 1.0) * (columns - 1))

    cells = [(" ", "")] * columns
    cells[column(0)] = ("│", "dim")
    if math.isfinite(low) and math.isfinite(high):
        first, last = column(low), column(high)
        for i in range(first, last + 1):
            cells[i] = ("├" if i == first else "┤" if i == last else "─", look.style)
        if first < column(0) < last:
            cells[column(0)] = ("┼", look.style)
    cells[column(mean)] = (look.glyph, f"bold {look.style}")
    return Text.assemble(*cells)


def ruler(onset: int, offset: int, last: int, columns: int, style: str) -> Text:
    """Return the epochs under a deficit as a bar over time; blank if there are none."""
    if offset <= onset:
        return Text(" " * columns)
    first, end = int(columns * onset / last), max(int(columns * onset / last), math.ceil(columns * offset / last) - 1)
    bar = "".join("━" if first <= i <= end else " " for i in range(columns))
    return Text(bar, style)


def heat_row(shares: Floats, top: float, *, coloured: bool) -> Text:
    """Return one row of a heat map, from 0 to `top`: colours from dark to bright, or five shades.

    Args:
        shares: the values, shape (columns,); nan is drawn as a dot.
        top: the value of the brightest cell.
        coloured: whether the console shows at least 256 colours; otherwise shades are drawn.
    """
    text = Text()
    for share in shares:
        if not math.isfinite(share):
            text.append("·", "dim")
            continue
        level = min(max(share / top, 0.0), 1.0) if top > 0 else 0.0
        if coloured:
            text.append("█", _colour(level))
        else:
            text.append(_SHADES[min(len(_SHADES) - 1, int(level * len(_SHADES)))])
    return text


def heat_scale(top: str, columns: int, *, coloured: bool) -> Text:
    """Return the legend of a heat map: its colours or shades from 0 to `top`."""
    row = heat_row(np.linspace(0, 1, columns), 1.0, coloured=coloured)
    return Text.assemble(("0 ▏", "dim"), row, (f"▕ {top}", "dim"))


def _colour(level: float) -> str:
    place = level * (len(_RAMP) - 1)
    lower = min(int(place), len(_RAMP) - 2)
    part = place - lower
    mixed = (round(a + part * (b - a)) for a, b in zip(_RAMP[lower], _RAMP[lower + 1], strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)
