"""The trace of the Fisher information, layer by layer.

For the weights w of a layer, tr F = E_x E_{y ~ p(y|x)} ||grad_w log p(y|x)||^2: per example, with labels from the
model's own prediction (Achille, Rovere, Soatto, "Critical Learning Periods in Deep Networks", ICLR 2019).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor, nn

from cpframe.api import Layer
from cpframe.fisher.cotangents import Estimator, cotangents
from cpframe.fisher.examples import chunks, example_gradients, example_outputs
from cpframe.fisher.layers import check_layers, layers_of

__all__ = ["FisherTrace", "layerwise_trace"]

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FisherTrace:
    """The trace of the Fisher information by layer and by parameter, in nats squared; arrays are float64.

    Standard errors are those of the mean over inputs, from the spread of the values of single inputs; nan for one.

    Attributes:
        layers: names, (L,).
        mean: (L,) over inputs.
        stderr: (L,) of `mean`.
        n: number of inputs.
        parameters: names, (P,), as in ``model.named_parameters()``.
        parameter_mean: (P,) over inputs; 0 where the output does not depend on the parameter.
        parameter_stderr: (P,) of `parameter_mean`.
        estimator: which was used.
    """

    layers: tuple[str, ...]
    mean: Floats
    stderr: Floats
    n: int
    parameters: tuple[str, ...]
    parameter_mean: Floats
    parameter_stderr: Floats
    estimator: Estimator


def layerwise_trace(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None = None,
    *,
    estimator: Estimator = "model",
    layers: Sequence[Layer] | None = None,
    rng: Generator | None = None,
    draws: int = 1,
    chunk_mb: float = 256,
) -> FisherTrace:
    """Measure tr F of every layer of a classifier, by one of four estimators.

    ``model`` (the default) is unbiased: with C = diag(p) - p p^T = U L U^T, the gradient of the logits is pulled
    back from v = U sqrt(L) s, s random signs, for which E[v v^T] = C; much less noisy than sampled labels.
    ``exact`` sums over all classes. ``sampled`` draws labels from p. ``empirical`` takes the true labels, which
    gives the trace of another matrix: it falls below that of the Fisher information as training goes on.

    The model is left as it was: parameters, buffers, gradients, hooks, training mode, and torch's random state.

    Args:
        model: a classifier whose outputs are logits (N, K), K >= 2; each example must be treated on its own, so
            batch normalisation and dropout must be in eval mode. Parameters that do not require a gradient are
            measured like the others.
        images: its inputs, (N, ...), on its device.
        targets: labels (N,), integers in [0, K); for ``empirical`` only, else not looked at.
        estimator: ``model``, ``exact``, ``sampled`` or ``empirical``.
        layers: groups of parameters, each parameter in exactly one; by default those of `layers_of`.
        rng: for ``model`` and ``sampled``; by default a generator of seed 0. Drawn from on the host, input by
            input, so that neither the device nor `chunk_mb` has a say in the draws.
        draws: to average over, for each input; for ``model`` and ``sampled``, the others have nothing to draw.
        chunk_mb: memory for per-example gradients, in 10^6 bytes; at least one example is done at a time.

    Returns:
        Mean over the inputs, and its standard error, by layer and by parameter.

    Raises:
        ValueError: where a module is in train mode whose output then depends on the batch or on chance, the model
            has no parameters, `images` is empty, the outputs are not finite logits (N, K), the estimator is
            unknown, `draws` is below 1, `targets` is missing or wrong for ``empirical``, or `layers` does not have
            every parameter exactly once.
        RuntimeError: torch's own, where `torch.func.vmap` has no rule for an operation (recurrent modules) or meets
            random numbers that are no module's of torch.
    """
    if estimator not in get_args(Estimator):
        raise ValueError(f"unknown estimator {estimator!r}: there are {', '.join(get_args(Estimator))}")
    if draws < 1:
        raise ValueError(f"draws is {draws}, and must be at least 1")
    if images.ndim == 0 or len(images) == 0:
        raise ValueError("images is empty: the trace is a mean over at least one input")
    names = tuple(name for name, _ in model.named_parameters())
    if not names:
        raise ValueError("the model has no parameters, so it has no Fisher information")
    groups = layers_of(model) if layers is None else tuple(layers)
    check_layers(groups, names, "layers")
    labels = _labels(targets, len(images)) if estimator == "empirical" and targets is not None else None
    generator = np.random.default_rng(0) if rng is None else rng

    squares = torch.zeros(len(images), len(names), dtype=torch.float64, device=images.device)
    for part in chunks(model, len(images), chunk_mb):
        logits = _logits(model, images[part])
        some = None if labels is None else labels[part]
        for v in cotangents(logits, estimator, some, generator, draws):
            # Pulled back at length 1: of a confident model v is so small that squares would underflow in float32.
            lengths = np.linalg.norm(v, axis=1, keepdims=True)
            unit = torch.from_numpy(v / np.where(lengths > 0, lengths, 1)).to(images.device)
            pulled = example_gradients(model, _inner, images[part], unit)
            squares[part] += _squared_norms(pulled) * torch.from_numpy(lengths**2).to(images.device)
            del pulled  # before the next ones are made
    return _summarised(squares.cpu().numpy(), names, groups, estimator)


def _logits(model: nn.Module, inputs: Tensor) -> Floats:
    """Return (n, K) logits on the host, checked."""
    outputs = example_outputs(model, inputs)
    if not isinstance(outputs, Tensor) or outputs.ndim != 3 or outputs.shape[1] != 1 or outputs.shape[2] < 2:
        found = f"of one input has shape {tuple(outputs.shape[1:])}" if isinstance(outputs, Tensor) else "is no tensor"
        raise ValueError(f"the model's output {found}: logits of shape (N, K) are needed, K >= 2 classes")
    logits: Floats = outputs[:, 0].double().cpu().numpy()
    if not np.isfinite(logits).all():
        raise ValueError("the model's logits are not finite: it has diverged, or its inputs hold nan or inf")
    return logits


def _labels(targets: Tensor, n: int) -> NDArray[np.int64]:
    """Return the true labels (n,) on the host, checked but for their upper bound."""
    if targets.shape != (n,) or targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)} and type {targets.dtype}: labels are needed, integers ({n},)"
        )
    labels: NDArray[np.int64] = targets.cpu().numpy().astype(np.int64)
    if labels.min() < 0:
        raise ValueError(f"targets has class {labels.min()}: classes count from 0")
    return labels


def _inner(outputs: Tensor, v: Tensor) -> Tensor:
    return (outputs * v).sum(dim=1)


def _squared_norms(gradients: Mapping[str, Tensor]) -> Tensor:
    """Sum the squares of every example's gradient by parameter: -> (n, P), float64."""
    flat = [gradient.flatten(1) for gradient in gradients.values()]
    return torch.stack([torch.einsum("np,np->n", rows, rows) for rows in flat], dim=1).double()


def _summarised(values: Floats, names: tuple[str, ...], layers: tuple[Layer, ...], estimator: Estimator) -> FisherTrace:
    """Take means and standard errors over inputs, of the values (n, P) of single inputs and of their sums by layer."""
    column = {name: index for index, name in enumerate(names)}
    sums = [values[:, [column[name] for name in layer.parameters]].sum(axis=1) for layer in layers]
    both = np.column_stack([*sums, values])
    n = len(values)
    mean = both.mean(axis=0)
    stderr = both.std(axis=0, ddof=1) / np.sqrt(n) if n > 1 else np.full_like(mean, np.nan)
    cut = len(layers)
    return FisherTrace(
        layers=tuple(layer.name for layer in layers),
        mean=mean[:cut],
        stderr=stderr[:cut],
        n=n,
        parameters=names,
        parameter_mean=mean[cut:],
        parameter_stderr=stderr[cut:],
        estimator=estimator,
    )
