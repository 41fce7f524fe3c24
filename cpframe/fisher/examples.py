"""A network's outputs and gradients for every single example of a batch, by `torch.func`.

Nothing here changes the model: its parameters are read, its buffers are copied, no hook is set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import cast

from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

__all__ = ["chunks", "example_gradients", "example_outputs"]

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
    length = min(max(int(megabytes * 1e6 / size), 1), _AT_ONCE)
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))


def example_outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs for every example as the model gives them for a batch of one: (n, 1, ...).

    Raises:
        ValueError: as `example_gradients` does.
    """
    call = _caller(model)
    parameters = _parameters(model)
    return vmap(lambda one: call(parameters, one))(inputs)


def example_gradients(
    model: nn.Module, objective: Callable[[Tensor, Tensor], Tensor], inputs: Tensor, targets: Tensor
) -> dict[str, Tensor]:
    """Return the gradient of every example's objective with respect to every parameter.

    Args:
        model: in eval mode, or without modules to which the mode matters.
        objective: (outputs (1, ...), targets (1, ...)) -> (1,), a task's loss for instance.
        inputs: (n, ...), on the device of the model.
        targets: (n, ...), whatever `objective` needs.

    Returns:
        (n, *shape) by the parameter's name, in the order of ``model.named_parameters()``; zero where the parameter
        is not reached. Parameters that do not require a gradient have theirs computed all the same.

    Raises:
        ValueError: where a module is in train mode whose output then depends on the batch or on chance.
    """
    call = _caller(model)

    def scalar(parameters: dict[str, Tensor], one: Tensor, target: Tensor) -> Tensor:
        return objective(call(parameters, one), target[None]).sum()

    gradients = vmap(grad(scalar), in_dims=(None, 0, 0))(_parameters(model), inputs, targets)
    return cast("dict[str, Tensor]", gradients)


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    return {name: parameter.detach() for name, parameter in model.named_parameters()}


def _caller(model: nn.Module) -> Callable[[dict[str, Tensor], Tensor], Tensor]:
    """Return the model as a function of its parameters and one input, which a batch of one is made of."""
    _check_modes(model)

    def call(parameters: dict[str, Tensor], one: Tensor) -> Tensor:
        # Copies, so that modules that work in place change neither buffers nor the caller's inputs.
        buffers = {name: buffer.detach().clone() for name, buffer in model.named_buffers()}
        return cast("Tensor", functional_call(model, (parameters, buffers), (one[None].clone(),)))

    return call


def _check_modes(model: nn.Module) -> None:
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
        elif module.training and isinstance(module, (nn.modules.dropout._DropoutNd, nn.RReLU)):
            raise ValueError(f"{name} is in train mode, where its output depends on chance; call model.eval() first")
