"""One forward pass over a batch, and the squared norms of every parameter's gradients, example by example."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from cpframe.fisher.per_sample.capture import capture
from cpframe.fisher.per_sample.gradients import loop_squared_norms, vmap_squared_norms
from cpframe.fisher.per_sample.sketch import Sketch
from cpframe.fisher.per_sample.verification import MeasurementPlan

__all__ = ["ForwardPass"]


class ForwardPass:
    """A forward pass whose cotangents can be pulled back, by rules where these are verified, else by vmap or a loop."""

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, nn.Parameter],
        plan: MeasurementPlan,
        inputs: Tensor,
        sketch: Sketch | None,
        memory_mb: float,
    ) -> None:
        """Run the model forward.

        Args:
            model: the classifier.
            parameters: its differentiable parameters by name.
            plan: the method for each parameter.
            inputs: the inputs, (n, ...).
            sketch: the sketch of output channels, or None.
            memory_mb: the memory for gradients by vmap, in 10^6 bytes.

        Raises:
            ValueError: when the outputs are not (n, K) with the K of the plan.
        """
        self._model, self._parameters, self._inputs = model, parameters, inputs
        self._plan, self._memory_mb = plan, memory_mb
        self._capture, self.outputs = capture(model, parameters, inputs, plan.vectorised | plan.looped, sketch)
        if self.outputs.shape != (len(inputs), plan.outputs):
            raise ValueError(
                f"the model's outputs for {len(inputs)} inputs must have shape {(len(inputs), plan.outputs)}, as for"
                f" the first inputs, not {tuple(self.outputs.shape)}; its output for an example must not depend on"
                " other examples"
            )
        self._missed = self._capture.missed(self.outputs)

    def squared_norms(self, cotangents: Tensor, *, retain_graph: bool) -> tuple[dict[str, Tensor], dict[str, str]]:
        """Pull cotangents (n, K) back; return the squared norms (n,) and the rule of each parameter, by name.

        Parameters on which the outputs do not depend are absent.
        """
        cotangents = cotangents.to(self.outputs)
        squares = self._capture.squared_norms(self.outputs, cotangents, retain_graph=retain_graph)
        # A model may call other functions for these inputs than for those verified. What was not verified is looped.
        uncovered = self._missed | self._capture.uncovered | (squares.keys() - self._plan.verified)
        squares = {name: values for name, values in squares.items() if name not in uncovered}
        if self._plan.vectorised:
            squares |= vmap_squared_norms(
                self._model, self._parameters, self._inputs, cotangents, self._plan.vectorised, self._memory_mb
            )
        looped = self._plan.looped | (uncovered - self._plan.vectorised)
        if looped:
            squares |= loop_squared_norms(self._model, self._parameters, self._inputs, cotangents, looped)
        rules = {
            name: "vmap" if name in self._plan.vectorised else "loop" if name in looped else self._capture.rules[name]
            for name in squares
        }
        return squares, rules
