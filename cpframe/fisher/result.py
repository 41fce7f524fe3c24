"""What a measurement comes to: means over inputs with standard errors, by parameter and by layer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cpframe.api import Layer
from cpframe.fisher.cotangents import Estimator

__all__ = ["FisherTrace", "Floats", "summarised"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FisherTrace:
    """The trace of the Fisher information by layer and by parameter, in nats squared; arrays are float64.

    Standard errors are those of the mean over inputs, from the spread of the values of single inputs; nan for one.

    Attributes:
        layers: names, (L,).
        mean: (L,) over inputs.
        stderr: (L,) of `mean`.
        n: number of inputs.
        parameters: names, (P,), as in ``model.named_parameters()``.
        parameter_mean: (P,) over inputs; 0 where the output does not depend on the parameter.
        parameter_stderr: (P,) of `parameter_mean`.
        estimator: which was used.
        rules: how each parameter was measured, by its name: the rule for its function (``convolution`` ...),
            ``vmap`` or ``loop`` where none covers it, ``not reached`` where the output does not depend on it and the
            trace is therefore 0.
        scaled: (L,) sum over the layer's parameters w of tr F_w ||w||^2, which does not change when a weight that a
            normalisation follows is scaled: tr F_w alone mixes sensitivity with the size of the weights.
        scaled_stderr: (L,) of `scaled`.
        share: (L,) of the sum over all layers, from 0 to 1; nan where that is 0.
        share_stderr: (L,) of `share`, to first order: the parts of an input's values are correlated.
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


def summarised(
    values: Floats,
    weights: Floats,
    names: tuple[str, ...],
    layers: tuple[Layer, ...],
    rules: Mapping[str, str],
    estimator: Estimator,
) -> FisherTrace:
    """Take means and standard errors over inputs.

    Args:
        values: (n, P) squared norms of the gradients of single inputs.
        weights: (P,) squared norms of the parameters.
        names: of the parameters, (P,).
        layers: groups of these.
        rules: of the parameters that were reached.
        estimator: for the record.
    """
    column = {name: index for index, name in enumerate(names)}
    member = np.zeros((len(names), len(layers)))
    for index, layer in enumerate(layers):
        member[[column[name] for name in layer.parameters], index] = 1
    by_layer, scaled = values @ member, (values * weights) @ member
    mean, total = by_layer.mean(axis=0), values.sum(axis=1).mean()
    with np.errstate(invalid="ignore"):  # 0 / 0 where nothing was reached
        share = mean / total
        # The delta method for a ratio of means: the spread of what is left of each input's value.
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
