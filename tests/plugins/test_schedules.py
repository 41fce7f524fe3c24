"""The learning-rate schedules, against closed forms and torch's own schedulers."""

from collections.abc import Callable

import pytest
import torch
from torch.optim import lr_scheduler

from cpframe_plugins.optimizers import Sgd
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
def test_schedules_are_those_of_torch(schedule: Schedule, make: Scheduler) -> None:
    optimizer = Sgd(lr=0.07, schedule=schedule)
    ours = [optimizer.learning_rate(epoch) for epoch in range(51)]
    # torch multiplies step by step and cpframe takes one power, which differ by 50 roundings of relative size 1e-16.
    # Near a cosine's end at 0 the relative error is unbounded; the absolute tolerance is far below any useful rate.
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
    with pytest.raises(ValueError, match="needs exactly one of `every` and `milestones`"):
        Step()
    with pytest.raises(ValueError, match="needs exactly one of `every` and `milestones`"):
        Step(every=3, milestones=(5,))
    with pytest.raises(ValueError, match="`milestones` must be in increasing order, not 5, 5"):
        Step(milestones=(5, 5))
