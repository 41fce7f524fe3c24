"""Readers: what a torch function is given, as the rules want it. Each has the signature of its function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from cpframe.fisher.per_sample import rules
from cpframe.fisher.per_sample.convolution import Geometry
from cpframe.fisher.per_sample.rules import Rule

__all__ = ["READERS", "Call"]


class Call(NamedTuple):
    """A call of a function.

    Attributes:
        inputs: of the function; their first dimension is that of the examples.
        rules: of the tensors that it takes as parameters.
        how: for the rules, see `Use`.
    """

    inputs: Tensor
    rules: Mapping[Tensor, Rule]
    how: Any = None


_Sizes = int | Sequence[int]


def _reading(inputs: Tensor, weight: Tensor | None, bias: Tensor | None, pair: tuple[Rule, Rule], how: Any) -> Call:
    both = zip((weight, bias), pair, strict=True)
    return Call(inputs, {tensor: rule for tensor, rule in both if tensor is not None}, how)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call | None:  # noqa: A002
    if input.ndim < 2:
        return None
    return _reading(input, weight, bias, (rules.linear, rules.bias), None)


def _convolution(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Sizes = 1,
    padding: _Sizes | str = 0,
    dilation: _Sizes = 1,
    groups: int = 1,
) -> Call | None:
    kernel = tuple(weight.shape[2:])
    if input.ndim != weight.ndim:
        return None
    gaps = _sizes(dilation, kernel)
    if padding == "same":
        # Where the two sides cannot be alike, the one after is the longer.
        whole = [gap * (size - 1) for gap, size in zip(gaps, kernel, strict=True)]
        pads = tuple((amount // 2, amount - amount // 2) for amount in whole)
    else:
        pads = tuple((amount, amount) for amount in _sizes(0 if isinstance(padding, str) else padding, kernel))
    how = Geometry(kernel, _sizes(stride, kernel), pads, gaps, groups)
    return _reading(input, weight, bias, (rules.convolution, rules.channels[1]), how)


def _transposed(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Sizes = 1,
    padding: _Sizes = 0,
    output_padding: _Sizes = 0,  # noqa: ARG001 - the gradient's shape tells
    groups: int = 1,
    dilation: _Sizes = 1,
) -> Call | None:
    kernel = tuple(weight.shape[2:])
    if input.ndim != weight.ndim:
        return None
    pads = tuple((amount, amount) for amount in _sizes(padding, kernel))
    how = Geometry(kernel, _sizes(stride, kernel), pads, _sizes(dilation, kernel), groups)
    return _reading(input, weight, bias, (rules.transposed, rules.channels[1]), how)


def _sizes(value: _Sizes, kernel: tuple[int, ...]) -> tuple[int, ...]:
    several = (value,) if isinstance(value, int) else tuple(value)
    return several * len(kernel) if len(several) == 1 else several


def _batch_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
) -> Call:
    if training or running_mean is None or running_var is None:
        raise ValueError("the model normalises by statistics of the batch: there is no gradient of a single example")
    how = partial(_centred, mean=running_mean), (running_var + eps).rsqrt()
    return _reading(input, weight, bias, rules.channels, how)


def _centred(x: Tensor, *, mean: Tensor) -> Tensor:
    return x - mean.view((1, -1) + (1,) * (x.ndim - 2))


def _instance_norm(
    input: Tensor,  # noqa: A002
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,  # noqa: ARG001
    eps: float = 1e-5,
) -> Call:
    if use_input_stats or running_mean is None or running_var is None:
        return _reading(input, weight, bias, rules.channels, (partial(functional.instance_norm, eps=eps), None))
    how = partial(_centred, mean=running_mean), (running_var + eps).rsqrt()
    return _reading(input, weight, bias, rules.channels, how)


def _group_norm(
    input: Tensor,  # noqa: A002
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call:
    normalised = partial(functional.group_norm, num_groups=num_groups, eps=eps)
    return _reading(input, weight, bias, rules.channels, (normalised, None))


def _layer_norm(
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call | None:
    if input.ndim == len(normalized_shape):
        return None
    normalised = partial(functional.layer_norm, normalized_shape=normalized_shape, eps=eps)
    return _reading(input, weight, bias, rules.trailing, (normalised, len(normalized_shape)))


def _rms_norm(
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Call | None:
    if input.ndim == len(normalized_shape):
        return None
    normalised = partial(functional.rms_norm, normalized_shape=normalized_shape, eps=eps)
    return _reading(input, weight, None, rules.trailing, (normalised, len(normalized_shape)))


def _embedding(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,  # noqa: ARG001
    scale_grad_by_freq: bool = False,
    sparse: bool = False,  # noqa: ARG001
) -> Call | None:
    if max_norm is not None or scale_grad_by_freq or input.ndim == 0:
        return None
    silent = padding_idx if padding_idx is None or padding_idx >= 0 else padding_idx + len(weight)
    return Call(input, {weight: rules.embedding}, (len(weight), silent))


def _prelu(input: Tensor, weight: Tensor) -> Call | None:  # noqa: A002
    if input.ndim < 2:
        return None
    rule = rules.scalar if weight.numel() == 1 else rules.channels[0]
    return Call(input, {weight: rule}, (partial(torch.clamp, max=0), None))


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> None:  # noqa: A002, ARG001
    if training and p > 0:
        raise ValueError("the model uses dropout as in training, so its output depends on chance: call model.eval()")


def _alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> None:  # noqa: A002
    _dropout(input, p, training, inplace)


READERS: Mapping[Callable[..., Any], Callable[..., Call | None]] = {
    functional.linear: _linear,
    functional.conv1d: _convolution,
    functional.conv2d: _convolution,
    functional.conv3d: _convolution,
    functional.conv_transpose1d: _transposed,
    functional.conv_transpose2d: _transposed,
    functional.conv_transpose3d: _transposed,
    functional.batch_norm: _batch_norm,
    functional.instance_norm: _instance_norm,
    functional.group_norm: _group_norm,
    functional.layer_norm: _layer_norm,
    functional.rms_norm: _rms_norm,
    functional.embedding: _embedding,
    functional.prelu: _prelu,
    functional.dropout: _dropout,
    functional.dropout1d: _dropout,
    functional.dropout2d: _dropout,
    functional.dropout3d: _dropout,
    functional.alpha_dropout: _alpha_dropout,
    functional.feature_alpha_dropout: _alpha_dropout,
}
"""By the function; functions that are not here, or readers that return None, have no rule."""
