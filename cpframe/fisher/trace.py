"""The trace of the Fisher information of each layer.

For the weights w of a layer, tr F = E_x E_{y ~ p(y|x)} ||grad_w log p(y|x)||^2: per example, with labels from the
model's own prediction (Achille, Rovere, Soatto, "Critical Learning Periods in Deep Networks", ICLR 2019).

The estimators differ in the expectation over labels. ``model`` is unbiased: it pulls back v = R s, where s are random
signs and R R^T = diag(p) - p p^T is the covariance of the labels; its noise is much smaller than that of sampled
labels. R is U sqrt(L) from the eigenvectors, or the Cholesky factor on CUDA and for more than 64 classes. ``exact``
sums over all classes. ``sampled`` samples labels from p. ``empirical`` uses the true labels, which gives the trace of
another matrix: it falls below that of the Fisher information in the course of training.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from cpframe.api import Layer
from cpframe.fisher.cotangents import Estimator, cotangent_count, cotangents
from cpframe.fisher.layers import check_layers, layers_of
from cpframe.fisher.per_sample.forward_pass import ForwardPass
from cpframe.fisher.per_sample.gradients import at_least_float32, check_modes
from cpframe.fisher.per_sample.preserve import preserve_model
from cpframe.fisher.per_sample.sketch import Sketch
from cpframe.fisher.per_sample.verification import verify
from cpframe.fisher.result import FisherTrace, Floats, summarise

__all__ = ["layerwise_trace"]

_MEMORY_MB = {"cuda": 4096.0}
"""The default memory per kind of device. Elsewhere it is the least that keeps the matrices large."""
_MEMORY_MB_ELSEWHERE = 128.0


def layerwise_trace(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None = None,
    *,
    estimator: Estimator = "model",
    layers: Sequence[Layer] | None = None,
    rng: Generator | None = None,
    draws: int = 1,
    sketch: int | None = None,
    memory_mb: float | None = None,
) -> FisherTrace:
    """Measure tr F of each layer of a classifier.

    The norms are computed from activations and their gradients; `FisherTrace.rules` names the rule of each parameter.
    The first call on a model checks the rules on two examples against automatic differentiation. The model is unchanged
    afterwards, whatever happens: parameters, buffers, gradients, hooks, training mode, requires_grad, and torch's
    random state. Its own hooks run as in any forward pass.

    Args:
        model: a classifier whose outputs are logits (N, K), K >= 2. Its output for an example must not depend on other
            examples, so batch normalisation and dropout must be in eval mode. Frozen parameters are measured too.
        images: the inputs, (N, ...), on the model's device.
        targets: the labels, integers (N,) in [0, K); for ``empirical`` only, else ignored.
        estimator: ``model``, ``exact``, ``sampled`` or ``empirical``, see `cpframe.fisher.trace`.
        layers: groups of parameters, each parameter in exactly one; by default those of `layers_of`.
        rng: the random generator for ``model``, ``sampled`` and `sketch`, by default of seed 0. It is used on the host,
            input by input, so neither the device nor `memory_mb` changes the draws.
        draws: the number of draws per input to average over; for ``model`` and ``sampled`` only.
        sketch: the number of random combinations of output channels by which weights of convolutions, and of linear
            maps at several positions, are measured: faster and still unbiased, but noisier; by default all channels.
        memory_mb: the memory for activations and intermediate results, in 10^6 bytes, for at least one example at a
            time; by default 128, on CUDA 4096.

    Raises:
        ValueError: when the mode of a module makes the output depend on the batch or on chance, the model uses
            reentrant checkpoints or has no parameters, outputs are not finite logits (N, K), gradients are not finite,
            `layers` does not contain each parameter exactly once, or another argument is out of range.
        TypeError: when an argument has the wrong type.
    """
    _check_model(model, images)
    _check_settings(estimator, rng, draws, sketch, memory_mb)
    names = tuple(name for name, _ in model.named_parameters())
    groups = layers_of(model) if layers is None else tuple(layers)
    check_layers(groups, names, "layers")
    check_modes(model)
    labels = _labels(targets, len(images)) if estimator == "empirical" else None
    generator = np.random.default_rng(0) if rng is None else rng
    signs = None if sketch is None else Sketch(sketch, int(generator.integers(2**63)))
    memory = _MEMORY_MB.get(images.device.type, _MEMORY_MB_ELSEWHERE) if memory_mb is None else memory_mb
    values, weights, rules = _measure(model, images, labels, _Settings(estimator, generator, draws, signs, memory))
    return summarise(values, weights, names, groups, rules, estimator)


@dataclass(frozen=True)
class _Settings:
    """The checked settings of a measurement; see `layerwise_trace`."""

    estimator: Estimator
    rng: Generator
    draws: int
    sketch: Sketch | None
    memory_mb: float


def _measure(
    model: nn.Module, images: Tensor, labels: Tensor | None, settings: _Settings
) -> tuple[Floats, Floats, dict[str, str]]:
    """Return squared gradient norms (N, P), squared parameter norms (P,), and the rules of parameters by name."""
    # Integer and empty parameters have no gradient.
    floating = ((name, p) for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex())
    parameters = {name: p for name, p in floating if p.numel()}
    rules: dict[str, str] = {}
    with preserve_model(model, parameters, images):
        plan = verify(model, parameters, images)
        accumulator = _Accumulator(images, [name for name, _ in model.named_parameters()])
        # Signs and cotangents are float64, and several copies of them exist at a time.
        example_bytes = plan.example_bytes + 32 * plan.outputs * settings.draws
        count = cotangent_count(settings.estimator, plan.outputs, settings.draws)
        for part in _slices(len(images), example_bytes, settings.memory_mb):
            sketch = settings.sketch and settings.sketch.for_examples(part)
            forward = ForwardPass(model, parameters, plan, images[part], sketch, settings.memory_mb)
            logits = accumulator.finite_logits(forward.outputs)
            targets = None if labels is None else accumulator.valid_labels(labels[part], plan.outputs)
            pulled = cotangents(logits, settings.estimator, targets, settings.rng, settings.draws)
            for number, v in enumerate(pulled, start=1):
                # Pulled back at unit length: for a confident model v is so small that squares underflow in float32.
                lengths = torch.linalg.vector_norm(v, dim=1)
                unit = v / torch.where(lengths > 0, lengths, 1)[:, None]
                squares, used = forward.squared_norms(unit, retain_graph=number < count)
                accumulator.add(part, squares, lengths.square())
                rules |= used
        values, weights = accumulator.fetch(dict(model.named_parameters()), labels, plan.outputs)
    return values, weights, rules


class _Accumulator:
    """Squared norms per parameter and example, and counts of invalid values, on the device until the end."""

    def __init__(self, images: Tensor, names: Sequence[str]) -> None:
        self._dtype = torch.float32 if images.device.type == "mps" else torch.float64
        self._squares = torch.zeros(len(names), len(images), dtype=self._dtype, device=images.device)
        self._row = {name: row for row, name in enumerate(names)}
        self._invalid = torch.zeros(2, dtype=self._dtype, device=images.device)

    def finite_logits(self, outputs: Tensor) -> Tensor:
        """Return the outputs in float64, with 0 in place of values that are not finite, which are counted."""
        # MPS has neither float64 nor eigenvectors.
        logits = outputs.detach().cpu().double() if outputs.device.type == "mps" else outputs.detach().double()
        finite = logits.isfinite()
        self._invalid[0] += (~finite).sum().to(self._invalid)
        return torch.where(finite, logits, 0)

    def valid_labels(self, labels: Tensor, classes: int) -> Tensor:
        """Return the labels clamped to the classes; those out of range are counted."""
        valid = labels.clamp(0, classes - 1)
        self._invalid[1] += (valid != labels).sum().to(self._invalid)
        return valid.cpu() if valid.device.type == "mps" else valid

    def add(self, part: slice, squares: Mapping[str, Tensor], scale: Tensor) -> None:
        """Add the squared norms (n,) by name of a slice of the examples, multiplied by `scale` (n,)."""
        for name, values in squares.items():
            self._squares[self._row[name], part] += values.to(self._dtype) * scale.to(self._squares)

    def fetch(
        self, parameters: Mapping[str, nn.Parameter], labels: Tensor | None, classes: int
    ) -> tuple[Floats, Floats]:
        """Return squared norms of gradients (N, P) and of parameters (P,) on the host; this waits for the device once.

        Raises:
            ValueError: when logits or gradients were not finite, or labels out of range.
        """
        norms = [torch.linalg.vector_norm(p.detach().to(at_least_float32(p.dtype))) for p in parameters.values()]
        weights = torch.stack([norm.to(self._dtype).square() for norm in norms])
        host = torch.cat([self._invalid, weights, self._squares.flatten()]).cpu().double().numpy()
        if host[0]:
            raise ValueError("the model's logits are not finite: it has diverged, or its inputs contain nan or inf")
        if host[1] and labels is not None:
            label = int(labels.max()) if int(labels.max()) >= classes else int(labels.min())
            raise ValueError(
                f"targets must be classes from 0 to {classes - 1}, since the model has {classes} outputs, not {label}"
            )
        count = len(weights)
        squares = host[2 + count :].reshape(count, -1)
        non_finite = [name for name, row in zip(parameters, squares, strict=True) if not np.isfinite(row).all()]
        if non_finite:
            raise ValueError(
                f"the logits are finite, but their gradients with respect to {', '.join(non_finite)} are not"
            )
        return squares.T, host[2 : 2 + count]


def _check_model(model: object, images: object) -> None:
    """Raise TypeError or ValueError where the model or the images are invalid."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, not a {type(model).__name__}")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("model is compiled by torch.jit, which hides its operations; give the original module")
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a torch.Tensor, not a {type(images).__name__}")
    if images.ndim == 0 or len(images) == 0:
        raise ValueError("images is empty: the trace is a mean over at least one input")
    if next(model.parameters(), None) is None:
        raise ValueError("the model has no parameters, so it has no Fisher information")


def _check_settings(estimator: str, rng: object, draws: object, sketch: object, memory_mb: object) -> None:
    """Raise TypeError or ValueError where a setting is invalid."""
    if rng is not None and not isinstance(rng, Generator):
        raise TypeError(f"rng must be a numpy Generator, such as np.random.default_rng(0), not a {type(rng).__name__}")
    if estimator not in get_args(Estimator):
        raise ValueError(f"estimator must be one of {', '.join(get_args(Estimator))}, not {estimator!r}")
    for name, value in (("draws", draws), ("sketch", 1 if sketch is None else sketch)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}")
    if memory_mb is not None and not (isinstance(memory_mb, (int, float)) and 0 < memory_mb < np.inf):
        raise ValueError(f"memory_mb must be a finite number above 0, not {memory_mb!r}")


def _labels(targets: Tensor | None, n: int) -> Tensor:
    """Return the true labels (n,); whether they are in range is checked later, together with the logits."""
    if targets is None:
        raise ValueError("the estimator 'empirical' needs the true labels: give targets")
    if not isinstance(targets, Tensor):
        raise TypeError(f"targets must be a torch.Tensor, not a {type(targets).__name__}")
    if targets.shape != (n,) or targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(
            f"targets must be labels, integers of shape ({n},), not {targets.dtype} of shape {tuple(targets.shape)}"
        )
    return targets.long()


def _slices(n: int, example_bytes: float, memory_mb: float) -> Iterator[slice]:
    """Yield slices of nearly equal length that cover n examples, each within the memory."""
    most = max(int(memory_mb * 1e6 / max(example_bytes, 1)), 1)
    length = -(-n // -(-n // most))
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))
