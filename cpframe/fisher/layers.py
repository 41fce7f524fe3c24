"""The grouping of a model's parameters into layers: declared by the model's method ``layers()``, or by a rule."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from torch import nn

from cpframe.api import Layer
from cpframe.api.optional import declares_layers

__all__ = ["check_layers", "declared_layers", "default_layers", "layers_of"]

_WEIGHT = (nn.modules.conv._ConvNd, nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag)
_NORMALISATION = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_ROOT = "(root)"  # no attribute can have this name


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    """Return the layers that the model's method ``layers()`` declares, or those of `default_layers`.

    Raises:
        ValueError: see `declared_layers`.
    """
    return declared_layers(model) if declares_layers(model) else default_layers(model)


def default_layers(model: nn.Module) -> tuple[Layer, ...]:
    """Group each convolution, linear or embedding module with the normalisation that follows it.

    "Follows" refers to the order of registration. A normalisation that follows no such module is a layer of its own,
    as is any other module with direct parameters. A parameter shared by several modules belongs to the first.

    Returns:
        The layers in the order of registration, each named by the dotted path of its first module. The model's own
        parameters, as those of a bare ``nn.Linear``, are the layer ``"(root)"``. Each parameter is in exactly one.
    """
    groups: dict[str, list[str]] = {}
    assigned: set[nn.Parameter] = set()
    layer, prefix, takes_normalisation = "", None, False
    for path, module in model.named_modules():
        # Modules inside a weight module (the originals of a parametrisation, say) belong to its layer.
        if prefix is None or not path.startswith(prefix):
            direct = next(module.parameters(recurse=False), None)
            prefix = None
            if isinstance(module, _WEIGHT):
                layer, takes_normalisation = path, True
                prefix = f"{path}." if path else ""
            elif direct is not None and not (isinstance(module, _NORMALISATION) and takes_normalisation):
                layer, takes_normalisation = path, False
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            if parameter not in assigned:
                assigned.add(parameter)
                groups.setdefault(layer or _ROOT, []).append(name)
    return tuple(Layer(name, tuple(names)) for name, names in groups.items())


def declared_layers(model: nn.Module) -> tuple[Layer, ...]:
    """Return the layers that ``model.layers()`` declares: a mapping of name to a module, or a sequence of modules.

    A parameter that modules of several layers share belongs to the first of them. Layers without parameters are
    omitted.

    Raises:
        ValueError: when the method returns anything else, lists a module with parameters twice, lists parameters that
            are not the model's, or omits some that are.
    """
    declared = model.layers()  # type: ignore[operator]
    names = {parameter: name for name, parameter in model.named_parameters()}
    listed: dict[nn.Module, str] = {}
    groups: dict[str, list[str]] = {}
    assigned: set[nn.Parameter] = set()
    for layer, module in _declarations(declared):
        for inner in module.modules():
            direct = dict(inner.named_parameters(recurse=False))
            unregistered = [name for name, parameter in direct.items() if parameter not in names]
            if unregistered:
                raise ValueError(
                    f"layers() gives layer {layer!r} parameters that are not the model's"
                    f" ({', '.join(unregistered)} of a {type(inner).__name__}); list only modules that are registered"
                    " in the model"
                )
            if direct and inner in listed:
                duplicates = ", ".join(names[parameter] for parameter in direct.values())
                raise ValueError(
                    f"layers() lists {duplicates} twice, in {listed[inner]!r} and in {layer!r}; each parameter must"
                    " belong to exactly one layer"
                )
            listed[inner] = layer
            new = [parameter for parameter in direct.values() if parameter not in assigned]
            assigned.update(new)
            if new:
                groups.setdefault(layer, []).extend(names[parameter] for parameter in new)
    layers = tuple(Layer(name, tuple(parameters)) for name, parameters in groups.items())
    check_layers(layers, names.values(), "layers()")
    return layers


def check_layers(layers: Sequence[Layer], parameters: Iterable[str], source: str) -> None:
    """Check that each of `parameters` is in exactly one of `layers`.

    Args:
        layers: the layers to check.
        parameters: the names of all parameters of the model.
        source: the origin of the layers, as the message names it.

    Raises:
        ValueError: when parameters are unknown, listed twice or omitted, or two layers have one name; the message
            lists them.
    """
    known = tuple(parameters)
    titles = Counter(layer.name for layer in layers)
    mentions = Counter(name for layer in layers for name in layer.parameters)
    for names, problem in (
        ([name for name in titles if titles[name] > 1], "uses a name for two layers"),
        ([name for name in mentions if name not in known], "lists parameters that the model does not have"),
        ([name for name in mentions if mentions[name] > 1], "lists parameters twice"),
        ([name for name in known if name not in mentions], "omits parameters"),
    ):
        if names:
            raise ValueError(f"{source} {problem}: {', '.join(names)}; each parameter must belong to exactly one layer")


def _declarations(declared: object) -> Iterator[tuple[str, nn.Module]]:
    """Yield the (layer name, module) pairs of what ``layers()`` returned."""
    if not isinstance(declared, Mapping):
        raise ValueError(f"layers() must return a mapping of layer name to modules, not a {type(declared).__name__}")
    for name, value in declared.items():
        modules = (value,) if isinstance(value, nn.Module) else value
        if not isinstance(modules, Sequence) or not all(isinstance(module, nn.Module) for module in modules):
            raise ValueError(f"layers() must give layer {name!r} a module or a sequence of modules, not {value!r}")
        for module in modules:
            yield str(name), module
