"""Bundled optimizers: SGD, Adam and AdamW, each with a learning-rate schedule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cpframe.api import Fraction, NonNegative, Optimizers, Positive, hookimpl
from cpframe_plugins.schedules import CONSTANT, Schedule

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum (``torch.optim.SGD``).

    Attributes:
        lr: start learning rate.
        momentum: heavy-ball momentum, at least 0 and below 1.
        nesterov: Nesterov's form of momentum.
        weight_decay: L2 penalty, added to the gradient as ``weight_decay * weight``.
        schedule: of the learning rate, by absolute epoch.
    """

    lr: Positive = 0.05
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    schedule: Schedule = CONSTANT

    def __post_init__(self) -> None:
        """Check the momentum.

        Raises:
            ValueError: when `momentum` is 1, or is 0 with `nesterov`.
        """
        if self.momentum >= 1:
            raise ValueError(f"`momentum` must be below 1, or the steps add up without end; it is {self.momentum}")
        if self.nesterov and self.momentum == 0:
            raise ValueError("`nesterov` needs a `momentum` above 0")

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer over `parameters`, at the rate of the first epoch."""
        import torch

        return torch.optim.SGD(
            parameters,
            lr=self.learning_rate(0),
            momentum=self.momentum,
            nesterov=self.nesterov,
            weight_decay=self.weight_decay,
            fused=True,
        )

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of the epoch that starts when `epoch` epochs (0, 1, ...) have passed."""
        return self.lr * self.schedule.factor(epoch)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015; ``torch.optim.Adam``); weight decay acts as an L2 penalty, through the gradient.

    Attributes:
        lr: start learning rate.
        betas: decay of the running means of the gradient and of its square, each at least 0 and below 1.
        eps: added to the denominator.
        weight_decay: L2 penalty, added to the gradient as ``weight_decay * weight``.
        schedule: of the learning rate, by absolute epoch.
    """

    lr: Positive = 0.001
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    schedule: Schedule = CONSTANT

    def __post_init__(self) -> None:
        """Check the betas.

        Raises:
            ValueError: when one of `betas` is 1.
        """
        _check_betas(self.betas)

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer over `parameters`, at the rate of the first epoch."""
        import torch

        return torch.optim.Adam(
            parameters,
            lr=self.learning_rate(0),
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of the epoch that starts when `epoch` epochs (0, 1, ...) have passed."""
        return self.lr * self.schedule.factor(epoch)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019; ``torch.optim.AdamW``).

    Attributes:
        lr: start learning rate.
        betas: decay of the running means of the gradient and of its square, each at least 0 and below 1.
        eps: added to the denominator.
        weight_decay: each step shrinks the weights by this times the learning rate of the epoch.
        schedule: of the learning rate, by absolute epoch.
    """

    lr: Positive = 0.001
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    schedule: Schedule = CONSTANT

    def __post_init__(self) -> None:
        """Check the betas.

        Raises:
            ValueError: when one of `betas` is 1.
        """
        _check_betas(self.betas)

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer over `parameters`, at the rate of the first epoch."""
        import torch

        return torch.optim.AdamW(
            parameters,
            lr=self.learning_rate(0),
            betas=self.betas,
            eps=self.eps,
            weight_decay=self.weight_decay,
            fused=True,
        )

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of the epoch that starts when `epoch` epochs (0, 1, ...) have passed."""
        return self.lr * self.schedule.factor(epoch)


def _check_betas(betas: tuple[float, float]) -> None:
    if max(betas) >= 1:
        raise ValueError(f"both `betas` must be below 1, or the running means never move; they are {betas}")


@hookimpl
def cpframe_optimizers() -> Optimizers:
    """SGD, Adam and AdamW."""
    return {"sgd": Sgd, "adam": Adam, "adamw": AdamW}
