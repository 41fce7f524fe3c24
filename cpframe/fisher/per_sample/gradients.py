"""A network's gradients for every single example of a batch, without rules: by `torch.func`, or one after the other.

Nothing here changes the model: its parameters are read, no hook is set.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

__all__ = ["called", "check_modes", "chunks", "example_gradients", "looped_squares", "vectorised_squares"]

# Activations are no part of the estimate below, and of small networks they are the larger part.
_AT_ONCE = 256


def chunks(model: nn.Module, n: int, megabytes: float) -> Iterator[slice]:
    """Cut n examples into runs whose gradients, one of the model's size for every example, fit into the memory.

    Args:
        model: with parameters.
        n: number of examples.
        megabytes: 10^6 bytes, for the gradients alone; there is at least one example in a run, and at most 256.

    Yields:
        Slices that cover range(n) in order.
    """
    size = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    yield from _runs(n, size, megabytes)


def _runs(n: int, size: int, megabytes: float) -> Iterator[slice]:
    length = min(max(int(megabytes * 1e6 / max(size, 1)), 1), _AT_ONCE)
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
    """Return the gradient of every example's objective with respect to every parameter.

    Args:
        model: in eval mode, or without modules to which the mode matters.
        objective: (outputs (1, ...), targets (1, ...)) -> (1,), a task's loss for instance.
        inputs: (n, ...), on the device of the model.
        targets: (n, ...), whatever `objective` needs.
        parameters: of the model, by name, to be taken in place of its own.
        names: of the parameters that are wanted; all by default.

    Returns:
        (n, *shape) by the parameter's name, in the order of ``model.named_parameters()``; zero where the parameter
        is not reached. Parameters that do not require a gradient have theirs computed all the same.

    Raises:
        ValueError: where a module is in train mode whose output then depends on the batch or on chance.
    """
    check_modes(model)
    everything = {
        name: parameter.detach() for name, parameter in (parameters or dict(model.named_parameters())).items()
    }
    wanted = {name: everything[name] for name in (everything if names is None else names)}

    def scalar(some: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
        return objective(called(model, {**everything, **some}, one[None]), target[None]).sum()

    with warnings.catch_warnings():
        # Where vmap has no rule it loops, and says so to its developers.
        warnings.filterwarnings("ignore", "There is a performance drop", UserWarning)
        gradients = vmap(grad(scalar), in_dims=(None, 0, 0))(wanted, inputs, targets)
    return cast("dict[str, Tensor]", gradients)


def called(model: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
    """Return the model's outputs with these parameters.

    It gets copies of its buffers and inputs, so that modules that work in place change neither; and of the rows of
    embeddings that are brought to a largest norm when they are looked up.
    """
    copies = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
    for path, module in model.named_modules():
        if getattr(module, "max_norm", None) is not None:
            name = f"{path}.weight" if path else "weight"
            if name in parameters:
                copies[name] = parameters[name].clone()
    return cast("Tensor", functional_call(model, {**parameters, **copies}, (inputs.clone(),)))


def vectorised_squares(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    inputs: Tensor,
    cotangents: Tensor,
    names: Collection[str],
    megabytes: float,
) -> dict[str, Tensor]:
    """Return squared norms of every example's pull-back of its cotangent, (n,) by name, by `torch.func.vmap`.

    Args:
        model: in eval mode.
        parameters: of it, all of them.
        inputs: (n, ...).
        cotangents: of the outputs, (n, K).
        names: of the parameters that are wanted.
        megabytes: 10^6 bytes, for the gradients.

    Raises:
        RuntimeError: torch's own, where vmap has no rule for an operation (recurrent modules).
    """
    size = sum(parameters[name].numel() * parameters[name].element_size() for name in names)
    squares: dict[str, list[Tensor]] = {name: [] for name in names}
    for part in _runs(len(inputs), size, megabytes):
        gradients = example_gradients(model, _inner, inputs[part], cotangents[part], parameters, names)
        for name, gradient in gradients.items():
            flat = gradient.reshape(len(gradient), -1)
            squares[name].append(torch.linalg.vector_norm(flat, dim=1, dtype=wide(flat.dtype)).square())
    return {name: torch.cat(parts) for name, parts in squares.items()}


def looped_squares(
    model: nn.Module, parameters: Mapping[str, Tensor], inputs: Tensor, cotangents: Tensor, names: Collection[str]
) -> dict[str, Tensor]:
    """Return the same one example after the other, by plain automatic differentiation: slow, and always right.

    The parameters must require gradients; arguments as of `vectorised_squares`.
    """
    wanted = [parameters[name] for name in names]
    rows = []
    for one, cotangent in zip(inputs[:, None], cotangents[:, None], strict=True):
        with torch.enable_grad():
            outputs = called(model, parameters, one)
        row = torch.zeros(len(wanted), dtype=wide(outputs.dtype).to_real(), device=outputs.device)
        if outputs.requires_grad:
            found = torch.autograd.grad(outputs, wanted, cotangent.to(outputs.dtype), allow_unused=True)
            for index, gradient in enumerate(found):
                if gradient is not None:
                    row[index] = torch.linalg.vector_norm(gradient, dtype=wide(gradient.dtype)).square()
        rows.append(row)
    return dict(zip(names, torch.stack(rows, dim=1), strict=True))


def wide(dtype: torch.dtype) -> torch.dtype:
    """At least 32 bits: squares of half numbers soon overflow or vanish."""
    return torch.promote_types(dtype, torch.float32)


def _inner(outputs: Tensor, cotangents: Tensor) -> Tensor:
    return (outputs * cotangents.to(outputs.dtype)).sum(dim=1)


def check_modes(model: nn.Module) -> None:
    """Raise ValueError where a module is in train mode whose output then depends on the batch or on chance."""
    for path, module in model.named_modules():
        name = f"{path or 'the model'} ({type(module).__name__})"
        if isinstance(module, nn.modules.batchnorm._NormBase):
            if module.training and (module.track_running_stats or isinstance(module, nn.modules.batchnorm._BatchNorm)):
                raise ValueError(
                    f"{name} is in train mode, where it uses or updates statistics of the batch: there is no gradient"
                    " of a single example; call model.eval() first"
                )
            if module.running_mean is None and isinstance(module, nn.modules.batchnorm._BatchNorm):
                raise ValueError(
                    f"{name} keeps no running statistics, so its output always depends on the whole batch: there is"
                    " no gradient of a single example; build it with track_running_stats=True"
                )
        elif module.training and (
            isinstance(module, (nn.modules.dropout._DropoutNd, nn.RReLU))
            or (isinstance(module, (nn.MultiheadAttention, nn.RNNBase)) and module.dropout > 0)
        ):
            raise ValueError(f"{name} is in train mode, where its output depends on chance; call model.eval() first")
