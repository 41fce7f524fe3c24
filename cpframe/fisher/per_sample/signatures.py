"""The signatures of torch functions with parameters: each turns the arguments of its function into a `Call`.

The functions here have the parameters of the torch function that they describe, in its order and with its defaults.
"""

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

__all__ = ["SIGNATURES", "Call"]


class Call(NamedTuple):
    """One call of a torch function.

    Attributes:
        inputs: the inputs of the function; the first dimension is the examples.
        rules: the rule of each tensor that may be a parameter.
        context: the other data that the rules need, see `Use`.
    """

    inputs: Tensor
    rules: Mapping[Tensor, Rule]
    context: Any = None


_Sizes = int | Sequence[int]


def _call(inputs: Tensor, weight: Tensor | None, bias: Tensor | None, pair: tuple[Rule, Rule], context: Any) -> Call:
    """Return the call of a function with the rules `pair` for its weight and its bias, if it has them."""
    tensors = zip((weight, bias), pair, strict=True)
    return Call(inputs, {tensor: rule for tensor, rule in tensors if tensor is not None}, context)


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Call | None:  # noqa: A002
    if input.ndim < 2:
        return None
    return _call(input, weight, bias, (rules.linear, rules.bias), None)


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
    dilations = _sizes(dilation, kernel)
    if padding == "same":
        # An odd amount cannot be divided evenly; the side after is then the larger.
        totals = [step * (size - 1) for step, size in zip(dilations, kernel, strict=True)]
        pads = tuple((amount // 2, amount - amount // 2) for amount in totals)
    else:
        pads = tuple((amount, amount) for amount in _sizes(0 if isinstance(padding, str) else padding, kernel))
    context = Geometry(kernel, _sizes(stride, kernel), pads, dilations, groups)
    return _call(input, weight, bias, (rules.convolution, rules.channels[1]), context)


def _transposed(
    input: Tensor,  # noqa: A002
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Sizes = 1,
    padding: _Sizes = 0,
    output_padding: _Sizes = 0,  # noqa: ARG001 - the gradient's shape shows it
    groups: int = 1,
    dilation: _Sizes = 1,
) -> Call | None:
    kernel = tuple(weight.shape[2:])
    if input.ndim != weight.ndim:
        return None
    pads = tuple((amount, amount) for amount in _sizes(padding, kernel))
    context = Geometry(kernel, _sizes(stride, kernel), pads, _sizes(dilation, kernel), groups)
    return _call(input, weight, bias, (rules.transposed, rules.channels[1]), context)


def _sizes(value: _Sizes, kernel: tuple[int, ...]) -> tuple[int, ...]:
    """Return one size per dimension of the kernel."""
    sizes = (value,) if isinstance(value, int) else tuple(value)
    return sizes * len(kernel) if len(sizes) == 1 else sizes


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
        raise ValueError(
            "the model normalises by statistics of the batch, so a single example has no gradient of its own; use "
            "running statistics, and call model.eval() first"
        )
    context = partial(_centre, mean=running_mean), (running_var + eps).rsqrt()
    return _call(input, weight, bias, rules.channels, context)


def _centre(x: Tensor, *, mean: Tensor) -> Tensor:
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
        return _call(input, weight, bias, rules.channels, (partial(functional.instance_norm, eps=eps), None))
    context = partial(_centre, mean=running_mean), (running_var + eps).rsqrt()
    return _call(input, weight, bias, rules.channels, context)


def _group_norm(
    input: Tensor,  # noqa: A002
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call:
    normalise = partial(functional.group_norm, num_groups=num_groups, eps=eps)
    return _call(input, weight, bias, rules.channels, (normalise, None))


def _layer_norm(
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Call | None:
    if input.ndim == len(normalized_shape):
        return None
    normalise = partial(functional.layer_norm, normalized_shape=normalized_shape, eps=eps)
    return _call(input, weight, bias, rules.trailing, (normalise, len(normalized_shape)))


def _rms_norm(
    input: Tensor,  # noqa: A002
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Call | None:
    if input.ndim == len(normalized_shape):
        return None
    normalise = partial(functional.rms_norm, normalized_shape=normalized_shape, eps=eps)
    return _call(input, weight, None, rules.trailing, (normalise, len(normalized_shape)))


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
    padding = padding_idx if padding_idx is None or padding_idx >= 0 else padding_idx + len(weight)
    return Call(input, {weight: rules.embedding}, (len(weight), padding))


def _prelu(input: Tensor, weight: Tensor) -> Call | None:  # noqa: A002
    if input.ndim < 2:
        return None
    rule = rules.scalar if weight.numel() == 1 else rules.channels[0]
    return Call(input, {weight: rule}, (partial(torch.clamp, max=0), None))


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> None:  # noqa: A002, ARG001
    if training and p > 0:
        raise ValueError(
            "the model applies dropout as in training, so its output depends on chance; call model.eval() first"
        )


def _alpha_dropout(input: Tensor, p: float = 0.5, training: bool = False, inplace: bool = False) -> None:  # noqa: A002
    _dropout(input, p, training, inplace)


SIGNATURES: Mapping[Callable[..., Any], Callable[..., Call | None]] = {
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
"""The signatures by torch function. A function that is absent, or whose signature returns None, has no rule."""
