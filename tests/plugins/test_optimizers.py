"""The bundled optimizers, against closed forms."""

import subprocess
import sys

import pytest
import torch

from cpframe_plugins.optimizers import Adam, AdamW, Sgd, cpframe_optimizers
from cpframe_plugins.schedules import Exponential


def parameter(value: float, gradient: float) -> torch.nn.Parameter:
    weight = torch.nn.Parameter(torch.tensor([value], dtype=torch.float64))
    weight.grad = torch.tensor([gradient], dtype=torch.float64)
    return weight


def step(optimizer: Sgd | Adam | AdamW, value: float, gradients: list[float]) -> float:
    weight = parameter(value, 0.0)
    built = optimizer([weight])
    for gradient in gradients:
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        built.step()
    return weight.item()


def test_sgd_steps_with_momentum_and_weight_decay() -> None:
    weight, velocity = 2.0, 0.0
    for gradient in (0.3, -0.7, 0.2):
        velocity = 0.8 * velocity + gradient + 0.01 * weight
        weight -= 0.1 * velocity
    optimizer = Sgd(lr=0.1, momentum=0.8, weight_decay=0.01)
    assert step(optimizer, 2.0, [0.3, -0.7, 0.2]) == pytest.approx(weight, rel=1e-13)  # float64 rounding


def test_nesterov_looks_ahead() -> None:
    weight, velocity = 2.0, 0.0
    for gradient in (0.3, -0.7):
        velocity = 0.8 * velocity + gradient
        weight -= 0.1 * (gradient + 0.8 * velocity)
    assert step(Sgd(lr=0.1, momentum=0.8, nesterov=True), 2.0, [0.3, -0.7]) == pytest.approx(weight, rel=1e-13)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_and_adamw_step_as_published(decoupled: bool) -> None:
    lr, (b1, b2), eps, decay = 0.1, (0.7, 0.9), 1e-3, 0.2
    weight, mean, square = 2.0, 0.0, 0.0
    for number, gradient in enumerate((0.3, -0.7, 0.2), start=1):
        total = gradient if decoupled else gradient + decay * weight
        mean, square = b1 * mean + (1 - b1) * total, b2 * square + (1 - b2) * total**2
        update = (mean / (1 - b1**number)) / ((square / (1 - b2**number)) ** 0.5 + eps)
        weight = weight - lr * update - (lr * decay * weight if decoupled else 0)
    kind = AdamW if decoupled else Adam
    optimizer = kind(lr=lr, betas=(b1, b2), eps=eps, weight_decay=decay)
    assert step(optimizer, 2.0, [0.3, -0.7, 0.2]) == pytest.approx(weight, rel=1e-12)  # float64 rounding


@pytest.mark.parametrize("kind", [Sgd, Adam, AdamW])
def test_the_rate_is_the_initial_rate_times_the_factor(kind: type[Sgd] | type[Adam] | type[AdamW]) -> None:
    optimizer = kind(lr=0.02, schedule=Exponential(0.5))
    assert [optimizer.learning_rate(epoch) for epoch in (0, 1, 3)] == [0.02, 0.01, 0.0025]
    assert optimizer([parameter(1.0, 0.0)]).param_groups[0]["lr"] == 0.02
    assert kind(lr=0.02).learning_rate(1000) == 0.02


def test_settings_that_cannot_converge_are_refused() -> None:
    with pytest.raises(ValueError, match="`momentum` must be below 1, not 1"):
        Sgd(momentum=1.0)
    with pytest.raises(ValueError, match="`nesterov` needs a `momentum` above 0"):
        Sgd(momentum=0.0, nesterov=True)
    for kind in (Adam, AdamW):
        with pytest.raises(ValueError, match="`betas` must be below 1, not "):
            kind(betas=(0.9, 1.0))


def test_the_hook_offers_all_of_them_without_torch() -> None:
    assert set(cpframe_optimizers()) == {"sgd", "adam", "adamw"}
    code = "import sys, cpframe_plugins.optimizers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
