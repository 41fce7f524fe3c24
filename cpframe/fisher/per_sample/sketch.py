"""A random sketch of output channels: fewer channels to multiply, in exchange for some variance.

For a matrix S of random signs, (r, O), the expectation of ||S dW||^2 / r is ||dW||^2, and S dW is the gradient that
S g yields in place of g. Each example has its own signs, so that the mean over examples also averages their noise.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from cpframe.fisher.per_sample import rules
from cpframe.fisher.per_sample.rules import Rule, Use

__all__ = ["Sketch"]


_BLOCK = 64
"""The number of examples whose signs are drawn together; it is independent of the batch size."""


@dataclass(frozen=True)
class Sketch:
    """A sketch of the gradients of consecutive examples.

    Attributes:
        size: the number r of combinations of channels.
        seed: the seed of the signs.
        start: the first example.
        stop: the end of the examples, exclusive.
    """

    size: int
    seed: int
    start: int = 0
    stop: int = 0

    def for_examples(self, part: slice) -> Sketch:
        """Return the same sketch for other examples."""
        return replace(self, start=part.start, stop=part.stop)

    def apply(self, name: str, rule: Rule, use: Use) -> Use:
        """Return a use of the parameter `name` with fewer channels, or unchanged where that would save nothing."""
        n, gradient = self.stop - self.start, use.gradient
        if rule is rules.linear:
            positions, channels = gradient.numel() // (n * gradient.shape[-1]), gradient.shape[-1]
            if positions == 1 or channels <= self.size:
                return use
            rows = gradient.reshape(n, positions, channels)
            combined = torch.bmm(rows, self._signs(name, channels, gradient).mT)
            return replace(use, inputs=use.inputs.reshape(n, positions, -1), gradient=combined)
        if rule is rules.convolution:
            channels = gradient.shape[1]
            if channels <= self.size or use.context.groups > 1:
                return use
            uses_per_example = len(gradient) // n
            signs = self._signs(name, channels, gradient).repeat_interleave(uses_per_example, dim=0)
            combined = torch.bmm(signs, gradient.flatten(2)).view(len(gradient), self.size, *gradient.shape[2:])
            return replace(use, gradient=combined)
        return use

    def _signs(self, name: str, channels: int, like: Tensor) -> Tensor:
        """Return +1 and -1 over the square root of r, (n, r, channels), the same in every call for a parameter."""
        blocks = [
            np.random.default_rng([self.seed, block, *name.encode()]).integers(
                0, 2, (_BLOCK, self.size, channels), dtype=np.int8
            )
            for block in range(self.start // _BLOCK, -(-self.stop // _BLOCK))
        ]
        first = self.start - self.start % _BLOCK
        bits = torch.from_numpy(np.concatenate(blocks)[self.start - first : self.stop - first])
        signs: Tensor = (bits.to(like) * 2 - 1) / self.size**0.5
        return signs
