"""Charts made of characters, read back from the characters."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rich.cells import cell_len

from cpframe.report.formatting import Look
from cpframe.report.terminal.charts import (
    Line,
    heat_row,
    labels_below,
    line_chart,
    resample,
    ruler,
    sparkline,
    tick_labels,
    ticks,
    whisker,
)

LOOK = Look("●", "red")


def dots(text: str) -> set[tuple[int, int]]:
    """(column, row) of every braille dot, by the Unicode numbering of the eight dots of a cell."""
    places = {0: (0, 0), 1: (0, 1), 2: (0, 2), 3: (1, 0), 4: (1, 1), 5: (1, 2), 6: (0, 3), 7: (1, 3)}
    found = set()
    for row, line in enumerate(text.split("\n")):
        for column, character in enumerate(line):
            bits = ord(character) - 0x2800
            if 0 <= bits < 256:
                found |= {(2 * column + places[b][0], 4 * row + places[b][1]) for b in range(8) if bits >> b & 1}
    return found


def test_a_level_line_is_one_row_of_dots_across_the_chart() -> None:
    text = line_chart([Line(LOOK, [0, 10], [5, 5])], (0, 10), (0, 10), [0, 10], (40, 12)).plain
    found = dots(text)
    (row,) = {row for _, row in found}
    columns = sorted(column for column, _ in found)
    assert columns == list(range(columns[0], columns[0] + len(columns)))
    assert len(columns) == 2 * (40 - len("10") - 2)  # every half cell right of labels and axis
    assert abs(row - 4 * 10 / 2) <= 1  # the middle of ten rows of four dots


def test_a_rising_line_has_a_dot_in_every_column_and_never_falls() -> None:
    found = dots(line_chart([Line(LOOK, [0, 10], [0, 10])], (0, 10), (0, 10), [], (40, 12)).plain)
    rows = [min(row for column, row in found if column == c) for c in sorted({column for column, _ in found})]
    assert rows == sorted(rows, reverse=True)
    assert (rows[0], rows[-1]) == (39, 0)


def test_marks_stand_at_their_points() -> None:
    line = Line(LOOK, [0, 5, 10], [0, 10, 0], [1])
    rows = line_chart([line], (0, 10), (0, 10), [0, 5, 10], (43, 12)).plain.split("\n")
    (at,) = [(row, text.index("●")) for row, text in enumerate(rows) if "●" in text]
    assert at[0] == 0
    # The mark is above the tick of its own epoch, up to one cell of rounding.
    tick = [i for i, character in enumerate(rows[-2]) if character == "┬"][1]
    assert abs(at[1] - tick) <= 1


def test_labels_stand_at_their_values() -> None:
    rows = line_chart([Line(LOOK, [0, 1], [0, 100], [0, 1])], (0, 1), (0, 100), [], (30, 13)).plain.split("\n")
    labelled = {row.split("┤")[0].strip(): i for i, row in enumerate(rows) if "┤" in row}
    assert labelled["100"] == 0
    assert labelled["0"] == 10
    assert labelled["50"] == 5
    assert "●" in rows[0]
    assert "●" in rows[10]


@pytest.mark.parametrize("value", [0.0, 5.0])
def test_a_chart_of_a_single_value_is_drawn(value: float) -> None:
    text = line_chart([Line(LOOK, [0], [value], [0])], (0, 0), (value, value), [0], (30, 8)).plain
    assert text.count("●") == 1


@pytest.mark.parametrize(
    ("low", "high", "most"), [(0, 140, 8), (89.8, 93.2, 4), (0, 1e-3, 5), (0, 3e4, 5), (-3, 7, 3), (0, 7, 1), (5, 5, 4)]
)
def test_ticks_are_round_within_and_not_too_many(low: float, high: float, most: int) -> None:
    found = ticks(low, high, most)
    assert 1 <= len(found) <= most
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in found)
    steps = np.diff(found)
    if steps.size:
        leading = f"{steps[0]:.6e}"
        assert float(leading.split("e", maxsplit=1)[0]) in (1.0, 2.0, 5.0)
        np.testing.assert_allclose(steps, steps[0], rtol=1e-9)  # equal up to rounding


def test_tick_labels_tell_ticks_apart() -> None:
    assert [label for _, label in tick_labels([92.35, 92.4, 92.45])] == ["92.35", "92.40", "92.45"]
    assert [label for _, label in tick_labels([0, 500, 1000])] == ["0", "500", "1000"]
    assert [label for _, label in tick_labels([0, 1e6, 2e6])] == ["0", "1.00e+06", "2.00e+06"]


def test_labels_below_never_touch() -> None:
    line = labels_below({0: "0", 3: "100", 5: "120", 12: "140", 19: "1000"}, 20)
    assert line.split() == ["0", "100", "140", "1000"]
    assert len(line) == 20
    assert line.index("140") == 11


def test_resample_keeps_means_and_blanks() -> None:
    epoch, values = np.arange(1, 101), np.arange(1.0, 101.0)
    cells = resample(epoch, values, 200, 20)
    expected = [np.mean(np.arange(10 * i + 1, 10 * i + 11)) for i in range(10)]
    np.testing.assert_allclose(cells[:10], expected, rtol=1e-12)
    assert np.isnan(cells[10:]).all()


def test_resample_interpolates_between_measurements() -> None:
    epoch = np.array([10, 20, 30])
    values = np.stack([np.array([1.0, 2.0, 3.0]), np.array([3.0, 2.0, 1.0])], axis=1)
    cells = resample(epoch, values, 30, 60)  # half an epoch a cell
    assert np.isnan(cells[:19]).all()
    ends = 0.5 * np.arange(20, 61)
    # A cell's value is the curve's within its half epoch, in which this curve moves by 0.05.
    np.testing.assert_allclose(cells[19:, 0], ends / 10, atol=0.051)
    np.testing.assert_allclose(cells.sum(axis=1)[19:], 4.0, rtol=1e-12)  # interpolation is linear


def test_sparkline_heights() -> None:
    heights = np.array([0.0, 1.0, 4.0, 7.9, 8.0, math.nan, 2.0])
    assert sparkline(heights, 8.0, [""] * 7).plain == "▁▂▅██ ▃"
    assert sparkline(np.zeros(3), 0.0, [""] * 3).plain == "   "


def test_whisker_places_mean_interval_and_zero() -> None:
    assert whisker(1.0, 2.0, 3.0, (0.0, 4.0), 9, LOOK).plain == "│ ├─●─┤  "
    assert whisker(-1.0, 0.5, 2.0, (-2.0, 2.0), 9, LOOK).plain == "  ├─┼●──┤"
    assert whisker(math.nan, 2.0, math.nan, (0.0, 4.0), 9, LOOK).plain == "│   ●    "
    assert whisker(math.nan, 0.0, math.nan, (0.0, 0.0), 9, LOOK).plain == "●        "


def test_ruler_covers_the_deficit() -> None:
    assert ruler(0, 40, 100, 10, "").plain == "━━━━      "
    assert ruler(20, 60, 100, 10, "").plain == "  ━━━━    "
    assert ruler(99, 100, 100, 10, "").plain == "         ━"
    assert ruler(0, 1, 1000, 10, "").plain == "━         "
    assert ruler(0, 0, 100, 10, "").plain == " " * 10


def test_heat_row_in_shades_and_in_colours() -> None:
    shares = np.array([0.0, 0.12, 0.25, 0.35, 0.5, math.nan])
    assert heat_row(shares, 0.5, coloured=False).plain == " ░▒▓█·"
    coloured = heat_row(shares, 0.5, coloured=True)
    assert coloured.plain == "█████·"
    colours = [str(span.style) for span in coloured.spans][:5]
    brightness = [sum(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in colours]
    assert brightness == sorted(set(brightness))  # lightness alone carries the value
    assert cell_len(heat_row(np.zeros(4), 0.0, coloured=True).plain) == 4
