"""A first look at a model: is what the rules find right, what do they not cover, and how much memory is needed?

Two examples are measured by the rules and by plain automatic differentiation, with parameters near those of the model.
A parameter for which the two differ (the model may exchange dimensions, or mix the examples of a batch) is left to the
slower ways, as is one that no rule covers. The answer is kept with the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from cpframe.fisher.examples import called, looped_squares, vectorised_squares
from cpframe.fisher.sketching import Sketch
from cpframe.fisher.watching import Watch

__all__ = ["Plan", "asking_for_gradients", "examined", "watched"]


@dataclass(frozen=True)
class Plan:
    """How the parameters of a model are measured.

    Attributes:
        vectorised: names of those measured by `torch.func.vmap`.
        looped: names of those measured one example after the other. All others are measured by rules.
        example_bytes: memory that the rules' pass needs for an example, roughly and rather too much.
        outputs: the model's outputs for an example, K.
    """

    vectorised: frozenset[str]
    looped: frozenset[str]
    example_bytes: float
    outputs: int


_Key = tuple[object, ...]
_known: WeakKeyDictionary[nn.Module, dict[_Key, Plan]] = WeakKeyDictionary()
"""What was found, for as long as the model lives: an examination takes as long as some five examples."""


def examined(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> Plan:
    """Examine a model, or remember what was found.

    Args:
        model: its parameters ask for gradients.
        parameters: of it, by name.
        inputs: (N, ...), of which the first two are looked at.

    Raises:
        ValueError: where its outputs for an example are not (1, K), K >= 2.
    """
    key = (tuple(inputs.shape[1:]), inputs.dtype, inputs.device, tuple(map(type, model.modules())), tuple(parameters))
    plans = _known.setdefault(model, {})
    if key not in plans:
        plans[key] = _examined(model, parameters, inputs[:2])
    return plans[key]


def _examined(model: nn.Module, parameters: Mapping[str, nn.Parameter], inputs: Tensor) -> Plan:
    with torch.no_grad():
        outputs = called(model, parameters, inputs[:1])
    if not isinstance(outputs, Tensor) or outputs.ndim != 2 or len(outputs) != 1 or outputs.shape[1] < 2:
        shape = f" of one input has shape {tuple(outputs.shape)}" if isinstance(outputs, Tensor) else " is no tensor"
        raise ValueError(f"the model's output{shape}: logits of shape (N, K) are needed, K >= 2 classes")
    classes = outputs.shape[1]
    # Any direction will do, but not one that a symmetry of the model could blind.
    cotangents = torch.randn(2, classes, generator=torch.Generator().manual_seed(0))[: len(inputs)]
    cotangents = (cotangents / classes**0.5).to(device=outputs.device, dtype=outputs.dtype)
    generic = _displaced(parameters)
    truth = looped_squares(model, generic, inputs, cotangents, tuple(generic))

    by_rules: Mapping[str, Tensor] = {}
    example_bytes = 0.0
    # Should torch refuse something of this model under the watch, then none of it is measured so.
    with suppress(RuntimeError):
        watch, found_outputs = watched(model, generic, inputs, frozenset(), None)
        unwatched = watch.unwatched(found_outputs)
        squares = watch.squared_norms(found_outputs, cotangents, again=False)
        by_rules = {name: values for name, values in squares.items() if name not in unwatched | watch.uncovered}
        example_bytes = watch.bytes / len(inputs)
    rest = [name for name in parameters if not _same(by_rules.get(name), truth[name], truth)]
    vectorised: Mapping[str, Tensor] = {}
    if rest:
        with suppress(RuntimeError):  # vmap has no rule for some operations
            vectorised = vectorised_squares(model, generic, inputs, cotangents, rest, megabytes=1e3)
    looped = [name for name in rest if not _same(vectorised.get(name), truth[name], truth)]
    return Plan(frozenset(rest).difference(looped), frozenset(looped), example_bytes, classes)


def _displaced(parameters: Mapping[str, nn.Parameter]) -> dict[str, nn.Parameter]:
    """Parameters near those of the model: with weights of zero, say, there would be nothing to compare."""
    generator = torch.Generator().manual_seed(0)

    def displaced(parameter: nn.Parameter) -> nn.Parameter:
        if not parameter.is_floating_point():
            return parameter
        relative, absolute = (torch.randn(parameter.shape, generator=generator).to(parameter) for _ in range(2))
        return nn.Parameter(parameter.detach() * (1 + 0.1 * relative) + 0.01 * absolute)

    return {name: displaced(parameter) for name, parameter in parameters.items()}


def _same(found: Tensor | None, truth: Tensor, all_of_it: Mapping[str, Tensor]) -> bool:
    """Whether squared norms agree as well as their precision allows; None counts as zero."""
    if found is None:
        return not truth.any()
    rounded_products = truth.is_cuda and torch.backends.cuda.matmul.allow_tf32
    relative = {torch.float64: 1e-8, torch.float32: 2e-2 if rounded_products else 1e-3}.get(truth.dtype, 0.2)
    scale = max(float(values.max()) for values in all_of_it.values())
    return bool(((found - truth).abs() <= relative * (truth + 1e-6 * scale)).all())


def watched(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    inputs: Tensor,
    left_out: frozenset[str],
    sketch: Sketch | None,
) -> tuple[Watch, Tensor]:
    """Run the model forward under watch, but for some parameters; returns its outputs too."""
    watch = Watch(parameters, len(inputs), left_out, inputs.device, sketch)
    with torch.enable_grad(), watch:
        outputs: Tensor = called(model, parameters, inputs)
    return watch, outputs


@contextmanager
def asking_for_gradients(parameters: Mapping[str, nn.Parameter]) -> Iterator[None]:
    """Let every parameter ask for a gradient, so that its uses show in the graph; afterwards all is as it was."""
    before = {name: parameter.requires_grad for name, parameter in parameters.items()}
    try:
        for parameter in parameters.values():
            if parameter.is_floating_point():
                parameter.requires_grad_(True)
        yield
    finally:
        for name, parameter in parameters.items():
            parameter.requires_grad_(before[name])
