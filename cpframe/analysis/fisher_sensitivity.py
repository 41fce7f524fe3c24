"""How Fisher information and sensitivity go together: the paper's exponential fit, F = a exp(c S) + b (its Figure 5).

The form is recalled from the paper, its numbers are not known. What is paired is ours: the sensitivity to a window
that begins at onset s, and the Fisher information of the training without a deficit, averaged over the measurements in
that same window, epochs s + 1 to s + length.
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
"""Of the exponential: one more point at least is needed to tell how well it fits."""
STEEPEST = 30.0
"""The exponential may change by at most a factor exp(30) over the range of S: beyond, it is a step at one point."""

FitKind = Literal["exponential", "straight", "undetermined", "too few points", "constant"]


@dataclass(frozen=True)
class ExponentialFit:
    """F = a exp(c S) + b by least squares.

    Attributes:
        kind: ``exponential``: the interval of c excludes 0. ``straight``: it includes 0, a straight line does as well.
            ``undetermined``: c is not bounded on one side at least. ``too few points``: fewer than four.
            ``constant``: S or F is the same everywhere. All numbers but `n` are nan for the last two.
        a: in units of F.
        b: in units of F.
        c: per unit of S.
        c_low: lower end of its 95 % interval; -inf where it is not bounded.
        c_high: upper end; inf where it is not bounded.
        r_squared: 1 - residual / total sum of squares.
        residual: standard error of the residuals, sqrt(residual sum of squares / (n - 3)), in units of F.
        n: points.
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
        """The fitted F at sensitivities of any shape; nan where there is no fit."""
        return np.asarray(self.a * np.exp(self.c * sensitivity) + self.b)


@dataclass(frozen=True)
class LinkPoint:
    """One onset.

    Attributes:
        onset: first epoch under the deficit.
        sensitivity: the paired drop, a fraction of 1 of the test accuracy.
        fisher: the total over layers without a deficit, as the mean over the window and over seeds.
    """

    onset: int
    sensitivity: Estimate
    fisher: float


@dataclass(frozen=True)
class Link:
    """Sensitivity to one deficit and Fisher information without any.

    Attributes:
        group: the windows.
        deficit: by its name in the study.
        units: of the Fisher information.
        points: by increasing onset; those whose window has no measurement are left out.
        fit: of `fisher` to the mean sensitivities.
    """

    group: SlidingGroup
    deficit: str
    units: str
    points: tuple[LinkPoint, ...]
    fit: ExponentialFit


def fit_exponential(sensitivity: Iterable[float], fisher: Iterable[float]) -> ExponentialFit:
    """Fit F = a exp(c S) + b by least squares.

    For a given c, a and b are those of a linear regression, so c alone is searched (variable projection): on a grid,
    then finely. Nothing has to converge. The interval of c has every value whose residual sum of squares is at most
    the least one times 1 + F(1, n - 3; 95 %) / (n - 3), the profile likelihood's region for normal errors (Bates and
    Watts, Nonlinear Regression Analysis, 1988, 6.1), as far as it is connected with c.

    Args:
        sensitivity: S, in any unit.
        fisher: F, as many. Pairs count that are finite.
    """
    pairs = np.array([(s, f) for s, f in zip(sensitivity, fisher, strict=True) if math.isfinite(s + f)]).reshape(-1, 2)
    n, nan = len(pairs), math.nan
    if n <= PARAMETERS:
        return ExponentialFit("too few points", nan, nan, nan, nan, nan, nan, nan, n)
    s, f = pairs.T
    scale, spread = float(np.ptp(s)), float(np.ptp(f))
    if np.unique(s).size < PARAMETERS or scale <= 1e-9 * np.abs(s).max() or spread <= 1e-9 * np.abs(f).max():
        return ExponentialFit("constant", nan, nan, nan, nan, nan, nan, nan, n)
    x, y = (s - s.min()) / scale, (f - f.mean()) / spread

    def squares_at(k: Floats) -> Floats:
        """Residual sums of squares of y on exp(k x)."""
        basis = _basis(k, x)
        slope = basis @ y / (basis**2).sum(axis=-1)
        return np.asarray(((y - slope[:, None] * basis) ** 2).sum(axis=-1))

    def squares(k: float) -> float:
        return float(squares_at(np.array([k]))[0])

    grid = np.linspace(-STEEPEST, STEEPEST, 601)
    near = int(np.argmin(squares_at(grid)))
    least, most = grid[max(0, near - 1)], grid[min(len(grid) - 1, near + 1)]
    best = float(minimize_scalar(squares, bounds=(least, most), method="bounded", options={"xatol": 1e-10}).x)
    residual = squares(best)
    # Rounding alone leaves residuals of some 1e-15 of the range each: a perfect fit is bounded as tightly as that.
    limit = max(residual, n * 1e-28) * (1 + float(fdtri(1, n - PARAMETERS, 1 - ERROR_RATE)) / (n - PARAMETERS))

    def end(side: float) -> float:
        """Where the sum of squares first exceeds the limit, from the best k to that side."""
        steps = np.linspace(best, side * STEEPEST, 400)
        beyond = np.flatnonzero(squares_at(steps[1:]) > limit)
        if beyond.size == 0:
            return side * math.inf
        first = int(beyond[0])
        return float(brentq(lambda k: squares(k) - limit, steps[first], steps[first + 1]))

    low, high = end(-1.0), end(1.0)
    basis = _basis(np.array([best]), x)[0]
    slope = float(basis @ y) / float(basis @ basis)
    # slope * (exp(k x) / k - mean) * spread + mean of F, written as a exp(c S) + b. A straight line has no c: a tiny
    # one stands for it.
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


def _basis(k: Floats, x: Floats) -> Floats:
    """(k, x) exp(k x) / k up to a constant, with mean 0 over x: x where k is 0."""
    flat = np.abs(k) <= 1e-6
    divided = np.expm1(np.outer(k, x)) / np.where(flat, 1.0, k)[:, None]
    basis = np.where(flat[:, None], x, divided)
    return np.asarray(basis - basis.mean(axis=1, keepdims=True))


def links(
    study: StudyRecord, groups: Iterable[RemovalGroup | SlidingGroup], curves: Iterable[MetricCurve]
) -> tuple[Link, ...]:
    """Pair the sensitivity to every window with Fisher information, and fit one to the other.

    Args:
        study: whose deficits these are; idle controls are left out.
        groups: of `cpframe.analysis.comparisons.all_groups`; those of the sliding protocol count.
        curves: of `cpframe.analysis.metric_curves.metric_curves`, of one Fisher metric.

    Returns:
        One for each group and deficit of at least two onsets whose variant has a no-deficit curve.
    """
    clean = {variant_key(curve.variant): curve for curve in curves if curve.deficit == CLEAN}
    made = []
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
                made.append(Link(group, curve.deficit, without.units, tuple(points), fit))
    return tuple(made)
