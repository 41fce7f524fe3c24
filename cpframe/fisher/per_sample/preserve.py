"""A context that restores everything in a model that a measurement changes temporarily."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["preserve_model"]


@contextmanager
def preserve_model(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> Iterator[None]:
    """Make all parameters require a gradient, and restore the model and torch's random state afterwards.

    Args:
        model: the model to measure.
        parameters: its differentiable parameters by name.
        inputs: the inputs, on the device of the model.
    """
    before = {name: parameter.requires_grad for name, parameter in parameters.items()}
    # Pruned and parametrised modules store tensors that their forward pass computed.
    computed = [
        (module, name, value)
        for module in model.modules()
        for name, value in vars(module).items()
        if isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
    ]
    devices = [inputs.device] if inputs.is_cuda else []
    try:
        with torch.random.fork_rng(devices=devices), torch.inference_mode(mode=False):
            for parameter in parameters.values():
                parameter.requires_grad_(True)
            yield
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(before[name])
        for module, name, value in computed:
            vars(module)[name] = value
