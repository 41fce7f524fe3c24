"""Verdicts against scipy's p values and against simulated studies without any effect."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from cpframe.analysis.comparisons import all_groups
from cpframe.analysis.missing_controls import missing_controls
from cpframe.analysis.verdicts import Candidate, Claim, claims, judge
from cpframe.records.model import StudyRecord

NewStudy = Callable[..., StudyRecord]


def claims_of(study: StudyRecord) -> tuple[Claim, ...]:
    return claims(study, all_groups(study))


def missing_of(study: StudyRecord) -> tuple[str, ...]:
    groups = all_groups(study)
    return tuple(f"{control.what}: {control.why}" for control in missing_controls(study, groups, claims(study, groups)))


def candidate(at: int, drops: list[float], idle: list[float] | None = None, *, matched: bool = True) -> Candidate:
    by_seed = dict(enumerate(drops))
    return Candidate(at, by_seed, by_seed, dict(enumerate(idle or [])), matched)


def test_a_gain_at_the_last_onset_makes_no_critical_period() -> None:
    """An early window without a drop is not critical, however much a late one may improve the accuracy."""
    more_than_the_last = dict(enumerate([0.005, 0.006, 0.004, 0.005, 0.006]))
    nothing = dict(enumerate([0.001, -0.001, 0.0, 0.002, -0.002]))
    verdict = judge((Candidate(0, more_than_the_last, nothing, {}, True),))
    assert verdict is not None
    assert verdict.kind == "none"
    both = judge((Candidate(0, more_than_the_last, more_than_the_last, {}, True),))
    assert both is not None
    assert both.kind == "supported"


def falling(epoch: int) -> float:
    return 0.05 * 0.97**epoch


def by_deficit(study: StudyRecord, kind: str = "RemovalGroup") -> dict[str, Claim]:
    return {claim.deficit: claim for claim in claims_of(study) if type(claim.group).__name__ == kind}


def test_verdict_follows_corrected_p_values() -> None:
    rng = np.random.default_rng(5)
    kinds = []
    for _ in range(200):
        effects = rng.choice([0.0, 0.01, 0.02], size=4)
        drops = [rng.normal(effect, 0.01, 5) for effect in effects]
        p = [stats.ttest_1samp(sample, 0.0).pvalue for sample in drops]
        dropped = [i for i in range(4) if drops[i].mean() > 0 and 4 * p[i] < 0.05]
        alone = [i for i in range(4) if drops[i].mean() > 0 and p[i] < 0.05]
        verdict = judge(tuple(candidate(i, sample.tolist()) for i, sample in enumerate(drops)))
        assert verdict is not None
        assert verdict.kind == ("supported" if dropped else "hint" if alone else "none")
        assert verdict.at == max(dropped or alone or range(4), key=lambda i: float(drops[i].mean()))
        assert verdict.compared == 4
        kinds.append(verdict.kind)
    assert set(kinds) == {"supported", "hint", "none"}  # the draws cover all three


def test_a_study_without_effect_rarely_has_a_verdict() -> None:
    rng = np.random.default_rng(11)
    studies = 3000
    found = 0
    for _ in range(studies):
        reference = rng.normal(0, 0.01, 5)  # shared by all epochs, as in a study
        made = tuple(candidate(i, (reference + rng.normal(0, 0.01, 5)).tolist()) for i in range(6))
        verdict = judge(made)
        found += verdict is not None and verdict.kind == "supported"
    # Only drops count, not gains, so at most half of 5 %; four standard errors of a proportion above it.
    assert found / studies < 0.025 + 4 * math.sqrt(0.025 * 0.975 / studies)
    assert found > 0


def test_under_a_changing_rate_the_drop_must_exceed_that_of_idle() -> None:
    drops = [0.030, 0.031, 0.029, 0.030]
    alike, apart = [0.029, 0.032, 0.029, 0.031], [0.001, 0.000, 0.002, 0.001]
    explained = judge((candidate(40, drops, alike, matched=False),))
    beyond = judge((candidate(40, drops, apart, matched=False),))
    alone = judge((candidate(40, drops, matched=False),))
    assert [v.kind for v in (explained, beyond, alone) if v] == ["not beyond idle", "supported", "confounded"]
    assert beyond is not None
    assert beyond.excess is not None
    expected = stats.ttest_rel(drops, apart).confidence_interval(0.95)
    assert (beyond.excess.low, beyond.excess.high) == pytest.approx((expected.low, expected.high), rel=1e-9)
    assert alone is not None
    assert alone.excess is None


def test_an_epoch_beyond_idle_is_found_although_a_larger_drop_is_not() -> None:
    small, large = [0.020, 0.021, 0.019, 0.020], [0.100, 0.101, 0.099, 0.100]
    verdict = judge(
        (
            candidate(20, small, [0.001, 0.002, 0.000, 0.001], matched=False),
            candidate(80, large, [0.150, 0.151, 0.149, 0.150], matched=False),
        )
    )
    assert verdict is not None
    assert (verdict.kind, verdict.at) == ("supported", 20)


def test_a_measured_idle_counts_at_matched_rates_too() -> None:
    drops, alike = [0.030, 0.031, 0.029, 0.030], [0.029, 0.032, 0.029, 0.031]
    explained = judge((candidate(40, drops, alike),))
    beyond = judge((candidate(40, drops, [0.001, 0.000, 0.002, 0.001]),))
    hardly_measured = judge((candidate(40, drops, alike[:2]),))
    alone = judge((candidate(40, drops),))
    kinds = [v.kind for v in (explained, beyond, hardly_measured, alone) if v]
    assert kinds == ["not beyond idle", "supported", "supported", "supported"]


def test_idle_of_too_few_seeds_supports_nothing() -> None:
    verdict = judge((candidate(40, [0.03, 0.031, 0.029], [0.001, 0.0011], matched=False),))
    assert verdict is not None
    assert verdict.kind == "not beyond idle"


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_seeds_carry_no_verdict(n: int) -> None:
    verdict = judge((candidate(20, [0.2, 0.2001][:n]), candidate(40, [0.3, 0.3001][:n])))
    assert verdict is not None
    assert (verdict.kind, verdict.at, verdict.compared) == ("not enough seeds", 40, 0)


def test_without_any_drop_there_is_no_verdict() -> None:
    assert judge(()) is None
    assert judge((candidate(20, []),)) is None


def test_at_most_bounds_every_epoch() -> None:
    rng = np.random.default_rng(3)
    drops = [rng.normal(0.0, 0.01, 5) for _ in range(3)]
    highs = [stats.ttest_1samp(sample, 0.0).confidence_interval(1 - 0.05 / 3).high for sample in drops]
    verdict = judge(tuple(candidate(i, sample.tolist()) for i, sample in enumerate(drops)))
    assert verdict is not None
    assert verdict.at_most == pytest.approx(max(highs), rel=1e-9)


def test_claims_of_a_study_with_a_known_scar(study: StudyRecord) -> None:
    scars, periods = by_deficit(study), by_deficit(study, "SlidingGroup")
    assert list(scars) == list(periods) == ["blur", "noise", "flip"]  # idle makes no claim
    assert scars["blur"].verdict.kind == "supported"
    assert scars["flip"].verdict.kind == "none"
    assert periods["blur"].verdict.kind == "supported"
    assert periods["blur"].verdict.at == 0
    assert periods["flip"].verdict.kind == "none"


def test_critical_period_is_the_drop_beyond_that_of_the_last_onset(new_study: NewStudy) -> None:
    # A window causes a drop of three points whenever it begins: an effect, but no critical period.
    made = new_study(effects={"blur": lambda onset, offset: 0.03}, deficits={"blur": "blur"}, until=())
    (claim,) = claims_of(made)
    assert claim.verdict.kind == "none"
    *earlier, last = claim.group.curves[0].points
    assert min(min(point.drops.values()) for point in (*earlier, last)) > 0.01
    later = {p.at: [p.drops[seed] - last.drops[seed] for seed in range(5)] for p in earlier}
    assert claim.verdict.at == max(later, key=lambda at: float(np.mean(later[at])))
    expected = stats.ttest_1samp(later[claim.verdict.at], 0.0).confidence_interval(1 - 0.05 / len(earlier))
    assert (claim.verdict.drop.low, claim.verdict.drop.high) == pytest.approx((expected.low, expected.high), rel=1e-9)


def test_one_onset_makes_no_claim(new_study: NewStudy) -> None:
    assert claims_of(new_study(until=(), onsets=(0,))) == ()


def test_idle_with_the_same_drop_explains_it(new_study: NewStudy) -> None:
    def drop(onset: int, offset: int) -> float:
        return 0.03 * min(1.0, offset / 40)

    made = new_study(
        effects={"blur": drop, "pause": drop}, deficits={"blur": "blur", "pause": "idle"}, rate=falling, onsets=()
    )
    assert by_deficit(made)["blur"].verdict.kind == "not beyond idle"
    same = new_study(
        effects={"blur": drop, "pause": drop},
        deficits={"blur": "blur", "pause": "idle"},
        rate=falling,
        onsets=(),
        restart=True,
    )
    assert by_deficit(same)["blur"].verdict.kind == "not beyond idle"  # restarted, yet idle has the same drop
    alone = new_study(effects={"blur": drop}, deficits={"blur": "blur"}, rate=falling, onsets=(), restart=True)
    assert by_deficit(alone)["blur"].verdict.kind == "supported"


def names(study: StudyRecord) -> list[str]:
    return [control.split(":")[0] for control in missing_of(study)]


def test_nothing_is_missing_from_a_complete_design(study: StudyRecord) -> None:
    assert missing_of(study) == ()


def test_a_bare_design_lacks_everything(new_study: NewStudy) -> None:
    blur_only = {"effects": {"blur": lambda onset, offset: 0.03}, "deficits": {"blur": "blur"}}
    assert names(new_study(rate=falling, onsets=(), **blur_only)) == [
        "idle under removal",
        "constant rate",
        "timing of blur",
        "negative control",
    ]
    # At a constant rate lost training causes no drop: removal does not need idle.
    assert names(new_study(onsets=(), **blur_only)) == ["timing of blur", "negative control"]
    assert names(new_study(rate=falling, restart=True, onsets=(), **blur_only)) == [
        "timing of blur",
        "negative control",
    ]
    assert names(new_study(**blur_only)) == ["idle under sliding", "negative control"]


def test_few_seeds_are_missing(new_study: NewStudy) -> None:
    assert names(new_study(seeds=(0, 1))) == ["seeds"]
    assert "2 of at least 3" in missing_of(new_study(seeds=(0, 1)))[0]


def test_idle_does_not_replace_the_constant_rate(new_study: NewStudy) -> None:
    assert names(new_study(rate=falling)) == ["constant rate"]


def test_a_deficit_without_effect_needs_no_timing(new_study: NewStudy) -> None:
    none = new_study(effects={"flip": lambda onset, offset: 0.0}, deficits={"flip": "flip"}, onsets=(), noise=1e-3)
    assert [claim.verdict.kind for claim in claims_of(none)] == ["none"]
    assert names(none) == []  # and it is a negative control itself


def test_deficits_without_a_result_count_as_without_effect(new_study: NewStudy) -> None:
    two = {"blur": lambda onset, offset: 0.03, "flip": lambda onset, offset: 0.0}
    for seeds in ((0,), (0, 1)):
        made = new_study(effects=two, deficits={"blur": "blur", "flip": "flip"}, onsets=(), seeds=seeds)
        assert names(made) == ["seeds"]
        alone = new_study(effects={"blur": two["blur"]}, deficits={"blur": "blur"}, onsets=(), seeds=seeds)
        assert names(alone) == ["seeds", "negative control"]
        assert "blur is the only deficit" in missing_of(alone)[1]


def test_seeds_count_where_both_trainings_are_complete(new_study: NewStudy) -> None:
    made = new_study(onsets=())
    ended = tuple(
        replace(t, status="unfinished", score=math.nan) if t.deficit == "blur" and t.seed > 1 else t
        for t in made.trajectories
    )
    (few, *_) = missing_of(replace(made, trajectories=ended))
    assert few.startswith("seeds of blur: 2 of at least 3")
    none = tuple(replace(t, status="unfinished", score=math.nan) for t in made.trajectories)
    assert missing_of(replace(made, trajectories=none))[0].startswith("seeds: 0 of at least 3")


def test_deficits_that_all_have_an_effect_lack_a_negative_control(new_study: NewStudy) -> None:
    made = new_study(
        effects={"blur": lambda onset, offset: 0.03, "noise": lambda onset, offset: 0.03},
        deficits={"blur": "blur", "noise": "noise"},
        onsets=(),
    )
    assert "negative control: every deficit here has an effect" in missing_of(made)[-1]


def test_a_study_without_deficits_claims_nothing_and_lacks_them(new_study: NewStudy) -> None:
    bare = new_study(effects={}, deficits={}, onsets=())
    assert claims_of(bare) == ()
    assert names(bare) == ["a deficit"]
