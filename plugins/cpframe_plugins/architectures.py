"""The bundled architectures: the networks of the paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpframe.api import Architectures, Count, Positive, hookimpl

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class AllCnn:
    """All-CNN, the paper's network for CIFAR-10: nine convolutions, 1.6 million parameters.

    Seven 3x3 convolutions with 96, 96, 192 (stride 2), 192, 192, 192 (stride 2) and 192 channels, then a 1x1
    convolution with 192 channels, each followed by BatchNorm and ReLU; then a 1x1 convolution to the outputs, averaged
    over space. From Springenberg et al. (2015), "Striving for Simplicity: The All Convolutional Net".

    Attributes:
        width: the factor on all channel counts, which are rounded and are at least 1.
    """

    width: Positive = 1.0

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build the network for images of `shape` (C, H, W).

        Raises:
            ValueError: `shape` is not that of an image, or has fewer than 4 x 4 pixels.
        """
        from cpframe_plugins import networks

        return networks.all_cnn(shape, outputs, self.width)


@dataclass(frozen=True)
class DepthCnn:
    """The paper's family of convolutional networks of different depths, with 2 * depth + 4 convolutions.

    A 3x3 convolution with 96 channels; for i = 1, ..., depth two 3x3 convolutions, with 96 * 2^(i-1) channels and, at
    stride 2, with 96 * 2^i; then a 3x3 and a 1x1 convolution with 96 * 2^depth channels, and a 1x1 convolution to the
    outputs, averaged over space. BatchNorm and ReLU follow every convolution but the last.

    Attributes:
        depth: the number of times that the image is halved.
        width: the factor on all channel counts, which are rounded and are at least 1.
    """

    depth: Count = 1
    width: Positive = 1.0

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build the network for images of `shape` (C, H, W).

        Raises:
            ValueError: `shape` is not that of an image, or has fewer than 2^depth x 2^depth pixels.
        """
        from cpframe_plugins import networks

        return networks.depth_cnn(shape, outputs, self.depth, self.width)


@dataclass(frozen=True)
class ResNet18:
    """ResNet-18 in its CIFAR form: a 3x3 stem, no max pooling, 11.2 million parameters.

    The stem has 64 channels and the four stages have 64, 128, 256 and 512; the blocks are the post-activation blocks of
    He et al. (2016), "Deep Residual Learning for Image Recognition".

    Attributes:
        width: the factor on all channel counts, which are rounded and are at least 1.
    """

    width: Positive = 1.0

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build the network for images of `shape` (C, H, W).

        Raises:
            ValueError: `shape` is not that of an image, or has fewer than 8 x 8 pixels.
        """
        from cpframe_plugins import networks

        return networks.resnet18(shape, outputs, self.width)


@dataclass(frozen=True)
class Mlp:
    """A fully connected network on the flattened input, with ReLU after every hidden layer.

    The paper's network for MNIST has sizes 2500, 2000, 1500, 1000 and 500, and BatchNorm.

    Attributes:
        sizes: the number of units in each hidden layer; without hidden layers it is a linear classifier.
        batchnorm: whether BatchNorm follows every hidden linear map, which then has no bias.
    """

    sizes: tuple[Count, ...] = (128, 128, 128)
    batchnorm: bool = False

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build the network for inputs of any `shape`.

        Raises:
            ValueError: `shape` has no elements.
        """
        from cpframe_plugins import networks

        return networks.mlp(shape, outputs, self.sizes, self.batchnorm)


@hookimpl
def cpframe_architectures() -> Architectures:
    """Offer the bundled architectures."""
    return {"all-cnn": AllCnn, "depth-cnn": DepthCnn, "resnet18": ResNet18, "mlp": Mlp}
