"""Fisher information against sensitivity: the exponential fit of the paper, F = a exp(c S) + b (Figure 5).

The form of the fit follows Achille et al. 2019; the numbers of the paper are not known. The pairing is our own:
the sensitivity to a window that begins at onset s is paired with the Fisher information of the training without a
deficit, averaged over the measurements in the same window, epochs s + 1 to s + length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import fdtri

from cpframe.analysis.comparisons import RemovalGroup, SlidingGroup, variant_key
from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.statistics import ERROR_RATE, Estimate, estimate
from cpframe.records.model import CLEAN, Floats, StudyRecord

PARAMETERS = 3
"""The number of parameters of the exponential; a fit needs at least one more point."""
STEEPEST = 30.0
"""The exponential changes by at most a factor exp(30) over the range of S; a steeper one is a step at one point."""

FitKind = Literal["exponential", "straight", "undetermined", "too few points", "constant"]


@dataclass(frozen=True)
class ExponentialFit:
    """The least-squares fit of F = a exp(c S) + b.

    Attributes:
        kind: ``exponential``: the interval of c excludes 0. ``straight``: it includes 0, so a straight line fits as
            well. ``undetermined``: the interval of c is unbounded on at least one side. ``too few points``: there are
            fewer than four. ``constant``: S or F is the same everywhere. For the last two kinds all numbers but `n`
            are nan.
        a: the factor a, in units of F.
        b: the offset b, in units of F.
        c: the rate c, per unit of S.
        c_low: the lower end of the 95 % interval of c; -inf if it is unbounded.
        c_high: the upper end; inf if it is unbounded.
        r_squared: the coefficient of determination, 1 - residual sum of squares / total sum of squares.
        residual: the standard error of the residuals, sqrt(residual sum of squares / (n - 3)), in units of F.
        n: the number of points.
    """

    kind: FitKind
    a: float
    b: float
    c: float
    c_low: float
    c_high: float
    r_squared: float
    residual: float
    n: int

    def at(self, sensitivity: Floats) -> Floats:
        """Return the fitted F at sensitivities of any shape; nan if there is no fit."""
        return np.asarray(self.a * np.exp(self.c * sensitivity) + self.b)


@dataclass(frozen=True)
class LinkPoint:
    """The sensitivity to one window and the Fisher information in it.

    Attributes:
        onset: the first epoch under the deficit.
        sensitivity: the paired drop, as a fraction of 1 of the test accuracy.
        fisher: the total over layers without a deficit, as the mean over the window and over seeds.
    """

    onset: int
    sensitivity: Estimate
    fisher: float


@dataclass(frozen=True)
class Link:
    """The sensitivity to one deficit, paired with the Fisher information without a deficit.

    Attributes:
        group: the sliding group with the windows.
        deficit: the name of the deficit in the study.
        units: the units of the Fisher information.
        points: the points, by increasing onset; windows without a measurement are left out.
        fit: the fit of the Fisher information to the mean sensitivities.
    """

    group: SlidingGroup
    deficit: str
    units: str
    points: tuple[LinkPoint, ...]
    fit: ExponentialFit


def fit_exponential(sensitivity: Iterable[float], fisher: Iterable[float]) -> ExponentialFit:
    """Fit F = a exp(c S) + b by least squares.

    For a given c, the best a and b are those of a linear regression, so only c is searched (variable projection): on a
    grid, then by minimisation between two grid points. The interval of c contains every value, connected with the best
    one, whose residual sum of squares is at most the smallest one times 1 + F(1, n - 3; 95 %) / (n - 3): the region
    of the profile likelihood for normal errors (Bates and Watts, Nonlinear Regression Analysis, 1988, 6.1).

    Args:
        sensitivity: the values of S, in any unit.
        fisher: the values of F, in the same order. Pairs that are not finite are left out.
    """
    pairs = np.array([(s, f) for s, f in zip(sensitivity, fisher, strict=True) if math.isfinite(s + f)]).reshape(-1, 2)
    n = len(pairs)
    if n <= PARAMETERS:
        return _without_fit("too few points", n)
    s, f = pairs.T
    scale, spread = float(np.ptp(s)), float(np.ptp(f))
    if np.unique(s).size < PARAMETERS or scale <= 1e-9 * np.abs(s).max() or spread <= 1e-9 * np.abs(f).max():
        return _without_fit("constant", n)
    x, y = (s - s.min()) / scale, (f - f.mean()) / spread
    best = _best_rate(x, y)
    residual = _residual_squares(best, x, y)
    low, high = (_end_of_interval(best, side, x, y) for side in (-1.0, 1.0))
    basis = _basis(np.array([best]), x)[0]
    slope = float(basis @ y) / float(basis @ basis)
    # slope * (exp(k x) / k - mean) * spread + mean of F, written as a exp(c S) + b. A straight line has no c, so a
    # tiny one represents it.
    k = best if abs(best) > 1e-6 else math.copysign(1e-6, best)
    c = k / scale
    a = slope * spread / k * math.exp(-c * float(s.min()))
    b = float(f.mean()) - slope * spread / k * float(np.exp(k * x).mean())
    unbounded = math.isinf(low) or math.isinf(high)
    return ExponentialFit(
        kind="undetermined" if unbounded else "straight" if low <= 0 <= high else "exponential",
        a=a,
        b=b,
        c=c,
        c_low=low / scale,
        c_high=high / scale,
        r_squared=1 - residual / float((y**2).sum()),
        residual=spread * math.sqrt(residual / (n - PARAMETERS)),
        n=n,
    )


def _without_fit(kind: FitKind, n: int) -> ExponentialFit:
    nan = math.nan
    return ExponentialFit(kind, nan, nan, nan, nan, nan, nan, nan, n)


def _best_rate(x: Floats, y: Floats) -> float:
    """Return the k with the smallest residual sum of squares, for x and y of range 1."""
    grid = np.linspace(-STEEPEST, STEEPEST, 601)
    near = int(np.argmin(_residual_squares_at(grid, x, y)))
    bounds = grid[max(0, near - 1)], grid[min(len(grid) - 1, near + 1)]
    options = {"xatol": 1e-10}
    return float(minimize_scalar(_residual_squares, args=(x, y), bounds=bounds, method="bounded", options=options).x)


def _end_of_interval(best: float, side: float, x: Floats, y: Floats) -> float:
    """Return where the sum of squares first exceeds its limit below (side -1) or above (1) the best k."""
    n = x.size
    # Rounding alone leaves residuals of about 1e-15 of the range each; a perfect fit is bounded as tightly as that.
    least = max(_residual_squares(best, x, y), n * 1e-28)
    limit = least * (1 + float(fdtri(1, n - PARAMETERS, 1 - ERROR_RATE)) / (n - PARAMETERS))
    steps = np.linspace(best, side * STEEPEST, 400)
    beyond = np.flatnonzero(_residual_squares_at(steps[1:], x, y) > limit)
    if beyond.size == 0:
        return side * math.inf
    first = int(beyond[0])
    return float(brentq(lambda k: _residual_squares(k, x, y) - limit, steps[first], steps[first + 1]))


def _residual_squares(k: float, x: Floats, y: Floats) -> float:
    return float(_residual_squares_at(np.array([k]), x, y)[0])


def _residual_squares_at(k: Floats, x: Floats, y: Floats) -> Floats:
    """Return the residual sums of squares of y regressed on exp(k x), one per k."""
    basis = _basis(k, x)
    slope = basis @ y / (basis**2).sum(axis=-1)
    return np.asarray(((y - slope[:, None] * basis) ** 2).sum(axis=-1))


def _basis(k: Floats, x: Floats) -> Floats:
    """Return exp(k x) / k minus its mean over x, shape (k, x); for k = 0 its limit, x minus its mean."""
    flat = np.abs(k) <= 1e-6
    divided = np.expm1(np.outer(k, x)) / np.where(flat, 1.0, k)[:, None]
    basis = np.where(flat[:, None], x, divided)
    return np.asarray(basis - basis.mean(axis=1, keepdims=True))


def links(
    study: StudyRecord, groups: Iterable[RemovalGroup | SlidingGroup], curves: Iterable[MetricCurve]
) -> tuple[Link, ...]:
    """Pair the sensitivity to every window with the Fisher information in it, and fit one to the other.

    Args:
        study: the study that the groups are taken from; its idle controls are left out.
        groups: the groups of `cpframe.analysis.comparisons.all_groups`; removal groups are ignored.
        curves: the curves of one Fisher metric, see `cpframe.analysis.metric_curves.metric_curves`.

    Returns:
        One link for each sliding group and deficit that has at least two onsets and a no-deficit curve.
    """
    clean = {variant_key(curve.variant): curve for curve in curves if curve.deficit == CLEAN}
    found = []
    for group in groups:
        without = clean.get(variant_key(group.variant))
        if without is None or not isinstance(group, SlidingGroup):
            continue
        for curve in group.curves:
            if curve.deficit in study.idle:
                continue
            points = []
            for point in curve.points:
                inside = (point.onset < without.epoch) & (without.epoch <= point.offset)
                if point.drops and inside.any():
                    fisher = float(without.total[inside].mean())
                    points.append(LinkPoint(point.onset, estimate(point.drops.values()), fisher))
            if len(points) > 1:
                fit = fit_exponential([p.sensitivity.mean for p in points], [p.fisher for p in points])
                found.append(Link(group, curve.deficit, without.units, tuple(points), fit))
    return tuple(found)
