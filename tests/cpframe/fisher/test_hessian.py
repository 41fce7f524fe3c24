"""The trace of the Hessian against the Hessian itself, by brute force, and against closed forms."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from cpframe.fisher import hessian_trace, layers_of


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def label_loss(outputs, targets):
    return cross_entropy(outputs, targets, reduction="none")


def squared_error(outputs, targets):
    return (outputs - targets[:, None]).square().sum(dim=1)


class Tied(nn.Module):
    """One matrix that is used twice, and a head."""

    def __init__(self):
        super().__init__()
        self.block = nn.Linear(4, 4)
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.block(self.block(x).tanh()).tanh())


def mlp():
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3))


def normalised():
    model = nn.Sequential(nn.Conv1d(2, 3, 2), nn.BatchNorm1d(3), nn.Tanh(), nn.Flatten(), nn.Linear(3, 3))
    model[1].running_var.uniform_(0.5, 2)
    return nn.Sequential(nn.Unflatten(1, (2, 2)), *model)


def brute(model, inputs, targets, loss):
    """The whole Hessian of the mean loss, and for every layer the positions of its weights."""
    named = dict(model.named_parameters())
    sizes = [parameter.numel() for parameter in named.values()]

    def mean(flat):
        pieces = zip(named.items(), flat.split(sizes), strict=True)
        weights = {name: piece.view(parameter.shape) for (name, parameter), piece in pieces}
        return loss(functional_call(model, weights, (inputs,)), targets).mean()

    flat = torch.cat([parameter.detach().flatten() for parameter in named.values()])
    owners = np.repeat(list(named), sizes)
    rows = [np.isin(owners, layer.parameters) for layer in layers_of(model)]
    return torch.autograd.functional.hessian(mean, flat).numpy(), rows


def variance(hessian, rows):
    """Of v_l . (H v)_l for random signs v: twice the sum of the squares off the diagonal of its symmetric form."""
    half = np.where(rows[:, None], hessian, 0)
    form = (half + half.T) / 2
    return 2 * (np.square(form).sum() - np.square(np.diag(form)).sum())


@pytest.mark.parametrize("loss", [label_loss, squared_error])
@pytest.mark.parametrize("build", [mlp, Tied, normalised])
def test_trace_and_standard_error_of_tiny_networks(build, loss):
    model = build().double().eval()
    inputs, targets = torch.randn(5, 4, dtype=torch.float64), torch.randint(0, 3, (5,))
    hessian, blocks = brute(model, inputs, targets, loss)
    trace = np.array([np.diag(hessian)[rows].sum() for rows in blocks])
    stderr = np.sqrt([variance(hessian, rows) / 200 for rows in blocks])

    found = hessian_trace(model, inputs, targets, loss, draws=200, batch=2)

    # 4 standard errors are passed by chance in one of 16,000 seeds; there are twelve numbers in all.
    assert (np.abs(found.mean - trace) < 4 * stderr).all()
    # Of 200 draws whose tails are a little longer than the normal's it is known to some 7 %.
    np.testing.assert_allclose(found.stderr, stderr, rtol=0.25)
    assert found.layers == tuple(layer.name for layer in layers_of(model))
    assert (found.n, found.draws) == (5, 200)


class Point(nn.Module):
    """Its output is its weights, whatever the input."""

    def __init__(self):
        super().__init__()
        self.a = nn.Linear(1, 2, bias=False)
        self.b = nn.Linear(1, 3, bias=False)

    def forward(self, x):
        return torch.cat([self.a(x), self.b(x)], dim=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_diagonal_hessian_leaves_no_noise(dtype):
    """Signs square to 1: every draw is the trace itself, also where it is below 0."""
    model, inputs = Point().to(dtype), torch.ones(3, 1, dtype=dtype)
    half = torch.tensor([1.0, 2.0, -4.0, 1.0, 0.5], dtype=dtype) / 2
    found = hessian_trace(model, inputs, torch.zeros(3), lambda outputs, _: outputs.square() @ half)
    # Means of three equal numbers, the squares of small ones.
    np.testing.assert_allclose(found.mean, [3, -2.5], rtol=1e-5 if dtype is torch.float32 else 1e-14)
    assert (found.stderr < 1e-6).all()


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_batches_change_nothing(batch):
    model, inputs, targets = mlp().double(), torch.randn(7, 4, dtype=torch.float64), torch.randint(0, 3, (7,))
    whole = hessian_trace(model, inputs, targets, label_loss, draws=5)
    parts = hessian_trace(model, inputs, targets, label_loss, draws=5, batch=batch)
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=1e-10)  # rounding
    np.testing.assert_allclose(parts.stderr, whole.stderr, rtol=1e-10)


def test_a_layer_out_of_reach_has_no_curvature():
    model = mlp()
    model.register_module("spare", nn.Linear(2, 2))
    model.forward = lambda x: model[2](model[1](model[0](x)))
    found = hessian_trace(model, torch.randn(5, 4), torch.randint(0, 3, (5,)), label_loss)
    assert found.layers == ("0", "2", "spare")
    assert found.mean[2] == found.stderr[2] == 0
    assert (found.mean[:2] != 0).all()
