"""The bundled optimizers: SGD, Adam and AdamW, each with a learning-rate schedule."""

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
        lr: the initial learning rate.
        momentum: the heavy-ball momentum, at least 0 and below 1.
        nesterov: whether to use Nesterov's form of momentum.
        weight_decay: the factor of the L2 penalty, which adds ``weight_decay * weight`` to the gradient.
        schedule: the learning-rate schedule, a function of the absolute epoch.
    """

    lr: Positive = 0.05
    momentum: Fraction = 0.9
    nesterov: bool = False
    weight_decay: NonNegative = 0.0
    schedule: Schedule = CONSTANT

    def __post_init__(self) -> None:
        """Check the momentum.

        Raises:
            ValueError: `momentum` is 1, or is 0 with `nesterov`.
        """
        if self.momentum >= 1:
            raise ValueError(f"`momentum` must be below 1, not {self.momentum}: otherwise the steps grow without bound")
        if self.nesterov and self.momentum == 0:
            raise ValueError("`nesterov` needs a `momentum` above 0, not 0")

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer over `parameters`, with the learning rate of the first epoch."""
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
        """Return the learning rate of the epoch that starts when `epoch` epochs (0, 1, ...) have passed."""
        return self.lr * self.schedule.factor(epoch)


@dataclass(frozen=True)
class Adam:
    """Adam (Kingma and Ba, 2015; ``torch.optim.Adam``), with weight decay as an L2 penalty on the loss.

    Attributes:
        lr: the initial learning rate.
        betas: the decay rates of the running means of the gradient and of its square, each at least 0 and below 1.
        eps: the constant added to the denominator.
        weight_decay: the factor of the L2 penalty, which adds ``weight_decay * weight`` to the gradient.
        schedule: the learning-rate schedule, a function of the absolute epoch.
    """

    lr: Positive = 0.001
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.0
    schedule: Schedule = CONSTANT

    def __post_init__(self) -> None:
        """Check the betas.

        Raises:
            ValueError: one of `betas` is 1.
        """
        _check_betas(self.betas)

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer over `parameters`, with the learning rate of the first epoch."""
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
        """Return the learning rate of the epoch that starts when `epoch` epochs (0, 1, ...) have passed."""
        return self.lr * self.schedule.factor(epoch)


@dataclass(frozen=True)
class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter, 2019; ``torch.optim.AdamW``).

    Attributes:
        lr: the initial learning rate.
        betas: the decay rates of the running means of the gradient and of its square, each at least 0 and below 1.
        eps: the constant added to the denominator.
        weight_decay: the decoupled decay: each step multiplies the weights by ``1 - learning_rate * weight_decay``.
        schedule: the learning-rate schedule, a function of the absolute epoch.
    """

    lr: Positive = 0.001
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)
    eps: Positive = 1e-8
    weight_decay: NonNegative = 0.01
    schedule: Schedule = CONSTANT

    def __post_init__(self) -> None:
        """Check the betas.

        Raises:
            ValueError: one of `betas` is 1.
        """
        _check_betas(self.betas)

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer over `parameters`, with the learning rate of the first epoch."""
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
        """Return the learning rate of the epoch that starts when `epoch` epochs (0, 1, ...) have passed."""
        return self.lr * self.schedule.factor(epoch)


def _check_betas(betas: tuple[float, float]) -> None:
    if max(betas) >= 1:
        raise ValueError(f"both `betas` must be below 1, not {betas}: otherwise the running means never change")


@hookimpl
def cpframe_optimizers() -> Optimizers:
    """Offer the bundled optimizers."""
    return {"sgd": Sgd, "adam": Adam, "adamw": AdamW}
