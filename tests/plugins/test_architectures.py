"""The bundled architectures: sizes, shapes and wiring, against closed forms, torchvision and the published numbers."""

import subprocess
import sys

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

from cpframe_plugins.architectures import AllCnn, DepthCnn, Mlp, ResNet18, cpframe_architectures

CIFAR = (3, 32, 32)


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def convolutions(model: nn.Module) -> list[nn.Conv2d]:
    return [module for module in model.modules() if isinstance(module, nn.Conv2d)]


def sides(model: nn.Module, shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Return the height and width of every convolution's output, in forward order."""
    seen: list[tuple[int, ...]] = []
    for conv in convolutions(model):
        conv.register_forward_hook(lambda _module, _inputs, output: seen.append(tuple(output.shape[-2:])))
    model.eval()(torch.zeros(1, *shape))
    return seen


def convolutional_size(inputs: int, layers: list[tuple[int, int]], outputs: int) -> int:
    """Count the weights of convolutions (channels, kernel) with BatchNorm and no bias, and of a last 1x1 with bias."""
    total = 0
    for channels, kernel in layers:
        total += inputs * channels * kernel**2 + 2 * channels
        inputs = channels
    return total + inputs * outputs + outputs


ALL_CNN = [(96, 3), (96, 3), (192, 3), (192, 3), (192, 3), (192, 3), (192, 3), (192, 1)]


def test_all_cnn_has_the_parameters_of_the_paper() -> None:
    count = size(AllCnn()(CIFAR, 10))
    assert count == convolutional_size(3, ALL_CNN, 10)
    assert round(count / 1e6, 1) == 1.6  # the number in the paper, to its precision


def test_all_cnn_halves_the_image_twice() -> None:
    expected = [(32, 32)] * 2 + [(16, 16)] * 3 + [(8, 8)] * 4
    assert sides(AllCnn()(CIFAR, 10), CIFAR) == expected


def test_all_cnn_ends_with_a_plain_convolution_averaged_over_space() -> None:
    torch.manual_seed(0)
    model = AllCnn(width=0.1)(CIFAR, 10).eval()
    last = convolutions(model)[-1]
    maps: list[Tensor] = []
    last.register_forward_hook(lambda _module, _inputs, output: maps.append(output))
    outputs = model(torch.rand(4, *CIFAR))
    # a mean of 64 float32 numbers of order 1, in any order of addition
    torch.testing.assert_close(outputs, maps[0].mean(dim=(2, 3)), rtol=0, atol=1e-6)
    assert (maps[0] < 0).any()
    assert last.bias is not None


@pytest.mark.parametrize("position", range(8))
def test_all_cnn_normalises_and_rectifies_every_other_block(position: int) -> None:
    torch.manual_seed(0)
    model = AllCnn(width=0.1)(CIFAR, 10)
    following: list[Tensor] = []
    target = convolutions(model)[position + 1]
    target.register_forward_hook(lambda _module, inputs, _output: following.append(inputs[0]))
    own: list[Tensor] = []
    convolutions(model)[position].register_forward_hook(lambda _module, _inputs, output: own.append(output))
    model.train()(torch.rand(8, *CIFAR))
    expected = functional.relu(functional.batch_norm(own[0], None, None, training=True))
    torch.testing.assert_close(following[0], expected)


def test_width_multiplies_the_channels_rounded_and_at_least_one() -> None:
    def channels(width: float) -> list[int]:
        return [conv.out_channels for conv in convolutions(AllCnn(width=width)(CIFAR, 10))]

    assert channels(0.25) == [24, 24, 48, 48, 48, 48, 48, 48, 10]
    assert channels(0.127) == [12, 12, 24, 24, 24, 24, 24, 24, 10]  # 12.19 and 24.38
    assert channels(0.001) == [1] * 8 + [10]


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_depth_cnn_is_the_family_of_the_paper(depth: int) -> None:
    layers = [(96, 3)]
    for i in range(1, depth + 1):
        layers += [(96 * 2 ** (i - 1), 3), (96 * 2**i, 3)]
    layers += [(96 * 2**depth, 3), (96 * 2**depth, 1)]
    model = DepthCnn(depth=depth)(CIFAR, 10)
    assert [conv.out_channels for conv in convolutions(model)] == [channels for channels, _ in layers] + [10]
    assert size(model) == convolutional_size(3, layers, 10)
    expected = (
        [32] + [side for i in range(1, depth + 1) for side in (2 ** (6 - i), 2 ** (5 - i))] + [2 ** (5 - depth)] * 3
    )
    assert sides(model, CIFAR) == [(side, side) for side in expected]


def test_resnet18_is_that_of_torchvision_with_a_small_stem() -> None:
    torch.manual_seed(0)
    model = ResNet18()(CIFAR, 10)
    assert size(model) == 11_173_962  # the number that CIFAR implementations of ResNet-18 report
    reference = torchvision.models.resnet18(num_classes=10)
    reference.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    reference.maxpool = nn.Identity()
    ours, theirs = model.state_dict(), reference.state_dict()
    reference.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    images = torch.rand(4, *CIFAR)
    # the same operations on the same weights; the tolerance is float32 rounding of outputs of order 1
    torch.testing.assert_close(model(images), reference(images), rtol=1e-5, atol=1e-5)


def test_mlp_has_the_parameters_of_the_papers_mnist_network() -> None:
    sizes = (2500, 2000, 1500, 1000, 500)
    model = Mlp(sizes=sizes, batchnorm=True)((1, 32, 32), 10)
    weights = 1024 * 2500 + 2500 * 2000 + 2000 * 1500 + 1500 * 1000 + 1000 * 500 + 500 * 10 + 10
    assert size(model) == weights + 2 * sum(sizes)


def test_mlp_alternates_linear_maps_and_relu() -> None:
    torch.manual_seed(0)
    model = Mlp(sizes=(7, 5))((2, 3, 4), 6)
    first, second, third = (module for module in model.modules() if isinstance(module, nn.Linear))
    inputs = torch.randn(9, 2, 3, 4)
    hidden = (inputs.reshape(9, 24) @ first.weight.T + first.bias).clamp(min=0)
    hidden = (hidden @ second.weight.T + second.bias).clamp(min=0)
    # float32 rounding of sums of 24 terms of order 1
    torch.testing.assert_close(model(inputs), hidden @ third.weight.T + third.bias, rtol=1e-5, atol=1e-5)


def test_mlp_without_hidden_layers_is_a_linear_classifier() -> None:
    assert size(Mlp(sizes=())((64,), 10)) == 64 * 10 + 10


@pytest.mark.parametrize("component", [AllCnn(width=0.1), DepthCnn(2, width=0.1), ResNet18(width=0.1), Mlp((9,), True)])
@pytest.mark.parametrize(("shape", "outputs"), [((3, 32, 32), 10), ((1, 8, 8), 10), ((2, 13, 9), 3)])
def test_every_parameter_learns_on_images_of_any_shape(
    component: AllCnn | DepthCnn | ResNet18 | Mlp, shape: tuple[int, ...], outputs: int
) -> None:
    torch.manual_seed(0)
    model = component(shape, outputs)
    result = model(torch.rand(16, *shape))
    assert result.shape == (16, outputs)
    loss = functional.cross_entropy(result, torch.arange(16) % outputs)
    names, parameters = zip(*model.named_parameters(), strict=True)
    for name, gradient in zip(names, torch.autograd.grad(loss, parameters), strict=True):
        assert gradient.abs().sum() > 0, name


@pytest.mark.parametrize("component", [AllCnn(width=0.1), DepthCnn(width=0.1), ResNet18(width=0.1), Mlp((9,))])
def test_weights_come_from_the_global_generator(component: AllCnn | DepthCnn | ResNet18 | Mlp) -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([parameter.flatten() for parameter in component(CIFAR, 10).parameters()])

    assert torch.equal(weights(1), weights(1))
    assert not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    ("component", "least"), [(AllCnn(0.1), 4), (DepthCnn(1, 0.1), 2), (DepthCnn(4, 0.1), 16), (ResNet18(0.1), 8)]
)
def test_images_that_are_too_small_for_the_strides_are_refused(
    component: AllCnn | DepthCnn | ResNet18, least: int
) -> None:
    assert component((1, least, least), 10).eval()(torch.zeros(1, 1, least, least)).shape == (1, 10)
    with pytest.raises(
        ValueError, match=f"at least {least} x {least} pixels, not {2 * least} x {least - 1}: .* by {least}"
    ):
        component((1, 2 * least, least - 1), 10)


@pytest.mark.parametrize("component", [AllCnn(), DepthCnn(), ResNet18()])
@pytest.mark.parametrize("shape", [(64,), (32, 32), (3, 0, 32), (1, 3, 32, 32)])
def test_inputs_that_are_not_images_are_refused(
    component: AllCnn | DepthCnn | ResNet18, shape: tuple[int, ...]
) -> None:
    with pytest.raises(ValueError, match=r"needs images of shape \(channels, height, width\), not inputs of shape \("):
        component(shape, 10)


def test_mlp_refuses_empty_inputs() -> None:
    with pytest.raises(ValueError, match=r"at least one element, not the empty shape \(3, 0\)"):
        Mlp()((3, 0), 10)


def test_the_hook_offers_all_of_them_without_torch() -> None:
    assert set(cpframe_architectures()) == {"all-cnn", "depth-cnn", "resnet18", "mlp"}
    code = "import sys, cpframe_plugins.architectures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
