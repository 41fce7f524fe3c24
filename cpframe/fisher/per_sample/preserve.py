"""Measuring a model without a trace: what a measurement changes for a while is put back, whatever happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["preserved"]


@contextmanager
def preserved(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> Iterator[None]:
    """Let every parameter ask for a gradient, so that its uses show in the graph; put back what a forward pass leaves.

    Args:
        model: to be measured.
        parameters: of it, by name, that can have gradients.
        inputs: on the device of the model.
    """
    before = {name: parameter.requires_grad for name, parameter in parameters.items()}
    # Pruned or reparametrised modules keep what they last computed from their parameters.
    computed = [
        (module, name, value) for module in model.modules() for name, value in vars(module).items() if _is_plain(value)
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


def _is_plain(value: object) -> bool:
    return isinstance(value, Tensor) and not isinstance(value, nn.Parameter)
