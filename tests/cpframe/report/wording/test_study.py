"""The part of a removal curve that idle explains, in words."""

from __future__ import annotations

from math import nan

import pytest

from cpframe.analysis.comparisons import RemovalGroup
from cpframe.analysis.confounds import Confound, ConfoundKind
from cpframe.analysis.statistics import Estimate, Interval
from cpframe.report.wording.study import idle_words


@pytest.mark.parametrize(
    ("kind", "fraction", "words"),
    [
        ("idle reproduces the curve", Interval(2.42, 1.6, 3.9, 5), "YES, idle has a larger drop: 242% (160% to 390%)"),
        ("idle reproduces the curve", Interval(1.32, 0.8, 2.1, 5), "YES, idle has the same drop: 132% (80% to 210%)"),
        ("partly", Interval(0.5, 0.3, 0.7, 5), "in part: 50% (30% to 70%)"),
    ],
)
def test_the_answer_names_a_larger_drop_and_its_variant(kind: ConfoundKind, fraction: Interval, words: str) -> None:
    half = Estimate(0.02, nan, 5)
    found = Confound(RemovalGroup({}, 60, {}, ()), "blur", kind, (20,), half, half, half, fraction)
    assert idle_words(found, "") == f"{words}, 2.0 of 2.0 points"
    assert idle_words(found, "lr=0.1") == f"{words}, 2.0 of 2.0 points (lr=0.1)"
