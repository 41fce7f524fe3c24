"""Every rule, and the methods for parameters without a rule, against a loop over single examples in float64."""

import copy
import gc
import itertools
import weakref

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import log_softmax
from torch.utils.checkpoint import checkpoint

from cpframe.fisher import layerwise_trace
from cpframe.fisher.per_sample import convolution as convolutions
from cpframe.fisher.per_sample.convolution import Geometry

CLASSES = 3


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def looped(model, inputs):
    """The exact trace of every parameter, as a mean over inputs, by name."""
    model = copy.deepcopy(model).double().requires_grad_(True)
    inputs = inputs.double() if inputs.is_floating_point() else inputs
    names, parameters = zip(*model.named_parameters(), strict=True)
    total = np.zeros(len(names))
    for i in range(len(inputs)):
        logs = log_softmax(model(inputs[i : i + 1].clone())[0], dim=0)
        for y in range(CLASSES):
            found = torch.autograd.grad(logs[y], parameters, retain_graph=True, allow_unused=True)
            squares = [0.0 if g is None else g.square().sum().item() for g in found]
            total += logs[y].exp().item() * np.array(squares)
    return dict(zip(names, total / len(inputs), strict=True))


def check(model, inputs, rules):
    """The exact estimator agrees with the loop for every parameter, with the expected rules; also in float32."""
    truth = looped(model, inputs)
    wide = inputs.double() if inputs.is_floating_point() else inputs
    for precise, seen, rtol in (
        (copy.deepcopy(model).double(), wide, 1e-10),  # rounding, summed in another order
        (copy.deepcopy(model).float(), inputs, 1e-4),  # float32 rounds at 6e-8, and these sums lose two digits
    ):
        trace = layerwise_trace(precise, seen, estimator="exact")
        found = dict(zip(trace.parameters, trace.parameter_mean, strict=True))
        noise = 1e-10 * max(truth.values()) if rtol < 1e-9 else 1e-7 * max(truth.values())
        for name, value in truth.items():
            np.testing.assert_allclose(found[name], value, rtol=rtol, atol=noise, err_msg=name)
        assert dict(trace.rules) == rules


class Pooled(nn.Module):
    """A body, a mean over positions, a linear classifier."""

    def __init__(self, body, channels):
        super().__init__()
        self.body = body
        self.head = nn.Linear(channels, CLASSES, bias=False)

    def forward(self, x):
        return self.head(torch.tanh(self.body(x)).flatten(2).mean(dim=2))


HEAD = {"head.weight": "linear"}
BOTH = {"body.weight": "convolution", "body.bias": "channel bias"} | HEAD

CONVOLUTIONS = {
    "same": {"kernel_size": 3, "padding": 1},
    "stride": {"kernel_size": 3, "stride": 2, "padding": 1},
    "stride beyond the kernel": {"kernel_size": 2, "stride": 3},
    "dilation": {"kernel_size": 3, "dilation": 2, "padding": 2},
    "both": {"kernel_size": 3, "dilation": 3, "stride": 2, "padding": 4},
    "groups": {"kernel_size": 3, "groups": 2, "padding": 1},
    "depthwise": {"kernel_size": 3, "groups": 4, "padding": 1},
    "pointwise": {"kernel_size": 1},
    "even": {"kernel_size": 4, "padding": "same"},
    "valid": {"kernel_size": 2, "padding": "valid"},
    "reflect": {"kernel_size": 3, "padding": 2, "padding_mode": "reflect"},
    "replicate": {"kernel_size": 3, "padding": 1, "padding_mode": "replicate"},
    "circular": {"kernel_size": 3, "padding": 1, "padding_mode": "circular", "stride": 2},
}


# torch itself warns that an even kernel needs a copy.
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolutions(case, dimensions):
    kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[dimensions - 1]
    body = kind(4, 8 if case == "depthwise" else 6, **CONVOLUTIONS[case])
    size = (11,) if dimensions == 1 else (7, 6) if dimensions == 2 else (4, 5, 4)
    check(Pooled(body, body.out_channels), torch.randn(4, 4, *size), BOTH)


@pytest.mark.parametrize("method", ["gram", "each", "offsets"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize(("dilation", "groups"), [(1, 1), (2, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("last", [False, True])
def test_every_method_of_a_convolution_is_the_norm_of_its_gradient(method, stride, dilation, groups, last):
    kernel, padding = (3, 2), (2, 1)
    x, weight = torch.randn(3, 4, 9, 8, dtype=torch.float64), torch.randn(6, 4 // groups, *kernel, dtype=torch.float64)
    weight.requires_grad_(True)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    g = torch.randn_like(functional.conv2d(x, weight, **options))
    expected = [
        torch.autograd.grad(functional.conv2d(x[i : i + 1], weight, **options), weight, g[i : i + 1])[0].square().sum()
        for i in range(3)
    ]
    if last:
        x, g = (t.to(memory_format=torch.channels_last) for t in (x, g))
    geometry = Geometry(kernel, (stride, stride), ((2, 2), (1, 1)), (dilation, dilation), groups)
    found = convolutions._METHODS[method](x, g, geometry)
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-12, atol=0)  # rounding


def shape_of(channels, outputs, size, stride=1, device="cpu"):
    geometry = Geometry((3, 3), (stride, stride), ((1, 1), (1, 1)), (1, 1), 1)
    return convolutions.Shape(
        (channels, size, size), (outputs, size // stride, size // stride), 16, geometry, False, torch.float32, device
    )


def test_many_positions_are_multiplied_out_and_few_are_paired():
    """Layers of All-CNN: at 32 x 32 a Gram matrix has 1.3 million entries, at 8 x 8 it has 10,000."""
    assert convolutions.method_by_operations(shape_of(96, 96, 32)) == "each"
    assert convolutions.method_by_operations(shape_of(96, 96, 32, device="cuda:0")) == "offsets"
    assert convolutions.method_by_operations(shape_of(192, 192, 8)) == "gram"
    assert (
        convolutions.method_by_time(shape_of(96, 96, 32)) == "each"
    )  # methods with many more operations are not timed
    assert convolutions.method_by_time(shape_of(192, 192, 4)) == "gram"


@pytest.fixture
def restored_determinism():
    """The debug mode of torch is restored after the test, and ``default`` in the test whatever ran before."""
    before = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("default")
    yield
    torch.set_deterministic_debug_mode(before)


def test_where_results_must_repeat_nothing_is_timed(monkeypatch, restored_determinism):
    """The choice changes the last bits, so it may not depend on how busy the machine was."""

    def timed(shape):
        raise AssertionError("was timed")

    monkeypatch.setattr(convolutions, "method_by_time", timed)
    model, inputs = Pooled(nn.Conv2d(4, 4, 3), 4), torch.randn(4, 4, 6, 6)
    with pytest.raises(AssertionError, match="was timed"):
        layerwise_trace(model, inputs)
    torch.set_deterministic_debug_mode("error")
    assert (layerwise_trace(model, inputs).mean > 0).all()


@pytest.mark.parametrize("dimensions", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": 1}, {"stride": 2, "output_padding": 1, "groups": 2}, {"dilation": 2}],
    ids=["plain", "stride", "output padding", "dilation"],
)
def test_transposed_convolutions(dimensions, options):
    body = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[dimensions - 1](4, 6, 3, **options)
    rules = {"body.weight": "transposed convolution", "body.bias": "channel bias"} | HEAD
    check(Pooled(body, 6), torch.randn(4, 4, *(4, 3, 3)[:dimensions]), rules)


CHANNEL = {"body.weight": "channel weight", "body.bias": "channel bias"} | HEAD
TRAILING = {"body.weight": "normalisation weight", "body.bias": "normalisation bias"} | HEAD


def unusual(module):
    """Weights and statistics that matter."""
    for tensor in module.parameters():
        nn.init.uniform_(tensor, 0.5, 1.5)
    for name, buffer in module.named_buffers():
        if "running" in name:
            buffer.uniform_(0.5, 1.5)
    return module.eval()


@pytest.mark.parametrize(
    ("module", "shape", "rules"),
    [
        (nn.BatchNorm1d(4), (4, 7), CHANNEL),
        (nn.BatchNorm2d(4), (4, 3, 5), CHANNEL),
        (nn.BatchNorm3d(4), (4, 2, 3, 2), CHANNEL),
        (nn.InstanceNorm2d(4, affine=True), (4, 3, 5), CHANNEL),
        (nn.InstanceNorm1d(4, affine=True, track_running_stats=True), (4, 6), CHANNEL),
        (nn.GroupNorm(2, 4), (4, 3, 5), CHANNEL),
        (nn.LayerNorm(5), (4, 3, 5), TRAILING),
        (nn.LayerNorm((3, 5)), (4, 3, 5), TRAILING),
        (nn.RMSNorm((3, 5)), (4, 3, 5), {"body.weight": "normalisation weight"} | HEAD),
        (nn.PReLU(), (4, 6), {"body.weight": "channel weight"} | HEAD),
        (nn.PReLU(4), (4, 3, 5), {"body.weight": "channel weight"} | HEAD),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_normalisations(module, shape, rules):
    check(Pooled(unusual(module), 4), torch.randn(5, *shape), rules)


@pytest.mark.parametrize(("positions", "width"), [(3, 20), (40, 5)], ids=["few positions", "many positions"])
def test_linear_maps_on_sequences(positions, width):
    model = nn.Sequential(nn.Linear(6, width), nn.Tanh(), nn.Flatten(), nn.Linear(positions * width, CLASSES))
    rules = {"0.weight": "linear", "0.bias": "bias", "3.weight": "linear", "3.bias": "bias"}
    check(model, torch.randn(4, positions, 6), rules)


class Words(nn.Module):
    def __init__(self, padding):
        super().__init__()
        self.embedding = nn.Embedding(5, 4, padding_idx=padding)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.embedding(x).tanh().sum(dim=1))


@pytest.mark.parametrize("padding", [None, 2, -1])
def test_embeddings(padding):
    rules = {"embedding.weight": "embedding", "head.weight": "linear", "head.bias": "bias"}
    check(Words(padding), torch.randint(0, 5, (6, 9)), rules)


class Recurring(nn.Module):
    """Every kind of module twice, so that gradients of two uses add up before they are squared."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.GroupNorm(1, 3)
        self.linear = nn.Linear(3, 3)
        self.scale = nn.LayerNorm(3)

    def forward(self, x):
        for _ in range(2):
            x = self.norm(self.conv(x)).tanh()
        x = x.mean(dim=(2, 3))
        for _ in range(3):
            x = self.scale(self.linear(x)).tanh()
        return x


def test_modules_used_several_times():
    rules = {
        "conv.weight": "convolution",
        "conv.bias": "channel bias",
        "norm.weight": "channel weight",
        "norm.bias": "channel bias",
        "linear.weight": "linear",
        "linear.bias": "bias",
        "scale.weight": "normalisation weight",
        "scale.bias": "normalisation bias",
    }
    check(Recurring(), torch.randn(4, 3, 5, 4), rules)


class Films(nn.Module):
    """Frames are folded into the batch."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(3, CLASSES)

    def forward(self, x):
        frames = self.norm(self.conv(x.flatten(0, 1))).tanh().mean(dim=(2, 3))
        return self.linear(frames).tanh().view(len(x), -1, CLASSES).sum(dim=1)


def test_a_dimension_folded_into_the_batch():
    rules = {
        "conv.weight": "convolution",
        "conv.bias": "channel bias",
        "norm.weight": "channel weight",
        "norm.bias": "channel bias",
        "linear.weight": "linear",
        "linear.bias": "bias",
    }
    check(Films().eval(), torch.randn(4, 5, 2, 4, 4), rules)


class SequenceFirst(nn.Module):
    """Positions come before examples; where there are as many of both, only the verification can find this."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.inner(x.transpose(0, 1)).tanh().sum(dim=0))


def test_weights_of_zero_do_not_hide_what_is_wrong():
    """With a classifier of zeros all gradients are 0; after training, the rules must not be trusted."""
    model, inputs = SequenceFirst().double(), torch.randn(4, 4, 4, dtype=torch.float64)
    weights = model.head.weight.data.clone()
    model.head.weight.data.zero_()
    layerwise_trace(model, inputs)
    model.head.weight.data.copy_(weights)
    truth = list(looped(model, inputs).values())
    np.testing.assert_allclose(layerwise_trace(model, inputs, estimator="exact").parameter_mean, truth, rtol=1e-10)


@pytest.mark.parametrize("positions", [2, 4, 6])
def test_examples_that_are_not_the_first_dimension_are_noticed(positions):
    rules = {"inner.weight": "vmap", "inner.bias": "vmap", "head.weight": "linear", "head.bias": "bias"}
    check(SequenceFirst(), torch.randn(4, positions, 4), rules)


class Raw(nn.Module):
    """Direct parameters: a token, a position code, a scale, and a matrix in a product that also has a rule."""

    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 4))
        self.code = nn.Parameter(torch.randn(6, 4))
        self.scale = nn.Parameter(torch.ones(()))
        self.matrix = nn.Parameter(torch.randn(4, 4))
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.code
        x = self.inner(x @ self.matrix).tanh() * self.scale + functional.linear(x, self.matrix)
        return self.head(x.sum(dim=1)) + 0 * self.inner.weight.sum()


def test_raw_parameters_are_measured_by_vmap():
    rules = dict.fromkeys(["token", "code", "scale", "matrix", "inner.weight"], "vmap")
    rules |= {"inner.bias": "bias", "head.weight": "linear", "head.bias": "bias"}
    check(Raw(), torch.randn(4, 5, 4), rules)


def test_reparametrised_weights_are_measured_by_vmap():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(5, 4)), nn.Tanh(), nn.Linear(4, CLASSES))
    originals = dict.fromkeys(["0.parametrizations.weight.original0", "0.parametrizations.weight.original1"], "vmap")
    check(model, torch.randn(4, 5), originals | {"0.bias": "bias", "2.weight": "linear", "2.bias": "bias"})


class Tied(nn.Module):
    """One matrix by two rules: as an embedding, and as the classifier."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, 4)

    def forward(self, x):
        return functional.linear(self.embedding(x).tanh().sum(dim=1), self.embedding.weight)


def test_a_parameter_under_two_rules_is_measured_by_vmap():
    check(Tied(), torch.randint(0, CLASSES, (4, 5)), {"embedding.weight": "vmap"})


class Recurrent(nn.Module):
    """Its gates are one operation of torch."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.lstm(x)[0][:, -1])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_recurrent_networks(dtype):
    """In one precision vmap loops internally; in the other it fails, and the loop is used."""
    model, inputs = Recurrent().to(dtype), torch.randn(4, 5, 3).to(dtype)
    trace = layerwise_trace(model, inputs, estimator="exact")
    assert trace.rules["lstm.weight_hh_l0"] in ("vmap", "loop")
    # Rounding, 2e-16 in float64 and 6e-8 in float32, in sums that lose two digits.
    rtol = 1e-10 if dtype == torch.float64 else 1e-4
    np.testing.assert_allclose(trace.parameter_mean, list(looped(model, inputs).values()), rtol=rtol)


class Transformer(nn.Module):
    def __init__(self, batch_first):
        super().__init__()
        self.first = batch_first
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.1, batch_first=batch_first)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(self.block(x if self.first else x.transpose(0, 1)).sum(dim=1 if self.first else 0))


@pytest.mark.parametrize("batch_first", [True, False])
def test_transformers(batch_first):
    """The fused path of eval mode would hide the parameters."""
    model, inputs = Transformer(batch_first).eval(), torch.randn(5, 3, 4)
    rules = dict(layerwise_trace(model, inputs).rules)
    assert set(rules.values()) <= {"vmap", "loop", "linear", "bias", "normalisation weight", "normalisation bias"}
    if batch_first:
        assert rules["block.linear1.weight"] == "linear"
    check(model, inputs, rules)


class Doubled(torch.autograd.Function):
    """A function that torch cannot look into."""

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return x @ weight

    @staticmethod
    def backward(ctx, g):
        x, weight = ctx.saved_tensors
        return g @ weight.T, x.mT @ g


class Opaque(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(Doubled.apply(x, self.weight).tanh())


@pytest.mark.parametrize("required", [True, False])
def test_functions_that_cannot_be_looked_into_are_noticed(required):
    """Also where the parameter does not require a gradient and would not be in the graph otherwise."""
    model = Opaque()
    model.weight.requires_grad_(required)
    check(model, torch.randn(4, 4), {"weight": "loop", "head.weight": "linear", "head.bias": "bias"})
    assert model.weight.requires_grad is required


class Changed(nn.Module):
    """Changes the inputs of a function after the call: its weight cannot be trained, but its bias can."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.inner.weight.requires_grad_(False)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        y = self.inner(x).tanh()
        x.zero_()
        return self.head(y + x)


def test_inputs_changed_in_place_are_noticed():
    """Torch refuses to differentiate with respect to the weight, and its error is passed on."""
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        layerwise_trace(Changed(), torch.randn(4, 4))


class Frozen(nn.Module):
    """The model itself detaches its body from the graph."""

    def __init__(self):
        super().__init__()
        self.body = nn.Conv1d(3, 4, 3)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        with torch.no_grad():
            x = self.body(x).tanh().mean(dim=2)
        return self.head(x)


def test_what_a_model_cuts_off_is_not_reached():
    rules = {"body.weight": "not reached", "body.bias": "not reached", "head.weight": "linear", "head.bias": "bias"}
    check(Frozen(), torch.randn(4, 3, 6), rules)


class Checkpointed(nn.Module):
    """Computes its body again in the backward pass."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(checkpoint(self.body, x, use_reentrant=False))


def test_checkpointed_models():
    model, inputs = Checkpointed(), torch.randn(4, 4)
    rules = dict(layerwise_trace(model, inputs).rules)
    check(model, inputs, rules)


def small_vision_transformer():
    import torchvision

    return torchvision.models.VisionTransformer(
        image_size=32, patch_size=16, num_layers=2, num_heads=2, hidden_dim=8, mlp_dim=12, num_classes=CLASSES
    )


def known(name):
    import torchvision

    return lambda: getattr(torchvision.models, name)(num_classes=CLASSES)


@pytest.mark.parametrize(
    "make", [known("resnet18"), known("mobilenet_v3_small"), small_vision_transformer], ids=["resnet", "mobile", "vit"]
)
def test_known_networks(make):
    """Two images of the smallest size; every parameter against the loop, in float64."""
    model = make().double().eval()
    inputs = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    for parameter in model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)  # some start with weights of zero
    trace = layerwise_trace(model, inputs, estimator="empirical", targets=torch.tensor([0, 2]))
    total = np.zeros(len(trace.parameters))
    for i, y in enumerate((0, 2)):
        logs = log_softmax(model(inputs[i : i + 1])[0], dim=0)
        total += [g.square().sum().item() for g in torch.autograd.grad(logs[y], list(model.parameters()))]
    scale = 1e-12 * total.max()
    np.testing.assert_allclose(trace.parameter_mean, total / 2, rtol=1e-10, atol=scale)  # rounding
    assert trace.parameter_mean.min() > 0
    attention = {"class_token", "encoder.pos_embedding"}
    attention |= {name for name in trace.rules if "self_attention" in name}
    assert {name for name, rule in trace.rules.items() if rule in ("vmap", "loop")} <= attention


@pytest.mark.parametrize("estimator", ["model", "exact"])
def test_a_sketch_is_unbiased(estimator):
    """One input, repeated: its sketches differ, and their mean is the trace without a sketch."""
    model = nn.Sequential(nn.Conv2d(2, 6, 3, padding=1), nn.Tanh(), nn.Flatten(2), nn.Linear(16, 12), nn.Tanh())
    model = nn.Sequential(*model, nn.Flatten(), nn.Linear(72, CLASSES)).double()
    inputs = torch.randn(1, 2, 4, 4, dtype=torch.float64)
    exact = layerwise_trace(model, inputs, estimator="exact")
    sketched = layerwise_trace(model, inputs.expand(4000, -1, -1, -1), estimator=estimator, sketch=2)
    difference = np.abs(sketched.parameter_mean - exact.parameter_mean)
    # Six numbers: 4 standard errors are passed by chance once in 2,600 seeds at most; the rest is rounding.
    assert (difference <= 4 * sketched.parameter_stderr + 1e-12 * exact.parameter_mean).all()
    noisy = dict(zip(sketched.parameters, sketched.parameter_stderr / sketched.parameter_mean, strict=True))
    assert noisy["0.weight"] > 1e-3
    assert noisy["3.weight"] > 1e-3  # they were sketched
    assert max(noisy.values()) < 0.025  # and a bias of a tenth would be seen


def test_a_sketch_does_not_depend_on_the_chunks():
    model = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Tanh(), nn.Flatten(), nn.Linear(24, CLASSES)).double()
    inputs = torch.randn(9, 2, 4, 4, dtype=torch.float64)
    one, several = (layerwise_trace(model, inputs, sketch=2, memory_mb=mb).parameter_mean for mb in (100, 0.005))
    np.testing.assert_allclose(one, several, rtol=1e-12)  # rounding


class Interrupting(nn.Module):
    """Raises KeyboardInterrupt at the given call."""

    def __init__(self, at):
        super().__init__()
        self.linear = nn.Linear(4, CLASSES)
        self.linear.weight.requires_grad_(False)
        self.left = at

    def forward(self, x):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt
        return self.linear(x)


@pytest.mark.parametrize("at", [1, 2, 4, 5])
def test_an_interruption_leaves_the_model_as_it_was(at):
    model = Interrupting(at)
    with pytest.raises(KeyboardInterrupt):
        layerwise_trace(model, torch.randn(4, 4), memory_mb=1e-6)
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, True]
    assert all(parameter.grad is None for parameter in model.parameters())


def test_no_gradient_of_a_weight_is_ever_computed(monkeypatch):
    """No operation of the backward pass has a result as large as the weights."""
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            made = result if isinstance(result, tuple) else (result,)
            sizes.extend((str(func), tuple(tensor.shape)) for tensor in made if isinstance(tensor, torch.Tensor))
            return result

    model = nn.Sequential(nn.Linear(50, 61), nn.ReLU(), nn.Linear(61, 47), nn.ReLU(), nn.Linear(47, CLASSES))
    inputs = torch.randn(7, 50)
    layerwise_trace(model, inputs)  # the first call verifies the rules by automatic differentiation
    with Recorder():
        layerwise_trace(model, inputs)
    weights = {tuple(p.shape) for p in model.parameters() if p.ndim == 2}
    weights |= {shape[::-1] for shape in weights}
    made = {
        shape for name, shape in sizes if not any(view in name for view in ("detach", "view", "aten.t.", "transpose"))
    }
    assert not weights & made
    assert any(shape == (7, 61) for _, shape in sizes)  # gradients of activations are


def test_invariance_and_shares():
    """Scaling a weight before a normalisation by a divides its trace by a^2 and does not change tr F ||w||^2."""
    model = nn.Sequential(nn.Linear(5, 6, bias=False), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, CLASSES)).double()
    model[1].eps = 0
    inputs = torch.randn(20, 5, dtype=torch.float64)
    before = layerwise_trace(model, inputs, estimator="exact")
    model[0].weight.data *= 3
    after = layerwise_trace(model, inputs, estimator="exact")
    np.testing.assert_allclose(after.parameter_mean[0], before.parameter_mean[0] / 9, rtol=1e-10)  # rounding
    np.testing.assert_allclose(after.scaled, before.scaled, rtol=1e-10)
    np.testing.assert_allclose(after.scaled_stderr, before.scaled_stderr, rtol=1e-10)
    norms = [p.detach().square().sum().item() for p in model.parameters()]
    by_hand = [
        sum(m * w for m, w in itertools.islice(zip(after.parameter_mean, norms, strict=True), *cut))
        for cut in ((0, 3), (3, 5))
    ]
    np.testing.assert_allclose(after.scaled, by_hand, rtol=1e-12)
    np.testing.assert_allclose(after.share, after.mean / after.mean.sum(), rtol=1e-12)


def test_the_error_of_a_share_is_its_spread_over_probes():
    """400 probes of 60 inputs each: their shares spread as the standard error of each says, within its own noise."""
    model = nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, CLASSES)).double()
    inputs = torch.randn(400, 60, 5, dtype=torch.float64)
    traces = [layerwise_trace(model, some, estimator="exact") for some in inputs]
    spread = np.std([trace.share for trace in traces], axis=0, ddof=1)
    claimed = np.sqrt(np.mean([trace.share_stderr**2 for trace in traces], axis=0))
    # A standard deviation of 400 values is known to 3.5 %; the first order of a ratio of means of 60 to some percent.
    np.testing.assert_allclose(claimed, spread, rtol=0.15)


class Positioned(nn.Module):
    """Learned positions: looked up once for all examples."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 6)
        self.position = nn.Embedding(8, 6)
        self.head = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.head((self.inner(x) + self.position(torch.arange(8))).tanh().mean(dim=1))


def checked_now(model, inputs):
    """The trace of this model object, with its cached plans of earlier calls, is that of the loop."""
    trace = layerwise_trace(model, inputs, estimator="exact")
    truth = list(looped(model, inputs).values())
    np.testing.assert_allclose(trace.parameter_mean, truth, rtol=1e-10, atol=1e-12 * max(truth))  # rounding
    return trace


@pytest.mark.parametrize("make", [Positioned, SequenceFirst])
def test_a_first_call_with_one_example_decides_nothing_for_more(make):
    model, inputs = make().double(), torch.randn(8, 8, 4, dtype=torch.float64)
    checked_now(model, inputs[:1])
    checked_now(model, inputs)


class Switched(nn.Module):
    """An attribute decides which dimension comes first."""

    def __init__(self):
        super().__init__()
        self.first = True
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        x = self.inner(x if self.first else x.transpose(0, 1)).tanh()
        return self.head(x.sum(dim=1 if self.first else 0))


def test_a_model_that_is_changed_is_looked_at_anew():
    model, inputs = Switched().double(), torch.randn(5, 5, 4, dtype=torch.float64)
    assert checked_now(model, inputs).rules["inner.weight"] == "linear"
    model.first = False
    assert checked_now(model, inputs).rules["inner.weight"] == "vmap"
    model.first = True
    model.inner.register_forward_pre_hook(lambda module, args: (args[0].flip(0),))
    model.inner.register_forward_hook(lambda module, args, output: output.flip(0))
    assert checked_now(model, inputs).rules["inner.weight"] == "vmap"
    model.head = nn.Linear(4, 5).double()
    assert layerwise_trace(model, inputs).n == 5


class Sorted(nn.Module):
    """Sorts its batch, and unsorts it: examples are in order for some pairs of them, and not for others."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        order = x[:, 0].argsort()
        return self.head(self.inner(x[order]).tanh()[order.argsort()])


@pytest.mark.parametrize("turned", [False, True])
def test_a_model_that_sorts_its_batch_is_noticed(turned):
    inputs = torch.randn(6, 4, dtype=torch.float64)
    inputs = inputs[inputs[:, 0].argsort(descending=turned)]
    assert checked_now(Sorted().double(), inputs).rules["inner.weight"] != "linear"


class Gated(nn.Module):
    """A branch, with its examples in the second dimension, that the first and the last inputs do not take."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)
        self.branch = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        y = self.inner(x)
        if x[:, 0, 0].max() > 5:
            taken = (x[:, 0, 0] > 5).to(x)[:, None, None]
            y = y + taken * self.branch(x.transpose(0, 1)).transpose(0, 1)
        return self.head(y.tanh().sum(dim=1))


def test_a_branch_that_the_examples_looked_at_do_not_take_is_not_relied_on():
    inputs = torch.randn(6, 6, 4, dtype=torch.float64)
    inputs[3, 0, 0] = 6
    assert checked_now(Gated().double(), inputs).rules["branch.weight"] == "loop"


class Mixed(nn.Module):
    """The output for an example depends on the other examples, on chance, or on neither."""

    def __init__(self, mix):
        super().__init__()
        self.linear = nn.Linear(4, CLASSES)
        self.mix = mix

    def forward(self, x):
        return self.mix(self.linear(x))


@pytest.mark.parametrize(
    "mix",
    [
        lambda z: z / z.abs().amax(),
        lambda z: z * z.softmax(dim=0),
        lambda z: z * torch.bernoulli(torch.full_like(z, 0.5)),
        lambda z: z + 0.01 * torch.rand_like(z),
    ],
    ids=["largest", "softmax", "bernoulli", "noise"],
)
def test_outputs_that_depend_on_other_examples_or_on_chance_are_refused(mix):
    model, before = Mixed(mix), torch.get_rng_state()
    with pytest.raises(ValueError, match="depends on the other inputs of its batch, or on chance"):
        layerwise_trace(model, torch.randn(5, 4, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_logit_near_zero_is_not_taken_for_chance():
    """A bias makes the logits 0 at the perturbed weights; the remaining rounding errors differ between one input alone
    and two together.
    """
    from cpframe.fisher.per_sample.verification import perturb

    model, inputs = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 10)), torch.randn(4, 300)
    bias = model[2].bias
    moved = []
    for value in (0.0, 1.0):
        nn.init.constant_(bias, value)
        moved.append(perturb(dict(model.named_parameters())))
    with torch.no_grad():
        logits = torch.func.functional_call(model, moved[0], (inputs[-1:],))[0]
        bias.copy_(-logits / (moved[1]["2.bias"] - moved[0]["2.bias"]))
        near = perturb(dict(model.named_parameters()))
        alone, together = (torch.func.functional_call(model, near, (some,)) for some in (inputs[-1:], inputs[[-1, 0]]))
    assert alone.abs().max() < 1e-6
    assert not torch.allclose(alone[0], together[0], rtol=1e-3, atol=0)
    assert layerwise_trace(model, inputs).n == 4


@pytest.mark.parametrize("module", [nn.MultiheadAttention(4, 2, dropout=0.5), nn.LSTM(4, 4, 2, dropout=0.5)])
def test_modules_with_dropout_of_their_own_are_refused_in_train_mode(module):
    model = Mixed(lambda z: z)
    model.extra = module
    with pytest.raises(ValueError, match=r"extra .* is in train mode"):
        layerwise_trace(model, torch.randn(5, 4))
    assert layerwise_trace(model.eval(), torch.randn(5, 4)).n == 5


class Reentrant(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(4, 4)
        self.body = nn.Linear(4, 4)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        return self.head(checkpoint(self.body, self.stem(x), use_reentrant=True))


def test_reentrant_checkpoints_are_refused():
    with pytest.raises(ValueError, match="pass use_reentrant=False"):
        layerwise_trace(Reentrant(), torch.randn(5, 4))


def test_embeddings_with_a_largest_norm_keep_their_rows():
    model = nn.Sequential(nn.Embedding(5, 4, max_norm=0.5), nn.Flatten(), nn.Linear(8, CLASSES)).double()
    before = model[0].weight.detach().clone()
    inputs = torch.randint(0, 5, (6, 2))
    trace = layerwise_trace(model, inputs, estimator="exact")
    assert torch.equal(model[0].weight, before)
    truth = list(looped(model, inputs).values())  # in a copy, because the loop renormalises the rows
    np.testing.assert_allclose(trace.parameter_mean, truth, rtol=1e-10)


class Filtered(nn.Module):
    """A complex weight in the frequency domain."""

    def __init__(self):
        super().__init__()
        self.filter = nn.Parameter(torch.randn(5, dtype=torch.complex128))
        self.count = nn.Parameter(torch.tensor([1, 2]), requires_grad=False)
        self.empty = nn.Linear(0, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x):
        filtered = torch.fft.irfft(torch.fft.rfft(x) * self.filter, n=8)
        return self.head(filtered.tanh() + self.empty(x[:, :0]))


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_complex_whole_and_empty_parameters():
    model, inputs = Filtered(), torch.randn(5, 8, dtype=torch.float64)
    model.empty.double(), model.head.double()
    trace = layerwise_trace(model, inputs, estimator="exact")
    named = {name: p for name, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}
    total = dict.fromkeys(named, 0.0)
    for one in inputs:
        logs = log_softmax(model(one[None])[0], dim=0)
        for y in range(CLASSES):
            for name, g in zip(
                named, torch.autograd.grad(logs[y], list(named.values()), retain_graph=True), strict=True
            ):
                total[name] += logs[y].exp().item() * g.abs().square().sum().item() / len(inputs)
    found = dict(zip(trace.parameters, trace.parameter_mean, strict=True))
    for name, value in total.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-10, err_msg=name)
    assert trace.rules["count"] == trace.rules["empty.weight"] == "not reached"


class Energy(nn.Module):
    """Its outputs are a gradient, taken inside the forward pass."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 6)
        self.outer = nn.Linear(6, 1)
        self.head = nn.Linear(4, CLASSES)

    def forward(self, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (force,) = torch.autograd.grad(self.outer(self.inner(x).tanh()).sum(), x, create_graph=True)
        return self.head(force)


def test_models_that_differentiate_inside():
    checked_now(Energy().double(), torch.randn(5, 4, dtype=torch.float64))


def test_gradients_that_are_not_finite_are_refused():
    model = nn.Sequential(nn.Linear(4, 3, bias=False))
    model.register_forward_hook(lambda module, args, output: output.square().sum(dim=1, keepdim=True).sqrt() * output)
    inputs = torch.randn(3, 4)
    inputs[1] = 0
    with pytest.raises(ValueError, match=r"logits are finite, but their gradients with respect to 0\.weight are not"):
        layerwise_trace(model, inputs)


@pytest.mark.parametrize("scale", [3e-4, 300.0])
def test_squares_of_half_numbers_neither_vanish_nor_overflow(scale):
    model = nn.Linear(64, CLASSES).half()
    nn.init.zeros_(model.weight)
    inputs = (torch.randn(9, 64) * scale).half()
    trace = layerwise_trace(model, inputs, estimator="exact")
    expected = (1 - 1 / CLASSES) * inputs.double().square().sum(dim=1).mean().item()
    np.testing.assert_allclose(trace.parameter_mean[0], expected, rtol=5e-3)  # a half number has 11 bits


def test_pruned_models_can_be_copied_afterwards():
    from torch.nn.utils import prune

    model, inputs = (
        nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, CLASSES)).double(),
        torch.randn(5, 4).double(),
    )
    prune.l1_unstructured(model[0], "weight", 0.5)
    with torch.no_grad():
        model(inputs)
    before = model[0].weight
    checked_now(model, inputs)
    assert model[0].weight is before
    copy.deepcopy(model)


def test_memory_is_counted_where_no_rule_sees_it():
    """Activations without a rule, of raw parameters for instance, can be most of the memory of a model."""
    from cpframe.fisher.per_sample.verification import verify

    class Chain(nn.Module):
        def __init__(self):
            super().__init__()
            self.wide = nn.Parameter(torch.randn(4, 1000))
            self.head = nn.Linear(1000, CLASSES)

        def forward(self, x):
            x = x @ self.wide
            for _ in range(10):
                x = x.sigmoid().tanh()
            return self.head(x)

    model = Chain()
    plan = verify(model, dict(model.named_parameters()), torch.randn(4, 4))
    kept = 20 * 1000 * 4  # 20 results of 1,000 float32 each
    assert kept <= plan.example_bytes <= 1.5 * kept


@pytest.mark.parametrize("estimator", ["model", "exact"])
def test_nothing_is_kept_of_a_pass(estimator):
    """No activation outlives a measurement, even a failed one: only the pass may hold its graph."""
    alive = []
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(48, CLASSES))
    for module in model:
        module.register_forward_hook(lambda module, args, output: alive.append(weakref.ref(output)))
    layerwise_trace(model, torch.randn(4, 2, 6, 6), estimator=estimator, memory_mb=0.01)
    model[3].bias.data[0] = torch.nan
    with pytest.raises(ValueError, match="not finite"):
        layerwise_trace(model, torch.randn(4, 2, 6, 6), estimator=estimator)
    gc.collect()
    assert len(alive) > 8
    assert not any(reference() is not None for reference in alive)
