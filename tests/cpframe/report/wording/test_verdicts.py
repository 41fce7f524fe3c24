"""Verdicts and critical periods in words."""

from __future__ import annotations

from math import inf, nan

import pytest

from cpframe.analysis.comparisons import Curve, Point, RemovalGroup, SlidingGroup
from cpframe.analysis.critical_periods import RecoveryLimit, SensitiveOnsets
from cpframe.analysis.statistics import Estimate
from cpframe.analysis.verdicts import Claim, Kind, Verdict
from cpframe.report.wording.verdicts import drop_words, outcome, period_words, question, reasons


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


POINTS = tuple(Point(at, at, at + 40, {}, {}, rate_matched=True) for at in (0, 20, 40))
REMOVAL = RemovalGroup({}, 1, {}, (Curve("blur", POINTS),))
SLIDING = SlidingGroup({}, 40, 120, {}, (Curve("blur", POINTS),))


def claim(
    group: RemovalGroup | SlidingGroup,
    kind: Kind,
    mean: float = 0.02,
    *,
    excess: Estimate | None = None,
    matched: bool = False,
    at_most: float = 0.03,
) -> Claim:
    return Claim(group, "blur", Verdict(kind, 20, 4, Estimate(mean, 0.01, 5), excess, matched, at_most))


def test_questions_and_outcomes_name_the_claim() -> None:
    assert question(REMOVAL) == "Is there a scar after 1 clean epoch?"
    assert question(SLIDING) == "Does the onset of a 40-epoch deficit matter in 120 epochs of training?"
    assert [outcome(claim(group, "supported")) for group in (REMOVAL, SLIDING)] == ["SCAR", "CRITICAL PERIOD"]
    assert outcome(claim(REMOVAL, "none")) == "no effect found"
    assert drop_words(claim(REMOVAL, "supported")) == "2.0±1.0 at 20"
    assert drop_words(claim(REMOVAL, "none", 0.005)) == "under 3.0"


DROP = "The drop after removal at epoch 20 is 2.0±1.0 points (n = 5)."
DIFFERENCE = "The drop at onset 20 exceeds that at onset 40 by 2.0±1.0 points (n = 5)."


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (claim(REMOVAL, "supported", matched=True), f"{DROP} The learning rates are those of the no-deficit run."),
        (
            claim(REMOVAL, "not beyond idle", excess=Estimate(0.001, 0.02, 5)),
            f"{DROP} It exceeds that of the idle control by 0.1±2.0 points.",
        ),
        (
            claim(SLIDING, "supported", excess=Estimate(0.02, 0.01, 5)),
            f"{DIFFERENCE} This difference exceeds that of the idle control by 2.0±1.0 points.",
        ),
        (
            claim(REMOVAL, "confounded"),
            f"{DROP} The learning rate has changed and may explain it; there is no idle control.",
        ),
        (claim(REMOVAL, "hint"), f"{DROP} It is not significant when all 4 epochs are compared at once."),
        (claim(REMOVAL, "not enough seeds"), f"{DROP} At least 3 seeds are needed."),
        (
            claim(REMOVAL, "none", 0.005),
            "The largest drop is 0.5±1.0 points, after removal at epoch 20 (n = 5). Every drop is under 3.0 points.",
        ),
        (
            claim(REMOVAL, "none", -0.02, at_most=-0.01),
            "The largest drop is -2.0±1.0 points, after removal at epoch 20 (n = 5). "
            "The accuracy is never below the no-deficit run.",
        ),
        (
            claim(SLIDING, "none"),
            "Relative to onset 40 the largest drop is 2.0±1.0 points, at onset 20 (n = 5). "
            "But there is no significant drop at that onset itself.",
        ),
        (
            claim(SLIDING, "none", 0.005),
            "Relative to onset 40 the largest drop is 0.5±1.0 points, at onset 20 (n = 5). "
            "Every difference is under 3.0 points.",
        ),
        (
            claim(SLIDING, "none", -0.02, at_most=-0.01),
            "Relative to onset 40 the largest drop is -2.0±1.0 points, at onset 20 (n = 5). "
            "No earlier onset has a larger drop.",
        ),
    ],
)
def test_reasons_are_whole_sentences(made: Claim, words: str) -> None:
    assert reasons(made) == words
