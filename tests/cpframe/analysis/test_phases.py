"""Phases of curves whose phases are known in closed form, of measured ones, and of simulated noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.phases import Phases, noise_of, noise_of_steps, phases, phases_of

EPOCH = np.arange(1, 301)
SIZES = (6, 9, 13, 20, 60)


def found_in(epoch: np.ndarray, values: np.ndarray, noise: float | None = None) -> Phases:
    """The phases of one curve of its own."""
    found = phases(epoch, values, noise_of_steps(values) if noise is None else noise)
    assert found is not None
    return found


def curve_of(by_seed: np.ndarray, errors: np.ndarray | None = None) -> MetricCurve:
    """A curve of (seed, M) values."""
    seeds, size = by_seed.shape[:2]
    epoch = np.arange(1, size + 1)
    names = tuple("abc"[: by_seed.shape[2]]) if by_seed.ndim == 3 else ()
    return MetricCurve(
        "removal", {}, "clean", 0, 0, size, tuple(range(seeds)), epoch, by_seed, errors, names, "", "Fisher", "clean"
    )


def pulse(epoch: np.ndarray, top: float = 60.0) -> np.ndarray:
    """Rises and falls: its peak is 1000 at epoch `top`."""
    return 1000 * (epoch / top) * np.exp(1 - epoch / top)


def bump(size: int) -> np.ndarray:
    """From about 100 to 1000 and back, however few the measurements."""
    return 100 + 900 * np.exp(-(((np.linspace(0, 1, size) - 0.4) / 0.2) ** 2))


def test_phases_of_a_pulse_in_closed_form() -> None:
    values = pulse(EPOCH)
    found = found_in(EPOCH, values)
    assert found.shape == "peak"
    assert (found.peak, found.peak_epoch, found.end) == (values[59], 60, values[-1])
    risen = brentq(lambda t: float(pulse(t)) - (values[0] + 0.9 * (1000 - values[0])), 1, 60)
    half = brentq(lambda t: float(pulse(t)) - (1000 + values[-1]) / 2, 60, 300)
    assert found.rise_epoch == math.ceil(risen)  # the first epoch measured after
    assert found.half_epoch == math.ceil(half)


TENS = [1, *range(10, 121, 10)]


@pytest.mark.parametrize(
    ("values", "shape", "peak", "flat"),
    [
        # Means over four and eight seeds, as measured by two of our own specs every ten epochs.
        ([356, 821, 1274, 2204, 3302, 4344], "rising", (50, 4344), math.nan),
        ([3, 125, 70, 32, 22, 162, 221, 267, 308, 12, 5, 4, 3], "peak", (80, 308), 100),
        ([3, 7, 125, 73, 45, 32, 27, 22, 19, 17], "peak", (20, 125), math.nan),
        ([120, 210, 390, 560, 600, 480, 300, 170, 101], "peak", (40, 600), math.nan),
        ([500, 510, 495, 505, 498, 502], "none", (10, 510), 1),
        ([1000, 500, 250, 120, 60, 58, 59, 60], "falling", (1, 1000), 40),
    ],
)
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_coarse_and_short_curves_keep_their_peak(
    values: list[float], shape: str, peak: tuple[int, float], flat: float, noise: float
) -> None:
    epoch = np.array(TENS[: len(values)])
    found = found_in(epoch, np.array(values, dtype=np.float64), noise)
    assert found.shape == shape
    assert (found.peak_epoch, found.peak, found.end) == (*peak, values[-1])
    assert found.level == (shape == "none")
    if noise:  # a value may be 3.5 sqrt(2) = 4.95 away from the end, or a tenth of it
        assert found.plateau_epoch == pytest.approx(flat, nan_ok=True)


def test_a_smooth_short_curve_with_a_percent_of_noise_has_its_peak() -> None:
    rng = np.random.default_rng(3)
    smooth = np.array([120, 210, 390, 560, 600, 480, 300, 170, 101], dtype=np.float64)
    for _ in range(200):
        values = smooth * rng.normal(1, 0.01, 9)
        found = found_in(np.array(TENS[:9]), values)
        assert found.shape == "peak"
        assert (found.peak, found.peak_epoch) == (values.max(), TENS[values.argmax()])


def test_a_dip_is_not_level() -> None:
    found = found_in(EPOCH[:9], np.array([100, 80, 40, 20, 15, 20, 40, 80, 100], dtype=np.float64))
    assert found.shape == "none"
    assert not found.level


def rate(shape: str, values: np.ndarray, noise: float, seeds: int, draws: int = 300) -> float:
    """How many of simulated curves have the shape; noise is that of the mean over seeds, as a part of each value."""
    rng = np.random.default_rng([seeds, values.size])
    drawn = values * rng.normal(1, noise * math.sqrt(seeds), (draws, seeds, values.size))
    found = [phases_of(curve_of(np.abs(one))) for one in drawn]
    return float(np.mean([one is not None and one.shape == shape for one in found]))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("seeds", "promised"), [(1, 0.07), (2, 0.05), (3, 0.03), (5, 0.03)])
def test_level_noise_rarely_shows_a_phase(size: int, seeds: int, promised: float) -> None:
    # Three standard deviations of a proportion of 300 above what the docs promise.
    wrong = 1 - rate("none", np.full(size, 500.0), 0.15, seeds)
    assert wrong <= promised + 3 * math.sqrt(promised * (1 - promised) / 300)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.3])
@pytest.mark.parametrize("seeds", [2, 5])
def test_a_peak_is_found_in_noise(size: int, noise: float, seeds: int) -> None:
    # Promised: over 80 %, less three standard deviations of a proportion of 300.
    assert rate("peak", bump(size), noise, seeds) >= 0.8 - 3 * math.sqrt(0.8 * 0.2 / 300)


@pytest.mark.parametrize("size", [13, 20, 60])
@pytest.mark.parametrize("noise", [0.01, 0.1, 0.3])
def test_one_seed_shows_a_peak_of_thirteen_measurements(size: int, noise: float) -> None:
    assert rate("peak", bump(size), noise, 1) >= 0.9 - 3 * math.sqrt(0.9 * 0.1 / 300)


@pytest.mark.parametrize("seeds", [2, 5])
def test_seeds_that_differ_in_size_alone_are_no_noise(seeds: int) -> None:
    by_seed = np.outer(np.arange(1, seeds + 1), pulse(EPOCH[:60]))
    assert noise_of(curve_of(by_seed)) == pytest.approx(0, abs=1e-9)  # rounding of values up to 5000


def test_noise_of_seeds_and_of_steps_is_the_one_that_was_drawn() -> None:
    rng = np.random.default_rng(4)
    # 4 x 2000 and 2000 draws: the first is known to 1 %, the median of correlated differences to about 4 %.
    assert noise_of(curve_of(700 + rng.normal(0, 20, (5, 2000)))) == pytest.approx(20 / math.sqrt(5), rel=0.03)
    assert noise_of_steps(pulse(np.linspace(1, 300, 2000)) + rng.normal(0, 20, 2000)) == pytest.approx(20, rel=0.12)


def test_noise_is_at_least_the_error_of_measurement() -> None:
    by_seed, errors = np.full((2, 6, 3), 100.0), np.full((2, 6, 3), 5.0)
    # Three layers of two seeds: sqrt(3 * 2 * 25) / 2.
    assert noise_of(curve_of(by_seed, errors)) == pytest.approx(math.sqrt(150) / 2, rel=1e-12)
    assert noise_of(curve_of(by_seed[:1], errors[:1])) == pytest.approx(math.sqrt(75), rel=1e-12)


def test_a_curve_that_saturates_is_rising() -> None:
    noise = np.random.default_rng(1).normal(1, 0.02, EPOCH.size)
    found = found_in(EPOCH, 1000 * (1 - np.exp(-EPOCH / 30)) * noise)
    assert found.shape == "rising"
    assert math.isnan(found.half_epoch)
    # 90 % of the way is done after 30 ln 10 = 69 epochs; the noise lifts the largest value by up to 6 %, and others
    # near it, and the saturating curve takes long for the last per cents.
    assert 50 <= found.rise_epoch <= 110


def test_a_curve_that_decays_is_falling() -> None:
    found = found_in(EPOCH, 1000 * np.exp(-EPOCH / 50))
    assert found.shape == "falling"
    assert math.isnan(found.rise_epoch)
    assert found.peak_epoch == 1
    # Half of the way from exp(-.02) to about 0 takes 50 ln 2 epochs more.
    assert found.half_epoch == pytest.approx(1 + 50 * math.log(2), abs=2)


def test_phases_do_not_depend_on_the_unit() -> None:
    large, small = found_in(EPOCH, pulse(EPOCH)), found_in(EPOCH, pulse(EPOCH) * 2.0**-20)
    epochs = [(p.shape, p.rise_epoch, p.peak_epoch, p.half_epoch) for p in (large, small)]
    assert epochs[0] == epochs[1]
    assert small.peak == large.peak * 2.0**-20


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_curve_of_zeros_is_level(seeds: int) -> None:
    found = phases_of(curve_of(np.zeros((seeds, 10))))
    assert found is not None
    assert (found.shape, found.peak, found.end, found.level) == ("none", 0.0, 0.0, True)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_few_measurements_have_no_phases(count: int) -> None:
    assert phases(EPOCH[:count], pulse(EPOCH[:count]), 0.0) is None
    assert phases_of(curve_of(pulse(EPOCH[None, :count]))) is None


def test_the_plateau_begins_within_a_tenth_of_the_end() -> None:
    # A decay to 90: within a tenth of it after 50 ln(600 / 9) = 210 epochs, and sampled until 600.
    epoch = np.arange(3, 601, 3)
    found = found_in(epoch, 90 + 600 * np.exp(-epoch / 50))
    assert found.plateau_epoch == pytest.approx(50 * math.log(600 / 9), abs=3)


@pytest.mark.parametrize("seed", range(5))
def test_noise_moves_the_plateau_little(seed: int) -> None:
    epoch = np.arange(3, 601, 3)
    noise = np.random.default_rng(seed).normal(0, 4.5, epoch.size)
    found = found_in(epoch, 90 + 600 * np.exp(-epoch / 50) + noise, 4.5)
    # The tolerance is 3.5 sqrt(2) times the noise, 22: without noise reached after 50 ln(600 / 22) = 165. End and
    # the last value beyond it may each err by two and a half standard deviations: 22 +- 16, epochs 137 to 230.
    assert 137 <= found.plateau_epoch <= 230


def test_what_still_moves_has_no_plateau() -> None:
    assert math.isnan(found_in(EPOCH, 1000 * np.exp(-EPOCH / 50)).plateau_epoch)
    assert math.isnan(found_in(EPOCH, 1000.0 + 10 * EPOCH).plateau_epoch)
    # It rises to 112 and is 99 at the end: all of it lies near its end, yet it moves.
    found = found_in(EPOCH[:8], np.array([97, 100, 105, 112, 109, 104, 100, 99], dtype=np.float64), 0.1)
    assert found.shape == "peak"
    assert found.plateau_epoch > 4


def test_a_curve_that_saturates_has_a_plateau() -> None:
    found = found_in(EPOCH, 1000 * (1 - np.exp(-EPOCH / 30)))
    assert found.plateau_epoch == pytest.approx(30 * math.log(10), abs=2)  # 90 % are reached
