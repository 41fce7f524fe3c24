"""A network and its optimizer: built from a seed, saved and restored, tested, and BatchNorm's statistics by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cpframe.api import Splits, classification
from cpframe.spec.model import Component, Training, Variant
from cpframe.testing.training import EXACT
from cpframe.training import learner as learners
from cpframe.training.data import DeviceData, load
from cpframe.training.learner import (
    Learner,
    new_learner,
    new_model,
    new_tally,
    reestimate_batchnorm,
    restore,
    seed_torch,
    serialise_state,
    train_step,
)

CLASSES = 3


@dataclass(frozen=True, eq=False)
class Held:
    """A data set in memory; equal only to itself."""

    splits: Splits

    def __call__(self, folder: Path) -> Splits:
        return self.splits


@dataclass(frozen=True)
class Net:
    """Convolution, BatchNorm, ReLU, dropout, then linear with BatchNorm, and a linear output."""

    dropout: float = 0.0

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        channels, height, width = shape
        return nn.Sequential(
            nn.Conv2d(channels, 4, 3, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(self.dropout),
            nn.Linear(4 * height * width, 6),
            nn.BatchNorm1d(6, momentum=0.3),
            nn.ReLU(),
            nn.Linear(6, outputs),
        )


@dataclass(frozen=True)
class Adam:
    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.Adam(parameters, lr=0.01)

    def learning_rate(self, epoch: int) -> float:
        return 0.01


def component(call: Any) -> Component:
    return Component("tests/part", "0", call)


def variant(architecture: Any) -> Variant:
    return Variant({}, component(None), component(architecture), component(Adam()), Training(), {})


@pytest.fixture
def data() -> DeviceData:
    rng = np.random.default_rng(0)
    pixels = torch.from_numpy(rng.integers(0, 256, (50, 1, 5, 4), dtype=np.uint8))
    labels = torch.from_numpy(rng.integers(CLASSES, size=50))
    splits = Splits(pixels[:20], labels[:20], pixels[20:], labels[20:], (0.5,), (0.25,), classification(CLASSES))
    return load(Held(splits), Path(), "cpu")


def built(data: DeviceData, seed: int = 0, dropout: float = 0.0) -> Learner:
    chosen = variant(Net(dropout))
    return new_learner(chosen, new_model(chosen, data, seed, EXACT), EXACT)


def weights(learner: Learner) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in learner.model.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def normalised(data: DeviceData) -> Tensor:
    return data.normalise(data.inputs.float() / 255)


def take_steps(learner: Learner, data: DeviceData, count: int) -> None:
    learner.model.train()
    for step in range(count):
        part = slice(5 * (step % 4), 5 * (step % 4) + 5)
        train_step(learner, normalised(data)[part], data.targets[part], data.task, new_tally("cpu"))


# --- weights and the state of the optimizer ---------------------------------------------------------------------------


def test_a_seed_gives_its_weights_whatever_torch_drew_before_and_torch_goes_on_undisturbed(data: DeviceData) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = weights(built(data))
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    torch.rand(7)
    assert same(weights(built(data)), first)
    assert not same(weights(built(data, seed=1)), first)


def test_what_torch_draws_is_a_stream_of_its_own_for_every_seed_purpose_and_epoch() -> None:
    def drawn(*key: Any) -> float:
        with seed_torch("cpu", *key):
            return float(torch.rand(1, dtype=torch.float64))

    keys = [(0, "init"), (1, "init"), (0, "torch", 0), (0, "torch", 1), (1, "torch", 0)]
    assert len({drawn(*key) for key in keys}) == len(keys)
    assert [drawn(*key) for key in keys] == [drawn(*key) for key in keys]


def test_a_failing_architecture_leaves_torchs_generator_as_it_was(data: DeviceData) -> None:
    @dataclass(frozen=True)
    class Broken:
        def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
            raise ValueError("no")

    before = torch.random.get_rng_state()
    with pytest.raises(ValueError, match="no"):
        new_model(variant(Broken()), data, 0, EXACT)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_learner_restored_goes_on_as_the_one_that_was_saved(data: DeviceData) -> None:
    one = built(data)
    take_steps(one, data, 3)
    state = serialise_state(one)
    other = built(data, seed=1)
    restore(other, state, optimizer=True)
    assert same(weights(other), weights(one))
    for learner in (one, other):
        take_steps(learner, data, 3)
    # Adam divides by its running averages, so a state that was lost in part changes the next steps.
    assert same(weights(other), weights(one))
    assert not same(weights(other), weights(built(data)))


def test_a_learner_may_be_restored_without_the_state_of_its_optimizer(data: DeviceData) -> None:
    one = built(data)
    take_steps(one, data, 3)
    state = serialise_state(one)
    other = built(data)
    restore(other, state, optimizer=False)
    assert same(weights(other), weights(one))
    assert not other.optimizer.state
    for learner in (one, other):
        take_steps(learner, data, 1)
    assert not same(weights(other), weights(one))


# --- BatchNorm ------------------------------------------------------------------------------------------------------


def statistics(norm: nn.Module) -> tuple[np.ndarray, np.ndarray]:
    assert isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return norm.running_mean.double().numpy().copy(), norm.running_var.double().numpy().copy()


def by_hand(learner: Learner, inputs: Tensor) -> list[tuple[np.ndarray, np.ndarray]]:
    """Mean and unbiased variance of what enters each BatchNorm when one batch holds all inputs, in float64."""
    layers = [module.double() for module in nn.Sequential(*learner.model.children())]
    conv, first, _, _, _, linear, second, _, _ = layers
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        before = nn.functional.conv2d(inputs.double(), conv.weight, conv.bias, padding=1)
        found = [(before.mean((0, 2, 3)), before.var((0, 2, 3), unbiased=True))]
        spread = before.var((0, 2, 3), unbiased=False) + first.eps  # type: ignore[operator]
        scaled = (before - found[0][0][None, :, None, None]) / spread.sqrt()[None, :, None, None]
        shift, scale = first.bias[None, :, None, None], first.weight[None, :, None, None]  # type: ignore[index]
        hidden = (scaled * scale + shift).clamp(min=0).flatten(1) @ linear.weight.T + linear.bias
        found.append((hidden.mean(0), hidden.var(0, unbiased=True)))
    assert isinstance(second, nn.BatchNorm1d)
    return [(mean.numpy(), variance.numpy()) for mean, variance in found]


# Half of the numbers dropped would change the statistics of the second BatchNorm by far more than rounding.
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_reestimated_statistics_are_those_of_the_whole_set(data: DeviceData, dropout: float) -> None:
    learner = built(data, dropout=dropout)
    take_steps(learner, data, 6)
    before = weights(learner)
    generator = torch.random.get_rng_state()
    with reestimate_batchnorm(learner, normalised(data), batch_size=20):
        found = [statistics(learner.model[1]), statistics(learner.model[6])]  # type: ignore[index]
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert same(weights(learner), before)
    assert learner.model[1].momentum == 0.1  # type: ignore[index]
    assert learner.model[6].momentum == 0.3  # type: ignore[index]
    for (mean, variance), (true_mean, true_variance) in zip(found, by_hand(learner, normalised(data)), strict=True):
        # float32 sums over at most 400 numbers of about 1
        np.testing.assert_allclose(mean, true_mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance, true_variance, rtol=1e-4)


def test_statistics_of_several_batches_count_the_same_and_a_batch_of_one_does_not(data: DeviceData) -> None:
    learner = built(data)
    inputs = normalised(data)
    parts = [inputs[:19], inputs[19:]]
    with reestimate_batchnorm(learner, inputs, batch_size=19):
        without_last, _ = statistics(learner.model[1])  # type: ignore[index]
    with reestimate_batchnorm(learner, inputs, batch_size=12):
        of_two, _ = statistics(learner.model[1])  # type: ignore[index]
    convolved = [learner.model[0](part).detach().double() for part in (parts[0], inputs[:12], inputs[12:])]  # type: ignore[index]
    means = [part.mean((0, 2, 3)).numpy() for part in convolved]
    # float32 sums over at most 380 numbers of about 1
    np.testing.assert_allclose(without_last, means[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(of_two, (means[1] + means[2]) / 2, rtol=1e-4, atol=1e-5)


def test_statistics_are_put_back_after_an_exception_too(data: DeviceData) -> None:
    learner = built(data)
    take_steps(learner, data, 3)
    before = weights(learner)
    with pytest.raises(KeyError), reestimate_batchnorm(learner, normalised(data), batch_size=20):
        raise KeyError("in the test")
    with pytest.raises(RuntimeError), reestimate_batchnorm(learner, normalised(data)[:, :, 1:], batch_size=20):
        pytest.fail("these inputs do not fit the network")
    assert same(weights(learner), before)
    assert [learner.model[place].momentum for place in (1, 6)] == [0.1, 0.3]  # type: ignore[index]


def test_a_network_without_batchnorm_is_not_run_at_all(data: DeviceData) -> None:
    class Untouchable(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, inputs: Tensor) -> Tensor:
            pytest.fail("it was run")

    model = Untouchable()
    learner = Learner(model, torch.optim.SGD(model.parameters(), lr=0.1), EXACT)
    with reestimate_batchnorm(learner, normalised(data), batch_size=20):
        pass


# --- tests ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("test_batch", [7, 30, 1000])
def test_loss_and_accuracy_are_means_over_the_test_set(
    data: DeviceData, test_batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(learners, "TEST_BATCH", test_batch)
    learner = built(data, dropout=0.5)
    take_steps(learner, data, 4)
    before = weights(learner)
    loss, accuracy = learners.test(learner, data)
    assert same(weights(learner), before)
    learner.model.eval()
    outputs = learner.model(data.test_inputs).detach().double().numpy()
    labels = data.test_targets.numpy()
    losses = np.log(np.exp(outputs).sum(axis=1)) - outputs[np.arange(len(labels)), labels]
    assert loss == pytest.approx(losses.mean(), rel=1e-5)  # float32 against float64
    assert accuracy == pytest.approx((outputs.argmax(axis=1) == labels).mean(), abs=1e-12)


def test_a_tally_of_nothing_is_nan() -> None:
    assert np.isnan(new_tally("cpu").means()).all()


def test_a_tally_weighs_every_example_the_same() -> None:
    tally = new_tally("cpu")
    tally.add(torch.tensor([1.0, 2.0, 6.0]), torch.tensor([1.0, 0.0, 0.0]))
    tally.add(torch.tensor([11.0]), torch.tensor([1.0]))
    assert tally.means() == (5.0, 0.5)
