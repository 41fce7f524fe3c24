"""A first look at a model: is what the rules find right, what do they not cover, and how much memory is needed?

Two examples, in both orders, are measured by the rules and by plain automatic differentiation, with parameters near
those of the model. A parameter for which the two differ (the model may exchange dimensions) is left to the slower ways,
as is one that no rule covers. A model whose output for an example depends on the others of its batch, or on chance, has
no gradient of an example, and is refused. The answer is kept with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cpframe.fisher.per_sample.capture import graph, watched
from cpframe.fisher.per_sample.gradients import called, looped_squares, vectorised_squares

__all__ = ["MeasurementPlan", "verify"]


@dataclass(frozen=True)
class MeasurementPlan:
    """How the parameters of a model are measured.

    Attributes:
        verified: names of those that rules measure, found right on two examples.
        vectorised: names of those measured by `torch.func.vmap`.
        looped: names of those measured one example after the other. All others had no gradient.
        example_bytes: memory that a forward pass keeps for an example, and that the rules need.
        outputs: the model's outputs for an example, K.
    """

    verified: frozenset[str]
    vectorised: frozenset[str]
    looped: frozenset[str]
    example_bytes: float
    outputs: int


_known: WeakKeyDictionary[nn.Module, dict[object, MeasurementPlan]] = WeakKeyDictionary()
"""What was found, for as long as the model lives: an examination takes as long as some ten examples."""
_MOST_KNOWN = 16
"""Plans kept for one model, of one shape of inputs each, say."""
_HIDING = "CheckpointFunctionBackward"
"""The node of a reentrant checkpoint, behind which nothing can be seen."""


def verify(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> MeasurementPlan:
    """Examine a model, or remember what was found.

    Args:
        model: its parameters ask for gradients.
        parameters: of it, by name, that can have gradients.
        inputs: (N, ...), of which the first and the last are looked at.

    Raises:
        ValueError: where its outputs for an example are not (1, K), K >= 2, or depend on other examples or chance.
    """
    key = _fingerprint(model, parameters, inputs)
    plans = _known.setdefault(model, {})
    if key not in plans:
        if len(plans) >= _MOST_KNOWN:
            plans.clear()
        two = torch.stack([inputs[-1], inputs[0]]) if len(inputs) > 1 else inputs
        plans[key] = _examined(model, parameters, two)
    return plans[key]


def _fingerprint(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> object:
    """All that is quickly told of what decides which functions the model calls, and how."""
    device = inputs.device.type
    plain = (bool, int, float, str, tuple, type(None))
    modules = tuple(
        (
            type(module),
            tuple((name, repr(value)) for name, value in vars(module).items() if isinstance(value, plain)),
            tuple(map(id, (*module._forward_pre_hooks.values(), *module._forward_hooks.values()))),
        )
        for module in model.modules()
    )
    weights = tuple((name, tuple(p.shape), p.dtype) for name, p in parameters.items())
    autocast = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
    # A single example shows nothing of how several lie in a tensor.
    return tuple(inputs.shape[1:]), len(inputs) > 1, inputs.dtype, inputs.device, autocast, modules, weights


def _examined(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> MeasurementPlan:
    generic = _displaced(parameters)
    classes, example_bytes = _forward(model, generic, inputs)
    # Any direction will do, but not one that a symmetry of the model could blind.
    cotangents = torch.randn(2, classes, generator=torch.Generator().manual_seed(0))[: len(inputs)]
    cotangents = (cotangents / classes**0.5).to(inputs.device)
    truth = looped_squares(model, generic, inputs, cotangents, tuple(generic))
    scale = max(float(values.max()) for values in truth.values())

    ruled, needed = _by_rules(model, generic, inputs, cotangents)
    turned, _ = _by_rules(model, generic, inputs.flip(0), cotangents.flip(0))
    reached = [name for name, values in truth.items() if values.any()]
    verified = {
        name
        for name in reached
        if name in ruled and name in turned and _same(ruled[name], truth[name], scale, inputs)
        if _same(turned[name].flip(0), truth[name], scale, inputs)
    }
    rest = [name for name in reached if name not in verified]
    vectorised: Mapping[str, Tensor] = {}
    if rest:
        with suppress(RuntimeError):  # vmap has no rule for some operations
            vectorised = vectorised_squares(model, generic, inputs, cotangents, rest, megabytes=1e3)
    right = {name for name, values in vectorised.items() if _same(values, truth[name], scale, inputs)}
    looped = frozenset(rest) - right
    return MeasurementPlan(frozenset(verified), frozenset(right), looped, example_bytes + needed, classes)


def _forward(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> tuple[int, float]:
    """Run the model on two examples, together and each alone: the number of its outputs, and bytes for an example.

    Raises:
        ValueError: where outputs are no logits, or those of one example differ.
    """
    kept: dict[int, int] = {}

    def counted(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # itself, it would be held by its own graph, for ever

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(counted, lambda tensor: tensor):
        together = called(model, parameters, inputs)
    if isinstance(together, Tensor) and any(type(node).__name__ == _HIDING for node in graph(together)):
        raise ValueError(
            "the model uses torch.utils.checkpoint with use_reentrant=True, which hides its parameters: pass"
            " use_reentrant=False"
        )
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters.values()}
    with torch.no_grad():
        alone = [called(model, parameters, one) for one in inputs[:, None]]
    for n, outputs in ((len(inputs), together), *((1, one) for one in alone)):
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[1] < 2:
            shape = (
                f" for {n} inputs has shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else " is no tensor"
            )
            raise ValueError(f"the model's output{shape}: logits of shape (N, K) are needed, K >= 2 classes")
    apart = torch.cat(alone)
    if together.shape != apart.shape or not _alike(together.detach(), apart, inputs):
        raise ValueError(
            "the model's output for an input depends on the other inputs of its batch, or on chance: there is no"
            " gradient of a single example; is all of it in eval mode?"
        )
    return apart.shape[1], sum(size for place, size in kept.items() if place not in own) / len(inputs)


def _by_rules(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor, cotangents: Tensor
) -> tuple[dict[str, Tensor], float]:
    """Squared norms by name of what rules cover, and bytes for an example; none where torch refuses something."""
    with suppress(RuntimeError):
        watch, outputs = watched(model, parameters, inputs, frozenset(), None)
        unwatched = watch.unwatched(outputs)
        squares = watch.squared_norms(outputs, cotangents.to(outputs.dtype), again=False)
        found = {name: values for name, values in squares.items() if name not in unwatched | watch.uncovered}
        return found, watch.bytes / len(inputs)
    return {}, 0.0


def _displaced(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Parameters near those of the model: with weights of zero, say, there would be nothing to compare."""
    generator = torch.Generator().manual_seed(0)

    def displaced(parameter: nn.Parameter) -> nn.Parameter:
        relative, absolute = (torch.randn(parameter.shape, generator=generator).to(parameter) for _ in range(2))
        return nn.Parameter(parameter.detach() * (1 + 0.1 * relative) + 0.01 * absolute)

    return {name: displaced(parameter) for name, parameter in parameters.items()}


def _alike(together: Tensor, apart: Tensor, inputs: Tensor) -> bool:
    """Whether outputs agree, but for rounding: of a logit near 0 that is beside the largest, not beside itself."""
    finite = together.isfinite() & apart.isfinite()
    scale = torch.where(finite, apart.abs(), 0).max()
    close = (together - apart).abs() <= _coarse(apart.dtype, inputs) * scale
    return bool((close | ~(together.isfinite() | apart.isfinite())).all())


def _same(found: Tensor, truth: Tensor, scale: float, inputs: Tensor) -> bool:
    """Whether squared norms agree as well as their precision allows; those far below `scale` need not."""
    return bool(((found - truth).abs() <= _coarse(truth.dtype, inputs) * (truth + 1e-6 * scale)).all())


def _coarse(dtype: torch.dtype, inputs: Tensor) -> float:
    """Relative rounding of sums in this precision that is certainly no mistake."""
    if torch.is_autocast_enabled(inputs.device.type):
        return 0.1
    coarse = {torch.float64: 1e-8, torch.float32: 1e-3}.get(dtype, 0.1)
    return max(coarse, 2e-2) if inputs.is_cuda and torch.backends.cuda.matmul.allow_tf32 else coarse
