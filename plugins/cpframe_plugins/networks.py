"""The networks of the bundled architectures.

Modules are named so that the default layers have clear names: ``conv1`` with its ``norm1``, ``conv2`` and so on. A
convolution or linear map that BatchNorm follows has no bias, because BatchNorm would cancel it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn


class Conv(NamedTuple):
    """A convolution with "same" padding: output channels, side of the kernel (odd) and stride."""

    channels: int
    kernel: int = 3
    stride: int = 1


def all_cnn(shape: tuple[int, ...], outputs: int, width: float) -> nn.Sequential:
    """Build the paper's network for CIFAR-10, with channel counts multiplied by `width`."""
    narrow, wide = _scale(96, width), _scale(192, width)
    blocks = [Conv(narrow), Conv(narrow), Conv(wide, stride=2), Conv(wide), Conv(wide), Conv(wide, stride=2)]
    return _convolutional_network("all-cnn", shape, outputs, [*blocks, Conv(wide), Conv(wide, kernel=1)])


def depth_cnn(shape: tuple[int, ...], outputs: int, depth: int, width: float) -> nn.Sequential:
    """Build the paper's family: `depth` pairs of convolutions, each of which halves the image and doubles channels."""
    channels = [_scale(96 * 2**i, width) for i in range(depth + 1)]
    blocks = [Conv(channels[0])]
    for before, after in pairwise(channels):
        blocks += [Conv(before), Conv(after, stride=2)]
    return _convolutional_network(
        "depth-cnn", shape, outputs, [*blocks, Conv(channels[-1]), Conv(channels[-1], kernel=1)]
    )


def resnet18(shape: tuple[int, ...], outputs: int, width: float) -> nn.Sequential:
    """Build ResNet-18 in its CIFAR form: 3x3 stem, no max pooling, post-activation basic blocks."""
    channels = [_scale(base, width) for base in (64, 128, 256, 512)]
    _check_images("resnet18", shape, halvings=3)
    stem = _conv(shape[0], Conv(channels[0]), bias=False)
    modules: list[tuple[str, nn.Module]] = [
        ("conv1", stem),
        ("norm1", nn.BatchNorm2d(channels[0])),
        ("relu1", nn.ReLU()),
    ]
    incoming = channels[0]
    for stage, outgoing in enumerate(channels, start=1):
        blocks = [
            ("block1", BasicBlock(incoming, outgoing, stride=1 if stage == 1 else 2)),
            ("block2", BasicBlock(outgoing, outgoing, stride=1)),
        ]
        modules.append((f"stage{stage}", _sequential(blocks)))
        incoming = outgoing
    head = [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("linear", nn.Linear(incoming, outputs))]
    return _sequential([*modules, *head])


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with a shortcut around them and ReLU after the sum (He et al., 2016, figure 2).

    If channels or resolution change, the shortcut is a 1x1 convolution with BatchNorm (their option B).
    """

    def __init__(self, incoming: int, outgoing: int, stride: int) -> None:
        """Build the block: (N, incoming, H, W) -> (N, outgoing, H / stride, W / stride), rounded up."""
        super().__init__()
        self.conv1 = _conv(incoming, Conv(outgoing, stride=stride), bias=False)
        self.norm1 = nn.BatchNorm2d(outgoing)
        self.relu1 = nn.ReLU()
        self.conv2 = _conv(outgoing, Conv(outgoing), bias=False)
        self.norm2 = nn.BatchNorm2d(outgoing)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or incoming != outgoing:
            projection = _conv(incoming, Conv(outgoing, kernel=1, stride=stride), bias=False)
            self.shortcut = _sequential([("conv", projection), ("norm", nn.BatchNorm2d(outgoing))])
        self.relu2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the block."""
        inner: Tensor = self.relu1(self.norm1(self.conv1(inputs)))
        inner = self.norm2(self.conv2(inner))
        outputs: Tensor = self.relu2(inner + self.shortcut(inputs))
        return outputs


def mlp(shape: tuple[int, ...], outputs: int, sizes: Sequence[int], batchnorm: bool) -> nn.Sequential:
    """Build a fully connected network: hidden layers of `sizes`, with BatchNorm if `batchnorm`, and a linear output."""
    incoming = math.prod(shape)
    if incoming < 1:
        raise ValueError(f"mlp needs inputs with at least one element, not the empty shape {shape}")
    modules: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for number, size in enumerate(sizes, start=1):
        modules.append((f"linear{number}", nn.Linear(incoming, size, bias=not batchnorm)))
        if batchnorm:
            modules.append((f"norm{number}", nn.BatchNorm1d(size)))
        modules.append((f"relu{number}", nn.ReLU()))
        incoming = size
    return _sequential([*modules, (f"linear{len(sizes) + 1}", nn.Linear(incoming, outputs))])


def _convolutional_network(name: str, shape: tuple[int, ...], outputs: int, blocks: Sequence[Conv]) -> nn.Sequential:
    """Build blocks of convolution, BatchNorm and ReLU, then a 1x1 convolution to the outputs, averaged over space."""
    _check_images(name, shape, halvings=sum(block.stride == 2 for block in blocks))
    modules: list[tuple[str, nn.Module]] = []
    incoming = shape[0]
    for number, block in enumerate(blocks, start=1):
        modules += [
            (f"conv{number}", _conv(incoming, block, bias=False)),
            (f"norm{number}", nn.BatchNorm2d(block.channels)),
            (f"relu{number}", nn.ReLU()),
        ]
        incoming = block.channels
    last = _conv(incoming, Conv(outputs, kernel=1), bias=True)
    head = [(f"conv{len(blocks) + 1}", last), ("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten())]
    return _sequential([*modules, *head])


def _conv(incoming: int, conv: Conv, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(incoming, conv.channels, conv.kernel, stride=conv.stride, padding=conv.kernel // 2, bias=bias)


def _sequential(modules: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    sequence = nn.Sequential()
    for name, module in modules:
        sequence.add_module(name, module)
    return sequence


def _scale(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _check_images(name: str, shape: tuple[int, ...], halvings: int) -> None:
    """Check that inputs are images that are large enough to be halved so often; raise ValueError if not."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"{name} needs images of shape (channels, height, width), not inputs of shape {shape}")
    least = 2**halvings
    if min(shape[1:]) < least:
        raise ValueError(
            f"{name} needs images of at least {least} x {least} pixels, not {shape[1]} x {shape[2]}: "
            f"its strides divide their sides by {least}"
        )
