"""A loss as a function of the weights, also away from those that the network has.

Nothing here changes the network: weights and buffers are copied, no hook is set, and torch's random state is not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cpframe.api import Layer
from cpframe.fisher.layers import check_layers, layers_of
from cpframe.fisher.per_sample.gradients import called, check_modes

__all__ = ["Landscape", "Loss", "differentiable", "divergence", "landscape", "logits_of"]

Floats = NDArray[np.float64]
Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> the loss of every example, (N,), differentiable."""


@dataclass(frozen=True)
class Landscape:
    """The loss of a network on given examples, for any weights; made by `landscape`, which checks it.

    Attributes:
        model: each example is treated on its own.
        inputs: (N, ...).
        targets: (N, ...), whatever `loss` needs.
        loss: see `Loss`.
        layers: every parameter belongs to exactly one.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    loss: Loss
    layers: tuple[Layer, ...]

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the network's own, by name."""
        return {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}

    def mean_loss(self, weights: Mapping[str, Tensor], examples: slice | Tensor) -> Tensor:
        """Return the mean over some of the examples, a scalar.

        Raises:
            ValueError: where it is not finite, or the loss does not give one number an example.
        """
        inputs = self.inputs[examples]
        # A copy, since what was made in inference mode cannot be kept for a backward pass.
        losses = self.loss(called(self.model, weights, inputs), self.targets[examples].clone())
        if losses.shape != (len(inputs),):
            raise ValueError(f"the loss has shape {tuple(losses.shape)}: one number an example, ({len(inputs)},)")
        mean = losses.mean()
        if not torch.isfinite(mean):
            raise ValueError(
                "the loss is not finite: the network has diverged, its inputs hold nan or inf, or the noise on its"
                " weights is too large (take a smaller beta)"
            )
        return mean

    def by_layer(self, values: Sequence[Tensor]) -> Floats:
        """Sum slopes or curvatures, one scalar for each parameter in order, over each layer: (L,), on the host.

        Raises:
            ValueError: where one is not finite.
        """
        names = [name for name, _ in self.model.named_parameters()]
        numbers = dict(zip(names, torch.stack(list(values)).double().cpu().numpy(), strict=True))
        wild = [name for name, number in numbers.items() if not np.isfinite(number)]
        if wild:
            raise ValueError(f"the loss is finite, but its derivatives by {', '.join(wild)} are not")
        return np.array([sum(numbers[name] for name in layer.parameters) for layer in self.layers], dtype=np.float64)


@contextmanager
def differentiable() -> Iterator[None]:
    """Record gradients inside, in full precision, whatever the caller has switched off or allowed.

    TF32 has 10 bits: small noise on the weights would be rounded away.
    """
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _switches()]
    try:
        for owner, name, full in _switches():
            setattr(owner, name, full)
        with torch.inference_mode(mode=False), torch.enable_grad():
            yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _switches() -> list[tuple[object, str, object]]:
    """Return where torch keeps whether TF32 is allowed, and what stands for no: it refuses to mix old and new ways."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return [(owner, "fp32_precision", "ieee") for owner in (matmul, cudnn.conv, cudnn.rnn)]
    return [(owner, "allow_tf32", False) for owner in (matmul, cudnn)]


def landscape(
    model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, layers: Sequence[Layer] | None
) -> Landscape:
    """Check and bundle; `layers` are those of `layers_of` where None.

    Raises:
        ValueError: where a module is in train mode whose output then depends on the batch or on chance, the model has
            no parameters, there are no inputs or not as many targets, or `layers` does not have every parameter
            exactly once.
    """
    check_modes(model)
    names = [name for name, _ in model.named_parameters()]
    if not names:
        raise ValueError("the model has no parameters, so there is no direction in which to change it")
    if inputs.ndim == 0 or len(inputs) == 0:
        raise ValueError("inputs is empty: the trace is a mean over at least one input")
    if targets.ndim == 0 or len(targets) != len(inputs):
        raise ValueError(f"there are {len(inputs)} inputs, but targets has shape {tuple(targets.shape)}")
    groups = layers_of(model) if layers is None else tuple(layers)
    check_layers(groups, names, "layers")
    return Landscape(model, inputs, targets, loss, groups)


def logits_of(model: nn.Module, inputs: Tensor, batch: int) -> Tensor:
    """Return the model's outputs, (N, K), made `batch` at a time and without gradients.

    Raises:
        ValueError: where they are not finite logits (N, K), K >= 2, or a module's mode makes them depend on the batch.
    """
    check_modes(model)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    parts = []
    with torch.no_grad():
        for start in range(0, len(inputs), batch):
            part = inputs[start : start + batch]
            logits = called(model, weights, part)
            if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(part) or logits.shape[1] < 2:
                found = f"has shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else "is no tensor"
                raise ValueError(f"the model's output {found}: logits of shape (N, K) are needed, K >= 2 classes")
            parts.append(logits)
        whole = torch.cat(parts)
        if not torch.isfinite(whole).all():
            raise ValueError("the model's logits are not finite: it has diverged, or its inputs hold nan or inf")
    return whole


def divergence(outputs: Tensor, reference: Tensor) -> Tensor:
    """Return KL(p || q) in nats, (N,), of the predictions p = softmax(reference) and q = softmax(outputs), (N, K).

    Its Hessian by the weights, at the weights that gave the reference, is the Fisher information: there the gradient
    by the logits vanishes, and the second derivative by them is diag(p) - p p^T.
    """
    # In float64: p - q, the gradient, is a small difference.
    before, after = (torch.log_softmax(logits.double(), dim=1) for logits in (reference, outputs))
    return (before.exp() * (before - after)).sum(dim=1)
