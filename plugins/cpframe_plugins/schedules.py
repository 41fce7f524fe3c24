"""Learning-rate schedules: the factor on the initial rate as a pure function of the absolute epoch.

Epochs are counted from 0: ``factor(0)`` is the factor of the first epoch. The factor does not depend on the epoch in
which a deficit ended, nor on earlier calls.
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
    """A constant learning rate, the initial one."""

    use: Literal["constant"] = "constant"

    def factor(self, epoch: int) -> float:
        """Return 1, for every epoch."""
        del epoch
        return 1.0


@dataclass(frozen=True)
class Exponential:
    """A rate that falls by the same factor every epoch: gamma^epoch; the paper uses 0.97.

    Attributes:
        gamma: the factor per epoch, above 0 and at most 1.
        use: the name of the schedule in a spec.
    """

    gamma: Positive = 0.97
    use: Literal["exponential"] = "exponential"

    def __post_init__(self) -> None:
        """Check `gamma`.

        Raises:
            ValueError: it is above 1.
        """
        _check_gamma(self.gamma)

    def factor(self, epoch: int) -> float:
        """Return the factor of epoch `epoch` (0, 1, ...), in (0, 1]; it reaches 0 only by underflow."""
        return float(self.gamma**epoch)


@dataclass(frozen=True)
class Step:
    """A rate that is multiplied by `gamma` every `every` epochs, or at each of the milestones.

    Attributes:
        every: the number of epochs between two steps; the first step is at epoch `every`.
        milestones: the epochs (from 0) that are the first with a lower rate, in increasing order.
        gamma: the factor of each step, above 0 and at most 1.
        use: the name of the schedule in a spec.
    """

    every: Count | None = None
    milestones: tuple[Count, ...] = ()
    gamma: Positive = 0.1
    use: Literal["step"] = "step"

    def __post_init__(self) -> None:
        """Check the fields against each other.

        Raises:
            ValueError: not exactly one of `every` and `milestones` is given, the milestones do not increase, or
                `gamma` is above 1.
        """
        _check_gamma(self.gamma)
        if (self.every is None) == (not self.milestones):
            raise ValueError("a step schedule needs exactly one of `every` and `milestones`")
        if any(later <= earlier for earlier, later in pairwise(self.milestones)):
            raise ValueError(f"`milestones` must be in increasing order, not {', '.join(map(str, self.milestones))}")

    def factor(self, epoch: int) -> float:
        """Return the factor of epoch `epoch` (0, 1, ...), in (0, 1]."""
        steps = bisect_right(self.milestones, epoch) if self.every is None else epoch // self.every
        return float(self.gamma**steps)


@dataclass(frozen=True)
class Cosine:
    """A rate that falls along half a cosine from the initial rate to the floor, and then stays there.

    Attributes:
        epochs: the epoch at which the floor is reached.
        floor: the final rate as a fraction of the initial rate; 0 ends the training.
        use: the name of the schedule in a spec.
    """

    epochs: Count
    floor: Fraction = 0.0
    use: Literal["cosine"] = "cosine"

    def factor(self, epoch: int) -> float:
        """Return the factor of epoch `epoch` (0, 1, ...), in [floor, 1].

        The formula is that of SGDR without restarts (Loshchilov and Hutter, 2017).
        """
        done = min(epoch / self.epochs, 1)
        return self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2


Schedule = Constant | Exponential | Step | Cosine
"""Any of the schedules; ``use`` selects one in a spec."""

CONSTANT = Constant()
"""The default schedule of the optimizers."""


def _check_gamma(gamma: float) -> None:
    if gamma > 1:
        raise ValueError(f"`gamma` must be at most 1, not {gamma}: the rate must not grow")
