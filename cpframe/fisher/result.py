"""The result of a measurement: means over inputs with standard errors, per parameter and per layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpframe.api import Layer
from cpframe.fisher.cotangents import Estimator

__all__ = ["FisherTrace", "Floats", "summarise"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FisherTrace:
    """The trace of the Fisher information per layer and per parameter, in nats squared; arrays are float64.

    A standard error is that of the mean over inputs, from the spread over single inputs; nan for a single input.

    Attributes:
        layers: the names of the layers, (L,).
        mean: the trace of each layer, the mean over inputs, (L,).
        stderr: the standard error of `mean`, (L,).
        n: the number of inputs.
        parameters: the names of the parameters, (P,), as in ``model.named_parameters()``.
        parameter_mean: the trace of each parameter, (P,); 0 where the output does not depend on the parameter.
        parameter_stderr: the standard error of `parameter_mean`, (P,).
        estimator: the estimator that was used.
        rules: the method by which each parameter was measured, by parameter name: the rule for its torch function
            (``convolution`` ...), ``vmap`` or ``loop`` where no rule covers it, ``not reached`` where the output does
            not depend on it and its trace is therefore 0.
        scaled: the sum over the layer's parameters w of tr F_w ||w||^2, (L,). It does not change when a weight that a
            normalisation follows is rescaled, whereas tr F_w mixes sensitivity with the size of the weights.
        scaled_stderr: the standard error of `scaled`, (L,).
        share: each layer's share of the sum over all layers, (L,) in [0, 1]; nan where that sum is 0.
        share_stderr: the standard error of `share`, (L,), to first order; it accounts for the correlation of an
            input's values in different layers.
    """

    layers: tuple[str, ...]
    mean: Floats
    stderr: Floats
    n: int
    parameters: tuple[str, ...]
    parameter_mean: Floats
    parameter_stderr: Floats
    estimator: Estimator
    rules: Mapping[str, str]
    scaled: Floats
    scaled_stderr: Floats
    share: Floats
    share_stderr: Floats


def summarise(
    values: Floats,
    weights: Floats,
    names: tuple[str, ...],
    layers: tuple[Layer, ...],
    rules: Mapping[str, str],
    estimator: Estimator,
) -> FisherTrace:
    """Compute means and standard errors over inputs.

    Args:
        values: the squared gradient norms of single inputs, (n, P).
        weights: the squared norms of the parameters, (P,).
        names: the names of the parameters, (P,).
        layers: the groups of parameters.
        rules: the rules of the parameters that were reached, by name.
        estimator: the estimator that was used.
    """
    column = {name: index for index, name in enumerate(names)}
    member = np.zeros((len(names), len(layers)))
    for index, layer in enumerate(layers):
        member[[column[name] for name in layer.parameters], index] = 1
    by_layer, scaled = values @ member, (values * weights) @ member
    mean, total = by_layer.mean(axis=0), values.sum(axis=1).mean()
    with np.errstate(invalid="ignore"):  # 0 / 0 where no parameter was reached
        share = mean / total
        # Delta method for a ratio of means: the spread of each input's residual, value minus share times sum.
        share_stderr = _stderr(by_layer - share * values.sum(axis=1, keepdims=True)) / total
    return FisherTrace(
        layers=tuple(layer.name for layer in layers),
        mean=mean,
        stderr=_stderr(by_layer),
        n=len(values),
        parameters=names,
        parameter_mean=values.mean(axis=0),
        parameter_stderr=_stderr(values),
        estimator=estimator,
        rules={name: rules.get(name, "not reached") for name in names},
        scaled=scaled.mean(axis=0),
        scaled_stderr=_stderr(scaled),
        share=share,
        share_stderr=share_stderr,
    )


def _stderr(values: Floats) -> Floats:
    n = len(values)
    stderr: Floats = values.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full(values.shape[1], np.nan)
    return stderr
