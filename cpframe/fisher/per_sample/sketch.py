"""A random sketch of output channels: fewer channels to multiply, at the price of some variance.

For r rows of random signs S, (r, O), the expectation of ||S dW||^2 / r is ||dW||^2, and S dW is the gradient that S g
gives in place of g. Every example has signs of its own, so that the mean over examples averages their noise too.
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
"""Signs are drawn for so many examples at a time, whatever the runs are."""


@dataclass(frozen=True)
class Sketch:
    """Sketches the gradients of a run of examples.

    Attributes:
        size: r, combinations of channels.
        seed: of the signs.
        start: of the run.
        stop: of the run, exclusive.
    """

    size: int
    seed: int
    start: int = 0
    stop: int = 0

    def of(self, part: slice) -> Sketch:
        """The same for another run."""
        return replace(self, start=part.start, stop=part.stop)

    def sketched(self, name: str, rule: Rule, use: Use) -> Use:
        """A use of the parameter `name` with fewer channels, where that saves anything."""
        n, gradient = self.stop - self.start, use.gradient
        if rule is rules.linear:
            positions, channels = gradient.numel() // (n * gradient.shape[-1]), gradient.shape[-1]
            if positions == 1 or channels <= self.size:
                return use
            rows = gradient.reshape(n, positions, channels)
            few = torch.bmm(rows, self._signs(name, channels, gradient).mT)
            return replace(use, inputs=use.inputs.reshape(n, positions, -1), gradient=few)
        if rule is rules.convolution:
            channels = gradient.shape[1]
            if channels <= self.size or use.how.groups > 1:
                return use
            folds = len(gradient) // n
            signs = self._signs(name, channels, gradient).repeat_interleave(folds, dim=0)
            few = torch.bmm(signs, gradient.flatten(2)).view(len(gradient), self.size, *gradient.shape[2:])
            return replace(use, gradient=few)
        return use

    def _signs(self, name: str, channels: int, like: Tensor) -> Tensor:
        """(n, r, channels) of +1 and -1, over the root of r; the same whenever this parameter asks."""
        blocks = [
            np.random.default_rng([self.seed, block, *name.encode()]).integers(
                0, 2, (_BLOCK, self.size, channels), dtype=np.int8
            )
            for block in range(self.start // _BLOCK, -(-self.stop // _BLOCK))
        ]
        first = self.start - self.start % _BLOCK
        drawn = torch.from_numpy(np.concatenate(blocks)[self.start - first : self.stop - first])
        signs: Tensor = (drawn.to(like) * 2 - 1) / self.size**0.5
        return signs
