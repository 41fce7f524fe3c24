"""The trace of the Fisher information, layer by layer.

For the weights w of a layer, tr F = E_x E_{y ~ p(y|x)} ||grad_w log p(y|x)||^2: per example, with labels from the
model's own prediction (Achille, Rovere, Soatto, "Critical Learning Periods in Deep Networks", ICLR 2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import get_args

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor, nn

from cpframe.api import Layer
from cpframe.fisher.cotangents import Estimator, cotangents, passes
from cpframe.fisher.layers import check_layers, layers_of
from cpframe.fisher.per_sample.capture import watched
from cpframe.fisher.per_sample.gradients import check_modes, looped_squares, vectorised_squares, wide
from cpframe.fisher.per_sample.preserve import preserved
from cpframe.fisher.per_sample.sketch import Sketch
from cpframe.fisher.per_sample.verification import MeasurementPlan, verify
from cpframe.fisher.result import FisherTrace, Floats, summarised

__all__ = ["layerwise_trace"]

_MEMORY_MB = {"cuda": 4096.0}
"""By kind of device; elsewhere the least that keeps the matrices large."""
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
    """Measure tr F of every layer of a classifier, by one of four estimators.

    ``model`` (the default) is unbiased: the gradient of the logits is pulled back from v = R s, s random signs and
    R R^T = diag(p) - p p^T, for which E[v v^T] is that covariance of the labels; much less noisy than sampled labels.
    R is U sqrt(L) of its eigenvectors, on CUDA and for more than 64 classes its Cholesky factor. ``exact`` sums over
    all classes. ``sampled`` draws labels from p. ``empirical`` takes the true labels, which gives the trace of
    another matrix: it falls below that of the Fisher information as training goes on.

    Only gradients of activations are computed, and from these and the activations the norms; see `FisherTrace.rules`
    for which parameter is measured how. At the first call on a model two examples are checked against plain automatic
    differentiation. The model is left as it was, whatever happens: parameters, buffers, gradients, hooks, training
    mode, requires_grad, and torch's random state. Its own hooks run as in any pass.

    Args:
        model: a classifier whose outputs are logits (N, K), K >= 2; each example must be treated on its own, so
            batch normalisation and dropout must be in eval mode. Parameters that do not require a gradient are
            measured like the others.
        images: its inputs, (N, ...), on its device.
        targets: labels (N,), integers in [0, K); for ``empirical`` only, else not looked at.
        estimator: ``model``, ``exact``, ``sampled`` or ``empirical``.
        layers: groups of parameters, each parameter in exactly one; by default those of `layers_of`.
        rng: for ``model`` and ``sampled``, and for `sketch`; by default a generator of seed 0. Drawn from on the host,
            input by input, so that neither the device nor `memory_mb` has a say in the draws.
        draws: to average over, for each input; for ``model`` and ``sampled``, the others have nothing to draw.
        sketch: measure weights of convolutions, and of linear maps at several positions, through this many random
            combinations of their output channels: quicker, still unbiased, and noisier.
        memory_mb: for activations and what is computed of them, in 10^6 bytes; by default 128, on CUDA 4096. At
            least one example is done at a time.

    Returns:
        Mean over the inputs, and its standard error, by layer and by parameter, and what follows from them.

    Raises:
        ValueError: where a module is in train mode whose output then depends on the batch or on chance, the model
            has no parameters, `images` is empty, the outputs are not finite logits (N, K), or depend on others,
            gradients are not finite, the estimator is unknown, `draws`, `sketch` or `memory_mb` is out of range,
            `targets` is missing or wrong for ``empirical``, `layers` does not have every parameter exactly once, or
            the model uses reentrant checkpoints.
        TypeError: where an argument is of another kind.
    """
    _check(model, images, estimator, rng, draws, sketch, memory_mb)
    names = tuple(name for name, _ in model.named_parameters())
    groups = layers_of(model) if layers is None else tuple(layers)
    check_layers(groups, names, "layers")
    check_modes(model)
    labels = _labels(targets, len(images)) if estimator == "empirical" else None
    generator = np.random.default_rng(0) if rng is None else rng
    signs = None if sketch is None else Sketch(sketch, int(generator.integers(2**63)))
    memory = _MEMORY_MB.get(images.device.type, _MEMORY_MB_ELSEWHERE) if memory_mb is None else memory_mb

    # The others, of whole numbers or none at all, have no gradient.
    differentiable = ((name, p) for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex())
    parameters = {name: p for name, p in differentiable if p.numel()}
    with preserved(model, parameters, images):
        plan = verify(model, parameters, images)
        tally = _Tally(images, names)
        # Signs and cotangents are float64, and there are some copies of them.
        example_bytes = plan.example_bytes + 32 * plan.outputs * draws
        for part in _chunks(len(images), example_bytes, memory):
            one_pass = _OnePass(model, parameters, plan, images[part], signs and signs.of(part), memory)
            logits = tally.checked(one_pass.outputs)
            some = None if labels is None else tally.bounded(labels[part], plan.outputs)
            count = passes(estimator, plan.outputs, draws)
            for number, v in enumerate(cotangents(logits, estimator, some, generator, draws), start=1):
                # Pulled back at length 1: of a confident model v is so small that squares would underflow in float32.
                lengths = torch.linalg.vector_norm(v, dim=1)
                unit = v / torch.where(lengths > 0, lengths, 1)[:, None]
                tally.add(part, one_pass.squared_norms(unit, again=number < count), lengths.square())
            tally.rules |= one_pass.rules
        values, weights = tally.fetched(dict(model.named_parameters()), labels, plan.outputs)
    return summarised(values, weights, names, groups, tally.rules, estimator)


class _OnePass:
    """A forward pass, ready to be asked for the squared norms of every parameter's pull-backs."""

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        plan: MeasurementPlan,
        inputs: Tensor,
        sketch: Sketch | None,
        memory_mb: float,
    ) -> None:
        self._model, self._parameters, self._inputs = model, parameters, inputs
        self._plan, self._memory_mb = plan, memory_mb
        self._watch, self.outputs = watched(model, parameters, inputs, plan.vectorised | plan.looped, sketch)
        if self.outputs.shape != (len(inputs), plan.outputs):
            raise ValueError(
                f"the model's outputs for {len(inputs)} inputs have shape {tuple(self.outputs.shape)}, not "
                f"{(len(inputs), plan.outputs)} as for the first ones: each example must be treated on its own"
            )
        # What no rule covers here is mostly known from the examination; a model may do something else on other inputs.
        self._unwatched = self._watch.unwatched(self.outputs)

    def squared_norms(self, cotangents: Tensor, *, again: bool) -> dict[str, Tensor]:
        """Return (n,) by name, for all parameters that the outputs depend on."""
        cotangents = cotangents.to(self.outputs)
        squares = self._watch.squared_norms(self.outputs, cotangents, again=again)
        # What was not seen in the examination, since the model does something else on other inputs, is not relied on.
        uncovered = self._unwatched | self._watch.uncovered | (squares.keys() - self._plan.verified)
        squares = {name: values for name, values in squares.items() if name not in uncovered}
        if self._plan.vectorised:
            squares |= vectorised_squares(
                self._model, self._parameters, self._inputs, cotangents, self._plan.vectorised, self._memory_mb
            )
        looped = self._plan.looped | (uncovered - self._plan.vectorised)
        if looped:
            squares |= looped_squares(self._model, self._parameters, self._inputs, cotangents, looped)
        self.rules = {
            name: "vmap" if name in self._plan.vectorised else "loop" if name in looped else self._watch.rules[name]
            for name in squares
        }
        return squares


class _Tally:
    """Squared norms by parameter and example, and whether all is well, on the device until all is done."""

    def __init__(self, images: Tensor, names: tuple[str, ...]) -> None:
        self._wide = torch.float32 if images.device.type == "mps" else torch.float64
        self._squares = torch.zeros(len(names), len(images), dtype=self._wide, device=images.device)
        self._row = {name: row for row, name in enumerate(names)}
        self._unsound = torch.zeros(2, dtype=self._wide, device=images.device)
        self.rules: dict[str, str] = {}

    def checked(self, outputs: Tensor) -> Tensor:
        """The outputs in float64, without what is not finite, which is noted."""
        # MPS has no float64, nor eigenvectors.
        logits = outputs.detach().cpu().double() if outputs.device.type == "mps" else outputs.detach().double()
        finite = logits.isfinite()
        self._unsound[0] += (~finite).sum().to(self._unsound)
        return torch.where(finite, logits, 0)

    def bounded(self, labels: Tensor, classes: int) -> Tensor:
        """The labels as they can be, with the others noted."""
        within = labels.clamp(0, classes - 1)
        self._unsound[1] += (within != labels).sum().to(self._unsound)
        return within.cpu() if within.device.type == "mps" else within

    def add(self, part: slice, squares: Mapping[str, Tensor], scale: Tensor) -> None:
        """Add the squared norms (n,) by name of a run of examples, each scaled."""
        for name, values in squares.items():
            self._squares[self._row[name], part] += values.to(self._wide) * scale.to(self._squares)

    def fetched(
        self, parameters: Mapping[str, nn.Parameter], labels: Tensor | None, classes: int
    ) -> tuple[Floats, Floats]:
        """Wait for the device, once: (N, P) squared norms of gradients and (P,) of the parameters themselves.

        Raises:
            ValueError: where logits were not finite, or labels out of range.
        """
        # Parameters of whole numbers have a norm, too.
        norms = [torch.linalg.vector_norm(p.detach().to(wide(p.dtype))) for p in parameters.values()]
        weights = torch.stack([norm.to(self._wide).square() for norm in norms])
        everything = torch.cat([self._unsound, weights, self._squares.flatten()]).cpu().double().numpy()
        if everything[0]:
            raise ValueError("the model's logits are not finite: it has diverged, or its inputs hold nan or inf")
        if everything[1] and labels is not None:
            worst = int(labels.max()) if int(labels.max()) >= classes else int(labels.min())
            raise ValueError(
                f"targets has class {worst}, but the model has {classes} outputs: classes 0 to {classes - 1}"
            )
        count = len(weights)
        squares = everything[2 + count :].reshape(count, -1)
        wild = [name for name, row in zip(parameters, squares, strict=True) if not np.isfinite(row).all()]
        if wild:
            raise ValueError(f"the logits are finite, but their gradients by {', '.join(wild)} are not")
        return squares.T, everything[2 : 2 + count]


def _check(
    model: object,
    images: object,
    estimator: str,
    rng: object,
    draws: object,
    sketch: object,
    memory_mb: object,
) -> None:
    """Raise TypeError or ValueError where an argument cannot be."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is a {type(model).__name__}: a torch.nn.Module is needed")
    if isinstance(model, torch.jit.ScriptModule):
        raise TypeError("model is compiled by torch.jit, which hides its operations: give the one it was made of")
    if not isinstance(images, Tensor):
        raise TypeError(f"images is a {type(images).__name__}: a torch.Tensor is needed")
    if rng is not None and not isinstance(rng, Generator):
        raise TypeError(f"rng is a {type(rng).__name__}: a numpy Generator is needed, np.random.default_rng(0) say")
    if estimator not in get_args(Estimator):
        raise ValueError(f"unknown estimator {estimator!r}: there are {', '.join(get_args(Estimator))}")
    for name, value in (("draws", draws), ("sketch", sketch)):
        if name == "sketch" and value is None:
            continue
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}, and must be a whole number of at least 1")
    if memory_mb is not None and not (isinstance(memory_mb, (int, float)) and 0 < memory_mb < np.inf):
        raise ValueError(f"memory_mb is {memory_mb!r}, and must be a finite number above 0")
    if images.ndim == 0 or len(images) == 0:
        raise ValueError("images is empty: the trace is a mean over at least one input")
    if next(model.parameters(), None) is None:
        raise ValueError("the model has no parameters, so it has no Fisher information")


def _labels(targets: Tensor | None, n: int) -> Tensor:
    """Return the true labels (n,), checked but for their bounds."""
    if targets is None:
        raise ValueError("the estimator 'empirical' takes the true labels: give targets")
    if not isinstance(targets, Tensor):
        raise TypeError(f"targets is a {type(targets).__name__}: a torch.Tensor is needed")
    if targets.shape != (n,) or targets.is_floating_point() or targets.dtype == torch.bool:
        raise ValueError(
            f"targets has shape {tuple(targets.shape)} and type {targets.dtype}: labels are needed, integers ({n},)"
        )
    return targets.long()


def _chunks(n: int, example_bytes: float, memory_mb: float) -> Iterator[slice]:
    """Cut n examples into runs of even length that fit into the memory."""
    most = max(int(memory_mb * 1e6 / max(example_bytes, 1)), 1)
    length = -(-n // -(-n // most))
    for start in range(0, n, length):
        yield slice(start, min(start + length, n))
