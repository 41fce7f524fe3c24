"""The trace of the Hessian of the mean loss, layer by layer, by random signs.

With independent random signs v, E[v_l . (H v)_l] = tr H_ll, the trace of the layer's own block (Hutchinson, "A
stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines", 1990): what the signs of
other layers bring in is 0 on average. H v is the gradient of v . gradient (Pearlmutter, "Fast exact multiplication by
the Hessian", 1994), so H is never formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from cpframe.api import Layer
from cpframe.fisher.loss_landscape import Landscape, Loss, differentiable, landscape

__all__ = ["HessianTrace", "curvatures", "hessian_trace", "random_signs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HessianTrace:
    """The trace of the Hessian of the mean loss by layer, in units of the loss; arrays are float64.

    Attributes:
        layers: names, (L,).
        mean: (L,) over draws; unlike that of the Fisher information, the trace may be below 0 away from a minimum.
        stderr: (L,) of `mean`, from the spread of the draws: the inputs are taken as they are.
        n: number of inputs.
        draws: of random signs.
    """

    layers: tuple[str, ...]
    mean: Floats
    stderr: Floats
    n: int
    draws: int


def hessian_trace(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    loss: Loss,
    *,
    layers: Sequence[Layer] | None = None,
    rng: Generator | None = None,
    draws: int = 32,
    batch: int = 128,
) -> HessianTrace:
    """Estimate the trace of the Hessian of the mean loss by the weights of every layer, without bias.

    A draw costs a forward and two backward passes over all inputs, one of them through the other. The model is left
    as it was: parameters, buffers, gradients, hooks, training mode, and torch's random state.

    Args:
        model: each example must be treated on its own, so batch normalisation and dropout must be in eval mode.
        inputs: (N, ...), on the model's device.
        targets: (N, ...), whatever `loss` needs.
        loss: (outputs, targets) -> the loss of every example, (N,), twice differentiable.
        layers: groups of parameters, each parameter in exactly one; by default those of `layers_of`.
        rng: by default a generator of seed 0; drawn from on the host, so that neither the device nor `batch` has a
            say in the draws.
        draws: at least 2.
        batch: inputs at a time, at least 1: what is in memory are the activations of so many.

    Returns:
        Mean over draws, and its standard error, by layer; exactly 0 for parameters without influence on the loss.

    Raises:
        ValueError: where a module is in train mode whose output then depends on the batch or on chance, the model has
            no parameters, there are no inputs or not as many targets, the loss is not finite or not one number an
            example, `draws` is below 2 or `batch` below 1, or `layers` does not have every parameter exactly once.
        RuntimeError: torch's own, for an operation that cannot be differentiated twice.
    """
    if draws < 2:
        raise ValueError(f"draws is {draws}, and must be at least 2: the standard error is taken from their spread")
    if batch < 1:
        raise ValueError(f"batch is {batch}, and must be at least 1")
    scape = landscape(model, inputs, targets, loss, layers)
    generator = np.random.default_rng(0) if rng is None else rng
    n = len(inputs)
    values = np.zeros((draws, len(scape.layers)))
    with differentiable():
        for draw in range(draws):
            signs = random_signs(scape, generator)
            for start in range(0, n, batch):
                part = slice(start, min(start + batch, n))
                values[draw] += curvatures(scape, part, signs) * ((part.stop - part.start) / n)
    return HessianTrace(
        layers=tuple(layer.name for layer in scape.layers),
        mean=values.mean(axis=0),
        stderr=values.std(axis=0, ddof=1) / np.sqrt(draws),
        n=n,
        draws=draws,
    )


def random_signs(scape: Landscape, rng: Generator) -> list[Tensor]:
    """Return a -1 or 1 for every weight, as its parameter is shaped and typed, in order of the parameters."""
    return [
        torch.from_numpy(rng.integers(0, 2, tuple(weight.shape), dtype=np.int8) * 2 - 1).to(weight)
        for weight in scape.weights().values()
    ]


def curvatures(scape: Landscape, examples: slice | Tensor, signs: Sequence[Tensor]) -> Floats:
    """Return v_l . (H v)_l for every layer, (L,), where H is the Hessian of the mean loss of `examples`."""
    weights = {name: weight.requires_grad_() for name, weight in scape.weights().items()}
    inputs = tuple(weights.values())
    # What is not reached has gradients of 0 instead of none.
    first = _gradients(scape.mean_loss(weights, examples), inputs, again=True)
    along = torch.stack([(gradient * v).sum() for gradient, v in zip(first, signs, strict=True)]).sum()
    second = _gradients(along, inputs, again=False)
    return scape.by_layer([(hv * v).sum(dtype=torch.float64) for hv, v in zip(second, signs, strict=True)])


def _gradients(value: Tensor, inputs: tuple[Tensor, ...], *, again: bool) -> tuple[Tensor, ...]:
    if not value.requires_grad:  # no weight has a say
        return tuple(torch.zeros_like(tensor) for tensor in inputs)
    return torch.autograd.grad(value, inputs, create_graph=again, materialize_grads=True)
