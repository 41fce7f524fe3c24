"""The bundled optimizers and schedules, against closed forms and torch's own schedulers."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch.optim import lr_scheduler

from cpframe_plugins.optimizers import Adam, AdamW, Sgd, cpframe_optimizers
from cpframe_plugins.schedules import Constant, Cosine, Exponential, Schedule, Step

Scheduler = Callable[[torch.optim.Optimizer], lr_scheduler.LRScheduler]


def torch_rates(make: Scheduler, lr: float, epochs: int) -> list[float]:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = make(optimizer)
    rates = []
    for _ in range(epochs):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("schedule", "make"),
    [
        (Constant(), lambda o: lr_scheduler.LambdaLR(o, lambda _: 1.0)),
        (Exponential(0.97), lambda o: lr_scheduler.ExponentialLR(o, 0.97)),
        (Exponential(1), lambda o: lr_scheduler.ExponentialLR(o, 1)),
        (Step(every=7, gamma=0.3), lambda o: lr_scheduler.StepLR(o, 7, 0.3)),
        (Step(every=1), lambda o: lr_scheduler.StepLR(o, 1)),
        (Step(milestones=(1, 9, 40)), lambda o: lr_scheduler.MultiStepLR(o, [1, 9, 40])),
        (Cosine(epochs=50), lambda o: lr_scheduler.CosineAnnealingLR(o, 50)),
        (Cosine(epochs=50, floor=0.1), lambda o: lr_scheduler.CosineAnnealingLR(o, 50, eta_min=0.007)),
    ],
)
def test_schedules_are_torchs(schedule: Schedule, make: Scheduler) -> None:
    optimizer = Sgd(lr=0.07, schedule=schedule)
    ours = [optimizer.learning_rate(epoch) for epoch in range(51)]
    # torch multiplies step by step, ours is one power: 50 roundings of relative size 1e-16; near a cosine's end at 0
    # the relative error is unbounded, hence the absolute slack, far below any rate that matters
    assert ours == pytest.approx(torch_rates(make, 0.07, 51), rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("floor", [0.0, 0.25])
def test_cosine_stays_at_its_floor(floor: float) -> None:
    schedule = Cosine(epochs=10, floor=floor)
    assert schedule.factor(0) == 1
    assert [schedule.factor(epoch) for epoch in (10, 11, 20, 1000)] == [floor] * 4


def test_a_step_falls_at_its_epoch_and_not_before() -> None:
    assert [Step(every=3, gamma=0.5).factor(epoch) for epoch in range(7)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25]
    assert [Step(milestones=(2, 3), gamma=0.5).factor(epoch) for epoch in range(5)] == [1, 1, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("gamma", [1.5, 2])
def test_a_rate_that_grows_is_refused(gamma: float) -> None:
    with pytest.raises(ValueError, match="`gamma` must be at most 1, not "):
        Exponential(gamma)
    with pytest.raises(ValueError, match="`gamma` must be at most 1, not "):
        Step(every=2, gamma=gamma)


def test_a_step_schedule_needs_either_every_or_milestones() -> None:
    with pytest.raises(ValueError, match="either `every` or `milestones`, not both"):
        Step()
    with pytest.raises(ValueError, match="either `every` or `milestones`, not both"):
        Step(every=3, milestones=(5,))
    with pytest.raises(ValueError, match="`milestones` must be in increasing order, not 5, 5"):
        Step(milestones=(5, 5))


def parameter(value: float, gradient: float) -> torch.nn.Parameter:
    made = torch.nn.Parameter(torch.tensor([value], dtype=torch.float64))
    made.grad = torch.tensor([gradient], dtype=torch.float64)
    return made


def stepped(optimizer: Sgd | Adam | AdamW, value: float, gradients: list[float]) -> float:
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
    assert stepped(optimizer, 2.0, [0.3, -0.7, 0.2]) == pytest.approx(weight, rel=1e-13)  # float64 rounding


def test_nesterov_looks_ahead() -> None:
    weight, velocity = 2.0, 0.0
    for gradient in (0.3, -0.7):
        velocity = 0.8 * velocity + gradient
        weight -= 0.1 * (gradient + 0.8 * velocity)
    assert stepped(Sgd(lr=0.1, momentum=0.8, nesterov=True), 2.0, [0.3, -0.7]) == pytest.approx(weight, rel=1e-13)


@pytest.mark.parametrize("decoupled", [False, True])
def test_adam_and_adamw_step_as_published(decoupled: bool) -> None:
    lr, (b1, b2), eps, decay = 0.1, (0.7, 0.9), 1e-3, 0.2
    weight, mean, square = 2.0, 0.0, 0.0
    for step, gradient in enumerate((0.3, -0.7, 0.2), start=1):
        total = gradient if decoupled else gradient + decay * weight
        mean, square = b1 * mean + (1 - b1) * total, b2 * square + (1 - b2) * total**2
        update = (mean / (1 - b1**step)) / ((square / (1 - b2**step)) ** 0.5 + eps)
        weight = weight - lr * update - (lr * decay * weight if decoupled else 0)
    kind = AdamW if decoupled else Adam
    optimizer = kind(lr=lr, betas=(b1, b2), eps=eps, weight_decay=decay)
    assert stepped(optimizer, 2.0, [0.3, -0.7, 0.2]) == pytest.approx(weight, rel=1e-12)  # float64 rounding


@pytest.mark.parametrize("kind", [Sgd, Adam, AdamW])
def test_the_rate_is_the_start_rate_times_the_factor(kind: type[Sgd] | type[Adam] | type[AdamW]) -> None:
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
