"""Layers: the default rule on many structures of modules, and the layers that a model declares."""

import pytest
import torch
from torch import nn

from cpframe.api import Layer
from cpframe.fisher import default_layers, layers_of


def named(layers):
    return {layer.name: list(layer.parameters) for layer in layers}


def block(inputs, outputs):
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3), nn.BatchNorm2d(outputs), nn.ReLU())


def test_a_normalisation_belongs_to_the_convolution_before_it():
    model = nn.Sequential(block(3, 4), block(4, 5), nn.Flatten(), nn.Linear(5, 2, bias=False))
    assert default_layers(model) == (
        Layer("0.0", ("0.0.weight", "0.0.bias", "0.1.weight", "0.1.bias")),
        Layer("1.0", ("1.0.weight", "1.0.bias", "1.1.weight", "1.1.bias")),
        Layer("3", ("3.weight",)),
    )


@pytest.mark.parametrize(
    "normalisation",
    [
        nn.BatchNorm1d(4),
        nn.LayerNorm(4),
        nn.GroupNorm(2, 4),
        nn.RMSNorm(4),
        nn.InstanceNorm1d(4, affine=True),
        nn.Sequential(nn.ReLU(), nn.Dropout(), nn.LayerNorm(4)),
    ],
    ids=lambda module: type(module).__name__,
)
@pytest.mark.parametrize(
    "weight",
    [nn.Linear(4, 4), nn.Embedding(9, 4), nn.Conv1d(4, 4, 1), nn.ConvTranspose1d(4, 4, 1), nn.Bilinear(4, 4, 4)],
    ids=lambda module: type(module).__name__,
)
def test_which_modules_are_weights_and_which_normalisations(weight, normalisation):
    model = nn.Sequential(weight, normalisation, nn.Linear(4, 2))
    assert [layer.name for layer in default_layers(model)] == ["0", "2"]


def test_a_normalisation_that_nothing_precedes_is_a_layer():
    model = nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4), nn.Identity(), nn.LayerNorm(4))
    assert named(default_layers(model)) == {
        "0": ["0.weight", "0.bias"],
        "1": ["1.weight", "1.bias", "3.weight", "3.bias"],
    }


class Token(nn.Module):
    """Direct parameters, registered after the modules, and a normalisation that follows another such module."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.scale = nn.PReLU()
        self.norm = nn.LayerNorm(4)
        self.token = nn.Parameter(torch.zeros(4))
        self.head = nn.Linear(4, 2)


def test_other_parameters_are_layers():
    assert named(default_layers(Token())) == {
        "(root)": ["token"],
        "embed": ["embed.weight", "embed.bias"],
        "scale": ["scale.weight"],
        "norm": ["norm.weight", "norm.bias"],
        "head": ["head.weight", "head.bias"],
    }


def test_tied_parameters_belong_to_the_first_that_uses_them():
    model = nn.Sequential(nn.Embedding(7, 4), nn.Linear(4, 4), nn.Linear(4, 7, bias=False), nn.LayerNorm(7))
    model[2].weight = model[0].weight
    assert named(default_layers(model)) == {
        "0": ["0.weight"],
        "1": ["1.weight", "1.bias"],
        "2": ["3.weight", "3.bias"],  # the normalisation follows the tied module nevertheless
    }


def test_a_module_used_twice_is_one_layer():
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.ReLU(), shared, nn.Linear(4, 2))
    assert [layer.name for layer in default_layers(model)] == ["0", "3"]


def test_what_a_weight_module_contains_belongs_to_it():
    reparametrised = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
    model = nn.Sequential(reparametrised, nn.LayerNorm(4))
    (layer,) = default_layers(model)
    assert layer.name == "0"
    assert set(layer.parameters) == {name for name, _ in model.named_parameters()}


def test_a_bare_module_and_one_without_parameters():
    assert default_layers(nn.Linear(2, 2)) == (Layer("(root)", ("weight", "bias")),)
    assert default_layers(nn.ReLU()) == ()


@pytest.mark.parametrize("name", ["resnet18", "vit_b_16", "convnext_tiny", "mobilenet_v3_small"])
def test_every_parameter_of_a_known_network_is_in_one_layer(name):
    import torchvision

    with torch.device("meta"):
        model = getattr(torchvision.models, name)()
    layers = default_layers(model)
    members = [parameter for layer in layers for parameter in layer.parameters]
    assert sorted(members) == sorted(parameter for parameter, _ in model.named_parameters())
    assert len({layer.name for layer in layers}) == len(layers)


def test_resnet18_has_a_layer_for_every_convolution_and_the_classifier():
    import torchvision

    with torch.device("meta"):
        layers = default_layers(torchvision.models.resnet18())
    assert len(layers) == 21  # 17 convolutions, 3 projections, 1 linear; each BatchNorm with its convolution
    assert [len(layer.parameters) for layer in layers] == [3] * 20 + [2]


class Declared(nn.Module):
    """Declares the layers that `say` returns."""

    def __init__(self, say):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4))
        self.head = nn.Linear(4, 2)
        self.say = say

    def layers(self):
        return self.say(self)


def test_a_model_declares_its_layers():
    model = Declared(lambda m: {"features": [m.body[0], m.body[1], m.body[2]], "classifier": m.head})
    assert named(layers_of(model)) == {
        "features": [name for name, _ in model.named_parameters() if name.startswith("body")],
        "classifier": ["head.weight", "head.bias"],
    }
    assert len(default_layers(model)) == 3


def test_order_is_that_of_the_declaration_and_empty_layers_are_left_out():
    model = Declared(lambda m: {"out": m.head, "nothing": nn.ReLU(), "in": m.body})
    assert [layer.name for layer in layers_of(model)] == ["out", "in"]


def test_parameters_tied_across_declared_layers_belong_to_the_first():
    model = Declared(lambda m: {"a": m.body[:2], "b": m.body[2], "c": m.head})
    model.body[2].weight = model.body[0].weight
    assert named(layers_of(model))["b"] == ["body.2.bias"]


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (lambda m: {"a": m.body}, r"omits parameters: head\.weight, head\.bias"),
        (lambda m: {"a": m.body, "b": [m.head, m.body[0]]}, r"lists body\.0\.weight.* twice, in 'a' and in 'b'"),
        (lambda m: {"a": m.body, "b": m.head, "c": m.head}, r"lists head\.weight.* twice, in 'b' and in 'c'"),
        (lambda m: {"a": m, "b": nn.Linear(2, 2)}, "parameters that are not the model's"),
        (lambda m: {"a": m.head.weight}, "a module or a sequence of modules"),
        (lambda m: {"a": "head"}, "a module or a sequence of modules"),
        (lambda m: [m.body, m.head], "must return a mapping"),
    ],
)
def test_wrong_declarations(say, message):
    with pytest.raises(ValueError, match=message):
        layers_of(Declared(say))


class Stacked(nn.Module):
    """An attribute `layers` that is not a method but a stack of modules, a common name for one."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 2)])


def test_an_attribute_named_layers_is_no_declaration():
    assert [layer.name for layer in layers_of(Stacked())] == ["layers.0", "layers.1"]
