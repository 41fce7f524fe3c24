"""The trace of the Hessian of the mean loss per layer, estimated with random signs.

With independent random signs v, E[v_l . (H v)_l] = tr H_ll, the trace of the layer's own block (Hutchinson, "A
stochastic estimator of the trace of the influence matrix for Laplacian smoothing splines", 1990); the signs of other
layers contribute 0 on average. H v is the gradient of v . gradient (Pearlmutter, "Fast exact multiplication by the
Hessian", 1994), so H is never formed.
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
from cpframe.fisher.loss_landscape import Loss, LossLandscape, enable_grad_without_tf32, loss_landscape

__all__ = ["HessianTrace", "curvatures", "hessian_trace", "random_signs"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class HessianTrace:
    """The trace of the Hessian of the mean loss per layer, in units of the loss; arrays are float64.

    Attributes:
        layers: the names of the layers, (L,).
        mean: the trace of each layer, the mean over draws, (L,). Unlike the Fisher information it can be negative away
            from a minimum.
        stderr: the standard error of `mean` from the spread of the draws, (L,); it does not cover the choice of inputs.
        n: the number of inputs.
        draws: the number of draws of random signs.
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
    """Estimate the trace of the Hessian of the mean loss with respect to the weights of each layer, without bias.

    A draw costs a forward pass, a backward pass, and a second backward pass through the first, over all inputs. The
    model is unchanged afterwards: parameters, buffers, gradients, hooks, training mode, and torch's random state.

    Args:
        model: the network; its output for an example must not depend on other examples, so batch normalisation and
            dropout must be in eval mode.
        inputs: the inputs, (N, ...), on the model's device.
        targets: the targets, (N, ...), in the form that `loss` expects.
        loss: (outputs, targets) -> the loss of each example, (N,), twice differentiable.
        layers: groups of parameters, each parameter in exactly one; by default those of `layers_of`.
        rng: the random generator, by default of seed 0; used on the host, so the device and `batch` do not change the
            draws.
        draws: the number of draws of random signs, at least 2.
        batch: the number of inputs per pass, at least 1; their activations must fit into memory.

    Returns:
        The mean over draws with its standard error, per layer; exactly 0 where the loss does not depend on the layer.

    Raises:
        ValueError: see `loss_landscape`; also when the loss is not finite or not one number per example, or `draws` or
            `batch` is out of range.
        RuntimeError: torch's own, when an operation cannot be differentiated twice.
    """
    if draws < 2:
        raise ValueError(f"draws must be at least 2, not {draws}: the standard error comes from their spread")
    if batch < 1:
        raise ValueError(f"batch must be at least 1, not {batch}")
    landscape = loss_landscape(model, inputs, targets, loss, layers)
    generator = np.random.default_rng(0) if rng is None else rng
    n = len(inputs)
    values = np.zeros((draws, len(landscape.layers)))
    with enable_grad_without_tf32():
        for draw in range(draws):
            signs = random_signs(landscape, generator)
            for start in range(0, n, batch):
                part = slice(start, min(start + batch, n))
                values[draw] += curvatures(landscape, part, signs) * ((part.stop - part.start) / n)
    return HessianTrace(
        layers=tuple(layer.name for layer in landscape.layers),
        mean=values.mean(axis=0),
        stderr=values.std(axis=0, ddof=1) / np.sqrt(draws),
        n=n,
        draws=draws,
    )


def random_signs(landscape: LossLandscape, rng: Generator) -> list[Tensor]:
    """Return a random -1 or 1 for each weight: one tensor per parameter, of its shape, type and device."""
    return [
        torch.from_numpy(rng.integers(0, 2, tuple(weight.shape), dtype=np.int8) * 2 - 1).to(weight)
        for weight in landscape.weights().values()
    ]


def curvatures(landscape: LossLandscape, examples: slice | Tensor, signs: Sequence[Tensor]) -> Floats:
    """Return v_l . (H v)_l for each layer, (L,), where H is the Hessian of the mean loss of `examples`."""
    weights = {name: weight.requires_grad_() for name, weight in landscape.weights().items()}
    inputs = tuple(weights.values())
    first = _gradients(landscape.mean_loss(weights, examples), inputs, create_graph=True)
    along = torch.stack([(gradient * v).sum() for gradient, v in zip(first, signs, strict=True)]).sum()
    second = _gradients(along, inputs, create_graph=False)
    return landscape.sum_by_layer([(hv * v).sum(dtype=torch.float64) for hv, v in zip(second, signs, strict=True)])


def _gradients(value: Tensor, inputs: tuple[Tensor, ...], *, create_graph: bool) -> tuple[Tensor, ...]:
    """Return the gradients of a scalar; zeros for inputs that it does not depend on."""
    if not value.requires_grad:
        return tuple(torch.zeros_like(tensor) for tensor in inputs)
    return torch.autograd.grad(value, inputs, create_graph=create_graph, materialize_grads=True)
