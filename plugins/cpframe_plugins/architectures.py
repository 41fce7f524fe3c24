"""Bundled architectures: the paper's networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpframe.api import Architectures, Count, Positive, hookimpl

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class AllCnn:
    """All-CNN, the paper's network for CIFAR-10: nine blocks of convolution, BatchNorm and ReLU, 1.6 M parameters.

    Channels 96, 96, 192 (stride 2), 192, 192, 192 (stride 2), 192, all 3x3, then 192 with 1x1; the last 1x1 to the
    outputs is a plain convolution, averaged over space. After Springenberg et al. 2015, "Striving for Simplicity".

    Attributes:
        width: multiplies the channel counts, rounded, at least 1.
    """

    width: Positive = 1.0

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build for images of `shape` (C, H, W).

        Raises:
            ValueError: when these are no images, or have fewer than 4 x 4 pixels.
        """
        from cpframe_plugins import networks

        return networks.all_cnn(shape, outputs, self.width)


@dataclass(frozen=True)
class DepthCnn:
    """The paper's family of convolutional networks of growing depth, 2 * depth + 4 convolutions.

    96 channels; then for i = 1 .. depth two convolutions, of 96 * 2^(i-1) and, with stride 2, of 96 * 2^i; then 3x3
    and 1x1 with 96 * 2^depth, and a plain 1x1 to the outputs, averaged over space. BatchNorm and ReLU as in All-CNN.

    Attributes:
        depth: how many times the image is halved.
        width: multiplies the channel counts, rounded, at least 1.
    """

    depth: Count = 1
    width: Positive = 1.0

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build for images of `shape` (C, H, W).

        Raises:
            ValueError: when these are no images, or have fewer than 2^depth pixels a side.
        """
        from cpframe_plugins import networks

        return networks.depth_cnn(shape, outputs, self.depth, self.width)


@dataclass(frozen=True)
class ResNet18:
    """ResNet-18 in its CIFAR form: 3x3 stem of 64, stages of 64, 128, 256 and 512, no max pool, 11.2 M parameters.

    The blocks are the standard post-activation ones of He et al. 2016, "Deep Residual Learning".

    Attributes:
        width: multiplies the channel counts, rounded, at least 1.
    """

    width: Positive = 1.0

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build for images of `shape` (C, H, W).

        Raises:
            ValueError: when these are no images, or have fewer than 8 x 8 pixels.
        """
        from cpframe_plugins import networks

        return networks.resnet18(shape, outputs, self.width)


@dataclass(frozen=True)
class Mlp:
    """A fully connected network on the flattened input: linear, BatchNorm if wanted, ReLU; a linear output.

    The paper's network for MNIST has sizes 2500, 2000, 1500, 1000, 500, with BatchNorm.

    Attributes:
        sizes: of the hidden layers; none makes a linear classifier.
        batchnorm: BatchNorm after every hidden linear map, which then has no bias.
    """

    sizes: tuple[Count, ...] = (128, 128, 128)
    batchnorm: bool = False

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build for inputs of any `shape`.

        Raises:
            ValueError: when the inputs are empty.
        """
        from cpframe_plugins import networks

        return networks.mlp(shape, outputs, self.sizes, self.batchnorm)


@hookimpl
def cpframe_architectures() -> Architectures:
    """The paper's networks, and an MLP."""
    return {"all-cnn": AllCnn, "depth-cnn": DepthCnn, "resnet18": ResNet18, "mlp": Mlp}
