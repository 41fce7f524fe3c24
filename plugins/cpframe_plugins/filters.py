"""The filters of a network's first layer."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpframe.api import Count, Measurement, Probe

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True)
class FirstLayerFilters:
    """The weights of the first layer as images: those of a convolution, or of a linear map on images.

    Attributes:
        most: the number of units of a linear map whose weights are kept, the first ones; the filters of a convolution
            are few and small, and all of them are kept.
    """

    most: Count = 64

    def __call__(self, probe: Probe) -> Measurement:
        """Return the weights, float64 (filter, channel, height, width), filter i being the weights of unit i.

        Raises:
            ValueError: the first layer is neither a two-dimensional convolution nor a linear map on images.
        """
        from torch import nn

        module = _first(probe)
        shape = tuple(probe.inputs.shape[1:])
        weight: Tensor
        if isinstance(module, nn.Conv2d):
            weight = module.weight
        elif isinstance(module, nn.Linear) and len(shape) == 3 and module.in_features == math.prod(shape):
            weight = module.weight[: self.most].reshape(-1, *shape)
        else:
            kind = "neither" if module is None else f"a {type(module).__name__}"
            raise ValueError(
                "first-layer-filters needs a first layer that is a two-dimensional convolution or a linear map on "
                f"images (C, H, W); this first layer is {kind}, and the inputs have shape {shape}"
            )
        values = weight.detach().cpu().double().numpy()
        return Measurement(values, estimator="weights", dimensions=("filter", "channel", "height", "width"))


def _first(probe: Probe) -> "nn.Module | None":
    """Return the first convolution or linear map among the modules of the first layer, or None."""
    from torch import nn

    names = set(probe.layers[0].parameters) if probe.layers else set()
    for path, module in probe.model.named_modules():
        own = {f"{path}.{name}" if path else name for name, _ in module.named_parameters()}
        if own & names and isinstance(module, nn.modules.conv._ConvNd | nn.Linear):
            return module
    return None
