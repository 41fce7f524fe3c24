"""Phases of curves whose phases are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from cpframe.analysis.phases import phases, running_median

EPOCH = np.arange(1, 301)


def pulse(epoch: np.ndarray, top: float = 60.0) -> np.ndarray:
    """Rises and falls: its peak is 1000 at epoch `top`."""
    return 1000 * (epoch / top) * np.exp(1 - epoch / top)


def test_running_median_against_sorting() -> None:
    values = np.random.default_rng(0).normal(size=40)
    expected = []
    for i in range(40):
        near = sorted(values[j] for j in range(i - 2, i + 3) if 0 <= j < 40)
        middle = len(near) // 2
        expected.append(near[middle] if len(near) % 2 else (near[middle - 1] + near[middle]) / 2)
    assert running_median(values).tolist() == expected


def test_phases_of_a_pulse_in_closed_form() -> None:
    values = pulse(EPOCH)
    found = phases(EPOCH, values)
    assert found is not None
    assert found.shape == "peak"
    # The median of five leaves a monotone stretch as it is and flattens a smooth peak by two epochs at most, whose
    # values differ from the peak's by (2/60)^2 / 2 of it: under a thousandth.
    assert found.peak == pytest.approx(1000, rel=1e-3)
    assert abs(found.peak_epoch - 60) <= 2
    start, end = values[1], values[-2]  # medians of the first and of the last three
    risen = brentq(lambda t: float(pulse(t)) - (start + 0.9 * (found.peak - start)), 1, 60)
    half = brentq(lambda t: float(pulse(t)) - (found.peak + end) / 2, 60, 300)
    assert found.end == pytest.approx(end, rel=1e-12)
    assert found.rise_epoch == math.ceil(risen)  # the first epoch measured after
    assert found.half_epoch == math.ceil(half)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_outliers_move_phases_little(seed: int) -> None:
    epoch = EPOCH[2::3]
    rng = np.random.default_rng(seed)
    values = pulse(epoch) * rng.normal(1, 0.03, epoch.size)
    values[[30, 70]] *= 4  # two diverged measurements
    clean, found = phases(epoch, pulse(epoch)), phases(epoch, values)
    assert clean is not None
    assert found is not None
    assert found.shape == "peak"
    # The pulse is within 3 % of its peak for about 15 epochs on either side, so noise of 3 % may put the peak there.
    assert abs(found.peak_epoch - 60) <= 18
    # The largest of some ten medians of five, each with a standard deviation of about 1.25 * 3 % / sqrt(5) = 1.7 %.
    assert found.peak == pytest.approx(1000, rel=0.06)
    # Slopes there are about 0.6 % of the peak an epoch: noise of 2 % in the median and of 5 % in the peak, over that.
    assert abs(found.rise_epoch - clean.rise_epoch) <= 12
    assert abs(found.half_epoch - clean.half_epoch) <= 12


def test_a_curve_that_saturates_is_rising() -> None:
    noise = np.random.default_rng(1).normal(1, 0.02, EPOCH.size)
    found = phases(EPOCH, 1000 * (1 - np.exp(-EPOCH / 30)) * noise)
    assert found is not None
    assert found.shape == "rising"
    assert math.isnan(found.half_epoch)
    # 90 % of the way is done after 30 ln 10 = 69 epochs; the noise lifts the largest median by up to 5 %, and the
    # saturating curve takes long for the last per cents.
    assert 55 <= found.rise_epoch <= 100


def test_a_curve_that_decays_is_falling() -> None:
    found = phases(EPOCH, 1000 * np.exp(-EPOCH / 50))
    assert found is not None
    assert found.shape == "falling"
    assert math.isnan(found.rise_epoch)
    assert found.peak_epoch == 1
    # Half of the way from exp(-.04) (median of the first three) to about 0 takes 50 ln 2 epochs more.
    assert found.half_epoch == pytest.approx(2 + 50 * math.log(2), abs=2)


@pytest.mark.parametrize("noise", [0.0, 0.02, 0.3])
def test_a_level_curve_has_no_phases_however_noisy(noise: float) -> None:
    wrong = 0
    for seed in range(200):
        found = phases(EPOCH[:60], np.abs(500 * np.random.default_rng(seed).normal(1, noise, 60)))
        assert found is not None
        wrong += found.shape != "none"
        assert math.isnan(found.rise_epoch) or found.shape in ("rising", "peak")
        assert math.isnan(found.half_epoch) or found.shape in ("falling", "peak")
    # The rule promises about one in a hundred: 2 expected, 6 is three standard deviations above.
    assert wrong <= 6


def test_phases_do_not_depend_on_the_unit() -> None:
    large, small = phases(EPOCH, pulse(EPOCH)), phases(EPOCH, pulse(EPOCH) * 2.0**-20)
    assert large is not None
    assert small is not None
    epochs = [(p.shape, p.rise_epoch, p.peak_epoch, p.half_epoch) for p in (large, small)]
    assert epochs[0] == epochs[1]
    assert small.peak == large.peak * 2.0**-20


def test_a_curve_of_zeros_is_level() -> None:
    found = phases(EPOCH[:10], np.zeros(10))
    assert found is not None
    assert (found.shape, found.peak, found.end) == ("none", 0.0, 0.0)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_few_measurements_have_no_phases(count: int) -> None:
    assert phases(EPOCH[:count], pulse(EPOCH[:count])) is None


def test_the_plateau_begins_within_a_tenth_of_the_end() -> None:
    # A decay to 90: within a tenth of it after 50 ln(600 / 9) = 210 epochs, and sampled until 600.
    epoch = np.arange(3, 601, 3)
    found = phases(epoch, 90 + 600 * np.exp(-epoch / 50))
    assert found is not None
    assert found.plateau_epoch == pytest.approx(50 * math.log(600 / 9), abs=3)


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_the_plateau_little(seed: int) -> None:
    epoch = np.arange(3, 601, 3)
    values = (90 + 600 * np.exp(-epoch / 50)) * np.random.default_rng(seed).normal(1, 0.05, epoch.size)
    found = phases(epoch, values)
    assert found is not None
    # The tolerance is then three times 5 %: reached after 50 ln(600 / 13.5) = 190. Medians of five err by 3 %, and the
    # end as much: two of 4 % together make 7 to 21 of 90 the distance that counts, epochs 168 to 222.
    assert 160 <= found.plateau_epoch <= 230


def test_what_still_falls_has_no_plateau() -> None:
    found = phases(EPOCH, 1000 * np.exp(-EPOCH / 50))
    assert found is not None
    assert math.isnan(found.plateau_epoch)


@pytest.mark.parametrize("seed", range(10))
def test_a_level_curve_is_all_plateau(seed: int) -> None:
    found = phases(EPOCH[:60], 500 * np.random.default_rng(seed).normal(1, 0.02, 60))
    assert found is not None
    assert found.plateau_epoch == 1


def test_a_curve_that_saturates_has_a_plateau() -> None:
    found = phases(EPOCH, 1000 * (1 - np.exp(-EPOCH / 30)))
    assert found is not None
    assert found.plateau_epoch == pytest.approx(30 * math.log(10), abs=2)  # 90 % are reached
