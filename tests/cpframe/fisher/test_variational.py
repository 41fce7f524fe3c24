"""The trace by noise on the weights: closed forms at any scale, and the direct trace where the noise is small."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy

from cpframe.api import Layer
from cpframe.fisher import hessian_trace, layerwise_trace, variational_trace
from cpframe.fisher.loss_landscape import divergence


def label_loss(outputs, targets):
    return cross_entropy(outputs, targets, reduction="none")


class Pair(nn.Module):
    """Two layers of 6 and 3 weights whose sum is the output: a squared error is quadratic in both and couples them."""

    def __init__(self, scale=1.0):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.a = nn.Parameter(torch.randn(6, dtype=torch.float64, generator=generator))
        self.b = nn.Parameter(torch.randn(3, dtype=torch.float64, generator=generator))
        self.first = torch.randn(4, 6, dtype=torch.float64, generator=generator)
        self.second = scale * torch.randn(4, 3, dtype=torch.float64, generator=generator)

    def forward(self, x):
        return (x @ self.first @ self.a + x @ self.second @ self.b)[:, None]

    def traces(self, x):
        """The traces of the blocks of the Hessian of the mean of (output - target)^2."""
        return [2 * (x @ matrix).square().sum(dim=1).mean().item() for matrix in (self.first, self.second)]


LAYERS = (Layer("a", ("a",)), Layer("b", ("b",)))
SIZES = np.array([6, 3])


def squared_error(outputs, targets):
    return (outputs[:, 0] - targets).square()


def quadratic(scale=1.0, n=20):
    generator = torch.Generator().manual_seed(1)
    model = Pair(scale)
    return model, torch.randn(n, 4, dtype=torch.float64, generator=generator), torch.zeros(n, dtype=torch.float64)


@pytest.mark.parametrize(("beta", "scale"), [(1e-8, 1.0), (1e4, 1.0), (1.0, 0.05)])  # the last: one trace a 400th
def test_a_quadratic_loss_has_the_same_trace_at_any_scale(beta, scale):
    model, inputs, targets = quadratic(scale)
    found = variational_trace(
        model, inputs, targets, squared_error, layers=LAYERS, beta=beta, steps=300, draws=800, batch=8
    )
    traces = model.traces(inputs)
    # 4 standard errors are passed by chance in one of 16,000 seeds.
    assert (np.abs(found.mean - traces) < 4 * found.stderr).all()
    # The test has power: a factor of 2 in the formula would show.
    assert (found.stderr < 0.1 * found.mean).all()
    # Stationarity. The search averages over 300 draws with weights that grow: as 225 alike, so twice as far off.
    np.testing.assert_allclose(beta * SIZES / found.sigma**2, traces, rtol=0.4)
    assert found.layers == ("a", "b")
    assert (found.n, found.draws, found.beta) == (20, 800, beta)


@pytest.mark.parametrize("beta", [1e-6, 1e-2])
def test_the_noise_is_at_the_minimum_of_the_objective(beta):
    """For the sum of w^4 / 4 at 0 the trace under noise is 3 d s^2, so that the minimum has 3 s^4 = beta.

    There is no curvature at all without noise, so the search starts from nothing.
    """
    model = nn.Linear(1, 50, bias=False).double()
    nn.init.zeros_(model.weight)
    found = variational_trace(
        model, torch.ones(1, 1, dtype=torch.float64), torch.zeros(1), lambda w, _: w.pow(4).sum(dim=1) / 4, beta=beta
    )
    # One draw is spread by sqrt(32 / 3 / 50) = 46 %; 100 draws leave 5 %, of which this is three and a half; the
    # root by which the variance follows takes half of that.
    np.testing.assert_allclose(found.sigma**2, np.sqrt(beta / 3), rtol=0.1)
    np.testing.assert_allclose(found.mean, 50 * np.sqrt(3 * beta), rtol=0.16)


def test_the_standard_error_is_the_spread_of_repetitions():
    model, inputs, targets = quadratic()
    runs = [
        variational_trace(
            model,
            inputs,
            targets,
            squared_error,
            layers=LAYERS,
            rng=np.random.default_rng(seed),
            beta=1.0,
            steps=20,
            draws=20,
            batch=4,
        )
        for seed in range(60)
    ]
    spread = np.std([run.mean for run in runs], axis=0, ddof=1)
    stated = np.sqrt(np.mean([run.stderr**2 for run in runs], axis=0))
    # A spread of 60 is known to 9 %, here somewhat worse: the draws have long tails, and each run a sigma of its own.
    np.testing.assert_allclose(spread / stated, 1, rtol=0.3)


@pytest.fixture(scope="module")
def digits():
    """A small network at three ages, with inputs and labels."""
    data = load_digits()
    inputs = torch.from_numpy(data.data / 16 - 0.3).float()[:300]
    targets = torch.from_numpy(data.target)[:300]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
        ages = {}
        for epoch in range(31):
            if epoch in (0, 5, 30):
                ages[epoch] = {name: tensor.clone() for name, tensor in model.state_dict().items()}
            for part in torch.randperm(300).split(50):
                optimizer.zero_grad()
                cross_entropy(model(inputs[part]), targets[part]).backward()
                optimizer.step()
    return model, ages, inputs, targets


@pytest.mark.parametrize("age", [0, 5, 30])
def test_small_noise_finds_the_fisher_trace(digits, age):
    """In float32, before, during and after training, with the default beta."""
    model, ages, inputs, _ = digits
    model.load_state_dict(ages[age])
    exact = layerwise_trace(model, inputs, estimator="exact")
    found = variational_trace(model, inputs, steps=60, draws=300, batch=100)
    # Nine numbers in all; 4 standard errors are passed by chance in one of 16,000 seeds.
    assert (np.abs(found.mean - exact.mean) < 4 * found.stderr).all()
    # The test has power: the trace of the paper's formula read literally, twice as large, would be off by more.
    assert (found.stderr < 0.12 * exact.mean).all()
    assert found.beta == pytest.approx(2e-11 / (64 * 32 + 32 + 32 * 33 + 330))


def test_on_the_labels_it_finds_the_hessian_of_their_loss():
    """Far from the minimum, where the Hessian is not the Fisher information, but also positive here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)).double()
        inputs, targets = 2 * torch.randn(6, 4, dtype=torch.float64), torch.randint(0, 3, (6,))
    direct = hessian_trace(model, inputs, targets, label_loss, draws=400)
    found = variational_trace(model, inputs, targets, label_loss, beta=1e-6, draws=600)
    fisher = layerwise_trace(model, inputs, estimator="exact")
    error = np.hypot(direct.stderr, found.stderr)
    # Two numbers; passed by chance in one of 16,000 seeds.
    assert (np.abs(found.mean - direct.mean) < 4 * error).all()
    assert (np.abs(found.mean - fisher.mean) > 8 * error).any()


def test_given_the_divergence_as_a_loss_it_finds_the_same():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)).double()
    inputs = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 4)))
    given = variational_trace(model, inputs, model(inputs).detach(), divergence, steps=5, draws=5)
    default = variational_trace(model, inputs, steps=5, draws=5)
    np.testing.assert_allclose(given.mean, default.mean, rtol=1e-10)  # rounding


def test_a_layer_out_of_reach_bears_any_noise():
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))
    model.register_module("spare", nn.Linear(2, 2))
    model.forward = lambda x: model[2](model[1](model[0](x)))
    found = variational_trace(model, torch.from_numpy(np.random.default_rng(0).standard_normal((6, 4))).float())
    assert found.layers == ("0", "2", "spare")
    assert found.mean[2] == found.stderr[2] == 0
    assert found.sigma[2] == np.inf
    assert (found.mean[:2] > 0).all()
    assert np.isfinite(found.sigma[:2]).all()


class Shifted(nn.Module):
    """A classifier, and a second layer whose output is added equally to all logits, or not at all."""

    def __init__(self, *, added):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.head, self.shift = nn.Linear(4, 3), nn.Linear(4, 1)
        self.added = added

    def forward(self, x):
        return self.head(x) + self.shift(x) if self.added else self.head(x)


def test_a_layer_without_curvature_keeps_its_noise_in_bounds():
    """A number added to all logits changes no prediction: its trace is rounding. The other layer is unaffected."""
    inputs = torch.from_numpy(np.random.default_rng(0).standard_normal((6, 4))).float()
    usual, found = (variational_trace(Shifted(added=added), inputs, steps=30, draws=300) for added in (False, True))
    assert usual.mean[1] == 0
    assert abs(found.mean[1]) < 1e-3 * found.mean[0]
    assert np.isfinite(found.sigma[1])
    # The same draws at a sigma that is the same but for rounding: tens of them, each at some 1e-7 of logits that the
    # noise moves by 1e-3.
    np.testing.assert_allclose(found.mean[0], usual.mean[0], rtol=1e-2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"beta": 0.0}, "beta must be a finite number above 0, not 0.0"),
        ({"beta": -1.0}, "beta must be a finite number above 0, not -1.0"),
        ({"beta": float("nan")}, "beta must be a finite number above 0, not nan"),
        ({"beta": float("inf")}, "beta must be a finite number above 0, not inf"),
        ({"steps": 0}, "steps must be at least 1, not 0"),
        ({"loss": label_loss}, "a loss needs targets"),
        ({"model": nn.Linear(4, 1)}, r"output must be .* K >= 2 classes, not shape \(6, 1\)"),
        (
            {"model": nn.Sequential(nn.Linear(4, 4), nn.Unflatten(1, (2, 2)))},
            r"output must be logits of shape \(N, K\), .* not shape \(6, 2, 2\)",
        ),
        (
            {"loss": lambda outputs, _: outputs.square().sum(dim=1).exp(), "targets": torch.zeros(6), "beta": 1e6},
            "noise on its weights is too large .use a smaller beta",
        ),
    ],
)
def test_bad_arguments_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        variational_trace(**{"model": nn.Linear(4, 3), "inputs": torch.ones(6, 4)} | change)
