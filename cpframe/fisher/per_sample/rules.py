"""Rules: squared gradient norms per example, from the inputs of a function and the gradient of its output.

A rule receives all uses of a parameter in one pass. The gradient of a parameter that is used twice is the sum of two
gradients, and the norm is that of the sum. No rule computes the gradient of a batch, and few that of an example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cpframe.fisher.per_sample import convolution as convolutions
from cpframe.fisher.per_sample.convolution import row_squared_norms

__all__ = [
    "Rule",
    "Use",
    "bias",
    "channels",
    "convolution",
    "embedding",
    "linear",
    "scalar",
    "trailing",
    "transposed",
]


@dataclass(frozen=True, eq=False)
class Use:
    """One use of a parameter.

    The first dimension of both tensors is the examples, or a multiple of them if the model folds another dimension in
    (the frames of a video, say); the uses of one example are then adjacent.

    Attributes:
        inputs: the inputs of the function.
        gradient: the gradient with respect to its output.
        context: the other data that the rule needs: the geometry of a convolution, the function that a normalisation
            applies before its weight, and so on.
    """

    inputs: Tensor
    gradient: Tensor
    context: Any = None


@dataclass(frozen=True)
class Rule:
    """The method that computes the squared norms of a parameter's gradient.

    Attributes:
        name: the name in `cpframe.fisher.FisherTrace.rules`.
        squared_norms: (uses, number of examples n) -> (n,).
    """

    name: str
    squared_norms: Callable[[Sequence[Use], int], Tensor]


def _fold(values: Tensor, n: int, trailing: int = 1) -> Tensor:
    """Reshape to (n, T, *last): one dimension T for all between the examples and the `trailing` last dimensions."""
    return values.reshape(n, -1, *values.shape[values.ndim - trailing :])


def _linear(uses: Sequence[Use], n: int) -> Tensor:
    """Weight (O, D) of a linear map: dW is the sum over positions t of g_t x_t^T.

    For one position the norm is a product of two norms (Goodfellow, "Efficient per-example gradient computations",
    2015).
    """
    x = _concatenate([_fold(use.inputs, n) for use in uses])
    g = _concatenate([_fold(use.gradient, n) for use in uses])
    positions = x.shape[1]
    if positions == 1:
        return row_squared_norms(x) * row_squared_norms(g)
    if positions * (x.shape[2] + g.shape[2]) < x.shape[2] * g.shape[2]:
        # ||dW||^2 is the sum over pairs of positions of (g_t . g_t') (x_t . x_t').
        return (torch.bmm(x, x.mT) * torch.bmm(g, g.mT)).sum(dim=(1, 2))
    return row_squared_norms(torch.bmm(g.mT, x))


def _bias(uses: Sequence[Use], n: int) -> Tensor:
    """Bias along the last dimension: the sum of the gradient."""
    return row_squared_norms(_sum([_fold(use.gradient, n).sum(dim=1) for use in uses]))


def _sum_by_channel(values: Tensor, n: int) -> Tensor:
    """Sum over all dimensions except examples and channels: (n T, C, *spatial) -> (n, C)."""
    return _fold(values.flatten(2).sum(dim=2) if values.ndim > 2 else values, n).sum(dim=1)


def _channel_bias(uses: Sequence[Use], n: int) -> Tensor:
    return row_squared_norms(_sum([_sum_by_channel(use.gradient, n) for use in uses]))


def _channel_weight(uses: Sequence[Use], n: int) -> Tensor:
    """Weight per channel; the context is a function of the inputs, and a factor per channel or None."""
    sums = []
    for use in uses:
        normalise, factor = use.context
        by_channel = _sum_by_channel(normalise(use.inputs).mul_(use.gradient), n)
        sums.append(by_channel if factor is None else by_channel * factor)
    return row_squared_norms(_sum(sums))


def _scalar_weight(uses: Sequence[Use], n: int) -> Tensor:
    """Single weight that multiplies a function of the inputs, the first entry of the context."""
    return row_squared_norms(
        _sum([(use.context[0](use.inputs) * use.gradient).reshape(n, -1).sum(dim=1, keepdim=True) for use in uses])
    )


def _trailing_weight(uses: Sequence[Use], n: int) -> Tensor:
    """Weight over the last dimensions; the context is the normalisation and the number of these dimensions."""
    sums = []
    for use in uses:
        normalise, dimensions = use.context
        sums.append(_fold(normalise(use.inputs) * use.gradient, n, dimensions).sum(dim=1))
    return row_squared_norms(_sum(sums))


def _trailing_bias(uses: Sequence[Use], n: int) -> Tensor:
    return row_squared_norms(_sum([_fold(use.gradient, n, use.context[1]).sum(dim=1) for use in uses]))


def _convolution(uses: Sequence[Use], n: int) -> Tensor:
    """Weight of a convolution; see the module `convolution`."""
    single = [(x, g, use.context) for use in uses for x, g in zip(*_split(use, n), strict=True)]
    if len(single) == 1:
        return convolutions.squared_norms(*single[0])
    return row_squared_norms(_sum([convolutions.gradients(x, g, geometry) for x, g, geometry in single]))


def _split(use: Use, n: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """Return the inputs and gradients of a convolution, with n rows each, for each use within an example."""
    if len(use.inputs) == n:
        return (use.inputs,), (use.gradient,)
    inputs, gradient = (values.reshape(n, -1, *values.shape[1:]).unbind(dim=1) for values in (use.inputs, use.gradient))
    return inputs, gradient


def _transposed(uses: Sequence[Use], n: int) -> Tensor:
    """Weight of a transposed convolution: that of the forward convolution with inputs and gradients exchanged."""
    return _convolution([Use(use.gradient, use.inputs, use.context) for use in uses], n)


def _embedding(uses: Sequence[Use], n: int) -> Tensor:
    """Weight of an embedding; the context is the number of rows, and the row without a gradient or None."""
    indices = _concatenate([use.inputs.reshape(n, -1) for use in uses])
    g = _concatenate([_fold(use.gradient, n) for use in uses])
    count, padding = uses[0].context
    if padding is not None:
        g = g * (indices != padding)[:, :, None]
    example = torch.arange(n, device=g.device)[:, None]
    # Sorted by example and row, equal indices are adjacent and can be summed without a matrix of all pairs.
    ordered, order = (indices + example * count).flatten().sort()
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    run = new.cumsum(dim=0) - 1
    sums = torch.zeros_like(g).flatten(0, 1).index_add_(0, run, g.flatten(0, 1)[order])
    owners = torch.zeros_like(ordered).index_copy_(0, run, ordered // count)
    return g.new_zeros(n).index_add_(0, owners, row_squared_norms(sums))


def _concatenate(parts: Sequence[Tensor]) -> Tensor:
    """Concatenate the positions of all uses; a single use is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


def _sum(parts: Sequence[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


linear = Rule("linear", _linear)
bias = Rule("bias", _bias)
convolution = Rule("convolution", _convolution)
transposed = Rule("transposed convolution", _transposed)
embedding = Rule("embedding", _embedding)
channels = (Rule("channel weight", _channel_weight), Rule("channel bias", _channel_bias))
scalar = Rule("channel weight", _scalar_weight)
trailing = (Rule("normalisation weight", _trailing_weight), Rule("normalisation bias", _trailing_bias))
