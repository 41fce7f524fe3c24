"""The trace against a loop over single examples in float64 and closed forms; the model is unchanged."""

import copy
import math

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn
from torch.nn.functional import log_softmax

from cpframe.api import Layer
from cpframe.fisher import layerwise_trace
from cpframe.fisher.cotangents import cotangents

ESTIMATORS = ["model", "exact", "sampled", "empirical"]
CLASSES = 4


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


class Residual(nn.Module):
    """One block applied twice, with in-place additions, and a classifier tied to a projection."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(2, 4, 3, padding=1)
        self.block = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1))
        self.mix = nn.Linear(4, CLASSES)
        self.head = nn.Linear(4, CLASSES)
        self.head.weight = self.mix.weight

    def forward(self, x):
        x = self.stem(x)
        for _ in range(2):
            y = self.block(x)
            y += x
            x = y
        return self.head(self.mix(x.mean(dim=(2, 3))).relu_())


class Unreached(nn.Module):
    """Half of it is never called, and one parameter does not require a gradient."""

    def __init__(self):
        super().__init__()
        self.used = nn.Linear(6, CLASSES)
        self.unused = nn.Linear(6, 3)
        self.used.bias.requires_grad_(requires_grad=False)

    def forward(self, x):
        return self.used(x)


class Words(nn.Module):
    """An embedding whose rows are used several times by one input."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(5, 3)
        self.norm = nn.LayerNorm(3)
        self.head = nn.Linear(3, CLASSES)

    def forward(self, x):
        return self.head(self.norm(self.embedding(x)).tanh().sum(dim=1))


def mlp():
    return nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 5), nn.ReLU(inplace=True), nn.Linear(5, CLASSES))


def convolutional():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, CLASSES, 1),
        nn.BatchNorm2d(CLASSES),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def strided():
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1, groups=2),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 6, (2, 3), stride=(1, 2), dilation=(2, 1), padding=1, padding_mode="circular"),
        nn.GroupNorm(2, 6),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(6, CLASSES),
    )


def in_place_first():
    return nn.Sequential(nn.ReLU(inplace=True), nn.Linear(6, 5), nn.ReLU(inplace=True), nn.Linear(5, CLASSES))


def vectors(n):
    return torch.randn(n, 6)


def pictures(n):
    return torch.randn(n, 2, 6, 6)


def sentences(n):
    return torch.randint(0, 5, (n, 4))


# How a model is made, its inputs, and its layers: the modules whose parameters each has.
CASES = {
    "mlp": (mlp, vectors, {"0": ["0"], "2": ["2"], "4": ["4"]}),
    "conv-bn-relu": (convolutional, pictures, {"0": ["0", "1"], "3": ["3", "4"]}),
    "residual-shared": (
        Residual,
        pictures,
        {"stem": ["stem", "block.0"], "block.2": ["block.2"], "mix": ["mix"], "head": ["head"]},
    ),
    "strided-grouped": (strided, pictures, {"0": ["0"], "2": ["2", "3"], "6": ["6"]}),
    "in-place-first": (in_place_first, vectors, {"1": ["1"], "3": ["3"]}),
    "unreached": (Unreached, vectors, {"used": ["used"], "unused": ["unused"]}),
    "embedding": (Words, sentences, {"embedding": ["embedding", "norm"], "head": ["head"]}),
}


def build(case, n=7):
    """A model in float64 and eval mode with running statistics that matter, inputs, and targets."""
    make, inputs, _ = CASES[case]
    torch.manual_seed(3)
    model = make().double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    x = inputs(n)
    return model, x.double() if x.is_floating_point() else x, torch.randint(0, CLASSES, (n,))


def squared(scalar, parameters):
    """Squared norm of the gradient of a scalar by each parameter, 0 where it is not reached."""
    gradients = torch.autograd.grad(scalar, parameters, retain_graph=True, allow_unused=True)
    return np.array([0.0 if g is None else g.square().sum().item() for g in gradients])


def oracle(model, inputs, value):
    """Values of every input and parameter, (n, P): `value(i, logits, parameters)` of a loop over single inputs."""
    model = copy.deepcopy(model).double().requires_grad_(requires_grad=True)
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    parameters = list(model.parameters())
    return np.stack([value(i, model(inputs[i : i + 1].clone())[0], parameters) for i in range(len(inputs))])


def exact_value(i, logits, parameters):
    logs = log_softmax(logits, dim=0)
    return sum(logs[y].exp().item() * squared(logs[y], parameters) for y in range(CLASSES))


def empirical_value(targets):
    return lambda i, logits, parameters: squared(log_softmax(logits, dim=0)[targets[i]], parameters)


def sampled_value(uniforms):
    """Labels by inverting the cumulative distribution at the given uniforms, (n, draws)."""

    def value(i, logits, parameters):
        logs = log_softmax(logits, dim=0)
        cumulative = logs.detach().exp().cumsum(0).numpy()
        labels = [min(int(np.searchsorted(cumulative, u, side="right")), CLASSES - 1) for u in uniforms[i]]
        return sum(squared(logs[y], parameters) for y in labels) / len(labels)

    return value


def given_value(cotangent):
    """The pull-backs of given cotangents, (draws, n, K), summed."""
    return lambda i, logits, parameters: sum(squared((logits * v[i]).sum(), parameters) for v in cotangent)


def expected(estimator, model, inputs, targets, draws):
    """The expected trace of every input and parameter, with the default generator."""
    if estimator == "exact":
        return oracle(model, inputs, exact_value)
    if estimator == "empirical":
        return oracle(model, inputs, empirical_value(targets))
    rng = np.random.default_rng(0)
    if estimator == "sampled":
        return oracle(model, inputs, sampled_value(rng.random((len(inputs), draws))))
    with torch.no_grad():
        logits = model(inputs.clone()).double()
    return oracle(model, inputs, given_value(list(cotangents(logits, "model", None, rng, draws))))


def check(case, trace, values, rtol):
    """Compare means and standard errors, by parameter and by layer, with the values of single inputs, (n, P)."""
    layers = CASES[case][2]
    assert trace.layers == tuple(layers)
    owners = [name.rsplit(".", 1)[0] for name in trace.parameters]
    sums = [values[:, [owner in modules for owner in owners]].sum(axis=1) for modules in layers.values()]
    for found, error, every in (
        (trace.parameter_mean, trace.parameter_stderr, values),
        (trace.mean, trace.stderr, np.stack(sums, axis=1)),
    ):
        assert found.dtype == error.dtype == np.float64
        np.testing.assert_allclose(found, every.mean(axis=0), rtol=rtol)
        # A standard error that is 0 in truth (one row of an embedding may be alike for all inputs) is rounding.
        noise = rtol * every.mean(axis=0).max()
        np.testing.assert_allclose(error, every.std(axis=0, ddof=1) / np.sqrt(len(every)), rtol=rtol, atol=noise)


@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("case", CASES)
def test_float64_agrees_with_the_loop(case, estimator):
    model, inputs, targets = build(case)
    draws = 3 if estimator in {"model", "sampled"} else 1
    values = expected(estimator, model, inputs, targets, draws)

    trace = layerwise_trace(model, inputs, targets, estimator=estimator, draws=draws)

    assert trace.n == len(inputs)
    assert trace.estimator == estimator
    assert trace.parameters == tuple(name for name, _ in model.named_parameters())
    check(case, trace, values, rtol=1e-10)  # rounding, some hundred operations deep, summed in another order


@pytest.mark.parametrize("estimator", ["exact", "empirical"])
@pytest.mark.parametrize("case", CASES)
def test_float32_agrees_with_the_loop_in_float64(case, estimator):
    model, inputs, targets = build(case)
    model = model.float()
    inputs = inputs.float() if inputs.is_floating_point() else inputs
    values = expected(estimator, model, inputs, targets, draws=1)
    trace = layerwise_trace(model, inputs, targets, estimator=estimator)
    check(case, trace, values, rtol=1e-4)  # float32 rounds at 6e-8; the sums of the networks above lose two digits


def test_closed_form_of_logistic_regression():
    """With logits W x + b: tr F = (1 - sum p^2) |x|^2 for W and 1 - sum p^2 for b, and nothing to estimate by `model`.

    J J^T is a multiple of the identity there, so that every sign gives the same.
    """
    model, inputs = nn.Linear(6, CLASSES).double(), torch.randn(9, 6, dtype=torch.float64)
    with torch.no_grad():
        impurity = 1 - (softmax(model(inputs).numpy(), axis=1) ** 2).sum(axis=1)
    closed = np.stack([impurity * inputs.square().sum(dim=1).numpy(), impurity], axis=1)
    for estimator in ("exact", "model"):
        trace = layerwise_trace(model, inputs, estimator=estimator)
        np.testing.assert_allclose(trace.parameter_mean, closed.mean(axis=0), rtol=1e-12)  # rounding
        np.testing.assert_allclose(trace.parameter_stderr, closed.std(axis=0, ddof=1) / 3, rtol=1e-12)  # n = 9
        np.testing.assert_allclose(trace.mean, closed.sum(axis=1).mean(), rtol=1e-12)


@pytest.mark.parametrize("draws", [1, 4])
@pytest.mark.parametrize("estimator", ["model", "sampled"])
def test_estimators_are_unbiased(estimator, draws):
    """One input, repeated: independent values, whose mean is the exact trace of that input."""
    model, inputs, _ = build("mlp", n=1)
    exact = layerwise_trace(model, inputs, estimator="exact")
    repeats = 8_000 // draws
    trace = layerwise_trace(model, inputs.expand(repeats, -1), estimator=estimator, draws=draws)
    difference = np.abs(trace.parameter_mean - exact.parameter_mean)
    # Six numbers, that depend on each other: 4 standard errors are passed by chance once in 2,600 seeds at most. For
    # the last layer all signs give the same up to rounding, which the second term allows for.
    assert (difference < 4 * trace.parameter_stderr + 1e-12 * exact.parameter_mean).all()
    # The test has power: a trace 10 % too large or too small would be off by more than 6.
    assert (0.1 * exact.parameter_mean > 6 * trace.parameter_stderr).all()


def test_more_draws_have_less_noise():
    """Four draws halve the standard error of one, where all the spread comes from the draws."""
    model, inputs, _ = build("mlp", n=1)
    inputs = inputs.expand(4_000, -1)
    for estimator in ("model", "sampled"):
        one, four = (layerwise_trace(model, inputs, estimator=estimator, draws=draws) for draws in (1, 4))
        # The last layer has no noise by `model`. The standard error is itself known to some 2 % from 4,000 values
        # whose tails are not long.
        np.testing.assert_allclose(four.stderr[:2] / one.stderr[:2], 0.5, rtol=0.1)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_chunks_change_nothing(estimator):
    model, inputs, targets = build("conv-bn-relu", n=300)  # more than fit into one slice
    whole = layerwise_trace(model, inputs, targets, estimator=estimator, draws=2)
    single = layerwise_trace(model, inputs[:20], targets[:20], estimator=estimator, draws=2, memory_mb=1e-6)
    few = layerwise_trace(model, inputs, targets, estimator=estimator, draws=2, memory_mb=0.02)
    first = layerwise_trace(model, inputs[:20], targets[:20], estimator=estimator, draws=2)
    # Rounding: the shape of a product decides the order of its sums.
    np.testing.assert_allclose(few.parameter_mean, whole.parameter_mean, rtol=1e-10)
    np.testing.assert_allclose(single.parameter_mean, first.parameter_mean, rtol=1e-10)


def test_the_generator_decides_the_draws():
    model, inputs, _ = build("mlp")
    default, zero, one = (
        layerwise_trace(model, inputs, rng=rng).mean
        for rng in (None, np.random.default_rng(0), np.random.default_rng(1))
    )
    np.testing.assert_array_equal(default, zero)
    assert (default[:2] != one[:2]).all()  # the last layer has no noise


def test_layers_may_be_given():
    model, inputs, _ = build("mlp")
    names = [name for name, _ in model.named_parameters()]
    layers = [Layer("biases", tuple(names[1::2])), Layer("weights", tuple(names[::2]))]
    trace = layerwise_trace(model, inputs, layers=layers)
    assert trace.layers == ("biases", "weights")
    np.testing.assert_allclose(
        trace.mean,
        [trace.parameter_mean[1::2].sum(), trace.parameter_mean[::2].sum()],
        rtol=1e-12,  # rounding
    )


def test_parameters_out_of_reach_have_no_information():
    model, inputs, _ = build("unreached")
    trace = layerwise_trace(model, inputs)
    reached = dict(zip(trace.parameters, trace.parameter_mean, strict=True))
    assert reached["unused.weight"] == reached["unused.bias"] == 0
    assert reached["used.bias"] > 0  # although it does not require a gradient


def test_one_input_has_no_standard_error():
    model, inputs, _ = build("mlp", n=1)
    trace = layerwise_trace(model, inputs)
    assert np.isnan(trace.stderr).all()
    assert np.isnan(trace.parameter_stderr).all()
    assert np.isfinite(trace.mean).all()


@pytest.mark.parametrize("estimator", ["model", "exact"])
def test_a_confident_model_keeps_its_last_information(estimator):
    """Two classes 200 nats apart: the cotangents, of about 1e-44, are below the smallest normal float32."""
    model = nn.Linear(1, 2, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[200.0], [0.0]]))
    trace = layerwise_trace(model, torch.ones(1, 1), estimator=estimator)
    p = np.exp(-200.0)
    np.testing.assert_allclose(trace.mean, 2 * p * (1 - p), rtol=1e-5)  # |x|^2 tr C; float32 gradients


def state(model, inputs):
    """Everything that a measurement must not change."""
    return (
        {name: tensor.clone() for name, tensor in model.state_dict().items()},
        {
            name: (p.requires_grad, None if p.grad is None else p.grad.clone(), id(p))
            for name, p in model.named_parameters()
        },
        {name: (m.training, len(m._forward_hooks), len(m._backward_hooks)) for name, m in model.named_modules()},
        [tensor._version for tensor in (*model.parameters(), *model.buffers(), inputs)],
        inputs.clone(),
        torch.get_rng_state(),
        torch.is_grad_enabled(),
    )


def same(one, other):
    """Equality that looks into containers and tensors."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


class Counting(nn.Module):
    """Counts its calls in a buffer and fails after a given number of calls."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))
        self.allowed = 10**9

    def forward(self, x):
        self.calls += 1
        self.allowed -= 1
        if self.allowed < 0:
            raise RuntimeError("enough")
        return x


@pytest.mark.parametrize("allowed", [10**9, 0, 1, 2], ids=["success", "logits fail", "gradient fails", "later fails"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_model_is_left_as_it_was(estimator, allowed):
    body, inputs, targets = build("conv-bn-relu")
    counting = Counting()
    model = nn.Sequential(nn.ReLU(inplace=True), body, counting)
    body[3].train()  # an unusual mix of modes, none of which matters here
    body[0].weight.requires_grad_(requires_grad=False)
    body[3].weight.grad = torch.ones_like(body[3].weight)
    body[3].register_forward_hook(lambda *_: None)
    before = state(model, inputs)
    counting.allowed = allowed
    if allowed < 10**9:
        with pytest.raises(RuntimeError, match="enough"):
            layerwise_trace(model, inputs, targets, estimator=estimator, memory_mb=1e-6)
    else:
        layerwise_trace(model, inputs, targets, estimator=estimator)
        assert counting.allowed < allowed  # it was called
    assert same(state(model, inputs), before)


def test_it_works_where_gradients_are_switched_off():
    model, inputs, _ = build("mlp")
    usual = layerwise_trace(model, inputs).mean
    with torch.no_grad():
        np.testing.assert_array_equal(layerwise_trace(model, inputs).mean, usual)
    with torch.inference_mode():
        np.testing.assert_array_equal(layerwise_trace(model, inputs).mean, usual)


def with_module(module, *, train):
    """An MLP with one more module, which alone is in train mode or not."""
    model = nn.Sequential(nn.Linear(6, 6), module, nn.Linear(6, CLASSES)).eval()
    module.train(train)
    return model


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.BatchNorm1d(6), r"1 \(BatchNorm1d\) is in train mode.*call model\.eval\(\)"),
        (nn.SyncBatchNorm(6), r"1 \(SyncBatchNorm\) is in train mode"),
        (nn.Dropout(0.5), r"1 \(Dropout\) is in train mode.*chance; call model\.eval\(\)"),
        (nn.AlphaDropout(0.5), r"1 \(AlphaDropout\) is in train mode"),
        (nn.RReLU(), r"1 \(RReLU\) is in train mode"),
        (nn.Sequential(nn.Identity(), nn.BatchNorm1d(6)), r"1\.1 \(BatchNorm1d\) is in train mode"),
    ],
)
def test_train_mode_is_refused_where_it_matters(module, message):
    model, inputs = with_module(module, train=True), torch.randn(3, 6)
    before = state(model, inputs)
    with pytest.raises(ValueError, match=message):
        layerwise_trace(model, inputs)
    assert same(state(model, inputs), before)
    if not isinstance(
        module, nn.SyncBatchNorm | nn.RReLU
    ):  # SyncBatchNorm needs a GPU, torch.func does not support RReLU
        assert layerwise_trace(model.eval(), inputs).n == 3


def test_train_mode_is_taken_where_it_does_not_matter():
    model, inputs, _ = build("mlp")
    np.testing.assert_array_equal(
        layerwise_trace(model.train(), inputs).mean, layerwise_trace(model.eval(), inputs).mean
    )
    single = nn.Sequential(nn.Conv2d(2, 2, 3), nn.InstanceNorm2d(2, affine=True), nn.Flatten(), nn.Linear(32, 2))
    assert layerwise_trace(single.train(), torch.randn(3, 2, 6, 6)).n == 3


def test_batch_statistics_in_eval_mode_are_refused():
    model = with_module(nn.BatchNorm1d(6, track_running_stats=False), train=False)
    with pytest.raises(ValueError, match=r"1 \(BatchNorm1d\) keeps no running statistics"):
        layerwise_trace(model, torch.randn(3, 6))


class Pair(nn.Module):
    """Returns two tensors."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.linear(x), x


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Sequential(nn.Linear(6, 1), nn.Flatten(0)),
            r"output for 2 inputs must be logits of shape \(N, K\), .* not shape \(2,\)",
        ),
        (nn.Linear(6, 1), r"output for 2 inputs must be .*K >= 2, not shape \(2, 1\)"),
        (
            nn.Sequential(nn.Linear(6, 4), nn.Unflatten(1, (2, 2))),
            r"output for 2 inputs must be .*, not shape \(2, 2, 2\)",
        ),
        (Pair(), "output for 2 inputs must be .*, not a tuple"),
        (nn.Flatten(), "no parameters"),
    ],
)
def test_what_is_no_classifier_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        layerwise_trace(model, torch.randn(3, 6))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_not_finite_are_refused(bad):
    model, inputs, _ = build("mlp")
    model[-1].bias.data[1] = bad
    with pytest.raises(ValueError, match="logits are not finite"):
        layerwise_trace(model, inputs)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": None}, "model must be a torch.nn.Module, not a NoneType"),
        ({"images": np.zeros((7, 6))}, "images must be a torch.Tensor, not a ndarray"),
        ({"rng": 0}, "rng must be a numpy Generator, .*, not a int"),
        ({"estimator": "empirical", "targets": [0] * 7}, "targets must be a torch.Tensor, not a list"),
    ],
)
def test_arguments_of_another_kind_are_refused(change, message):
    model, inputs, _ = build("mlp")
    with pytest.raises(TypeError, match=message):
        layerwise_trace(**{"model": model, "images": inputs} | change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"draws": 1.5}, r"draws must be a whole number of at least 1, not 1\.5"),
        ({"sketch": 2.5}, r"sketch must be a whole number of at least 1, not 2\.5"),
        ({"memory_mb": "1"}, "memory_mb must be a finite number above 0, not '1'"),
        ({"memory_mb": math.inf}, "memory_mb must be a finite number above 0, not inf"),
        ({"estimator": "fisher"}, "estimator must be one of model, exact, sampled, empirical, not 'fisher'"),
        ({"images": torch.zeros(0, 6, dtype=torch.float64)}, "images is empty"),
        ({"images": torch.zeros((), dtype=torch.float64)}, "images is empty"),
        ({"draws": 0}, "draws must be a whole number of at least 1, not 0"),
        ({"sketch": 0}, "sketch must be a whole number of at least 1, not 0"),
        ({"memory_mb": 0}, "memory_mb must be a finite number above 0, not 0"),
        ({"memory_mb": math.nan}, "memory_mb must be a finite number above 0, not nan"),
        ({"estimator": "empirical"}, "'empirical' needs the true labels: give targets"),
        (
            {"estimator": "empirical", "targets": torch.zeros(6, dtype=torch.int64)},
            r"integers of shape \(7,\), not torch\.int64 of shape \(6,\)",
        ),
        ({"estimator": "empirical", "targets": torch.zeros(7)}, r"targets must be labels, .* not torch\.float32"),
        (
            {"estimator": "empirical", "targets": torch.full((7,), -1)},
            "classes from 0 to 3, since the model has 4 outputs, not -1",
        ),
        (
            {"estimator": "empirical", "targets": torch.full((7,), 4)},
            "classes from 0 to 3, since the model has 4 outputs, not 4",
        ),
        ({"layers": [Layer("all", ("0.weight",))]}, r"omits parameters: 0\.bias, 2\.weight"),
        ({"layers": [Layer("all", ("9.weight",))]}, r"lists parameters that the model does not have: 9\.weight"),
        ({"layers": [Layer("all", ("0.weight", "0.weight"))]}, r"lists parameters twice: 0\.weight"),
        ({"layers": [Layer("a", ("0.weight",)), Layer("a", ("0.bias",))]}, "uses a name for two layers: a"),
    ],
)
def test_bad_arguments_are_refused(change, message):
    model, inputs, _ = build("mlp")
    with pytest.raises(ValueError, match=message):
        layerwise_trace(**{"model": model, "images": inputs} | change)
