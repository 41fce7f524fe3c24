"""Which parameters make a layer: the model's own word where it has one, else a rule."""

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
    """Return the layers that the model's method ``layers()`` declares, or those of the default rule.

    Raises:
        ValueError: see `declared_layers`.
    """
    return declared_layers(model) if declares_layers(model) else default_layers(model)


def default_layers(model: nn.Module) -> tuple[Layer, ...]:
    """Group parameters by the rule: a convolution, linear or embedding module with the normalisation that follows it.

    "Follows" is in the order of registration. A normalisation that follows no such module, and any other module
    with parameters of its own, make layers of their own. A parameter that several modules share belongs to the first.

    Returns:
        In the order of registration, each named by the dotted path of its first module (the model's own
        parameters, as of a bare ``nn.Linear``: ``"(root)"``); every parameter in exactly one.
    """
    groups: dict[str, list[str]] = {}
    taken: set[nn.Parameter] = set()
    layer, inside, takes_normalisation = "", None, False
    for path, module in model.named_modules():
        # What a weight module contains (a reparametrisation's originals, say) belongs to its layer.
        if inside is None or not path.startswith(inside):
            own = next(module.parameters(recurse=False), None)
            inside = None
            if isinstance(module, _WEIGHT):
                layer, takes_normalisation = path, True
                inside = f"{path}." if path else ""
            elif own is not None and not (isinstance(module, _NORMALISATION) and takes_normalisation):
                layer, takes_normalisation = path, False
        for name, parameter in module.named_parameters(prefix=path, recurse=False):
            if parameter not in taken:
                taken.add(parameter)
                groups.setdefault(layer or _ROOT, []).append(name)
    return tuple(Layer(name, tuple(names)) for name, names in groups.items())


def declared_layers(model: nn.Module) -> tuple[Layer, ...]:
    """Return the layers that ``model.layers()`` declares: a mapping of name to a module, or a sequence of modules.

    A parameter that modules of several layers share belongs to the first of them. Layers without parameters are
    left out.

    Raises:
        ValueError: where it returns something else, mentions a module with parameters twice, mentions parameters
            that are not the model's, or leaves out some that are.
    """
    declared = model.layers()  # type: ignore[operator]
    names = {parameter: name for name, parameter in model.named_parameters()}
    mentioned: dict[nn.Module, str] = {}
    groups: dict[str, list[str]] = {}
    taken: set[nn.Parameter] = set()
    for layer, module in _declarations(declared):
        for inner in module.modules():
            own = dict(inner.named_parameters(recurse=False))
            strangers = [name for name, parameter in own.items() if parameter not in names]
            if strangers:
                raise ValueError(
                    f"layers() gives layer {layer!r} parameters that are not the model's ({', '.join(strangers)} of a"
                    f" {type(inner).__name__}): mention only modules that the model has registered"
                )
            if own and inner in mentioned:
                twice = ", ".join(names[parameter] for parameter in own.values())
                raise ValueError(
                    f"layers() mentions {twice} twice, in {mentioned[inner]!r} and in {layer!r}: every parameter"
                    " belongs to exactly one layer"
                )
            mentioned[inner] = layer
            new = [parameter for parameter in own.values() if parameter not in taken]
            taken.update(new)
            if new:
                groups.setdefault(layer, []).extend(names[parameter] for parameter in new)
    layers = tuple(Layer(name, tuple(parameters)) for name, parameters in groups.items())
    check_layers(layers, names.values(), "layers()")
    return layers


def check_layers(layers: Sequence[Layer], parameters: Iterable[str], source: str) -> None:
    """Check that every one of `parameters` is in exactly one of `layers`.

    Args:
        layers: to be checked.
        parameters: names of all the parameters of the model.
        source: where the layers come from, for the message.

    Raises:
        ValueError: naming the parameters that are unknown, mentioned twice or left out, or layers of one name.
    """
    known = tuple(parameters)
    titles = Counter(layer.name for layer in layers)
    mentions = Counter(name for layer in layers for name in layer.parameters)
    for wrong, rule in (
        ([name for name in titles if titles[name] > 1], "uses a name for two layers"),
        ([name for name in mentions if name not in known], "mentions parameters that the model does not have"),
        ([name for name in mentions if mentions[name] > 1], "mentions parameters twice"),
        ([name for name in known if name not in mentions], "leaves out parameters"),
    ):
        if wrong:
            raise ValueError(f"{source} {rule}: {', '.join(wrong)}; every parameter belongs to exactly one layer")


def _declarations(declared: object) -> Iterator[tuple[str, nn.Module]]:
    if not isinstance(declared, Mapping):
        raise ValueError(f"layers() must return a mapping of layer name to modules, not a {type(declared).__name__}")
    for name, value in declared.items():
        modules = (value,) if isinstance(value, nn.Module) else value
        if not isinstance(modules, Sequence) or not all(isinstance(module, nn.Module) for module in modules):
            raise ValueError(f"layers() must give layer {name!r} a module or a sequence of modules, not {value!r}")
        for module in modules:
            yield str(name), module
