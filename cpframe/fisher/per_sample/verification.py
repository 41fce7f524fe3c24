"""The verification of the rules on a model: which parameters they cover, and how much memory a measurement needs.

Two examples, in both orders, are measured by the rules and by automatic differentiation, with parameters close to those
of the model. A parameter for which the two disagree (the model may exchange dimensions) or that no rule covers is left
to vmap or the loop. A model whose output for an example depends on other examples or on chance is refused, because a
single example then has no gradient of its own. The result is cached with the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cpframe.fisher.per_sample.capture import capture, graph_nodes
from cpframe.fisher.per_sample.gradients import call_model, loop_squared_norms, vmap_squared_norms

__all__ = ["MeasurementPlan", "perturb", "verify"]


@dataclass(frozen=True)
class MeasurementPlan:
    """The method by which each parameter of a model is measured; a parameter in none of the sets has no gradient.

    Attributes:
        verified: the names of parameters measured by rules, which agreed on two examples.
        vectorised: the names of parameters measured by `torch.func.vmap`.
        looped: the names of parameters measured one example at a time.
        example_bytes: the memory per example of the forward pass and the rules.
        outputs: the number K of the model's outputs per example.
    """

    verified: frozenset[str]
    vectorised: frozenset[str]
    looped: frozenset[str]
    example_bytes: float
    outputs: int


_cache: WeakKeyDictionary[nn.Module, dict[object, MeasurementPlan]] = WeakKeyDictionary()
"""The plans of each model that is alive; a verification takes as long as about ten examples."""
_MAX_PLANS = 16
"""The most plans per model, for different shapes of inputs for instance."""
_CHECKPOINT_NODE = "CheckpointFunctionBackward"
"""The graph node of a reentrant checkpoint, which hides all nodes behind it."""


def verify(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> MeasurementPlan:
    """Return the plan for a model, from the cache if it was verified before.

    Args:
        model: the model, whose parameters require gradients.
        parameters: its differentiable parameters by name.
        inputs: the inputs, (N, ...); the first and the last are used.

    Raises:
        ValueError: when the outputs for an example are not (1, K), K >= 2, or depend on other examples or on chance.
    """
    key = _fingerprint(model, parameters, inputs)
    plans = _cache.setdefault(model, {})
    if key not in plans:
        if len(plans) >= _MAX_PLANS:
            plans.clear()
        two = torch.stack([inputs[-1], inputs[0]]) if len(inputs) > 1 else inputs
        plans[key] = _plan(model, parameters, two)
    return plans[key]


def _fingerprint(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> object:
    """Return the facts that determine which functions the model calls, with which arguments, and are quick to read."""
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
    # A single example does not show how the model arranges several examples in a tensor.
    return tuple(inputs.shape[1:]), len(inputs) > 1, inputs.dtype, inputs.device, autocast, modules, weights


def _plan(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> MeasurementPlan:
    """Measure two examples by every method, and choose for each parameter the fastest that is correct."""
    perturbed = perturb(parameters)
    classes, example_bytes = _check_outputs(model, perturbed, inputs)
    # Random directions, because a symmetry of the model could hide an error in a special one.
    cotangents = torch.randn(2, classes, generator=torch.Generator().manual_seed(0))[: len(inputs)]
    cotangents = (cotangents / classes**0.5).to(inputs.device)
    truth = loop_squared_norms(model, perturbed, inputs, cotangents, tuple(perturbed))
    scale = max(float(values.max()) for values in truth.values())

    by_rules, rule_bytes = _rule_squared_norms(model, perturbed, inputs, cotangents)
    flipped, _ = _rule_squared_norms(model, perturbed, inputs.flip(0), cotangents.flip(0))
    reached = [name for name, values in truth.items() if values.any()]
    verified = {
        name
        for name in reached
        if name in by_rules and name in flipped and _norms_agree(by_rules[name], truth[name], scale, inputs)
        if _norms_agree(flipped[name].flip(0), truth[name], scale, inputs)
    }
    rest = [name for name in reached if name not in verified]
    by_vmap: Mapping[str, Tensor] = {}
    if rest:
        with suppress(RuntimeError):  # vmap does not support some operations
            by_vmap = vmap_squared_norms(model, perturbed, inputs, cotangents, rest, megabytes=1e3)
    vectorised = {name for name, values in by_vmap.items() if _norms_agree(values, truth[name], scale, inputs)}
    looped = frozenset(rest) - vectorised
    return MeasurementPlan(frozenset(verified), frozenset(vectorised), looped, example_bytes + rule_bytes, classes)


def _check_outputs(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> tuple[int, float]:
    """Run two examples together and separately; return the number of outputs and the memory per example in bytes.

    Raises:
        ValueError: when the outputs are not logits, or those of an example differ between the two.
    """
    saved: dict[int, int] = {}

    def record(tensor: Tensor) -> Tensor:
        saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # the tensor itself would be part of its own graph, which is never freed then

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
        together = call_model(model, parameters, inputs)
    if isinstance(together, Tensor) and any(type(node).__name__ == _CHECKPOINT_NODE for node in graph_nodes(together)):
        raise ValueError(
            "the model uses torch.utils.checkpoint with use_reentrant=True, which hides its parameters; pass"
            " use_reentrant=False"
        )
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters.values()}
    with torch.no_grad():
        alone = [call_model(model, parameters, example) for example in inputs[:, None]]
    for n, outputs in ((len(inputs), together), *((1, single) for single in alone)):
        if not isinstance(outputs, Tensor) or outputs.ndim != 2 or outputs.shape[1] < 2:
            given = f"shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else f"a {type(outputs).__name__}"
            raise ValueError(f"the model's output for {n} inputs must be logits of shape (N, K), K >= 2, not {given}")
    apart = torch.cat(alone)
    if together.shape != apart.shape or not _outputs_agree(together.detach(), apart, inputs):
        raise ValueError(
            "the model's output for an input depends on the other inputs of its batch, or on chance, so a single"
            " example has no gradient of its own; check that all its modules are in eval mode"
        )
    return apart.shape[1], sum(size for address, size in saved.items() if address not in own) / len(inputs)


def _rule_squared_norms(
    model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor, cotangents: Tensor
) -> tuple[dict[str, Tensor], float]:
    """Return squared norms by name where rules cover them, and bytes per example; nothing where torch raises."""
    with suppress(RuntimeError):
        context, outputs = capture(model, parameters, inputs, frozenset(), None)
        missed = context.missed(outputs)
        squares = context.squared_norms(outputs, cotangents.to(outputs.dtype), retain_graph=False)
        covered = {name: values for name, values in squares.items() if name not in missed | context.uncovered}
        return covered, context.bytes / len(inputs)
    return {}, 0.0


def perturb(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Return parameters close to the given ones; with weights of zero, for instance, there is nothing to compare."""
    generator = torch.Generator().manual_seed(0)

    def move(parameter: nn.Parameter) -> nn.Parameter:
        relative, absolute = (torch.randn(parameter.shape, generator=generator).to(parameter) for _ in range(2))
        return nn.Parameter(parameter.detach() * (1 + 0.1 * relative) + 0.01 * absolute)

    return {name: move(parameter) for name, parameter in parameters.items()}


def _outputs_agree(together: Tensor, apart: Tensor, inputs: Tensor) -> bool:
    """Return whether outputs agree up to rounding, which is relative to the largest logit, not to each."""
    finite = together.isfinite() & apart.isfinite()
    scale = torch.where(finite, apart.abs(), 0).max()
    close = (together - apart).abs() <= _tolerance(apart.dtype, inputs) * scale
    return bool((close | ~(together.isfinite() | apart.isfinite())).all())


def _norms_agree(values: Tensor, truth: Tensor, scale: float, inputs: Tensor) -> bool:
    """Return whether squared norms agree up to rounding; differences far below `scale` do not count."""
    return bool(((values - truth).abs() <= _tolerance(truth.dtype, inputs) * (truth + 1e-6 * scale)).all())


def _tolerance(dtype: torch.dtype, inputs: Tensor) -> float:
    """Return a relative difference that rounding of sums can explain in this precision."""
    if torch.is_autocast_enabled(inputs.device.type):
        return 0.1
    tolerance = {torch.float64: 1e-8, torch.float32: 1e-3}.get(dtype, 0.1)
    return max(tolerance, 2e-2) if inputs.is_cuda and torch.backends.cuda.matmul.allow_tf32 else tolerance
