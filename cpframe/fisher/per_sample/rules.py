"""Rules: the squared norm of a parameter's gradient, example by example, from what its function took and gave.

A rule is given every use of a parameter in one pass: a parameter used twice has the sum of two gradients, and the norm
is taken of the sum. No rule computes the gradient of a batch, and few that of an example.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cpframe.fisher.per_sample import convolution as convolutions
from cpframe.fisher.per_sample.convolution import squares

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

    The first dimension of both is that of the examples, or a multiple of it, for models that fold another one in
    (the frames of a film, say): the uses of one example then follow one another.

    Attributes:
        inputs: what the function was given.
        gradient: of its output.
        how: what else the rule needs to know: a convolution's geometry, what a normalisation multiplies by its weight.
    """

    inputs: Tensor
    gradient: Tensor
    how: Any = None


@dataclass(frozen=True)
class Rule:
    """How the squared norms of a parameter's gradient are computed.

    Attributes:
        name: for people.
        squares: (uses, number of examples n) -> (n,).
    """

    name: str
    squares: Callable[[Sequence[Use], int], Tensor]


def _rows(values: Tensor, n: int, trailing: int = 1) -> Tensor:
    """Fold everything between the examples and the last dimensions together: (n, T, *last)."""
    return values.reshape(n, -1, *values.shape[values.ndim - trailing :])


def _linear(uses: Sequence[Use], n: int) -> Tensor:
    """Weight (O, D) of a linear map: with positions t, dW = sum of g_t x_t^T (Goodfellow 2015 for one position)."""
    x = _joined([_rows(use.inputs, n) for use in uses])
    g = _joined([_rows(use.gradient, n) for use in uses])
    positions = x.shape[1]
    if positions == 1:
        return squares(x) * squares(g)
    if positions * (x.shape[2] + g.shape[2]) < x.shape[2] * g.shape[2]:
        # ||dW||^2 is the sum over pairs of positions of (g_t . g_t') (x_t . x_t').
        return (torch.bmm(x, x.mT) * torch.bmm(g, g.mT)).sum(dim=(1, 2))
    return squares(torch.bmm(g.mT, x))


def _bias(uses: Sequence[Use], n: int) -> Tensor:
    """Bias along the last dimension: the sum of the gradient."""
    return squares(_summed([_rows(use.gradient, n).sum(dim=1) for use in uses]))


def _by_channel(values: Tensor, n: int) -> Tensor:
    """Sum over all but examples and channels: (n T, C, *spatial) -> (n, C)."""
    return _rows(values.flatten(2).sum(dim=2) if values.ndim > 2 else values, n).sum(dim=1)


def _channel_bias(uses: Sequence[Use], n: int) -> Tensor:
    return squares(_summed([_by_channel(use.gradient, n) for use in uses]))


def _channel_weight(uses: Sequence[Use], n: int) -> Tensor:
    """Weight of a channel: it multiplies what `how` makes of the inputs, times a factor of the channel's if any."""
    sums = []
    for use in uses:
        normalised, factor = use.how
        each = _by_channel(normalised(use.inputs).mul_(use.gradient), n)
        sums.append(each if factor is None else each * factor)
    return squares(_summed(sums))


def _scalar_weight(uses: Sequence[Use], n: int) -> Tensor:
    """One number that multiplies all that `how` makes of the inputs."""
    return squares(
        _summed([(use.how[0](use.inputs) * use.gradient).reshape(n, -1).sum(dim=1, keepdim=True) for use in uses])
    )


def _trailing_weight(uses: Sequence[Use], n: int) -> Tensor:
    """Weight over the last dimensions: `how` is the normalisation and how many dimensions these are."""
    sums = []
    for use in uses:
        normalised, dimensions = use.how
        sums.append(_rows(normalised(use.inputs) * use.gradient, n, dimensions).sum(dim=1))
    return squares(_summed(sums))


def _trailing_bias(uses: Sequence[Use], n: int) -> Tensor:
    return squares(_summed([_rows(use.gradient, n, use.how[1]).sum(dim=1) for use in uses]))


def _convolution(uses: Sequence[Use], n: int) -> Tensor:
    """Weight of a convolution: see `convolutions`."""
    each = [(x, g, use.how) for use in uses for x, g in zip(*_turns(use, n), strict=True)]
    if len(each) == 1:
        return convolutions.squared_norms(*each[0])
    return squares(_summed([convolutions.gradients(x, g, how) for x, g, how in each]))


def _turns(use: Use, n: int) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    """The uses of a convolution within an example, one after the other."""
    if len(use.inputs) == n:
        return (use.inputs,), (use.gradient,)
    inputs, gradient = (values.reshape(n, -1, *values.shape[1:]).unbind(dim=1) for values in (use.inputs, use.gradient))
    return inputs, gradient


def _transposed(uses: Sequence[Use], n: int) -> Tensor:
    """Weight of a transposed convolution: that of the convolution which leads back, inputs and gradients exchanged."""
    return _convolution([Use(use.gradient, use.inputs, use.how) for use in uses], n)


def _embedding(uses: Sequence[Use], n: int) -> Tensor:
    """Rows of an embedding; `how` is the number of rows, and which one gets no gradient, or None."""
    looked_up = _joined([use.inputs.reshape(n, -1) for use in uses])
    g = _joined([_rows(use.gradient, n) for use in uses])
    count, silent = uses[0].how
    if silent is not None:
        g = g * (looked_up != silent)[:, :, None]
    example = torch.arange(n, device=g.device)[:, None]
    # Positions in order of example and row: runs of equal ones are summed, without a matrix of all pairs.
    ordered, order = (looked_up + example * count).flatten().sort()
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[1:] = ordered[1:] != ordered[:-1]
    run = new.cumsum(dim=0) - 1
    sums = torch.zeros_like(g).flatten(0, 1).index_add_(0, run, g.flatten(0, 1)[order])
    owners = torch.zeros_like(ordered).index_copy_(0, run, ordered // count)
    return g.new_zeros(n).index_add_(0, owners, squares(sums))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Positions of all uses behind one another; not copied where there is one."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


def _summed(parts: Sequence[Tensor]) -> Tensor:
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
