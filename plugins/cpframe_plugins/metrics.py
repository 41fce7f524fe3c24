"""Bundled metrics: Fisher information, curvature, size of the weights, and gradients, layer by layer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from cpframe.api import (
    FISHER_TRACE,
    FISHER_VARIATIONAL,
    GRADIENT_MEAN,
    GRADIENT_STD,
    Count,
    Measurement,
    Metrics,
    Positive,
    Probe,
    hookimpl,
)
from cpframe_plugins.filters import FirstLayerFilters

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
        sketch: measure large weights through this many random combinations of their output channels: quicker, still
            unbiased, and noisier.
    """

    estimator: Literal["model", "exact", "sampled", "empirical"] = "model"
    draws: Count = 1
    sketch: Count | None = None

    def __call__(self, probe: Probe) -> Mapping[str, Measurement]:
        """Measure, in squared nats (the weights have no unit).

        Returns:
            The trace under the metric's own name; ``scaled``, the sum over a layer's parameters w of tr F_w ||w||^2,
            which does not change with the size of weights that a normalisation follows; ``share`` of each layer.

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
            sketch=self.sketch,
        )
        how = self.estimator if self.sketch is None else f"{self.estimator}, sketch of {self.sketch}"
        return {
            "": Measurement(
                trace.mean, trace.stderr, units="nat^2", estimator=f"Fisher trace ({how})", quantity=FISHER_TRACE
            ),
            "scaled": Measurement(trace.scaled, trace.scaled_stderr, units="nat^2", estimator=f"tr(F) |w|^2 ({how})"),
            "share": Measurement(trace.share, trace.share_stderr, estimator=f"share of tr(F) ({how})"),
        }


@dataclass(frozen=True)
class VariationalFisher:
    """Trace of the Fisher information of every layer by the noise that its weights bear; much dearer than `Fisher`.

    Its use is to see whether a curve holds at a finite scale, and the paper's own second estimator.

    Attributes:
        objective: `divergence` of the predictions under noise from those without (its curvature is the Fisher
            information) or the task's `loss` (the paper's choice; its curvature is close to that at a minimum only).
        beta: sets how much noise; the larger, the farther from the weights it looks. By default 2e-11 / (number of
            weights), at which the trace is all but the local one.
        steps: of the search for the noise of every layer.
        draws: of noise, at least 2, to average over once it is found.
        batch: inputs of the probe that one step or draw sees, taken at random.
    """

    objective: Literal["divergence", "loss"] = "divergence"
    beta: Positive | None = None
    steps: Count = 100
    draws: Count = 100
    batch: Count = 128

    def __post_init__(self) -> None:
        """Check what the types cannot."""
        _at_least_two(self.draws)

    def __call__(self, probe: Probe) -> Measurement:
        """Measure, in squared nats; with `loss` in units of the loss.

        Raises:
            ValueError: where `divergence` is asked for and the task is no classification, or for a reason of
                `cpframe.fisher.variational_trace`.
        """
        from cpframe.fisher import variational_trace

        divergence = self.objective == "divergence"
        if divergence and probe.task.name != "classification":
            raise ValueError(
                "fisher-variational needs a classification task, whose outputs are logits, or objective = "
                f'"loss"; this task is {probe.task.name!r}'
            )
        trace = variational_trace(
            probe.model,
            probe.inputs,
            None if divergence else probe.targets,
            None if divergence else probe.task.loss,
            layers=probe.layers,
            rng=probe.rng,
            beta=self.beta,
            steps=self.steps,
            draws=self.draws,
            batch=self.batch,
        )
        units = "nat^2" if divergence else _loss_units(probe)
        return Measurement(
            trace.mean,
            trace.stderr,
            units=units,
            estimator=f"Fisher by noise ({self.objective})",
            quantity=FISHER_VARIATIONAL,
        )


@dataclass(frozen=True)
class Hessian:
    """Trace of the Hessian of the task's mean loss, of every layer: the curvature that training sees.

    Attributes:
        draws: of random signs, at least 2, to average over.
    """

    draws: Count = 32

    def __post_init__(self) -> None:
        """Check what the types cannot."""
        _at_least_two(self.draws)

    def __call__(self, probe: Probe) -> Measurement:
        """Measure, in units of the loss, with the standard error over draws; below 0 where the loss curves down.

        Raises:
            ValueError: for a reason of `cpframe.fisher.hessian_trace`.
        """
        from cpframe.fisher import hessian_trace

        trace = hessian_trace(
            probe.model,
            probe.inputs,
            probe.targets,
            probe.task.loss,
            layers=probe.layers,
            rng=probe.rng,
            draws=self.draws,
        )
        return Measurement(trace.mean, trace.stderr, units=_loss_units(probe), estimator="random signs")


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
    """Mean and spread of the gradient of single examples, layer by layer: is a layer starved of signal?

    The paper's figure of gradients is the logarithm of these two norms, layer by layer, through training.
    """

    def __call__(self, probe: Probe) -> Mapping[str, Measurement]:
        """Measure on the gradients g_i of the task's loss, one for each of the n inputs of the probe.

        Returns:
            ``mean``, the Euclidean norm of the mean of g_i over the layer's weights, and ``std``, that of the standard
            deviation of g_i weight by weight (over n - 1, so nan for one input); in nats for classification.
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
        units = _loss_units(probe)
        return {
            "mean": Measurement(_layer_norms(probe, squares), units=units, quantity=GRADIENT_MEAN),
            "std": Measurement(_layer_norms(probe, variances), units=units, quantity=GRADIENT_STD),
        }


def _at_least_two(draws: int) -> None:
    if draws < 2:
        raise ValueError(f"draws is {draws}, and must be at least 2: the standard error is taken from their spread")


def _loss_units(probe: Probe) -> str:
    return "nat" if probe.task.name == "classification" else ""


def _layer_norms(probe: Probe, squares: Mapping[str, "Tensor"]) -> NDArray[np.float64]:
    """Return, for every layer, the root of the sum over its parameters, each given as one number."""
    return np.sqrt([sum(float(squares[name]) for name in layer.parameters) for layer in probe.layers])


@hookimpl
def cpframe_metrics() -> Metrics:
    """Offer the bundled metrics."""
    return {
        "first-layer-filters": FirstLayerFilters,
        "fisher-trace": Fisher,
        "fisher-variational": VariationalFisher,
        "gradient": Gradient,
        "hessian-trace": Hessian,
        "weight-norm": WeightNorm,
    }
