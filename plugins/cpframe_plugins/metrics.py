"""The bundled metrics: Fisher information, curvature, weight norms and gradients per layer, and filters."""

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

_CHUNK_MB = 128  # megabytes of gradients at a time, without their float64 copies


@dataclass(frozen=True)
class Fisher:
    """The trace of the Fisher information of every layer, with its standard error over the probe's inputs.

    Attributes:
        estimator: `model` (random signs, the least noise for its time), `exact` (sum over classes), `sampled`
            (labels drawn from the prediction) or `empirical` (true labels, which gives the trace of another matrix).
        draws: the number of draws per input of `model` and `sampled`; more inputs are better than more draws.
        sketch: the number of random combinations of output channels through which large weights are measured, which is
            faster, unbiased and noisier; by default they are measured in full.
    """

    estimator: Literal["model", "exact", "sampled", "empirical"] = "model"
    draws: Count = 1
    sketch: Count | None = None

    def __call__(self, probe: Probe) -> Mapping[str, Measurement]:
        """Measure the traces in squared nats (weights have no unit).

        Returns:
            The trace under the metric's own name; ``scaled``, the sum over a layer's parameters w of tr F_w ||w||^2,
            which is invariant to the scale of weights that a normalisation follows; and each layer's ``share``.

        Raises:
            ValueError: the task is not classification, or `cpframe.fisher.layerwise_trace` raises it.
        """
        from cpframe.fisher import layerwise_trace

        if probe.task.name != "classification":
            raise ValueError(
                f"fisher-trace needs a classification task, whose outputs are logits, not {probe.task.name!r}"
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
    """The trace of the Fisher information of every layer from the noise that its weights tolerate.

    It is the paper's second estimator, and shows whether a curve holds at a finite distance from the weights. It takes
    much longer than `Fisher`.

    Attributes:
        objective: `divergence` of the predictions with noise from those without (its curvature is the Fisher
            information) or the task's `loss` (the paper's choice; its curvature is close to it only at a minimum).
        beta: the amount of noise; a larger beta measures farther from the weights. By default 2e-11 / (number of
            weights), which gives almost the local trace.
        steps: the number of optimisation steps that find the noise of every layer.
        draws: the number of draws of that noise to average over, at least 2.
        batch: the number of the probe's inputs, drawn at random, in one step or draw.
    """

    objective: Literal["divergence", "loss"] = "divergence"
    beta: Positive | None = None
    steps: Count = 100
    draws: Count = 100
    batch: Count = 128

    def __post_init__(self) -> None:
        """Check `draws`."""
        _check_draws(self.draws)

    def __call__(self, probe: Probe) -> Measurement:
        """Measure the traces in squared nats, or with `loss` in units of the loss.

        Raises:
            ValueError: `objective` is `divergence` and the task is not classification, or
                `cpframe.fisher.variational_trace` raises it.
        """
        from cpframe.fisher import variational_trace

        divergence = self.objective == "divergence"
        if divergence and probe.task.name != "classification":
            raise ValueError(
                "fisher-variational needs a classification task, whose outputs are logits, or objective = "
                f'"loss", not {probe.task.name!r}'
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
    """The trace of the Hessian of the task's mean loss for every layer: the curvature of the training objective.

    Attributes:
        draws: the number of draws of random signs to average over, at least 2.
    """

    draws: Count = 32

    def __post_init__(self) -> None:
        """Check `draws`."""
        _check_draws(self.draws)

    def __call__(self, probe: Probe) -> Measurement:
        """Measure the traces in units of the loss, with standard errors over draws; negative curvature is below 0.

        Raises:
            ValueError: `cpframe.fisher.hessian_trace` raises it.
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
    """The Euclidean norm of all parameters of every layer."""

    def __call__(self, probe: Probe) -> Measurement:
        """Measure the norms in float64."""
        import torch

        squares = {
            name: torch.linalg.vector_norm(parameter.detach(), dtype=torch.float64).square()
            for name, parameter in probe.model.named_parameters()
        }
        return Measurement(_layer_norms(probe, squares))


@dataclass(frozen=True)
class Gradient:
    """The mean and the standard deviation of single-example gradients per layer: does a layer get a training signal?

    The paper's figure of gradients shows the logarithms of these two norms per layer throughout training.
    """

    def __call__(self, probe: Probe) -> Mapping[str, Measurement]:
        """Measure the gradients g_i of the task's loss, one for each of the probe's n inputs.

        Returns:
            ``mean``, the Euclidean norm over a layer's weights of the mean of g_i, and ``std``, that of the standard
            deviation of g_i for each weight (over n - 1, so nan for one input); in nats for classification.
        """
        from cpframe.fisher import chunks, example_gradients

        # Means and sums of squared deviations of two parts are merged without the cancellation of a sum of squares
        # (Chan, Golub and LeVeque, 1979). Only the sum of the deviations over a parameter's weights is needed.
        total = 0
        means: dict[str, Tensor] = {}
        deviations: dict[str, Tensor] = {}
        for part in chunks(probe.model, len(probe.inputs), _CHUNK_MB):
            gradients = example_gradients(probe.model, probe.task.loss, probe.inputs[part], probe.targets[part])
            count = part.stop - part.start
            for name, gradient in gradients.items():
                values = gradient.double()
                mean = values.mean(dim=0)
                deviation = (values - mean).square().sum()
                if total:
                    shift = mean - means[name]
                    deviation += deviations[name] + shift.square().sum() * (total * count / (total + count))
                    mean = means[name] + shift * (count / (total + count))
                means[name], deviations[name] = mean, deviation
            total += count

        variances = {
            name: deviation / (total - 1 if total > 1 else float("nan")) for name, deviation in deviations.items()
        }
        squares = {name: mean.square().sum() for name, mean in means.items()}
        units = _loss_units(probe)
        return {
            "mean": Measurement(_layer_norms(probe, squares), units=units, quantity=GRADIENT_MEAN),
            "std": Measurement(_layer_norms(probe, variances), units=units, quantity=GRADIENT_STD),
        }


def _check_draws(draws: int) -> None:
    if draws < 2:
        raise ValueError(f"`draws` must be at least 2, not {draws}: the standard error is estimated from their spread")


def _loss_units(probe: Probe) -> str:
    return "nat" if probe.task.name == "classification" else ""


def _layer_norms(probe: Probe, squares: Mapping[str, "Tensor"]) -> NDArray[np.float64]:
    """Return the root of the sum over each layer's parameters, given the squared norm of each parameter."""
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
