"""The distribution of information over layers, and how much of it is redistributed during training.

*Information plasticity* is the paper's term for the freedom to redistribute information among layers. The paper gives
no formula; the one used here is our own: the total variation distance between the layers' shares at two epochs, half
the sum over layers of |share at the one - share at the other|. It is the fraction of the total information that is in
another layer than before: 0 if nothing has moved, 1 if everything has. It does not depend on the distance between the
layers, on units, or on the total, which falls by orders of magnitude while a network consolidates.
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
    """The information redistributed among the layers between two measurements.

    Attributes:
        first: the epoch of the first measurement, in epochs completed.
        last: the epoch of the last measurement.
        redistributed: the information plasticity, from 0 to 1, as the mean over seeds.
        measurement_error: the plasticity that measurement errors alone produce on average, from 0 to 1; nan without
            standard errors. A value of `redistributed` that is not above it shows no redistribution.
        mean_layer_change: the change of the mean layer in layers, positive towards the output; the mean over seeds.
    """

    first: int
    last: int
    redistributed: Estimate
    measurement_error: float
    mean_layer_change: Estimate


def mean_layer(shares: Floats) -> Floats:
    """Return the mean index of the layers, weighted by their shares.

    Args:
        shares: the shares, adding up to 1 over layers in forward order, shape (..., layer).

    Returns:
        The mean layer, shape (...,), from 1 (all in the first layer) to the number of layers (all in the last); nan
        where the shares are nan.
    """
    return np.asarray(shares @ np.arange(1, shares.shape[-1] + 1, dtype=np.float64))


def total_variation(before: Floats, after: Floats) -> Floats:
    """Return the total variation distance between two sets of shares: the information plasticity.

    Args:
        before: the shares, adding up to 1 over layers, shape (..., layer).
        after: the shares at the later epoch, of the same shape.

    Returns:
        The distance, shape (...,), from 0 to 1; nan where the shares are nan.
    """
    return np.asarray(np.abs(after - before).sum(axis=-1) / 2)


def expected_by_error(values: Floats, errors: Floats) -> Floats:
    """Return the expected total variation distance between two measurements of equal shares, given their errors.

    With s = F / T and independent errors e of the F of the layers, the variance of a share is to first order
    ((1 - s)^2 e^2 + s^2 (sum of the other layers' e^2)) / T^2. The differences are taken as normal; the mean absolute
    value of a normal variable is sqrt(2 / pi) times its standard deviation.

    Args:
        values: the non-negative values of the two measurements, shape (2, ..., layer).
        errors: their standard errors, of the same shape.

    Returns:
        The expected distance, shape (...,), at least 0; nan where a total is 0.
    """
    shares, squares = shares_of(values), errors**2
    others = squares.sum(axis=-1, keepdims=True) - squares
    total = values.sum(axis=-1, keepdims=True)
    variance = np.divide(
        (1 - shares) ** 2 * squares + shares**2 * others, total**2, out=np.full_like(values, np.nan), where=total != 0
    )
    return np.asarray(math.sqrt(2 / math.pi) * np.sqrt(variance.sum(axis=0)).sum(axis=-1) / 2)


def plasticity(curve: MetricCurve, first: float, last: float) -> Plasticity | None:
    """Compute the information plasticity between two epochs of a training.

    Args:
        curve: a non-negative metric by layer, such as the Fisher trace.
        first: an epoch; the last measurement up to it is used, or the first measurement of all.
        last: a later epoch, for which a measurement is chosen in the same way.

    Returns:
        The plasticity; None if the metric is not by layer, if there is one layer, or if both epochs have the same
        measurement.
    """
    if curve.by_seed.ndim != 3 or curve.by_seed.shape[2] < 2:
        return None
    rows = [max(0, int(np.searchsorted(curve.epoch, epoch, side="right")) - 1) for epoch in (first, last)]
    if rows[0] >= rows[1]:
        return None
    values = np.moveaxis(curve.by_seed[:, rows], 1, 0)  # (2, seed, layer)
    before, after = shares_of(values)
    measurement_error = math.nan
    if curve.errors is not None:
        by_seed = expected_by_error(values, np.moveaxis(curve.errors[:, rows], 1, 0))
        measurement_error = float(by_seed.mean())
    return Plasticity(
        first=int(curve.epoch[rows[0]]),
        last=int(curve.epoch[rows[1]]),
        redistributed=estimate(total_variation(before, after)),
        measurement_error=measurement_error,
        mean_layer_change=estimate(mean_layer(after) - mean_layer(before)),
    )


def plasticity_after_deficit(curve: MetricCurve) -> Plasticity | None:
    """Compute the plasticity from the end of the deficit (without one: from the start) to the end of the training."""
    return plasticity(curve, curve.offset, curve.epochs)


def mean_layers(curve: MetricCurve) -> Floats:
    """Return the mean layer of the mean over seeds at every measurement, shape (M,), in layers from 1.

    Raises:
        ValueError: if the metric has one value per network.
    """
    return mean_layer(layer_shares(curve))
