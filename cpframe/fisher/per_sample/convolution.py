"""Squared norms of the weight gradients of a convolution, example by example.

The gradient of an example is dW[o, c, k] = sum over positions p of g[o, p] x[c, s p + d k]. Patches are never copied
out all at once ("im2col"), and there are three ways to its squared norm; which is the quickest depends on the shape:

* ``gram``: sum over pairs of positions p, p' of (g_p . g_p') times the product of their patches, which is the sum over
  kernel offsets k of the entries (s p + d k, s p' + d k) of the Gram matrix X^T X: shifted views of one small matrix.
  A stride s leaves s^d phase images, each with a Gram matrix of its own. Wins where there are few positions.
* ``each``: the library's kernel for one example after the other, each squared at once. Wins on large images on the CPU.
* ``offsets``: one batched product for every kernel offset, of all examples at once. Wins on large images on a GPU.
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

__all__ = ["Geometry", "gradients", "squared_norms", "squares", "wait"]


_EXAMPLES_TIMED = 8
"""On the CPU, where one takes about as long as another."""


_CACHED_ENTRIES = 2**18
"""Of the Gram matrices that are worked on at a time: 1 MB of float32, about the cache of a core."""


class Geometry(NamedTuple):
    """How a convolution moves over its input, in each of its d = 1, 2 or 3 dimensions.

    Attributes:
        kernel: its extent, (d,).
        stride: (d,).
        padding: zeros added (before, after) in every dimension, (d, 2).
        dilation: (d,).
        groups: of channels.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    dilation: tuple[int, ...]
    groups: int


class Shape(NamedTuple):
    """All that the time of a method depends on: shapes of inputs and gradients without the examples, and the kind."""

    inputs: tuple[int, ...]
    gradients: tuple[int, ...]
    examples: int
    geometry: Geometry
    last: bool
    dtype: torch.dtype
    device: str


def squared_norms(inputs: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    """Return the squared norm of the weight gradient of every example.

    Args:
        inputs: (n, C, *spatial).
        gradient: of the outputs, (n, O, *positions).
        geometry: of the convolution.

    Returns:
        (n,)
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
    """Return the weight gradient of every example: (n, O, C / groups, *kernel); arguments as of `squared_norms`."""
    weights = inputs.new_empty(gradient.shape[1], inputs.shape[1] // geometry.groups, *geometry.kernel)
    inputs, padding = _symmetric(inputs, geometry)
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
    # Squared one by one: kept until the last, the gradients would no longer be in the cache.
    return torch.cat(
        [squares(gradients(x, g, geometry)) for x, g in zip(inputs[:, None], gradient[:, None], strict=True)]
    )


def _offsets(inputs: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    n, groups = len(inputs), geometry.groups
    padded = pad(inputs, [amount for pair in reversed(geometry.padding) for amount in pair])
    positions = gradient.shape[2:]
    flat = gradient.reshape(n * groups, gradient.shape[1] // groups, -1)
    total = inputs.new_zeros(n)
    for offset in product(*map(range, geometry.kernel)):
        view = padded
        for dim, (at, step, count, gap) in enumerate(
            zip(offset, geometry.stride, positions, geometry.dilation, strict=True), start=2
        ):
            view = view[(slice(None),) * dim + (slice(at * gap, at * gap + step * (count - 1) + 1, step),)]
        some = view.reshape(n * groups, inputs.shape[1] // groups, -1)
        total += squares(torch.bmm(flat, some.transpose(1, 2)).reshape(n, -1))
    return total


def _gram(inputs: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    padded = pad(inputs, [amount for pair in reversed(geometry.padding) for amount in pair])
    if inputs.device.type != "cpu":
        return _gram_of(padded, gradient, geometry)
    # A few examples at a time: their matrices are gone over for every kernel offset, and should stay in the cache.
    sizes = [-(-size // s) for size, s in zip(padded.shape[2:], geometry.stride, strict=True)]
    few = max(1, _CACHED_ENTRIES // prod(sizes) ** 2)
    parts = zip(torch.split(padded, few), torch.split(gradient, few), strict=True)
    return torch.cat([_gram_of(some, g, geometry) for some, g in parts])


def _gram_of(padded: Tensor, gradient: Tensor, geometry: Geometry) -> Tensor:
    n, groups, positions = len(padded), geometry.groups, tuple(gradient.shape[2:])
    patches: Tensor | None = None
    for phase, shifts in _phases(geometry).items():
        starts = (slice(at, None, step) for at, step in zip(phase, geometry.stride, strict=True))
        image = padded[(slice(None), slice(None), *starts)]
        size = image.shape[2:]
        gram = _products(image, groups).view(n * groups, *size, *size)
        for shift in shifts:
            window = tuple(slice(at, at + count) for at, count in zip(shift, positions, strict=True))
            view = gram[(slice(None), *window, *window)]
            patches = view.clone(memory_format=torch.contiguous_format) if patches is None else patches.add_(view)
    assert patches is not None  # noqa: S101 - a kernel has an offset
    outputs = _products(gradient, groups)
    by_group: Tensor = torch.linalg.vecdot(patches.reshape(n * groups, -1), outputs.flatten(1))
    return by_group.view(n, groups).sum(dim=1)


def _products(image: Tensor, groups: int) -> Tensor:
    """Inner products of the channels at every pair of positions: (n, C, *spatial) -> (n * groups, P, P)."""
    flat = image.reshape(len(image) * groups, image.shape[1] // groups, -1)
    return torch.bmm(flat.transpose(1, 2), flat)


def _phases(geometry: Geometry) -> Mapping[tuple[int, ...], list[tuple[int, ...]]]:
    """Sort the kernel's offsets by the phase image that they read, each as its shift within that image."""
    found: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
    for offset in product(*map(range, geometry.kernel)):
        places = [divmod(at * gap, s) for at, gap, s in zip(offset, geometry.dilation, geometry.stride, strict=True)]
        found.setdefault(tuple(rest for _, rest in places), []).append(tuple(whole for whole, _ in places))
    return found


def _symmetric(inputs: Tensor, geometry: Geometry) -> tuple[Tensor, list[int]]:
    """Padding as the library's kernels take it; the inputs are padded here where the two sides differ."""
    if all(before == after for before, after in geometry.padding):
        return inputs, [before for before, _ in geometry.padding]
    return pad(inputs, [amount for pair in reversed(geometry.padding) for amount in pair]), [0] * len(geometry.padding)


def squares(rows: Tensor) -> Tensor:
    """Return the squared norm of every row: (n, ...) -> (n,)."""
    flat = rows.flatten(1)
    summed: Tensor = torch.linalg.vecdot(flat, flat)
    return summed


_METHODS: Mapping[str, Callable[[Tensor, Tensor, Geometry], Tensor]] = {
    "gram": _gram,
    "each": _each,
    "offsets": _offsets,
}


def _method(shape: Shape) -> str:
    """The quickest method: measured, but where results must be the same in every process counted."""
    return counted(shape) if torch.are_deterministic_algorithms_enabled() else timed(shape)


def counted(shape: Shape) -> str:
    """The method of the fewest operations, by a rule of thumb that holds on the CPUs it was tried on."""
    return "gram" if _gram_cost(shape) < 1 else _direct(shape)


@lru_cache(maxsize=1024)
def timed(shape: Shape) -> str:
    """The method that is the quickest here, on random numbers, in two tries after a first; no long shots are tried."""
    if not 1 / 4 < _gram_cost(shape) < 4:
        return counted(shape)
    n = min(shape.examples, _EXAMPLES_TIMED) if shape.device == "cpu" else shape.examples
    generator = torch.Generator(device=shape.device).manual_seed(0)

    def drawn(*size: int) -> Tensor:
        numbers = torch.randn(n, *size, generator=generator, device=shape.device).to(shape.dtype)
        layout = {3: torch.channels_last, 4: torch.channels_last_3d}.get(len(size))
        return numbers.contiguous(memory_format=layout) if shape.last and layout is not None else numbers

    inputs, gradient = drawn(*shape.inputs), drawn(*shape.gradients)
    seconds = {}
    for name in ("gram", _direct(shape)):
        taken = []
        for _ in range(3):
            wait(inputs)
            started = time.perf_counter()
            _METHODS[name](inputs, gradient, shape.geometry)
            wait(inputs)
            taken.append(time.perf_counter() - started)
        seconds[name] = min(taken[1:])
    return min(seconds, key=seconds.__getitem__)


def _direct(shape: Shape) -> str:
    return "each" if shape.device == "cpu" else "offsets"


def _gram_cost(shape: Shape) -> float:
    """Operations by Gram matrices as a share of those by products of gradients and inputs."""
    channels, outputs, groups = shape.inputs[0], shape.gradients[0], shape.geometry.groups
    positions, offsets = prod(shape.gradients[1:]), prod(shape.geometry.kernel)
    # An entry of a shifted Gram matrix is read and added: as dear as some 30 products.
    gram = _gram_entries(shape) * channels + positions**2 * (outputs + 30 * offsets * groups)
    return gram / (channels * outputs * offsets * positions / groups)


def _gram_entries(shape: Shape) -> int:
    """Entries of the Gram matrices of an example's padded inputs, of all phases together."""
    padded = [size + sum(pair) for size, pair in zip(shape.inputs[1:], shape.geometry.padding, strict=True)]
    sizes = [-(-size // s) for size, s in zip(padded, shape.geometry.stride, strict=True)]
    return len(_phases(shape.geometry)) * prod(sizes) ** 2


def wait(on: Tensor) -> None:
    """Wait until the tensor's device has done all that it was asked for."""
    if on.is_cuda:
        torch.cuda.synchronize(on.device)
    elif on.device.type == "mps":
        torch.mps.synchronize()
