"""The bundled metrics against loops over single examples."""

import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import get_args, get_type_hints

import numpy as np
import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn
from torch.nn.functional import cross_entropy

from cpframe.analysis.metric_curves import is_fisher
from cpframe.api import Layer, Probe, Task, classification
from cpframe.fisher import Estimator, default_layers, hessian_trace, layerwise_trace, variational_trace
from cpframe_plugins import metrics

CLASSES = 3


def probe(n=9, seed=0):
    """Return the probe of a tiny convolutional network in float64 whose running statistics are not the defaults."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=1),
        nn.BatchNorm2d(3),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(12, CLASSES),
    )
    model[1].running_mean.uniform_(-0.5, 0.5)
    model[1].running_var.uniform_(0.5, 2)
    model = model.double().eval()
    return Probe(
        model=model,
        inputs=torch.randn(n, 1, 5, 5, dtype=torch.float64),
        targets=torch.randint(0, CLASSES, (n,)),
        layers=default_layers(model),
        task=classification(CLASSES),
        rng=np.random.default_rng(seed),
    )


def loop(probe, loss):
    """Return the gradient of every example as one vector per layer, (n, weights)."""
    named = dict(probe.model.named_parameters())
    rows = {layer.name: [] for layer in probe.layers}
    for i in range(len(probe.inputs)):
        value = loss(probe.model(probe.inputs[i : i + 1]), probe.targets[i : i + 1]).sum()
        gradients = dict(zip(named, torch.autograd.grad(value, list(named.values())), strict=True))
        for layer in probe.layers:
            rows[layer.name].append(np.concatenate([gradients[name].numpy().ravel() for name in layer.parameters]))
    return {name: np.stack(vectors) for name, vectors in rows.items()}


def test_the_hook_offers_all_of_them():
    offered = metrics.cpframe_metrics()
    assert set(offered) == {
        *("fisher-trace", "fisher-variational", "first-layer-filters", "weight-norm", "gradient", "hessian-trace")
    }


def test_the_module_imports_without_torch():
    code = "import sys, cpframe_plugins.metrics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_estimators_are_those_of_cpframe_fisher():
    assert get_type_hints(metrics.Fisher)["estimator"] == Estimator


@pytest.mark.parametrize(
    ("metric", "parameters"),
    [
        (metrics.Fisher, {"estimator": "fisher"}),
        (metrics.Fisher, {"draws": 0}),
        (metrics.VariationalFisher, {"objective": "labels"}),
        (metrics.VariationalFisher, {"beta": 0.0}),
        (metrics.VariationalFisher, {"steps": 0}),
        (metrics.VariationalFisher, {"draws": 1}),
        (metrics.VariationalFisher, {"batch": 0}),
        (metrics.Hessian, {"draws": 1}),
    ],
)
def test_bad_parameters_are_refused(metric, parameters):
    with pytest.raises(ValidationError):
        TypeAdapter(metric).validate_python(parameters)


def test_empirical_fisher_is_the_mean_squared_gradient():
    measured = metrics.Fisher(estimator="empirical")(probe())[""]
    squares = np.stack([(g**2).sum(axis=1) for g in loop(probe(), cross_entropy).values()], axis=1)
    np.testing.assert_allclose(measured.values, squares.mean(axis=0), rtol=1e-10)  # rounding
    np.testing.assert_allclose(measured.stderr, squares.std(axis=0, ddof=1) / 3, rtol=1e-10)  # n = 9
    assert measured.units == "nat^2"
    assert measured.estimator == "Fisher trace (empirical)"


@pytest.mark.parametrize("estimator", get_args(Estimator))
def test_fisher_trace_is_that_of_cpframe_fisher(estimator):
    """With the probe's layers and generator, and the requested number of draws."""
    mine = replace(probe(seed=5), layers=(Layer("all", tuple(name for name, _ in probe().model.named_parameters())),))
    measured = metrics.Fisher(estimator=estimator, draws=3)(mine)[""]
    direct = layerwise_trace(
        mine.model, mine.inputs, mine.targets, estimator=estimator, draws=3, rng=np.random.default_rng(5)
    )
    np.testing.assert_allclose(measured.values, [direct.mean.sum()], rtol=1e-12)  # rounding
    assert np.shape(measured.stderr) == (1,)


def test_the_trace_comes_with_scaled_traces_and_shares():
    """They are those of `cpframe.fisher`; by the estimator, the report recognises the trace."""
    mine = probe(seed=5)
    measured = metrics.Fisher(sketch=2)(mine)
    direct = layerwise_trace(mine.model, mine.inputs, sketch=2, rng=np.random.default_rng(5))
    for key, values, stderr in (
        ("", direct.mean, direct.stderr),
        ("scaled", direct.scaled, direct.scaled_stderr),
        ("share", direct.share, direct.share_stderr),
    ):
        np.testing.assert_array_equal(measured[key].values, values)
        np.testing.assert_array_equal(measured[key].stderr, stderr)
    starts = {key: one.estimator.startswith("Fisher") for key, one in measured.items()}
    assert starts == {"": True, "scaled": False, "share": False}
    assert measured[""].estimator == "Fisher trace (model, sketch of 2)"


def test_fisher_trace_needs_classification():
    task = Task("regression", 3, lambda outputs, _: outputs.sum(dim=1), lambda outputs, _: outputs[:, 0])
    with pytest.raises(ValueError, match=r"fisher-trace needs a classification task.*'regression'"):
        metrics.Fisher()(replace(probe(), task=task))


def regression(probe):
    return replace(probe, task=Task("regression", CLASSES, squared_error, squared_error))


def known_as_fisher(name, measured):
    """Return whether the report recognises a metric as Fisher information."""
    history = SimpleNamespace(metrics={name: measured})
    return is_fisher(SimpleNamespace(trajectories=[SimpleNamespace(history=history)]), name)


def test_variational_fisher_is_that_of_cpframe_fisher():
    """With the probe's layers and generator, and all its parameters."""
    parameters = {"beta": 1e-4, "steps": 3, "draws": 4, "batch": 5}
    mine = replace(probe(seed=5), layers=(Layer("all", tuple(name for name, _ in probe().model.named_parameters())),))
    measured = metrics.VariationalFisher(**parameters)(mine)
    direct = variational_trace(mine.model, mine.inputs, layers=mine.layers, rng=np.random.default_rng(5), **parameters)
    np.testing.assert_array_equal(measured.values, direct.mean)
    np.testing.assert_array_equal(measured.stderr, direct.stderr)
    assert measured.units == "nat^2"
    assert known_as_fisher("curvature", measured)


@pytest.mark.parametrize(("change", "units"), [(replace, "nat"), (regression, "")])
def test_variational_fisher_of_the_loss_accepts_any_task(change, units):
    mine = change(probe(seed=5))
    measured = metrics.VariationalFisher(objective="loss", steps=3, draws=4)(mine)
    direct = variational_trace(
        mine.model, mine.inputs, mine.targets, mine.task.loss, rng=np.random.default_rng(5), steps=3, draws=4
    )
    np.testing.assert_array_equal(measured.values, direct.mean)
    assert measured.units == units
    assert known_as_fisher("curvature", measured)


def test_the_divergence_needs_classification():
    with pytest.raises(ValueError, match=r"fisher-variational needs a classification task.*'regression'"):
        metrics.VariationalFisher()(regression(probe()))


@pytest.mark.parametrize(("change", "units"), [(replace, "nat"), (regression, "")])
def test_hessian_trace_is_that_of_cpframe_fisher(change, units):
    mine = change(replace(probe(seed=5), layers=tuple(reversed(probe().layers))))
    measured = metrics.Hessian(draws=4)(mine)
    direct = hessian_trace(mine.model, mine.inputs, mine.targets, mine.task.loss, rng=np.random.default_rng(5), draws=4)
    # The probe's layers, in its order; sums over their parameters are those of the default.
    np.testing.assert_array_equal(measured.values, direct.mean[::-1])
    np.testing.assert_array_equal(measured.stderr, direct.stderr[::-1])
    assert measured.units == units
    assert not known_as_fisher("hessian-trace", measured)


def test_weight_norm():
    mine = probe()
    first, last = mine.layers
    measured = metrics.WeightNorm()(mine)
    parameters = {name: p.detach().numpy().ravel() for name, p in mine.model.named_parameters()}
    expected = [np.linalg.norm(np.concatenate([parameters[n] for n in layer.parameters])) for layer in (first, last)]
    np.testing.assert_allclose(measured.values, expected, rtol=1e-14)  # rounding
    assert measured.stderr is None
    assert measured.units == ""


def squared_error(outputs, targets):
    return (outputs - targets[:, None]).square().sum(dim=1)


@pytest.mark.parametrize(
    ("task", "units"),
    [
        (classification(CLASSES), "nat"),
        (Task("regression", CLASSES, squared_error, squared_error), ""),
    ],
    ids=["classification", "regression"],
)
@pytest.mark.parametrize("n", [2, 9, 600])  # 600 takes several chunks, of which the last is shorter
def test_gradient_mean_and_spread(n, task, units):
    mine = replace(probe(n), task=task)
    measured = metrics.Gradient()(mine)
    assert set(measured) == {"mean", "std"}
    gradients = loop(mine, task.loss).values()
    mean = [np.linalg.norm(g.mean(axis=0)) for g in gradients]
    std = [np.sqrt(g.var(axis=0, ddof=1).sum()) for g in gradients]
    np.testing.assert_allclose(measured["mean"].values, mean, rtol=1e-10)  # rounding
    np.testing.assert_allclose(measured["std"].values, std, rtol=1e-10)
    assert all(m.units == units and m.stderr is None for m in measured.values())


def test_a_small_spread_around_a_large_mean_is_exact():
    """With a spread of 1e-9 of the mean, a difference of sums of squares would fail: 1e-18 is below 2e-16."""
    model = nn.Linear(1, 1, bias=False).double()
    task = Task("slope", 1, lambda outputs, _: outputs[:, 0], lambda outputs, _: outputs[:, 0])
    inputs = 1 + 1e-9 * torch.randn(600, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mine = Probe(model, inputs, torch.zeros(600), default_layers(model), task, np.random.default_rng(0))
    measured = metrics.Gradient()(mine)
    # The gradient is the input, whose deviations are exact except for rounding: 2e-16 of 1e-9.
    np.testing.assert_allclose(measured["std"].values, [inputs.numpy().std(ddof=1)], rtol=1e-6)
    np.testing.assert_allclose(measured["mean"].values, [1], rtol=1e-9)


def test_one_example_has_a_mean_but_no_spread():
    measured = metrics.Gradient()(probe(1))
    assert np.isfinite(measured["mean"].values).all()
    assert np.isnan(measured["std"].values).all()


@pytest.mark.parametrize("name", sorted(metrics.cpframe_metrics()))
def test_the_model_is_unchanged(name):
    mine = probe()
    before = [tensor.clone() for tensor in mine.model.state_dict().values()]
    metrics.cpframe_metrics()[name]()(mine)
    assert all(torch.equal(a, b) for a, b in zip(before, mine.model.state_dict().values(), strict=True))
    assert all(parameter.requires_grad and parameter.grad is None for parameter in mine.model.parameters())
    assert not any(module.training for module in mine.model.modules())
