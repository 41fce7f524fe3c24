"""The networks behind the bundled architectures.

Their modules are named so that the default layers read well: ``conv1`` with its ``norm1``, ``conv2`` ... A
convolution or linear map that BatchNorm follows has no bias of its own, which would be cancelled.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn


class Conv(NamedTuple):
    """A convolution with "same" padding: its output channels, the side of its kernel (odd) and its stride."""

    channels: int
    kernel: int = 3
    stride: int = 1


def all_cnn(shape: tuple[int, ...], outputs: int, width: float) -> nn.Sequential:
    """Nine convolutional blocks, as the paper trains on CIFAR-10; channel counts are multiplied by `width`."""
    narrow, wide = _scaled(96, width), _scaled(192, width)
    blocks = [Conv(narrow), Conv(narrow), Conv(wide, stride=2), Conv(wide), Conv(wide), Conv(wide, stride=2)]
    return _convolutional("all-cnn", shape, outputs, [*blocks, Conv(wide), Conv(wide, kernel=1)])


def depth_cnn(shape: tuple[int, ...], outputs: int, depth: int, width: float) -> nn.Sequential:
    """The paper's family of depths: `depth` pairs of convolutions, each halving the image and doubling channels."""
    channels = [_scaled(96 * 2**i, width) for i in range(depth + 1)]
    blocks = [Conv(channels[0])]
    for before, after in pairwise(channels):
        blocks += [Conv(before), Conv(after, stride=2)]
    return _convolutional("depth-cnn", shape, outputs, [*blocks, Conv(channels[-1]), Conv(channels[-1], kernel=1)])


def resnet18(shape: tuple[int, ...], outputs: int, width: float) -> nn.Sequential:
    """ResNet-18 in its CIFAR form: 3x3 stem, no max pool, post-activation basic blocks."""
    channels = [_scaled(base, width) for base in (64, 128, 256, 512)]
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
        modules.append((f"stage{stage}", _named(blocks)))
        incoming = outgoing
    head = [("pool", nn.AdaptiveAvgPool2d(1)), ("flatten", nn.Flatten()), ("linear", nn.Linear(incoming, outputs))]
    return _named([*modules, *head])


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which a shortcut leads; ReLU after the sum (He et al. 2016, figure 2).

    Where channels or resolution change, the shortcut is a 1x1 convolution with BatchNorm (their option B).
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
            self.shortcut = _named([("conv", projection), ("norm", nn.BatchNorm2d(outgoing))])
        self.relu2 = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """Apply the block."""
        inner: Tensor = self.relu1(self.norm1(self.conv1(inputs)))
        inner = self.norm2(self.conv2(inner))
        outputs: Tensor = self.relu2(inner + self.shortcut(inputs))
        return outputs


def mlp(shape: tuple[int, ...], outputs: int, sizes: Sequence[int], batchnorm: bool) -> nn.Sequential:
    """Fully connected: hidden layers of `sizes`, each linear, BatchNorm if wanted, ReLU; then a linear output."""
    incoming = math.prod(shape)
    if incoming < 1:
        raise ValueError(f"mlp cannot take inputs of shape {shape}, which are empty")
    modules: list[tuple[str, nn.Module]] = [("flatten", nn.Flatten())]
    for number, size in enumerate(sizes, start=1):
        modules.append((f"linear{number}", nn.Linear(incoming, size, bias=not batchnorm)))
        if batchnorm:
            modules.append((f"norm{number}", nn.BatchNorm1d(size)))
        modules.append((f"relu{number}", nn.ReLU()))
        incoming = size
    return _named([*modules, (f"linear{len(sizes) + 1}", nn.Linear(incoming, outputs))])


def _convolutional(name: str, shape: tuple[int, ...], outputs: int, blocks: Sequence[Conv]) -> nn.Sequential:
    """Blocks of convolution, BatchNorm and ReLU; then a plain 1x1 convolution to the outputs, averaged over space."""
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
    return _named([*modules, *head])


def _conv(incoming: int, conv: Conv, bias: bool) -> nn.Conv2d:
    return nn.Conv2d(incoming, conv.channels, conv.kernel, stride=conv.stride, padding=conv.kernel // 2, bias=bias)


def _named(modules: Iterable[tuple[str, nn.Module]]) -> nn.Sequential:
    sequence = nn.Sequential()
    for name, module in modules:
        sequence.add_module(name, module)
    return sequence


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))


def _check_images(name: str, shape: tuple[int, ...], halvings: int) -> None:
    """Refuse what is no image, and images that the strides would halve below one pixel."""
    if len(shape) != 3 or min(shape) < 1:
        raise ValueError(f"{name} takes images of shape (channels, height, width); these inputs have shape {shape}")
    least = 2**halvings
    if min(shape[1:]) < least:
        raise ValueError(
            f"{name} halves its images {halvings} times and needs at least {least} x {least} pixels; "
            f"these have {shape[1]} x {shape[2]}"
        )
