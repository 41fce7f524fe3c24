"""Fisher information in words: its phases, its redistribution among layers, and its relation to sensitivity."""

from __future__ import annotations

import math

from cpframe.analysis.fisher_sensitivity import PARAMETERS, ExponentialFit, FitKind
from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.phases import MULTIPLE, NOTICEABLE, RISEN, phases_of
from cpframe.analysis.plasticity import Plasticity, mean_layers
from cpframe.analysis.statistics import Estimate
from cpframe.report.formatting import NONE, number, percent, plural, points

PHASE_COLUMNS = f"{RISEN:.0%} up", "peak", "peak at", "half down", "flat from", "end", "n"
PHASE_NOTE = (
    f"{RISEN:.0%} up, peak at, half down and flat from are epochs; half down is halfway from the peak to the end. A "
    f"rise or fall counts if it exceeds {NOTICEABLE:.0%} of the peak and the noise ({MULTIPLE:g} standard errors of a "
    f"difference, from the differences between seeds); flat is within {NOTICEABLE:.0%} of the end, or the noise. "
    "The rule is our own."
)
PLASTICITY_COLUMNS = "epochs", "redistributed (%)", "measurement error (%)", "mean layer", "mean layer change", "n"
PLASTICITY_NOTE = (
    "Redistributed is the share of the information that is in a different layer at the end of the training than at the "
    "end of the deficit (without a deficit: at the first measurement), ± its 95% interval; this measure is our own. "
    "Measurement error is the value that errors of measurement alone would give. The mean layer is weighted by the "
    "layers' shares, from 1 for the first layer; its change is positive towards the output."
)
FIT_FORMULA = "F = a exp(c S) + b"

_FITS: dict[FitKind, str] = {
    "exponential": "exponential",
    "straight": "a straight line fits as well",
    "undetermined": "undetermined, the interval of c is unbounded",
    "too few points": f"too few onsets, at least {PARAMETERS + 1} are needed",
    "constant": "nothing to fit, a constant",
}


def phase_cells(curve: MetricCurve) -> tuple[str, ...]:
    """Return the phases of a curve, one cell per column of `PHASE_COLUMNS`."""
    found = phases_of(curve)
    if found is None:
        return NONE, NONE, NONE, NONE, NONE, number(float(curve.total[-1])), str(curve.n)
    half = "rising" if found.shape == "rising" else "level" if found.level else _epoch(found.half_epoch)
    peak = number(found.peak), str(found.peak_epoch)
    return _epoch(found.rise_epoch), *peak, half, _epoch(found.plateau_epoch), number(found.end), str(curve.n)


def _epoch(epoch: float) -> str:
    return NONE if math.isnan(epoch) else str(round(epoch))


def plasticity_cells(curve: MetricCurve, plasticity: Plasticity) -> tuple[str, ...]:
    """Return the information plasticity of a curve, one cell per column of `PLASTICITY_COLUMNS`."""
    by_epoch = dict(zip(curve.epoch.tolist(), mean_layers(curve).tolist(), strict=True))
    return (
        f"{plasticity.first}-{plasticity.last}",
        points(plasticity.redistributed),
        NONE if math.isnan(plasticity.measurement_error) else percent(plasticity.measurement_error),
        f"{by_epoch[plasticity.first]:.1f}→{by_epoch[plasticity.last]:.1f}",
        _signed(plasticity.mean_layer_change),
        str(plasticity.redistributed.n),
    )


def _signed(change: Estimate) -> str:
    half = "" if math.isnan(change.half_width) else f"±{change.half_width:.2f}"
    return f"{change.mean:+.2f}{half}" if math.isfinite(change.mean) else NONE


def fit_words(fit: ExponentialFit) -> str:
    """Return a fit in words, with c per percentage point."""
    words = f"{_FITS[fit.kind]} ({plural(fit.n, 'onset')})"
    if not math.isfinite(fit.c):
        return words
    if not has_curve(fit):
        return f"{words}: R² is at best {fit.r_squared:.2f}"
    low, high = (number(end / 100) for end in (fit.c_low, fit.c_high))
    return (
        f"{words}: c = {number(fit.c / 100)} per point ({low} to {high}), a = {number(fit.a)}, b = {number(fit.b)}, "
        f"R² = {fit.r_squared:.2f}, standard error of the residuals {number(fit.residual)}"
    )


def has_curve(fit: ExponentialFit) -> bool:
    """Return whether a fit is determined well enough to be drawn as a curve."""
    return fit.kind in ("exponential", "straight")


def link_note(units: str) -> str:
    """Return the explanation of the fit, for Fisher information in some units."""
    return (
        f"The fit is {FIT_FORMULA} with the sensitivity S in points and the Fisher information F without a deficit"
        f"{f', in {units}' if units else ''}, averaged over the window that begins at the onset (this pairing is our "
        "own). Intervals of c are 95% intervals."
    )
