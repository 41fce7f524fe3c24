"""How numbers and names are written."""

from __future__ import annotations

import math

import numpy as np
import pytest
from rich.cells import cell_len

from cpframe.analysis.statistics import Estimate
from cpframe.report.formatting import mark, number, percent, plural, points, printable, shorten, window


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.001234, "0.00123"),
        (0.0009, "9.00e-04"),
        (0.0009999, "0.00100"),
        (-0.5, "-0.500"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (687.4, "687"),
        (12345.6, "12346"),
        (99999.0, "1.00e+05"),
        (math.nan, "-"),
        (math.inf, "-"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert number(value) == text


def test_number_keeps_three_digits() -> None:
    for value in 10.0 ** np.random.default_rng(0).uniform(-6, 8, 500):
        assert float(number(value)) == pytest.approx(value, rel=0.005 + 1e-9)  # half of the third digit


def test_points() -> None:
    assert points(Estimate(0.0214, 0.0083, 5)) == "2.1±0.8"
    assert points(Estimate(-0.0214, 0.123, 2)) == "-2.1±12.3"
    assert points(Estimate(0.0214, math.nan, 1)) == "2.1"
    assert points(Estimate(math.nan, math.nan, 0)) == "-"


def test_percent_has_no_negative_zero() -> None:
    assert percent(-0.0001) == "0.0"
    assert percent(0.9236) == "92.4"


def test_mark_is_of_the_interval() -> None:
    found = [mark(Estimate(mean, 0.01, 5)) for mean in (0.02, 0.005, -0.005, -0.02)]
    assert found == ["▼", " ", " ", "▲"]


@pytest.mark.parametrize("text", ["blur", "a-very-long-name-of-a-deficit-at-80", "白内障" * 9])
@pytest.mark.parametrize("width", [8, 13, 20])
def test_shorten(text: str, width: int) -> None:
    short = shorten(text, width)
    assert cell_len(short) <= width
    if cell_len(text) <= width:
        assert short == text
    else:
        head, tail = short.split("…")
        assert text.startswith(head)
        assert text.endswith(tail)
        assert cell_len(short) >= width - 2  # wide characters may leave a cell on either side


def test_printable_has_one_line_and_no_escapes() -> None:
    assert printable("a\x1b[31mb\n\tc\x07 \x9bd") == "a [31mb c d"


def test_small_words() -> None:
    assert (window(0, 40), window(7, 7)) == ("[0, 40)", "")
    assert [plural(n, "seed") for n in (0, 1, 2)] == ["0 seeds", "1 seed", "2 seeds"]
