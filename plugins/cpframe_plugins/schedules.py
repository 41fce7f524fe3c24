"""Learning-rate schedules: the factor on the start rate as a pure function of the absolute epoch.

Epochs are counted from 0: ``factor(0)`` is the factor of the first epoch. The factor knows nothing of when a
deficit ended, nor of how often it was asked before.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from cpframe.api import Count, Fraction, Positive


@dataclass(frozen=True)
class Constant:
    """The start rate throughout."""

    use: Literal["constant"] = "constant"

    def factor(self, epoch: int) -> float:
        """1, at every epoch."""
        del epoch
        return 1.0


@dataclass(frozen=True)
class Exponential:
    """The rate falls by the same factor every epoch, gamma^epoch; 0.97 is the paper's.

    Attributes:
        gamma: factor per epoch, above 0 and at most 1.
        use: names the schedule.
    """

    gamma: Positive = 0.97
    use: Literal["exponential"] = "exponential"

    def __post_init__(self) -> None:
        """Check `gamma`.

        Raises:
            ValueError: when it is above 1.
        """
        _check_gamma(self.gamma)

    def factor(self, epoch: int) -> float:
        """Factor of epoch `epoch` (0, 1, ...), in (0, 1]; it reaches 0 only by underflow."""
        return float(self.gamma**epoch)


@dataclass(frozen=True)
class Step:
    """The rate falls by `gamma` every so many epochs, or at each of the milestones.

    Attributes:
        every: epochs between two falls; the first comes at epoch `every`.
        milestones: the epochs (from 0) that are the first with a lower rate, increasing.
        gamma: factor of each fall, above 0 and at most 1.
        use: names the schedule.
    """

    every: Count | None = None
    milestones: tuple[Count, ...] = ()
    gamma: Positive = 0.1
    use: Literal["step"] = "step"

    def __post_init__(self) -> None:
        """Check the fields against each other.

        Raises:
            ValueError: when not exactly one of `every` and `milestones` is given, when the milestones do not
                increase, or when `gamma` is above 1.
        """
        _check_gamma(self.gamma)
        if (self.every is None) == (not self.milestones):
            raise ValueError("a step schedule needs either `every` or `milestones`, and not both")
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(f"`milestones` must increase; they are {', '.join(map(str, self.milestones))}")

    def factor(self, epoch: int) -> float:
        """Factor of epoch `epoch` (0, 1, ...), in (0, 1]."""
        falls = bisect_right(self.milestones, epoch) if self.every is None else epoch // self.every
        return float(self.gamma**falls)


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the start rate down to the floor, where the rate then stays.

    Attributes:
        epochs: the epoch at which the floor is reached.
        floor: fraction of the start rate at the end; 0 ends the learning.
        use: names the schedule.
    """

    epochs: Count
    floor: Fraction = 0.0
    use: Literal["cosine"] = "cosine"

    def factor(self, epoch: int) -> float:
        """Factor of epoch `epoch` (0, 1, ...), in [floor, 1] (SGDR, Loshchilov and Hutter 2017, without restarts)."""
        done = min(epoch / self.epochs, 1)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


Schedule = Constant | Exponential | Step | Cosine
"""Any of the schedules; in a spec its ``use`` says which."""

CONSTANT = Constant()
"""What an optimizer has unless the spec says otherwise."""


def _check_gamma(gamma: float) -> None:
    if gamma > 1:
        raise ValueError(f"`gamma` must be at most 1, for the rate is not to grow; it is {gamma}")
