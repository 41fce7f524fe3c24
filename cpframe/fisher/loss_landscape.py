"""The loss of a network as a function of its weights, at the current weights and away from them.

Nothing here changes the network: weights and buffers are copied, no hook is registered, and torch's random state is
not used.
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
from cpframe.fisher.per_sample.gradients import call_model, check_modes

__all__ = ["Loss", "LossLandscape", "compute_logits", "divergence", "enable_grad_without_tf32", "loss_landscape"]

Floats = NDArray[np.float64]
Loss = Callable[[Tensor, Tensor], Tensor]
"""(outputs, targets) -> the loss of each example, (N,), differentiable."""


@dataclass(frozen=True)
class LossLandscape:
    """The loss of a network on given examples, for any weights; `loss_landscape` builds it from checked arguments.

    Attributes:
        model: the network; its output for an example must not depend on other examples.
        inputs: the inputs, (N, ...).
        targets: the targets, (N, ...), in the form that `loss` expects.
        loss: the loss function, see `Loss`.
        layers: the groups of parameters; each parameter is in exactly one.
    """

    model: nn.Module
    inputs: Tensor
    targets: Tensor
    loss: Loss
    layers: tuple[Layer, ...]

    def weights(self) -> dict[str, Tensor]:
        """Return copies of the network's parameters by name."""
        return {name: parameter.detach().clone() for name, parameter in self.model.named_parameters()}

    def mean_loss(self, weights: Mapping[str, Tensor], examples: slice | Tensor) -> Tensor:
        """Return the mean loss over the selected examples, a scalar.

        Raises:
            ValueError: when the loss is not finite or not one number per example.
        """
        inputs = self.inputs[examples]
        # The targets are copied because inference tensors cannot be saved for a backward pass.
        losses = self.loss(call_model(self.model, weights, inputs), self.targets[examples].clone())
        if losses.shape != (len(inputs),):
            raise ValueError(
                f"the loss must be one number per example, of shape ({len(inputs)},), not {tuple(losses.shape)}"
            )
        mean = losses.mean()
        if not torch.isfinite(mean):
            raise ValueError(
                "the loss is not finite: the network has diverged, its inputs contain nan or inf, or the noise on its"
                " weights is too large (use a smaller beta)"
            )
        return mean

    def sum_by_layer(self, values: Sequence[Tensor]) -> Floats:
        """Sum one scalar per parameter, in the order of the parameters, over each layer: (L,), on the host.

        Raises:
            ValueError: when a value is not finite.
        """
        names = [name for name, _ in self.model.named_parameters()]
        numbers = dict(zip(names, torch.stack(list(values)).double().cpu().numpy(), strict=True))
        non_finite = [name for name, number in numbers.items() if not np.isfinite(number)]
        if non_finite:
            raise ValueError(f"the loss is finite, but its derivatives with respect to {', '.join(non_finite)} are not")
        return np.array([sum(numbers[name] for name in layer.parameters) for layer in self.layers], dtype=np.float64)


@contextmanager
def enable_grad_without_tf32() -> Iterator[None]:
    """Record gradients in full float32 precision, whatever mode the caller has set.

    TF32 has a mantissa of 10 bits, to which small noise on the weights would be rounded away.
    """
    before = [(owner, name, getattr(owner, name)) for owner, name, _ in _tf32_settings()]
    try:
        for owner, name, full in _tf32_settings():
            setattr(owner, name, full)
        with torch.inference_mode(mode=False), torch.enable_grad():
            yield
    finally:
        for owner, name, value in before:
            setattr(owner, name, value)


def _tf32_settings() -> list[tuple[object, str, object]]:
    """Return torch's TF32 settings as (owner, attribute, value that disables TF32).

    Recent versions of torch have new settings and refuse a mixture with the old ones.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return [(owner, "fp32_precision", "ieee") for owner in (matmul, cudnn.conv, cudnn.rnn)]
    return [(owner, "allow_tf32", False) for owner in (matmul, cudnn)]


def loss_landscape(
    model: nn.Module, inputs: Tensor, targets: Tensor, loss: Loss, layers: Sequence[Layer] | None
) -> LossLandscape:
    """Check the arguments and build a `LossLandscape`; `layers` defaults to `layers_of`.

    Raises:
        ValueError: when a module is in train mode and its output then depends on the batch or on chance, the model has
            no parameters, there are no inputs, the targets differ in number, or `layers` does not contain each
            parameter exactly once.
    """
    check_modes(model)
    names = [name for name, _ in model.named_parameters()]
    if not names:
        raise ValueError("the model has no parameters, so its loss has no derivatives")
    if inputs.ndim == 0 or len(inputs) == 0:
        raise ValueError("inputs is empty: the trace is a mean over at least one input")
    if targets.ndim == 0 or len(targets) != len(inputs):
        raise ValueError(f"targets must have one entry per input, {len(inputs)}, not shape {tuple(targets.shape)}")
    groups = layers_of(model) if layers is None else tuple(layers)
    check_layers(groups, names, "layers")
    return LossLandscape(model, inputs, targets, loss, groups)


def compute_logits(model: nn.Module, inputs: Tensor, batch: int) -> Tensor:
    """Return the model's outputs, (N, K), computed without gradients in batches of `batch` inputs.

    Raises:
        ValueError: when they are not finite logits (N, K), K >= 2, or the mode of a module makes them depend on the
            batch.
    """
    check_modes(model)
    weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
    parts = []
    with torch.no_grad():
        for start in range(0, len(inputs), batch):
            part = inputs[start : start + batch]
            logits = call_model(model, weights, part)
            if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(part) or logits.shape[1] < 2:
                given = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
                raise ValueError(f"the model's output must be logits of shape (N, K), K >= 2 classes, not {given}")
            parts.append(logits)
        whole = torch.cat(parts)
        if not torch.isfinite(whole).all():
            raise ValueError("the model's logits are not finite: it has diverged, or its inputs contain nan or inf")
    return whole


def divergence(outputs: Tensor, reference: Tensor) -> Tensor:
    """Return KL(p || q) in nats, (N,), of the predictions p = softmax(reference) and q = softmax(outputs), (N, K).

    Its Hessian with respect to the weights, at the weights that gave the reference, is the Fisher information: there
    the gradient with respect to the logits vanishes, and the second derivative is diag(p) - p p^T.
    """
    # float64, because the gradient p - q is a small difference.
    before, after = (torch.log_softmax(logits.double(), dim=1) for logits in (reference, outputs))
    return (before.exp() * (before - after)).sum(dim=1)
