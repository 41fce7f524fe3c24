"""The trace of the Fisher information from how much noise the weights of a layer bear.

The second estimator of Achille, Rovere, Soatto, "Critical Learning Periods in Deep Networks" (ICLR 2019). Each layer
has one variance s_l^2, and these minimise

    E_{w ~ N(w0, S)} [L(w)] - (beta / 2) log |S|,        log |S| = sum over layers of d_l log s_l^2,

with w0 the weights as they are, d_l the number of those of layer l, and L the mean loss. By Stein's identity the
derivative by log s_l^2 is (s_l^2 T_l - beta d_l) / 2, where T_l is the trace of the layer's block of the Hessian of L,
averaged over the noise. So at the minimum T_l = beta d_l / s_l^2. (The paper writes beta log |S|; with the
half no 2 is left in the result, and N(w0, S) is the best approximation to exp(-L / beta) among these Gaussians.)

If L is the divergence KL(p_w0 || p_w) of the predictions, its Hessian at w0 is the Fisher information itself, and T_l
tends to tr F of the layer as beta goes to 0. A larger beta looks farther: the noise costs about beta / 2 nats a weight.
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
from cpframe.fisher.loss_landscape import Landscape, Loss, differentiable, divergence, landscape, logits_of

__all__ = ["VariationalTrace", "variational_trace"]

_COST = 1e-11  # nats that all the noise adds to the loss, unless beta is given
_PILOTS = 4  # draws of random signs, for a first guess
_FLOOR = 1e-6  # of the trace per weight, relative to the network's: bounds the noise where there is no curvature
_JUMP = 4.0  # the largest change of a trace in one step, up or down

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class VariationalTrace:
    """The trace of the Fisher information by layer as noise on the weights feels it; arrays are float64.

    In nats squared where the loss is the divergence; else it is the trace of the loss's Hessian, in units of the loss.

    Attributes:
        layers: names, (L,).
        mean: (L,), over the draws of noise and their batches of inputs, at the scale `sigma`.
        stderr: (L,) of `mean`, from the spread of the draws, which are independent of one another and of `sigma`; it
            covers noise and choice of inputs among those given, not how these represent others.
        sigma: (L,) standard deviations of the noise, in units of the weights; infinite where no weight of a layer
            ever had an influence on the loss, so that no noise is too much.
        n: number of inputs.
        draws: that `mean` is taken over.
        beta: as given or chosen; `mean` is about beta d_l / sigma_l^2 where the search for sigma has settled.
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
    """Find the noise that minimises the objective above, then measure the trace under it.

    First the variances are optimised alone, by steps on their logarithms that become smaller and smaller (Robbins,
    Monro, "A stochastic approximation method", 1951), from a guess by `curvatures`. Then they are kept, and the trace
    is averaged over `draws` new ones. One step or draw takes two forward and backward passes over a batch, at w0 plus
    and minus one and the same noise: what is odd in it cancels, so that of a quadratic loss only the quadratic form of
    the noise is left. All inputs of a batch see the same noise.

    The model is left as it was: parameters, buffers, gradients, hooks, training mode, and torch's random state.

    Args:
        model: each example must be treated on its own, so batch normalisation and dropout must be in eval mode;
            without `loss` a classifier whose outputs are logits (N, K), K >= 2.
        inputs: (N, ...), on the model's device.
        targets: (N, ...), whatever `loss` needs; without `loss` not looked at.
        loss: (outputs, targets) -> the loss of every example, (N,), differentiable; by default the divergence
            KL(p_w0 || p_w) of the predictions. The paper takes that of the labels: its Hessian comes close to the
            Fisher information at a minimum, and can be negative elsewhere.
        layers: groups of parameters, each parameter in exactly one; by default those of `layers_of`.
        rng: by default a generator of seed 0; drawn from on the host, so that the device has no say in the draws.
        beta: above 0; the noise costs beta / 2 for each weight, so that a layer that matters little bears much (see
            `sigma`). The larger, the farther it looks: where ReLUs bend within reach, the trace changes in proportion
            to sigma. Too small, and differences drown in rounding. By default 2e-11 / (number of weights), at which
            all the noise costs 1e-11 nats: close to the local trace, and well above the rounding of float32.
        steps: of the search for the variances, at least 1.
        draws: to measure the trace by, at least 2.
        batch: inputs a step or draw, at least 1, taken at random; all of them where there are no more.

    Returns:
        The trace and its standard error by layer, and the noise. Exactly 0 for layers without influence on the loss.

    Raises:
        ValueError: where a module is in train mode whose output then depends on the batch or on chance, the model has
            no parameters, there are no inputs or not as many targets, the loss or the outputs are not finite or of the
            wrong shape, `beta`, `steps`, `draws` or `batch` is out of its range, or `layers` does not have every
            parameter exactly once.
    """
    if beta is not None and not 0 < beta < np.inf:
        raise ValueError(f"beta is {beta}, and must be a finite number above 0")
    for name, value, least in (("steps", steps, 1), ("draws", draws, 2), ("batch", batch, 1)):
        if value < least:
            raise ValueError(f"{name} is {value}, and must be at least {least}")
    if loss is not None and targets is None:
        raise ValueError("a loss needs targets: give both, or neither for the divergence of the predictions")
    generator = np.random.default_rng(0) if rng is None else rng
    with differentiable():
        scape = _landscape(model, inputs, targets, loss, layers, batch)
        sizes = _sizes(scape)
        chosen = 2 * _COST / float(sizes.sum()) if beta is None else float(beta)
        curvature, reached = _searched(scape, sizes, chosen, steps, batch, generator)
        sigma = np.sqrt(chosen * sizes / curvature)
        values = np.stack([_pair(scape, sigma, batch, generator) for _ in range(draws)])
    reached |= (values != 0).any(axis=0)
    return VariationalTrace(
        layers=tuple(layer.name for layer in scape.layers),
        mean=values.mean(axis=0),
        stderr=values.std(axis=0, ddof=1) / np.sqrt(draws),
        sigma=np.where(reached, sigma, np.inf),
        n=len(inputs),
        draws=draws,
        beta=chosen,
    )


def _landscape(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor | None,
    loss: Loss | None,
    layers: Sequence[Layer] | None,
    batch: int,
) -> Landscape:
    if loss is not None and targets is not None:
        return landscape(model, inputs, targets, loss, layers)
    # The inputs stand in until all is checked that the logits need.
    scape = landscape(model, inputs, inputs, divergence, layers)
    return replace(scape, targets=logits_of(model, inputs, batch))


def _sizes(scape: Landscape) -> Floats:
    """Return the number of weights of every layer."""
    weights = scape.weights()
    return np.array([sum(weights[name].numel() for name in layer.parameters) for layer in scape.layers], dtype=float)


def _searched(
    scape: Landscape, sizes: Floats, beta: float, steps: int, batch: int, rng: Generator
) -> tuple[Floats, NDArray[np.bool_]]:
    """Return beta d / sigma^2 by layer after the search, and which layers had an influence on the loss.

    A step adds -a (sigma^2 T / (beta d) - 1) to log sigma^2: against the gradient, in units of its constant part. To
    first order that is a running mean of the estimates T; with a = 2 / (k + 2) later ones, taken at better sigmas, and
    in the end all past ones count in proportion to k, and the guess hardly at all.
    """
    guess = np.mean(
        [curvatures(scape, _some(scape, batch, rng), random_signs(scape, rng)) for _ in range(_PILOTS)], axis=0
    )
    curvature = _floored(guess, sizes)
    reached = np.zeros(len(sizes), dtype=bool)
    for k in range(1, steps + 1):
        measured = _pair(scape, np.sqrt(beta * sizes / curvature), batch, rng)
        reached |= measured != 0
        change = 1 + 2 / (k + 2) * (measured / curvature - 1)
        curvature = _floored(curvature * np.clip(change, 1 / _JUMP, _JUMP), sizes)
    return curvature, reached


def _floored(curvature: Floats, sizes: Floats) -> Floats:
    """Return it above 0: where a layer has (almost) none, noise could grow without bound."""
    total = curvature.clip(min=0).sum()
    if total == 0:
        return sizes
    floored: Floats = np.maximum(curvature, _FLOOR * total * sizes / sizes.sum())
    return floored


def _pair(scape: Landscape, sigma: Floats, batch: int, rng: Generator) -> Floats:
    """Return an unbiased estimate of T_l, (L,): e_l . (g_l(w0 + sigma e) - g_l(w0 - sigma e)) / (2 sigma_l)."""
    examples = _some(scape, batch, rng)
    own = scape.weights()
    scale = {name: float(s) for layer, s in zip(scape.layers, sigma, strict=True) for name in layer.parameters}
    noise = {name: _normals(weight, rng) for name, weight in own.items()}
    plus, minus = (
        _slopes(scape, {name: own[name] + sign * scale[name] * e for name, e in noise.items()}, noise, examples)
        for sign in (1, -1)
    )
    slopes: Floats = (plus - minus) / (2 * sigma)
    return slopes


def _slopes(
    scape: Landscape, weights: Mapping[str, Tensor], directions: Mapping[str, Tensor], examples: Tensor
) -> Floats:
    """Return e_l . g_l, (L,), for the gradient g of the mean loss at `weights` and the directions e."""
    leaves = {name: weight.requires_grad_() for name, weight in weights.items()}
    mean = scape.mean_loss(leaves, examples)
    if not mean.requires_grad:  # no weight has a say
        return np.zeros(len(scape.layers))
    gradients = torch.autograd.grad(mean, tuple(leaves.values()), materialize_grads=True)
    return scape.by_layer(
        [
            (gradient * directions[name]).sum(dtype=torch.float64)
            for name, gradient in zip(leaves, gradients, strict=True)
        ]
    )


def _some(scape: Landscape, batch: int, rng: Generator) -> Tensor:
    """Return the positions of a random batch of inputs, without repetition; of all where there are no more."""
    n = len(scape.inputs)
    chosen = np.arange(n) if batch >= n else np.sort(rng.choice(n, batch, replace=False))
    return torch.from_numpy(chosen).to(scape.inputs.device)


def _normals(weight: Tensor, rng: Generator) -> Tensor:
    """Return standard normal numbers from the host, as a parameter is shaped and typed."""
    kind = np.float64 if weight.dtype == torch.float64 else np.float32
    return torch.from_numpy(rng.standard_normal(tuple(weight.shape), dtype=kind)).to(weight)
