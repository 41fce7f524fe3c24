"""What idle explains, in words."""

from __future__ import annotations

from math import nan

import pytest

from cpframe.analysis.comparisons import RemovalGroup
from cpframe.analysis.confounds import Confound, ConfoundKind
from cpframe.analysis.statistics import Estimate, Interval
from cpframe.report.terminal.controls import idle_words


@pytest.mark.parametrize(
    ("kind", "fraction", "words"),
    [
        ("idle reproduces the curve", Interval(2.42, 1.6, 3.9, 5), "YES: idle loses more; 242% of it (160% to 390%)"),
        ("idle reproduces the curve", Interval(1.32, 0.8, 2.1, 5), "YES: idle loses as much; 132% of it (80% to 210%)"),
        ("partly", Interval(0.5, 0.3, 0.7, 5), "in part; 50% of it (30% to 70%)"),
    ],
)
def test_idle_that_loses_more_is_said_to(kind: ConfoundKind, fraction: Interval, words: str) -> None:
    half = Estimate(0.02, nan, 5)
    found = Confound(RemovalGroup({}, 60, {}, ()), "blur", kind, (20,), half, half, half, fraction)
    assert idle_words(found) == f"{words}, 2.0 of 2.0 points"
