"""The capture of one forward pass: which function uses which parameter, and the tensors that the rules need.

`GradientCapture` intercepts each call of a torch function during the pass. A function with a rule receives detached
copies of its parameters, and a hook on its output receives the gradient there. The backward pass therefore computes
gradients of activations only, never of weights. It makes no difference whether a module or the model's own code calls
the function, and no hooks are registered on the model.

A parameter used by a function without a rule still requires a gradient and is found in the graph of the outputs, so no
use is missed silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from weakref import ref

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from cpframe.fisher.per_sample.gradients import at_least_float32, call_model
from cpframe.fisher.per_sample.rules import Rule, Use
from cpframe.fisher.per_sample.signatures import SIGNATURES, Call
from cpframe.fisher.per_sample.sketch import Sketch

__all__ = ["GradientCapture", "capture", "graph_nodes"]


class _Attach(torch.autograd.Function):
    """Attaches outputs to the anchor, a leaf of the graph, when neither inputs nor parameters require a gradient."""

    @staticmethod
    def forward(ctx: Any, outputs: Tensor, anchor: Tensor) -> Tensor:  # noqa: ARG004
        # A copy, because a view could not be changed in place by the model.
        return outputs.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ARG004
        return gradients[0], None


@dataclass(eq=False)
class _Record:
    """The captured calls with one parameter: their rules and number, and the uses whose gradient has arrived."""

    rules: set[Rule] = field(default_factory=set)
    calls: int = 0
    uses: list[Use] = field(default_factory=list)


class GradientCapture(TorchFunctionMode):
    """A context for one forward pass; afterwards it gives the squared norms of any number of backward passes."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        n: int,
        excluded: Iterable[str],
        device: torch.device,
        sketch: Sketch | None,
    ) -> None:
        """Create the context.

        Args:
            parameters: the model's parameters by name, each once.
            n: the number of examples in the pass.
            excluded: the names of parameters that are not captured.
            device: the device of the inputs.
            sketch: the sketch of output channels, or None.
        """
        super().__init__()
        self.anchor = torch.zeros((), device=device, requires_grad=True)
        self.bytes = 0
        """The approximate memory that the rules need at a time, in addition to that of the forward pass."""
        self._n = n
        self._sketch = sketch
        self._all_names = {id(parameter): name for name, parameter in parameters.items()}
        self._names = {id(parameter): name for name, parameter in parameters.items() if name not in set(excluded)}
        self._records: dict[str, _Record] = {}
        self._modified: set[str] = set()
        self._squares: dict[str, Tensor] = {}
        self._attached: set[Any] = set()

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a torch function; capture the call if it uses a parameter and there is a rule."""
        kwargs = kwargs or {}
        signature = SIGNATURES.get(func)
        if signature is None or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        call = signature(*args, **kwargs)
        if call is None or not len(call.inputs) or len(call.inputs) % self._n:
            return func(*args, **kwargs)
        rules = {self._names[id(p)]: rule for p, rule in call.rules.items() if id(p) in self._names}
        if not rules:
            return func(*args, **kwargs)
        captured = {id(p) for p in call.rules if id(p) in self._names}

        def detach(value: Any) -> Any:
            return value.detach() if id(value) in captured else value

        output: Tensor = func(*map(detach, args), **{name: detach(value) for name, value in kwargs.items()})
        if not self._reaches_anchor(output):
            output = _Attach.apply(output, self.anchor)
            self._attached.add(output.grad_fn)
        self._register(output, call, rules)
        return output

    def _reaches_anchor(self, tensor: Tensor) -> bool:
        """Return whether a backward pass to the anchor passes through this tensor."""
        if any(node in self._attached for node in graph_nodes(tensor)):
            self._attached.add(tensor.grad_fn)  # shortens the search for later tensors
            return True
        return False

    def _register(self, output: Tensor, call: Call, rules: Mapping[str, Rule]) -> None:
        """Register a hook that receives the gradient of a call's output."""
        for name, rule in rules.items():
            record = self._records.setdefault(name, _Record())
            record.rules.add(rule)
            record.calls += 1
        # The gradient of the output, and the copy that a rule makes of it or of the inputs.
        size = sum(tensor.numel() * tensor.element_size() for tensor in (call.inputs, output))
        self.bytes = max(self.bytes, 2 * size)
        # Read after the call, because a function may modify its inputs in place.
        inputs, version = call.inputs.detach(), call.inputs._version
        # A weak reference: the graph owns its hooks and this object owns the graph, a cycle that is never freed.
        weak = ref(self)

        def receive(gradient: Tensor) -> None:
            self = weak()
            if self is None:
                return
            use = Use(_widen(inputs), _widen(gradient.detach()), call.context)
            for name, rule in rules.items():
                # A convolution's inputs that were later changed in place are no longer those of the call.
                if call.inputs._version != version:
                    self._modified.add(name)
                record = self._records[name]
                record.uses.append(self._sketch.apply(name, rule, use) if self._sketch else use)
                if len(record.uses) == record.calls and name not in self._modified and len(record.rules) == 1:
                    self._squares[name] = rule.squared_norms(record.uses, self._n)
                    record.uses = []

        output.register_hook(receive)  # type: ignore[no-untyped-call]

    def missed(self, outputs: Tensor) -> set[str]:
        """Return the names of the parameters on which `outputs` depend through calls that were not captured."""
        leaves = (self._all_names.get(id(getattr(node, "variable", None))) for node in graph_nodes(outputs))
        return {name for name in leaves if name is not None}

    @property
    def rules(self) -> dict[str, str]:
        """The rule of each captured parameter by name; parameters under several rules are absent."""
        return {name: next(iter(r.rules)).name for name, r in self._records.items() if len(r.rules) == 1}

    def squared_norms(self, outputs: Tensor, cotangent: Tensor, *, retain_graph: bool) -> dict[str, Tensor]:
        """Pull a cotangent back from the outputs.

        Args:
            outputs: the outputs of the pass, (n, K).
            cotangent: the cotangent, of the same shape.
            retain_graph: whether another backward pass will follow.

        Returns:
            The squared norms (n,) by name, for each captured parameter that a gradient reached and whose uses are
            covered by one rule. Parameters affected by in-place changes are absent, see `uncovered`.
        """
        self._squares = {}
        for record in self._records.values():
            record.uses = []
        if outputs.requires_grad:
            torch.autograd.grad(outputs, self.anchor, cotangent, retain_graph=retain_graph, allow_unused=True)
        for name, record in self._records.items():
            # Some calls of this parameter have no path to the outputs.
            if record.uses and name not in self._modified and len(record.rules) == 1:
                self._squares[name] = next(iter(record.rules)).squared_norms(record.uses, self._n)
            record.uses = []
        return self._squares

    @property
    def uncovered(self) -> set[str]:
        """The captured parameters that need another method: under several rules, or affected by in-place changes."""
        return self._modified | {name for name, record in self._records.items() if len(record.rules) > 1}


def graph_nodes(outputs: Tensor) -> Iterator[Any]:
    """Yield each node of the autograd graph of a tensor, once."""
    seen: set[Any] = set()
    pending: list[Any] = [outputs.grad_fn]
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            seen.add(node)
            yield node
            pending += [parent for parent, _ in node.next_functions]


def capture(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    inputs: Tensor,
    excluded: frozenset[str],
    sketch: Sketch | None,
) -> tuple[GradientCapture, Tensor]:
    """Run the model forward, capturing the calls with parameters that are not excluded; return its outputs too."""
    context = GradientCapture(parameters, len(inputs), excluded, inputs.device, sketch)
    # Without a parameter to capture no graph is needed.
    with torch.set_grad_enabled(len(excluded) < len(parameters)), context:
        outputs = call_model(model, parameters, inputs)
    return context, outputs


def _widen(values: Tensor) -> Tensor:
    return values.to(at_least_float32(values.dtype)) if values.is_floating_point() else values
