"""The contract of both curvature estimators: the model is unchanged, bad input is refused, draws come from `rng`."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from cpframe.api import Layer
from cpframe.fisher import hessian_trace, layerwise_trace, variational_trace
from cpframe.fisher.loss_landscape import divergence

CLASSES = 3


def label_loss(outputs, targets):
    return cross_entropy(outputs, targets, reduction="none")


def hessian(model, inputs, targets, loss=label_loss, **more):
    return hessian_trace(model, inputs, targets, loss, **{"draws": 3} | more)


def by_labels(model, inputs, targets, loss=label_loss, **more):
    return variational_trace(model, inputs, targets, loss, **{"steps": 2, "draws": 3} | more)


def by_divergence(model, inputs, targets, **more):
    return variational_trace(model, inputs, **{"steps": 2, "draws": 3} | more)


EVERY = pytest.mark.parametrize("measure", [hessian, by_labels, by_divergence])


def precision():
    """The TF32 settings for products and convolutions, in the terms of this version of torch."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    if hasattr(cudnn, "conv"):
        return matmul.fp32_precision, cudnn.conv.fp32_precision
    return matmul.allow_tf32, cudnn.allow_tf32


@pytest.fixture(params=[False, True], ids=["full precision", "TF32"])
def tf32(request):
    """Allow or forbid TF32 as `cpframe.numerics` does."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = request.param
    yield
    matmul.allow_tf32, cudnn.allow_tf32 = before


class Stateful(nn.Module):
    """Counts its calls in a buffer, works in place, and fails after a given number of calls."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.allowed = 10**9

    def forward(self, x):
        self.calls += 1
        self.allowed -= 1
        self.precision = precision()
        if self.allowed < 0:
            raise RuntimeError("enough")
        return x.mul_(0.5)


def example(n=7):
    """A network in float64 with every kind of state that could change, inputs and labels."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = nn.Sequential(
            Stateful(),
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3),
            nn.Tanh(),
            nn.Dropout(0.5),
            nn.Flatten(),
            nn.Linear(12, CLASSES),
        )
    inputs = torch.randn(n, 1, 4, 4, dtype=torch.float64, generator=generator)
    return model.double().eval(), inputs, torch.randint(0, CLASSES, (n,), generator=generator)


def state(model, inputs):
    """Everything that a measurement must not change, comparable by ==."""
    return (
        {name: tensor.tolist() for name, tensor in model.state_dict().items()},
        [(id(p), p.requires_grad, None if p.grad is None else p.grad.tolist()) for p in model.parameters()],
        [(id(m), m.training, len(m._forward_hooks), len(m._backward_hooks)) for m in model.modules()],
        [tensor._version for tensor in (*model.parameters(), *model.buffers(), inputs)],
        inputs.tolist(),
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
        precision(),
    )


@EVERY
@pytest.mark.parametrize("allowed", [10**9, 0, 5, 8], ids=["success", "first fails", "guess fails", "later fails"])
def test_the_model_is_left_as_it_was(measure, allowed, tf32):
    model, inputs, targets = example()
    model[1].weight.requires_grad_(requires_grad=False)
    model[1].bias.grad = torch.ones_like(model[1].bias)
    model[3].train()  # an unusual mix of modes, none of which matters here
    model[3].register_forward_hook(lambda *_: None)
    before = state(model, inputs)
    model[0].allowed = allowed
    if allowed < 10**9:
        with pytest.raises(RuntimeError, match="enough"):
            measure(model, inputs, targets, draws=9)
    else:
        measure(model, inputs, targets)
        assert model[0].allowed < allowed  # it was called
        assert set(model[0].precision) <= {"ieee", False}  # TF32 would round small noise away
    assert state(model, inputs) == before


@EVERY
def test_a_parameter_that_needs_no_gradient_is_measured_all_the_same(measure):
    model, inputs, targets = example()
    usual = measure(model, inputs, targets)
    model.requires_grad_(requires_grad=False)
    np.testing.assert_array_equal(measure(model, inputs, targets).mean, usual.mean)


@EVERY
def test_it_works_where_gradients_are_switched_off(measure):
    model, inputs, targets = example()
    usual = measure(model, inputs, targets).mean
    with torch.no_grad():
        np.testing.assert_array_equal(measure(model, inputs, targets).mean, usual)
    with torch.inference_mode():
        np.testing.assert_array_equal(measure(model, inputs * 1, targets * 1).mean, usual)


@EVERY
def test_the_generator_decides_the_draws(measure):
    model, inputs, targets = example()
    default, zero, one = (
        measure(model, inputs, targets, rng=rng) for rng in (None, np.random.default_rng(0), np.random.default_rng(1))
    )
    np.testing.assert_array_equal(default.mean, zero.mean)
    np.testing.assert_array_equal(default.stderr, zero.stderr)
    assert (default.mean != one.mean).all()


@EVERY
def test_layers_may_be_given(measure):
    model, inputs, targets = example()
    names = [name for name, _ in model.named_parameters()]
    found = measure(
        model, inputs, targets, layers=[Layer("weights", tuple(names[::2])), Layer("b", tuple(names[1::2]))]
    )
    assert found.layers == ("weights", "b")
    assert found.mean.shape == found.stderr.shape == (2,)
    assert found.n == 7
    assert measure(model, inputs, targets).layers == ("1", "6")


@EVERY
def test_inputs_may_be_words(measure):
    model = nn.Sequential(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, CLASSES))
    words = torch.tensor([[0, 1], [1, 1], [4, 2]])
    assert (measure(model, words, torch.tensor([0, 1, 2])).stderr > 0).all()


def train_mode(module):
    model, _, _ = example()
    model.insert(5, nn.Sequential(module))
    return model


@EVERY
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": train_mode(nn.BatchNorm2d(3))}, r"5\.0 \(BatchNorm2d\) is in train mode"),
        ({"model": train_mode(nn.Dropout(0.5))}, r"5\.0 \(Dropout\) is in train mode.*chance"),
        ({"model": nn.Flatten()}, "no parameters"),
        ({"inputs": torch.zeros(0, 1, 4, 4, dtype=torch.float64), "targets": torch.zeros(0)}, "inputs is empty"),
        ({"inputs": torch.zeros((), dtype=torch.float64)}, "inputs is empty"),
        ({"inputs": torch.full((7, 1, 4, 4), math.nan, dtype=torch.float64)}, "not finite.*inputs contain nan"),
        ({"draws": 1}, "draws must be at least 2, not 1"),
        ({"batch": 0}, "batch must be at least 1, not 0"),
        ({"layers": [Layer("all", ("1.weight",))]}, r"omits parameters: 1\.bias"),
    ],
)
def test_bad_arguments_are_refused(measure, change, message):
    model, inputs, targets = example()
    arguments = {"model": model, "inputs": inputs, "targets": targets} | change
    before = copy.deepcopy(arguments["model"].state_dict())
    with pytest.raises(ValueError, match=message):
        measure(**arguments)
    assert all(torch.equal(tensor, before[name]) for name, tensor in arguments["model"].state_dict().items())


@pytest.mark.parametrize("measure", [hessian, by_labels])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": torch.zeros(6, dtype=torch.int64)}, r"targets must have one entry per input, 7, not shape \(6,\)"),
        ({"loss": cross_entropy}, r"the loss must be one number per example, of shape \(7,\), not \(\)"),
        (
            {"loss": lambda outputs, _: (outputs - outputs.detach()).abs().sum(dim=1).sqrt()},
            "finite, but its derivatives with respect to 1.weight, .* are not",
        ),
    ],
    ids=["targets", "mean loss", "infinite slope"],
)
def test_bad_losses_are_refused(measure, change, message):
    model, inputs, targets = example()
    with pytest.raises(ValueError, match=message):
        measure(**{"model": model, "inputs": inputs, "targets": targets} | change)


@pytest.mark.parametrize("measure", [hessian, by_labels])
def test_a_loss_without_weights_has_no_curvature(measure):
    model, inputs, targets = example()
    found = measure(model, inputs, targets, loss=lambda outputs, _: outputs.detach().sum(dim=1))
    np.testing.assert_array_equal(found.mean, [0, 0])
    np.testing.assert_array_equal(found.stderr, [0, 0])


def test_the_hessian_of_the_divergence_is_the_fisher_information():
    """By brute force, far from any minimum: block by block its trace is that of the sum over classes."""
    model, inputs, _ = example()
    model = model[1:]
    reference = model(inputs).detach()
    exact = layerwise_trace(model, inputs, estimator="exact")
    for name, parameter in model.named_parameters():
        whole = torch.autograd.functional.hessian(
            lambda weights, name=name: divergence(functional_call(model, {name: weights}, (inputs,)), reference).mean(),
            parameter.detach(),
        )
        trace = whole.reshape(parameter.numel(), -1).trace().item()
        # Rounding, some hundred operations deep, and the two differentiate different formulas.
        assert trace == pytest.approx(exact.parameter_mean[exact.parameters.index(name)], rel=1e-9)


def test_the_divergence_itself():
    p, q = torch.tensor([[0.5, 0.25, 0.25], [1.0, 1e-30, 1e-30]]), torch.tensor([[0.25, 0.25, 0.5], [0.5, 0.25, 0.25]])
    expected = [0.5 * math.log(2) - 0.25 * math.log(2), math.log(2)]
    np.testing.assert_allclose(divergence(q.log(), p.log()), expected, rtol=1e-6)  # the logarithms are float32
