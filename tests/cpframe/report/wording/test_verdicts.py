"""Critical periods in words."""

from __future__ import annotations

from math import inf, nan

import pytest

from cpframe.analysis.critical_periods import RecoveryLimit, SensitiveOnsets
from cpframe.report.wording.verdicts import period_words


@pytest.mark.parametrize(
    ("period", "words"),
    [
        (RecoveryLimit("found", 0.01, 10, 20, 19.8, 10, 40, 80, 5), "10 to 20 (10-40)"),
        (RecoveryLimit("found", 0.01, 10, 20, 19.8, 10, 20, 80, 5), "10 to 20"),
        (RecoveryLimit("found", 0.01, 5, 10, 6.9, 0, inf, 80, 5), "5 to 10 (0-80+)"),
        (RecoveryLimit("before the first", 0.01, 0, 10, 4.2, 0, 10, 80, 5), "before 10"),
        (RecoveryLimit("before the first", 0.01, 0, 60, 4.2, 0, inf, 60, 5), "before 60 (0-60+)"),
        (RecoveryLimit("before the first", 0.01, 0, 10, 4.2, 0, 80, 80, 5), "before 10 (0-80)"),
        (RecoveryLimit("not monotone", 0.01, nan, nan, nan, nan, nan, 80, 5), "not monotone"),
        (RecoveryLimit("after the last", 0.01, 80, nan, nan, 80, inf, 80, 5), "80+"),
        (RecoveryLimit("after the last", 0.01, 80, nan, nan, 40, inf, 80, 5), "80+ (40-80+)"),
        (RecoveryLimit("not enough seeds", 0.01, nan, nan, nan, nan, nan, 0, 2), "-"),
        (SensitiveOnsets("found", 0.01, (0, 20), (0,), (0, 20, 40), 20, 0, 40, 5), "20 (0-40)"),
        (SensitiveOnsets("found", 0.01, (0,), (0,), (0,), 0, 0, 0, 5), "0"),
        (SensitiveOnsets("found", 0.01, (0,), (), (0, 20), 0, -inf, 20, 5), "0 (none-20)"),
        (SensitiveOnsets("up to the last onset", 0.01, (0, 40), (0,), (0, 40), 40, 0, 40, 5), "40+ (0-40)"),
        (SensitiveOnsets("none", 0.01, (), (), (), nan, -inf, -inf, 5), "none"),
        (SensitiveOnsets("none", 0.01, (), (), (0, 40), nan, -inf, 40, 5), "none (at most 40)"),
        (SensitiveOnsets("not enough seeds", 0.01, (), (), (), nan, nan, nan, 2), "-"),
    ],
)
def test_periods_in_words(period: RecoveryLimit | SensitiveOnsets, words: str) -> None:
    assert period_words(period) == words
