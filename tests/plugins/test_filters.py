"""The filters of the first layer against the weights of torch's modules, in different networks."""

import numpy as np
import pytest
import torch
from torch import nn

from cpframe.api import Probe, classification
from cpframe.fisher import layers_of
from cpframe_plugins.architectures import AllCnn, DepthCnn, Mlp, ResNet18
from cpframe_plugins.filters import FirstLayerFilters

DIMENSIONS = ("filter", "channel", "height", "width")


def probe(model, *shape):
    return Probe(
        model=model.eval(),
        inputs=torch.rand(2, *shape),
        targets=torch.zeros(2, dtype=torch.int64),
        layers=layers_of(model),
        task=classification(10),
        rng=np.random.default_rng(0),
    )


@pytest.mark.parametrize(
    ("architecture", "shape", "weight", "expected"),
    [
        (AllCnn(), (3, 32, 32), "conv1.weight", (96, 3, 3, 3)),
        (DepthCnn(width=0.1), (1, 16, 16), "conv1.weight", (10, 1, 3, 3)),
        (ResNet18(width=0.125), (3, 32, 32), "conv1.weight", (8, 3, 3, 3)),
    ],
)
def test_filters_of_a_convolution_are_its_weights(architecture, shape, weight, expected):
    model = architecture(shape, 10)
    measured = FirstLayerFilters(most=2)(probe(model, *shape))
    assert (measured.dimensions, measured.units, measured.estimator) == (DIMENSIONS, "", "weights")
    assert measured.values.shape == expected
    np.testing.assert_array_equal(measured.values, model.get_parameter(weight).detach().numpy(), strict=False)
    assert measured.values.dtype == np.float64


@pytest.mark.parametrize("batchnorm", [False, True])
def test_filters_of_a_linear_map_are_images(batchnorm):
    model = Mlp((7, 5), batchnorm)((2, 4, 3), 10)
    measured = FirstLayerFilters(most=5)(probe(model, 2, 4, 3))
    assert measured.dimensions == DIMENSIONS
    assert measured.values.shape == (5, 2, 4, 3)
    image = torch.rand(1, 2, 4, 3)
    linear = next(module for module in model.modules() if isinstance(module, nn.Linear))
    with torch.no_grad():
        answer = linear(image.flatten(1))[0] - (0 if linear.bias is None else linear.bias)
    products = (measured.values * image.numpy()).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(products, answer[:5], rtol=1e-5, atol=1e-6)  # one side is float32
    assert len(FirstLayerFilters()(probe(model, 2, 4, 3)).values) == 7


def test_filters_of_a_reparametrised_layer_are_its_effective_weights():
    model = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 2, 3)), nn.Flatten(), nn.Linear(8, 10))
    with torch.no_grad():
        model[0].parametrizations.weight.original0.mul_(2)
    measured = FirstLayerFilters()(probe(model, 1, 4, 4))
    np.testing.assert_array_equal(measured.values, model[0].weight.detach().double().numpy())


class Reversed(nn.Module):
    """A network that registers its layers in a different order from that of `layers()`."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(8, 10)
        self.first = nn.Conv2d(1, 2, 3)

    def layers(self):
        return {"first": self.first, "last": self.last}

    def forward(self, inputs):
        return self.last(self.first(inputs).flatten(1))


def test_the_first_layer_is_the_one_that_the_model_calls_first():
    model = Reversed()
    measured = FirstLayerFilters()(probe(model, 1, 4, 4))
    np.testing.assert_array_equal(measured.values, model.first.weight.detach().double().numpy())


@pytest.mark.parametrize(
    ("model", "shape", "message"),
    [
        (
            nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(9, 10)),
            (1, 3, 3),
            "this first layer is neither, and",
        ),
        (nn.Sequential(nn.Conv1d(3, 2, 1), nn.Flatten(), nn.Linear(8, 10)), (3, 4), "this first layer is a Conv1d"),
        (nn.Linear(9, 10), (9,), r"is a Linear, and the inputs have shape \(9,\)"),
        (nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4, 10)), (1, 4, 4), "is a Linear, and the inputs"),
        (nn.Flatten(), (1, 2, 2), "this first layer is neither, and"),
    ],
)
def test_a_first_layer_without_filters_is_refused(model, shape, message):
    with pytest.raises(ValueError, match=f"needs a first layer that is a two-dimensional convolution.*{message}"):
        FirstLayerFilters()(probe(model, *shape))
