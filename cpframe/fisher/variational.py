"""The trace of the Fisher information, estimated by the noise that the weights of a layer tolerate.

The second estimator of Achille, Rovere, Soatto, "Critical Learning Periods in Deep Networks" (ICLR 2019). Each layer
has one variance s_l^2. The variances minimise

    E_{w ~ N(w0, S)} [L(w)] - (beta / 2) log |S|,        log |S| = sum over layers of d_l log s_l^2,

with w0 the current weights, d_l the number of weights of layer l, and L the mean loss. By Stein's identity the
derivative with respect to log s_l^2 is (s_l^2 T_l - beta d_l) / 2, where T_l is the trace of the layer's block of the
Hessian of L, averaged over the noise. At the minimum, therefore, T_l = beta d_l / s_l^2. (The paper writes
beta log |S|; the factor 1/2 removes a 2 from the result and makes N(w0, S) the best approximation to exp(-L / beta)
among these Gaussians.)

If L is the divergence KL(p_w0 || p_w) of the predictions, its Hessian at w0 is the Fisher information itself, and T_l
tends to tr F of the layer as beta tends to 0. The noise increases the loss by about beta / 2 nats per weight, so a
larger beta probes a larger neighbourhood of w0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from cpframe.api import Layer
from cpframe.fisher.hessian import curvatures, random_signs
from cpframe.fisher.loss_landscape import (
    Loss,
    LossLandscape,
    compute_logits,
    divergence,
    enable_grad_without_tf32,
    loss_landscape,
)

__all__ = ["VariationalTrace", "variational_trace"]

_LOSS_INCREASE = 1e-11  # nats, by all the noise together, unless beta is given
_INITIAL_DRAWS = 4  # draws of random signs for the initial guess
_MIN_TRACE = 1e-6  # of a layer, per weight, relative to the network's; bounds the noise where there is no curvature
_MAX_STEP = 4.0  # the largest factor by which a trace changes in one step

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VariationalTrace:
    """The trace of the Fisher information per layer, averaged over noise on the weights; arrays are float64.

    In nats squared where the loss is the divergence; else the trace of the loss's Hessian, in units of the loss.

    Attributes:
        layers: the names of the layers, (L,).
        mean: the trace of each layer at noise `sigma`, the mean over draws of noise and inputs, (L,).
        stderr: the standard error of `mean` from the spread of the draws, (L,). The draws are independent of one
            another and of `sigma`. It covers the noise and the choice among the given inputs, not how well these
            represent others.
        sigma: the standard deviation of the noise, (L,), in units of the weights; infinite where the loss never
            depended on the layer, so that any noise is tolerated.
        n: the number of inputs.
        draws: the number of draws that `mean` averages over.
        beta: the value that was given or chosen; `mean` is close to beta d_l / sigma_l^2 once the search for sigma has
            converged.
    """

    layers: tuple[str, ...]
    mean: Floats
    stderr: Floats
    sigma: Floats
    n: int
    draws: int
    beta: float


def variational_trace(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None = None,
    loss: Loss | None = None,
    *,
    layers: Sequence[Layer] | None = None,
    rng: Generator | None = None,
    beta: float | None = None,
    steps: int = 100,
    draws: int = 100,
    batch: int = 128,
) -> VariationalTrace:
    """Find the variances that minimise the objective of this module, then measure the trace under that noise.

    A step or draw costs two forward and backward passes over `batch` inputs. The model is unchanged afterwards:
    parameters, buffers, gradients, hooks, training mode, and torch's random state.

    Args:
        model: the network, with batch normalisation and dropout in eval mode, because its output for an example must
            not depend on other examples; without `loss` a classifier whose outputs are logits (N, K), K >= 2.
        inputs: the inputs, (N, ...), on the model's device.
        targets: the targets, (N, ...), in the form that `loss` expects; ignored without `loss`.
        loss: (outputs, targets) -> the loss of each example, (N,), differentiable; by default the divergence
            KL(p_w0 || p_w) of the predictions. The paper uses the loss on the labels, whose Hessian is close to the
            Fisher information at a minimum and can be negative elsewhere.
        layers: groups of parameters, each parameter in exactly one; by default those of `layers_of`.
        rng: the random generator, by default of seed 0; used on the host, so the device does not change the draws.
        beta: the weight of the entropy term, above 0; by default 2e-11 / (number of weights). See `default_beta`.
        steps: the number of steps of the search for the variances, at least 1.
        draws: the number of draws that measure the trace, at least 2.
        batch: the number of inputs per step or draw, at least 1, chosen at random.

    Raises:
        ValueError: see `loss_landscape`; also when the loss or the outputs are not finite or have the wrong shape, or
            `beta`, `steps`, `draws` or `batch` is out of range.
    """
    _check(targets, loss, beta, steps, draws, batch)
    generator = np.random.default_rng(0) if rng is None else rng
    with enable_grad_without_tf32():
        landscape = _landscape(model, inputs, targets, loss, layers, batch)
        sizes = _layer_sizes(landscape)
        weight = default_beta(sizes) if beta is None else float(beta)
        curvature, reached = _search(landscape, sizes, weight, steps, batch, generator)
        sigma = np.sqrt(weight * sizes / curvature)
        values = np.stack([_estimate(landscape, sigma, batch, generator) for _ in range(draws)])
    return _summarise(landscape, values, sigma, reached, weight)


def default_beta(sizes: Floats) -> float:
    """Return the beta at which all the noise together increases the loss by 1e-11 nats.

    A smaller beta gives a more local trace, because ReLUs within reach of the noise change it in proportion to sigma.
    A beta that is too small leaves differences below the rounding errors of float32; this one stays well above them.
    """
    return 2 * _LOSS_INCREASE / float(sizes.sum())


def _check(targets: Tensor | None, loss: Loss | None, beta: float | None, steps: int, draws: int, batch: int) -> None:
    """Raise ValueError where an argument is out of range."""
    if beta is not None and not 0 < beta < np.inf:
        raise ValueError(f"beta must be a finite number above 0, not {beta}")
    for name, value, least in (("steps", steps, 1), ("draws", draws, 2), ("batch", batch, 1)):
        if value < least:
            raise ValueError(f"{name} must be at least {least}, not {value}")
    if loss is not None and targets is None:
        raise ValueError("a loss needs targets; give both, or neither for the divergence of the predictions")


def _landscape(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None,
    loss: Loss | None,
    layers: Sequence[Layer] | None,
    batch: int,
) -> LossLandscape:
    if loss is not None and targets is not None:
        return loss_landscape(model, inputs, targets, loss, layers)
    # The logits take the place of the targets once everything else has been checked.
    landscape = loss_landscape(model, inputs, inputs, divergence, layers)
    return replace(landscape, targets=compute_logits(model, inputs, batch))


def _layer_sizes(landscape: LossLandscape) -> Floats:
    """Return the number of weights of each layer, (L,)."""
    weights = landscape.weights()
    return np.array(
        [sum(weights[name].numel() for name in layer.parameters) for layer in landscape.layers], dtype=float
    )


def _search(
    landscape: LossLandscape, sizes: Floats, beta: float, steps: int, batch: int, rng: Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """Search for the variances; return beta d / sigma^2 per layer, and whether the loss depends on the layer.

    A step adds -a (sigma^2 T / (beta d) - 1) to log sigma^2: it follows the gradient, in units of its constant part,
    with decreasing step sizes (Robbins, Monro, "A stochastic approximation method", 1951). To first order the result
    is a running mean of the estimates T. With a = 2 / (k + 2) an estimate has a weight proportional to its step k:
    later ones, made at better variances, count more, and the initial guess by `curvatures` counts hardly at all.
    """
    guess = np.mean(
        [
            curvatures(landscape, _random_batch(landscape, batch, rng), random_signs(landscape, rng))
            for _ in range(_INITIAL_DRAWS)
        ],
        axis=0,
    )
    curvature = _bound_below(guess, sizes)
    reached = np.zeros(len(sizes), dtype=bool)
    for k in range(1, steps + 1):
        estimate = _estimate(landscape, np.sqrt(beta * sizes / curvature), batch, rng)
        reached |= estimate != 0
        change = 1 + 2 / (k + 2) * (estimate / curvature - 1)
        curvature = _bound_below(curvature * np.clip(change, 1 / _MAX_STEP, _MAX_STEP), sizes)
    return curvature, reached


def _summarise(
    landscape: LossLandscape, values: Floats, sigma: Floats, reached: NDArray[np.bool_], beta: float
) -> VariationalTrace:
    """Summarise the estimates of all draws, (draws, L)."""
    draws = len(values)
    return VariationalTrace(
        layers=tuple(layer.name for layer in landscape.layers),
        mean=values.mean(axis=0),
        stderr=values.std(axis=0, ddof=1) / np.sqrt(draws),
        sigma=np.where(reached | (values != 0).any(axis=0), sigma, np.inf),
        n=len(landscape.inputs),
        draws=draws,
        beta=beta,
    )


def _bound_below(curvature: Floats, sizes: Floats) -> Floats:
    """Return the curvature with a positive lower bound: without curvature the noise would grow without limit."""
    total = curvature.clip(min=0).sum()
    if total == 0:
        return sizes
    bounded: Floats = np.maximum(curvature, _MIN_TRACE * total * sizes / sizes.sum())
    return bounded


def _estimate(landscape: LossLandscape, sigma: Floats, batch: int, rng: Generator) -> Floats:
    """Return an unbiased estimate of T_l, (L,): e_l . (g_l(w0 + sigma e) - g_l(w0 - sigma e)) / (2 sigma_l).

    All inputs of the batch have the same noise e. The difference cancels the odd terms in e, so that of a quadratic
    loss only the quadratic form of the noise remains.
    """
    examples = _random_batch(landscape, batch, rng)
    weights = landscape.weights()
    scale = {name: float(s) for layer, s in zip(landscape.layers, sigma, strict=True) for name in layer.parameters}
    noise = {name: _standard_normal(weight, rng) for name, weight in weights.items()}
    plus, minus = (
        _slopes(landscape, {name: weights[name] + sign * scale[name] * e for name, e in noise.items()}, noise, examples)
        for sign in (1, -1)
    )
    estimate: Floats = (plus - minus) / (2 * sigma)
    return estimate


def _slopes(
    landscape: LossLandscape, weights: Mapping[str, Tensor], directions: Mapping[str, Tensor], examples: Tensor
) -> Floats:
    """Return e_l . g_l for each layer, (L,), with g the gradient of the mean loss at `weights` and e the directions."""
    leaves = {name: weight.requires_grad_() for name, weight in weights.items()}
    mean = landscape.mean_loss(leaves, examples)
    if not mean.requires_grad:  # the loss does not depend on the weights
        return np.zeros(len(landscape.layers))
    gradients = torch.autograd.grad(mean, tuple(leaves.values()), materialize_grads=True)
    return landscape.sum_by_layer(
        [
            (gradient * directions[name]).sum(dtype=torch.float64)
            for name, gradient in zip(leaves, gradients, strict=True)
        ]
    )


def _random_batch(landscape: LossLandscape, batch: int, rng: Generator) -> Tensor:
    """Return the positions of `batch` random inputs without repetition, or of all inputs if there are no more."""
    n = len(landscape.inputs)
    positions = np.arange(n) if batch >= n else np.sort(rng.choice(n, batch, replace=False))
    return torch.from_numpy(positions).to(landscape.inputs.device)


def _standard_normal(weight: Tensor, rng: Generator) -> Tensor:
    """Return standard normal numbers of a parameter's shape, type and device, drawn on the host."""
    dtype = np.float64 if weight.dtype == torch.float64 else np.float32
    return torch.from_numpy(rng.standard_normal(tuple(weight.shape), dtype=dtype)).to(weight)
