"""Where in a network the information lies: centres of mass of the layers' shares, and how much of it moves.

*Information plasticity* is the paper's word for the freedom to redistribute information among layers. It gives no
formula: the one here is ours. Between two epochs it is the total variation distance of the shares, half the sum over
layers of |share at the one - share at the other|: the part of all the information that lies in another layer than
before. It is 0 if nothing has moved, 1 if everything has, does not ask how far, and does not depend on units or on
the total, which falls by orders of magnitude while a network consolidates.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cpframe.analysis.metric_curves import MetricCurve, layer_shares, shares_of
from cpframe.analysis.statistics import Estimate, estimate
from cpframe.records.model import Floats


@dataclass(frozen=True)
class Plasticity:
    """How much information was redistributed among the layers between two measurements.

    Attributes:
        first: the epoch of the one, epochs completed.
        last: of the other.
        moved: the information plasticity, from 0 to 1, as the mean over seeds.
        floor: what errors of measurement alone make of it on average, from 0 to 1; nan without standard errors. A
            `moved` that is not above it shows no redistribution.
        shift: by how many layers the centre of mass moved, positive towards the output; as the mean over seeds.
    """

    first: int
    last: int
    moved: Estimate
    floor: float
    shift: Estimate


def centre_of_mass(shares: Floats) -> Floats:
    """The mean index of the layers, weighted by their shares.

    Args:
        shares: (..., layer), adding up to 1 over layers, in forward order.

    Returns:
        (...,) in layers: from 1, all in the first, to the number of layers, all in the last; nan where shares are.
    """
    return np.asarray(shares @ np.arange(1, shares.shape[-1] + 1, dtype=np.float64))


def redistributed(before: Floats, after: Floats) -> Floats:
    """The information plasticity between shares: their total variation distance, see above.

    Args:
        before: (..., layer), adding up to 1 over layers.
        after: of the same shape.

    Returns:
        (...,) from 0 to 1; nan where shares are.
    """
    return np.asarray(np.abs(after - before).sum(axis=-1) / 2)


def expected_by_error(values: Floats, errors: Floats) -> Floats:
    """The total variation distance that two measurements of the same shares have on average, by their errors alone.

    With s = F / T and independent errors e of the layers' F, a share errs by the first-order rule
    ((1 - s)^2 e^2 + s^2 (sum of the other layers' e^2)) / T^2; differences are taken as normal, whose mean absolute
    value is sqrt(2 / pi) times their standard deviation.

    Args:
        values: (2, ..., layer) of the two measurements, not negative.
        errors: their standard errors, of the same shape.

    Returns:
        (...,) from 0 upwards; nan where a total is 0.
    """
    shares, squares = shares_of(values), errors**2
    others = squares.sum(axis=-1, keepdims=True) - squares
    total = values.sum(axis=-1, keepdims=True)
    variance = np.divide(
        (1 - shares) ** 2 * squares + shares**2 * others, total**2, out=np.full_like(values, np.nan), where=total != 0
    )
    return np.asarray(math.sqrt(2 / math.pi) * np.sqrt(variance.sum(axis=0)).sum(axis=-1) / 2)


def plasticity(curve: MetricCurve, first: float, last: float) -> Plasticity | None:
    """The information plasticity between two epochs of a training.

    Args:
        curve: a metric by layer, not negative, such as the Fisher trace.
        first: an epoch; the last measurement up to it counts, or the first one of all.
        last: a later epoch, likewise.

    Returns:
        None if the metric is not by layer, if there is one layer, or if both epochs have the same measurement.
    """
    if curve.by_seed.ndim != 3 or curve.by_seed.shape[2] < 2:
        return None
    rows = [max(0, int(np.searchsorted(curve.epoch, epoch, side="right")) - 1) for epoch in (first, last)]
    if rows[0] >= rows[1]:
        return None
    values = np.moveaxis(curve.by_seed[:, rows], 1, 0)  # (2, seed, layer)
    before, after = shares_of(values)
    floor = math.nan
    if curve.errors is not None:
        by_seed = expected_by_error(values, np.moveaxis(curve.errors[:, rows], 1, 0))
        floor = float(by_seed.mean())
    return Plasticity(
        first=int(curve.epoch[rows[0]]),
        last=int(curve.epoch[rows[1]]),
        moved=estimate(redistributed(before, after)),
        floor=floor,
        shift=estimate(centre_of_mass(after) - centre_of_mass(before)),
    )


def after_deficit(curve: MetricCurve) -> Plasticity | None:
    """The information plasticity from the end of the deficit to the end of the training; without one, of all of it."""
    return plasticity(curve, curve.offset, curve.epochs)


def centres(curve: MetricCurve) -> Floats:
    """(M,) the centre of mass of the mean over seeds at every measurement, in layers from 1.

    Raises:
        ValueError: if the metric is not by layer.
    """
    return centre_of_mass(layer_shares(curve))
