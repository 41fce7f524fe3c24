"""Gradients of single examples without rules, by `torch.func` or by a loop over examples.

Nothing here changes the model: its parameters are read, and no hook is registered.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

__all__ = [
    "at_least_float32",
    "call_model",
    "check_modes",
    "chunks",
    "example_gradients",
    "loop_squared_norms",
    "vmap_squared_norms",
]

# The estimate of memory below omits activations, which dominate in small networks.
_MAX_EXAMPLES = 256


def chunks(model: nn.Module, n: int, megabytes: float) -> Iterator[slice]:
    """Divide n examples into slices whose gradients, of the size of the model per example, fit into the memory.

    Args:
        model: the model, with parameters.
        n: the number of examples.
        megabytes: the memory for the gradients alone, in 10^6 bytes; a slice has from 1 to 256 examples.

    Yields:
        Slices that cover range(n) in order.
    """
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    yield from _slices(n, size, megabytes)


def _slices(n: int, size: int, megabytes: float) -> Iterator[slice]:
    length = min(max(int(megabytes * 1e6 / max(size, 1)), 1), _MAX_EXAMPLES)
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))


def example_gradients(
    model: nn.Module,
    objective: Callable[[Tensor, Tensor], Tensor],
    inputs: Tensor,
    targets: Tensor,
    parameters: Mapping[str, Tensor] | None = None,
    names: Collection[str] | None = None,
) -> dict[str, Tensor]:
    """Return the gradient of each example's objective with respect to each parameter.

    Args:
        model: the model, in eval mode or without modules that behave differently in train mode.
        objective: (outputs (1, ...), targets (1, ...)) -> (1,), a task's loss for instance.
        inputs: the inputs, (n, ...), on the device of the model.
        targets: the targets, (n, ...), in the form that `objective` expects.
        parameters: values to use in place of the model's own parameters, by name.
        names: the names of the parameters to differentiate; all by default.

    Returns:
        The gradients (n, *shape) by name, in the order of ``model.named_parameters()``; zeros where the objective does
        not depend on the parameter. Parameters that do not require a gradient are included.

    Raises:
        ValueError: when a module is in train mode and its output then depends on the batch or on chance.
    """
    check_modes(model)
    values = {name: parameter.detach() for name, parameter in (parameters or dict(model.named_parameters())).items()}
    selected = {name: values[name] for name in (values if names is None else names)}

    def scalar(weights: dict[str, Tensor], example: Tensor, target: Tensor) -> Tensor:
        return objective(call_model(model, {**values, **weights}, example[None]), target[None]).sum()

    with warnings.catch_warnings():
        # An operation without a batching rule is looped, with a warning for developers of torch.
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        gradients = vmap(grad(scalar), in_dims=(None, 0, 0))(selected, inputs, targets)
    return cast("dict[str, Tensor]", gradients)


def call_model(model: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return the model's outputs with the given parameters.

    The model receives copies of its buffers and inputs, and of embeddings with max_norm, which renormalise their
    weight in place; so none of these changes.
    """
    copies = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    for path, module in model.named_modules():
        if getattr(module, "max_norm", None) is not None:
            name = f"{path}.weight" if path else "weight"
            if name in parameters:
                copies[name] = parameters[name].clone()
    return cast("Tensor", functional_call(model, {**parameters, **copies}, (inputs.clone(),)))


def vmap_squared_norms(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    inputs: Tensor,
    cotangents: Tensor,
    names: Collection[str],
    megabytes: float,
) -> dict[str, Tensor]:
    """Return the squared norms of each example's pull-back of its cotangent, (n,) by name, by `torch.func.vmap`.

    Args:
        model: the model, in eval mode.
        parameters: all its parameters by name.
        inputs: the inputs, (n, ...).
        cotangents: the cotangents of the outputs, (n, K).
        names: the names of the parameters to measure.
        megabytes: the memory for the gradients, in 10^6 bytes.

    Raises:
        RuntimeError: torch's own, when vmap does not support an operation (recurrent modules).
    """
    size = sum(parameters[name].numel() * parameters[name].element_size() for name in names)
    squares: dict[str, list[Tensor]] = {name: [] for name in names}
    for part in _slices(len(inputs), size, megabytes):
        gradients = example_gradients(model, _inner_product, inputs[part], cotangents[part], parameters, names)
        for name, gradient in gradients.items():
            flat = gradient.reshape(len(gradient), -1)
            squares[name].append(torch.linalg.vector_norm(flat, dim=1, dtype=at_least_float32(flat.dtype)).square())
    return {name: torch.cat(parts) for name, parts in squares.items()}


def loop_squared_norms(
    model: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor, cotangents: Tensor, names: Collection[str]
) -> dict[str, Tensor]:
    """Return the same as `vmap_squared_norms`, one example at a time: slow, but correct for every model.

    The parameters must require gradients.
    """
    selected = [parameters[name] for name in names]
    rows = []
    for example, cotangent in zip(inputs[:, None], cotangents[:, None], strict=True):
        with torch.enable_grad():
            outputs = call_model(model, parameters, example)
        row = torch.zeros(len(selected), dtype=at_least_float32(outputs.dtype).to_real(), device=outputs.device)
        if outputs.requires_grad:
            gradients = torch.autograd.grad(outputs, selected, cotangent.to(outputs.dtype), allow_unused=True)
            for index, gradient in enumerate(gradients):
                if gradient is not None:
                    row[index] = torch.linalg.vector_norm(gradient, dtype=at_least_float32(gradient.dtype)).square()
        rows.append(row)
    return dict(zip(names, torch.stack(rows, dim=1), strict=True))


def at_least_float32(dtype: torch.dtype) -> torch.dtype:
    """Return a type of at least 32 bits, because squares of 16-bit numbers overflow or underflow easily."""
    return torch.promote_types(dtype, torch.float32)


def _inner_product(outputs: Tensor, cotangents: Tensor) -> Tensor:
    return (outputs * cotangents.to(outputs.dtype)).sum(dim=1)


def check_modes(model: nn.Module) -> None:
    """Raise ValueError when a module is in train mode and its output then depends on the batch or on chance."""
    for path, module in model.named_modules():
        name = f"{path or 'the model'} ({type(module).__name__})"
        if isinstance(module, nn.modules.batchnorm._NormBase):
            if module.training and (module.track_running_stats or isinstance(module, nn.modules.batchnorm._BatchNorm)):
                raise ValueError(
                    f"{name} is in train mode, where it uses or updates statistics of the batch, so a single example"
                    " has no gradient of its own; call model.eval() first"
                )
            if module.running_mean is None and isinstance(module, nn.modules.batchnorm._BatchNorm):
                raise ValueError(
                    f"{name} keeps no running statistics, so its output always depends on the whole batch and a single"
                    " example has no gradient of its own; build it with track_running_stats=True"
                )
        elif module.training and (
            isinstance(module, (nn.modules.dropout._DropoutNd, nn.RReLU))
            or (isinstance(module, (nn.MultiheadAttention, nn.RNNBase)) and module.dropout > 0)
        ):
            raise ValueError(f"{name} is in train mode, where its output depends on chance; call model.eval() first")
