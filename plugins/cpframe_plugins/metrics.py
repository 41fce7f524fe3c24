"""Bundled metrics: Fisher information, size of the weights, and gradients, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cpframe.api import Count, Measurement, Metrics, Probe, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

_CHUNK_MB = 128  # of gradients at a time; their float64 copies come on top


@dataclass(frozen=True)
class Fisher:
    """Trace of the Fisher information of every layer, with its standard error over the probe's inputs.

    Attributes:
        estimator: `model` (random signs, the least noise for its time), `exact` (sum over classes), `sampled`
            (labels drawn from the prediction) or `empirical` (true labels: the trace of another matrix).
        draws: to average over for each input, by `model` and `sampled`; more inputs are better than more draws.
    """

    estimator: Literal["model", "exact", "sampled", "empirical"] = "model"
    draws: Count = 1

    def __call__(self, probe: Probe) -> Measurement:
        """Measure, in squared nats (the weights have no unit).

        Raises:
            ValueError: where the task is no classification, or for a reason of `cpframe.fisher.layerwise_trace`.
        """
        from cpframe.fisher import layerwise_trace

        if probe.task.name != "classification":
            raise ValueError(
                f"fisher-trace needs a classification task, whose outputs are logits; this one is {probe.task.name!r}"
            )
        trace = layerwise_trace(
            probe.model,
            probe.inputs,
            probe.targets,
            estimator=self.estimator,
            layers=probe.layers,
            rng=probe.rng,
            draws=self.draws,
        )
        return Measurement(trace.mean, trace.stderr, units="nat^2", estimator=self.estimator)


@dataclass(frozen=True)
class WeightNorm:
    """Euclidean norm of all the parameters of every layer."""

    def __call__(self, probe: Probe) -> Measurement:
        """Measure, in float64."""
        import torch

        squares = {
            name: torch.linalg.vector_norm(parameter.detach(), dtype=torch.float64).square()
            for name, parameter in probe.model.named_parameters()
        }
        return Measurement(_layer_norms(probe, squares))


@dataclass(frozen=True)
class Gradient:
    """Mean and spread of the gradient of single examples, layer by layer: is a layer starved of signal?"""

    def __call__(self, probe: Probe) -> Mapping[str, Measurement]:
        """Measure on the gradients g_i of the task's loss, one for each of the n inputs of the probe.

        Returns:
            ``mean``, the norm of the mean of g_i, and ``std``, the root of the variances of g_i (over n - 1, so nan
            for one input) summed over the layer's weights; in nats for classification.
        """
        from cpframe.fisher import chunks, example_gradients

        # Chan, Golub, LeVeque (1979): means and sums of squared deviations of two parts are merged without the
        # cancellation of a sum of squares. Of the deviations only the sum over a parameter's weights is needed.
        seen = 0
        means: dict[str, Tensor] = {}
        deviations: dict[str, Tensor] = {}
        for part in chunks(probe.model, len(probe.inputs), _CHUNK_MB):
            gradients = example_gradients(probe.model, probe.task.loss, probe.inputs[part], probe.targets[part])
            count = part.stop - part.start
            for name, gradient in gradients.items():
                values = gradient.double()
                mean = values.mean(dim=0)
                deviation = (values - mean).square().sum()
                if seen:
                    shift = mean - means[name]
                    deviation += deviations[name] + shift.square().sum() * (seen * count / (seen + count))
                    mean = means[name] + shift * (count / (seen + count))
                means[name], deviations[name] = mean, deviation
            seen += count

        variances = {
            name: deviation / (seen - 1 if seen > 1 else float("nan")) for name, deviation in deviations.items()
        }
        squares = {name: mean.square().sum() for name, mean in means.items()}
        units = "nat" if probe.task.name == "classification" else ""
        return {
            "mean": Measurement(_layer_norms(probe, squares), units=units),
            "std": Measurement(_layer_norms(probe, variances), units=units),
        }


def _layer_norms(probe: Probe, squares: Mapping[str, "Tensor"]) -> NDArray[np.float64]:
    """Return, for every layer, the root of the sum over its parameters, each given as one number."""
    return np.sqrt([sum(float(squares[name]) for name in layer.parameters) for layer in probe.layers])


@hookimpl
def cpframe_metrics() -> Metrics:
    """Offer the bundled metrics."""
    return {"fisher-trace": Fisher, "gradient": Gradient, "weight-norm": WeightNorm}
