"""Squared norms of the weight gradients of a convolution, example by example.

The gradient of an example is dW[o, c, k], the sum over positions p of g[o, p] x[c, s p + d k]. The patches of all
positions are never copied out ("im2col"). There are three methods, and the fastest depends on the shape:

* ``gram``: the sum over pairs of positions p, p' of (g_p . g_p') times the product of their patches. That product is
  the sum over kernel offsets k of the entries (s p + d k, s p' + d k) of the Gram matrix X^T X, that is, of shifted
  views of one small matrix. With a stride s there are s^d phase images, each with its own Gram matrix. It is the
  fastest for few positions.
* ``each``: torch's convolution kernel for one example at a time. It is the fastest for large images on the CPU.
* ``offsets``: one batched product per kernel offset, for all examples. It is the fastest for large images on a GPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from itertools import product
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

__all__ = ["Geometry", "gradients", "row_squared_norms", "squared_norms", "synchronize"]


_EXAMPLES_TIMED = 8
"""The number of examples in a timing on the CPU, where the time grows in proportion to it."""


_CACHED_ENTRIES = 2**18
"""The entries of the Gram matrices that are processed at a time: 1 MB of float32, about the cache of a core."""


class Geometry(NamedTuple):
    """The geometry of a convolution in d = 1, 2 or 3 dimensions.

    Attributes:
        kernel: the size of the kernel, (d,).
        stride: the stride, (d,).
        padding: the number of zeros added before and after, (d, 2).
        dilation: the dilation, (d,).
        groups: the number of groups of channels.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


class Shape(NamedTuple):
    """Everything on which the time of a method depends.

    Attributes:
        inputs: the shape of one input, (C, *spatial).
        gradients: the shape of one output gradient, (O, *positions).
        examples: the number of examples.
        geometry: the geometry of the convolution.
        channels_last: whether the inputs are in the memory format channels last.
        dtype: the type of the inputs.
        device: the device, in PyTorch's notation.
    """

    inputs: tuple[int, ...]
    gradients: tuple[int, ...]
    examples: int
    geometry: Geometry
    channels_last: bool
    dtype: torch.dtype
    device: str


def squared_norms(inputs: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    """Return the squared norm of the weight gradient of each example, (n,).

    Args:
        inputs: the inputs, (n, C, *spatial).
        gradient: the gradient with respect to the outputs, (n, O, *positions).
        geometry: the geometry of the convolution.
    """
    shape = Shape(
        tuple(inputs.shape[1:]),
        tuple(gradient.shape[1:]),
        len(inputs),
        geometry,
        inputs.stride(1) == 1,
        inputs.dtype,
        str(inputs.device),
    )
    return _METHODS[_method(shape)](inputs, gradient, geometry)


def gradients(inputs: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    """Return the weight gradient of each example, (n, O, C / groups, *kernel), see `squared_norms` for arguments."""
    weights = inputs.new_empty(gradient.shape[1], inputs.shape[1] // geometry.groups, *geometry.kernel)
    inputs, padding = _symmetric_padding(inputs, geometry)
    rows = [
        torch.ops.aten.convolution_backward(
            gradient[i : i + 1],
            inputs[i : i + 1],
            weights,
            None,
            geometry.stride,
            padding,
            geometry.dilation,
            False,
            [0] * len(padding),
            geometry.groups,
            [False, True, False],
        )[1]
        for i in range(len(inputs))
    ]
    return torch.stack(rows)


def _each(inputs: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    # Each gradient is squared at once, while it is in the cache.
    return torch.cat(
        [row_squared_norms(gradients(x, g, geometry)) for x, g in zip(inputs[:, None], gradient[:, None], strict=True)]
    )


def _offsets(inputs: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    n, groups = len(inputs), geometry.groups
    padded = pad(inputs, [amount for pair in reversed(geometry.padding) for amount in pair])
    positions = gradient.shape[2:]
    flat = gradient.reshape(n * groups, gradient.shape[1] // groups, -1)
    total = inputs.new_zeros(n)
    for offsets in product(*map(range, geometry.kernel)):
        view = padded
        for dim, (offset, step, count, dilation) in enumerate(
            zip(offsets, geometry.stride, positions, geometry.dilation, strict=True), start=2
        ):
            start = offset * dilation
            view = view[(slice(None),) * dim + (slice(start, start + step * (count - 1) + 1, step),)]
        columns = view.reshape(n * groups, inputs.shape[1] // groups, -1)
        total += row_squared_norms(torch.bmm(flat, columns.transpose(1, 2)).reshape(n, -1))
    return total


def _gram(inputs: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    padded = pad(inputs, [amount for pair in reversed(geometry.padding) for amount in pair])
    if inputs.device.type != "cpu":
        return _padded_gram(padded, gradient, geometry)
    # A few examples at a time, because their Gram matrices are read once per kernel offset and should stay in cache.
    sizes = [-(-size // s) for size, s in zip(padded.shape[2:], geometry.stride, strict=True)]
    few = max(1, _CACHED_ENTRIES // prod(sizes) ** 2)
    parts = zip(torch.split(padded, few), torch.split(gradient, few), strict=True)
    return torch.cat([_padded_gram(x, g, geometry) for x, g in parts])


def _padded_gram(padded: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    n, groups, positions = len(padded), geometry.groups, tuple(gradient.shape[2:])
    patches: Tensor | None = None
    for phase, shifts in _phases(geometry).items():
        starts = (slice(start, None, step) for start, step in zip(phase, geometry.stride, strict=True))
        image = padded[(slice(None), slice(None), *starts)]
        size = image.shape[2:]
        gram = _inner_products(image, groups).view(n * groups, *size, *size)
        for shift in shifts:
            window = tuple(slice(start, start + count) for start, count in zip(shift, positions, strict=True))
            view = gram[(slice(None), *window, *window)]
            patches = view.clone(memory_format=torch.contiguous_format) if patches is None else patches.add_(view)
    assert patches is not None  # noqa: S101 - a kernel has at least one offset
    outputs = _inner_products(gradient, groups)
    by_group: Tensor = torch.linalg.vecdot(patches.reshape(n * groups, -1), outputs.flatten(1))
    return by_group.view(n, groups).sum(dim=1)


def _inner_products(image: Tensor, groups: int) -> Tensor:
    """Return the products of the channels at each pair of positions: (n, C, *spatial) -> (n * groups, P, P)."""
    flat = image.reshape(len(image) * groups, image.shape[1] // groups, -1)
    return torch.bmm(flat.transpose(1, 2), flat)


def _phases(geometry: Geometry) -> Mapping[tuple[int, ...], list[tuple[int, ...]]]:
    """Group the kernel's offsets by the phase image that they read, each as its shift within that image."""
    phases: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for offsets in product(*map(range, geometry.kernel)):
        pairs = [
            divmod(offset * dilation, step)
            for offset, dilation, step in zip(offsets, geometry.dilation, geometry.stride, strict=True)
        ]
        phase, shift = tuple(remainder for _, remainder in pairs), tuple(quotient for quotient, _ in pairs)
        phases.setdefault(phase, []).append(shift)
    return phases


def _symmetric_padding(inputs: Tensor, geometry: Geometry) -> tuple[Tensor, list[int]]:
    """Return inputs and the padding for torch's kernels; inputs are padded here if the two sides differ."""
    if all(before == after for before, after in geometry.padding):
        return inputs, [before for before, _ in geometry.padding]
    return pad(inputs, [amount for pair in reversed(geometry.padding) for amount in pair]), [0] * len(geometry.padding)


def row_squared_norms(rows: Tensor) -> Tensor:
    """Return the squared norm of each row: (n, ...) -> (n,)."""
    flat = rows.flatten(1)
    squares: Tensor = torch.linalg.vecdot(flat, flat)
    return squares


_METHODS: Mapping[str, Callable[[Tensor, Tensor, Geometry], Tensor]] = {
    "gram": _gram,
    "each": _each,
    "offsets": _offsets,
}


def _method(shape: Shape) -> str:
    """Return the method for a shape: timed, or counted where all processes must choose the same one."""
    if torch.are_deterministic_algorithms_enabled():
        return method_by_operations(shape)
    return method_by_time(shape)


def method_by_operations(shape: Shape) -> str:
    """Return the method with the fewest operations, by a rule of thumb from measurements on several CPUs."""
    return "gram" if _gram_cost(shape) < 1 else _direct(shape)


@lru_cache(maxsize=1024)
def method_by_time(shape: Shape) -> str:
    """Return the method that is the fastest on this machine, as timed on random numbers.

    Each method runs once to warm up and twice more. Methods with clearly more operations are not timed.
    """
    if not 1 / 4 < _gram_cost(shape) < 4:
        return method_by_operations(shape)
    n = min(shape.examples, _EXAMPLES_TIMED) if shape.device == "cpu" else shape.examples
    generator = torch.Generator(device=shape.device).manual_seed(0)

    def random(*size: int) -> Tensor:
        numbers = torch.randn(n, *size, generator=generator, device=shape.device).to(shape.dtype)
        layout = {3: torch.channels_last, 4: torch.channels_last_3d}.get(len(size))
        return numbers.contiguous(memory_format=layout) if shape.channels_last and layout is not None else numbers

    inputs, gradient = random(*shape.inputs), random(*shape.gradients)
    seconds = {}
    for name in ("gram", _direct(shape)):
        durations = []
        for _ in range(3):
            synchronize(inputs)
            start = time.perf_counter()
            _METHODS[name](inputs, gradient, shape.geometry)
            synchronize(inputs)
            durations.append(time.perf_counter() - start)
        seconds[name] = min(durations[1:])
    return min(seconds, key=seconds.__getitem__)


def _direct(shape: Shape) -> str:
    """Return the better of the two methods without Gram matrices."""
    return "each" if shape.device == "cpu" else "offsets"


def _gram_cost(shape: Shape) -> float:
    """Return the operations of the method ``gram``, relative to those of products of gradients and inputs."""
    channels, outputs, groups = shape.inputs[0], shape.gradients[0], shape.geometry.groups
    positions, offsets = prod(shape.gradients[1:]), prod(shape.geometry.kernel)
    # Reading and adding an entry of a shifted Gram matrix takes about as long as 30 products.
    gram = _gram_entries(shape) * channels + positions**2 * (outputs + 30 * offsets * groups)
    return gram / (channels * outputs * offsets * positions / groups)


def _gram_entries(shape: Shape) -> int:
    """Return the number of entries of an example's Gram matrices, over all phases."""
    padded = [size + sum(pair) for size, pair in zip(shape.inputs[1:], shape.geometry.padding, strict=True)]
    sizes = [-(-size // s) for size, s in zip(padded, shape.geometry.stride, strict=True)]
    return len(_phases(shape.geometry)) * prod(sizes) ** 2


def synchronize(tensor: Tensor) -> None:
    """Wait until the tensor's device has completed all operations."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
    elif tensor.device.type == "mps":
        torch.mps.synchronize()
