"""Watches one forward pass: which function takes which parameter, and what the rules will need of it.

Every call of a torch function during the pass comes through `GradientCapture`. Where a function with a rule takes a
parameter, it is given a copy that asks for no gradient, and a hook on its output waits for the gradient there: so the
backward pass computes gradients of activations only, never of weights. It does not matter whether a module or the
model's own code makes the call, and the model itself gets no hooks.

What is seen by no rule keeps asking for a gradient, and so shows in the graph of the outputs: nothing is left out
unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cpframe.fisher.per_sample.gradients import called, wide
from cpframe.fisher.per_sample.rules import Rule, Use
from cpframe.fisher.per_sample.signatures import READERS
from cpframe.fisher.per_sample.sketch import Sketch

__all__ = ["GradientCapture", "graph", "watched"]


class _Rooted(torch.autograd.Function):
    """Gives outputs a root in the graph where they have none: neither inputs nor parameters ask for a gradient."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, anchor: Tensor) -> Tensor:  # noqa: ARG004
        # A copy: what is handed through would be a view, which the model could not change in place.
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradients[0], None


@dataclass(eq=False)
class _Watched:
    """A parameter, as the pass has used it so far: by which rules, how often, and what has come back."""

    rules: set[Rule] = field(default_factory=set)
    calls: int = 0
    uses: list[Use] = field(default_factory=list)


class GradientCapture(TorchFunctionMode):
    """Active as a context during one forward pass; then asked for squared norms, once for every backward pass."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        n: int,
        left_out: Iterable[str],
        device: torch.device,
        sketch: Sketch | None,
    ) -> None:
        """Be ready to watch.

        Args:
            parameters: of the model, by name, each once.
            n: number of examples in the pass.
            left_out: names of parameters whose uses are not to be watched.
            device: of the inputs.
            sketch: of output channels, or None for all of them.
        """
        super().__init__()
        self.anchor = torch.zeros((), device=device, requires_grad=True)
        self.bytes = 0
        """What the rules need at a time, beyond what the forward pass keeps; roughly."""
        self._n = n
        self._sketch = sketch
        self._all_names = {id(parameter): name for name, parameter in parameters.items()}
        self._names = {id(parameter): name for name, parameter in parameters.items() if name not in set(left_out)}
        self._watched: dict[str, _Watched] = {}
        self._spoiled: set[str] = set()
        self._squares: dict[str, Tensor] = {}
        self._roots: set[Any] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Let a function of torch through; where it takes a parameter and there is a rule, watch it."""
        kwargs = kwargs or {}
        reader = READERS.get(func)
        if reader is None or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        reading = reader(*args, **kwargs)
        if reading is None or not len(reading.inputs) or len(reading.inputs) % self._n:
            return func(*args, **kwargs)
        found = {self._names[id(p)]: rule for p, rule in reading.rules.items() if id(p) in self._names}
        if not found:
            return func(*args, **kwargs)
        own = {id(p) for p in reading.rules if id(p) in self._names}

        def quiet(value: Any) -> Any:
            return value.detach() if id(value) in own else value

        output: Tensor = func(*map(quiet, args), **{name: quiet(value) for name, value in kwargs.items()})
        if not self._rooted(output):
            output = _Rooted.apply(output, self.anchor)
            self._roots.add(output.grad_fn)
        self._expect(output, reading.inputs, reading.how, found)
        return output

    def _rooted(self, tensor: Tensor) -> bool:
        """Whether a backward pass to the anchor comes by this tensor; a gradient may be asked for by others too."""
        if any(node in self._roots for node in graph(tensor)):
            self._roots.add(tensor.grad_fn)  # whatever follows need not look as far back again
            return True
        return False

    def _expect(self, output: Tensor, inputs: Tensor, how: Any, found: Mapping[str, Rule]) -> None:
        for name, rule in found.items():
            watched = self._watched.setdefault(name, _Watched())
            watched.rules.add(rule)
            watched.calls += 1
        # The gradient that will come back, and a rule's copy of it or of the inputs.
        self.bytes = max(self.bytes, 2 * sum(tensor.numel() * tensor.element_size() for tensor in (inputs, output)))
        # Detached after the call, whose own normalisations of its inputs are then done.
        kept, version = inputs.detach(), inputs._version
        # The graph holds its hooks: were these to hold the watch, which holds the graph, nothing would ever be freed.
        watch = ref(self)

        def arrived(gradient: Tensor) -> None:
            self = watch()
            if self is None:
                return
            for name, rule in found.items():
                # A convolution's inputs that were changed in place later on are no longer those it was given.
                if inputs._version != version:
                    self._spoiled.add(name)
                watched = self._watched[name]
                use = Use(_widened(kept), _widened(gradient.detach()), how)
                watched.uses.append(self._sketch.sketched(name, rule, use) if self._sketch else use)
                if len(watched.uses) == watched.calls and name not in self._spoiled and len(watched.rules) == 1:
                    self._squares[name] = rule.squares(watched.uses, self._n)
                    watched.uses = []

        output.register_hook(arrived)  # type: ignore[no-untyped-call]

    def unwatched(self, outputs: Tensor) -> set[str]:
        """Names of the parameters that `outputs` depend on in another way than through what was watched."""
        leaves = (self._all_names.get(id(getattr(node, "variable", None))) for node in graph(outputs))
        return {name for name in leaves if name is not None}

    @property
    def rules(self) -> dict[str, str]:
        """The rule of every parameter watched; those under several rules at once are not here."""
        return {name: next(iter(w.rules)).name for name, w in self._watched.items() if len(w.rules) == 1}

    def squared_norms(self, outputs: Tensor, cotangent: Tensor, *, again: bool) -> dict[str, Tensor]:
        """Pull a cotangent back from the outputs.

        Args:
            outputs: of the pass, (n, K).
            cotangent: of their shape.
            again: whether there will be another.

        Returns:
            (n,) by name, for every parameter watched that a gradient reached, and whose uses one rule covers. What
            was spoiled by an in-place change is not among them: see `uncovered`.
        """
        self._squares = {}
        for watched in self._watched.values():
            watched.uses = []
        if outputs.requires_grad:
            torch.autograd.grad(outputs, self.anchor, cotangent, retain_graph=again, allow_unused=True)
        for name, watched in self._watched.items():
            # Some of its uses have no way to the outputs.
            if watched.uses and name not in self._spoiled and len(watched.rules) == 1:
                self._squares[name] = next(iter(watched.rules)).squares(watched.uses, self._n)
            watched.uses = []
        return self._squares

    @property
    def uncovered(self) -> set[str]:
        """Parameters watched for which the rules do not do: under several at once, or spoiled by in-place changes."""
        return self._spoiled | {name for name, watched in self._watched.items() if len(watched.rules) > 1}


def graph(outputs: Tensor) -> Iterator[Any]:
    """Yield every node of the graph that a tensor was computed by, each once."""
    seen: set[Any] = set()
    waiting: list[Any] = [outputs.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            waiting += [parent for parent, _ in node.next_functions]


def watched(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    inputs: Tensor,
    left_out: frozenset[str],
    sketch: Sketch | None,
) -> tuple[GradientCapture, Tensor]:
    """Run the model forward under watch, but for some parameters; returns its outputs too."""
    watch = GradientCapture(parameters, len(inputs), left_out, inputs.device, sketch)
    # Without anything to watch no graph need be kept.
    with torch.set_grad_enabled(len(left_out) < len(parameters)), watch:
        outputs = called(model, parameters, inputs)
    return watch, outputs


def _widened(values: Tensor) -> Tensor:
    return values.to(wide(values.dtype)) if values.is_floating_point() else values
