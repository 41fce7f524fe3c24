"""Data on the device: augmentation, batches and conditions against loops over single images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from cpframe.api import Batch, DataError, Generator, Splits, Task, classification
from cpframe.records.model import CLEAN
from cpframe.spec.model import Augment, Training
from cpframe.training.batches import batches, shift_and_flip
from cpframe.training.conditions import Condition, apply_condition, training_set
from cpframe.training.data import DeviceData, load, probe_positions

SIZE, CHANNELS, HEIGHT, WIDTH = 23, 3, 6, 5
MEAN, STD = (0.3, 0.5, 0.6), (0.2, 0.25, 0.3)
Order = Literal["deficit-first", "augment-first"]
ORDERS: tuple[Order, ...] = ("deficit-first", "augment-first")
BOTH_ORDERS = pytest.mark.parametrize("order", ORDERS)
CLEANLY = Condition(CLEAN, None)


@dataclass(frozen=True, eq=False)
class Held:
    """A data set in memory; equal only to itself, so that no cache confuses it with another."""

    splits: Splits

    def __call__(self, folder: Path) -> Splits:
        return self.splits


def random_splits(size: int = SIZE) -> Splits:
    """Images of noise; the label of each training image is its position, so that labels tell the order."""
    rng = np.random.default_rng(3)
    pixels = torch.from_numpy(rng.integers(0, 256, (size + 7, CHANNELS, HEIGHT, WIDTH), dtype=np.uint8))
    labels = torch.arange(size + 7) % size
    return Splits(pixels[:size], labels[:size], pixels[size:], labels[size:], MEAN, STD, classification(size))


@pytest.fixture
def data() -> DeviceData:
    return load(Held(random_splits()), Path(), "cpu")


@dataclass(frozen=True)
class Invert:
    """Acts on every pixel alone."""

    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        return batch._replace(inputs=1 - batch.inputs)


@dataclass(frozen=True)
class UpsideDown:
    """Does not commute with a shift."""

    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        return batch._replace(inputs=batch.inputs.flip(-2))


@dataclass(frozen=True)
class NextLabel:
    """Acts on the labels alone."""

    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        return batch._replace(targets=(batch.targets + 1) % batch.outputs)


@dataclass(frozen=True)
class Static:
    """Replaces images by uniform noise; `deterministic` is its claim to give the same result each time."""

    deterministic: bool = False

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        noise = rng.random(tuple(batch.inputs.shape), dtype=np.float32)
        return batch._replace(inputs=torch.from_numpy(noise))


@dataclass(frozen=True)
class Nothing:
    """Shows the learner nothing."""

    deterministic: bool = True

    def __call__(self, batch: Batch, rng: Generator) -> None:
        return None


@dataclass(frozen=True, eq=False)
class Recorder:
    """Changes nothing, and stores the batches that it receives."""

    seen: list[Batch]
    deterministic: bool = False

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        self.seen.append(batch)
        return batch


def epoch_of(
    data: DeviceData, deficit: Any, training: Training, seed: int = 0, epoch: int = 0
) -> tuple[list[Tensor], list[list[int]]]:
    """The inputs and the labels of every step of an epoch."""
    condition = CLEANLY if deficit is None else Condition("deficit", deficit)
    steps = list(batches(data, condition, training, seed, epoch))
    return [inputs for inputs, _ in steps], [targets.tolist() for _, targets in steps]


def positions_of(labels: list[list[int]]) -> list[int]:
    return [label for step in labels for label in step]


# --- augmentation ---------------------------------------------------------------------------------------------------


def moved(image: NDArray[np.float32], down: int, right: int, flip: bool, fill: NDArray[np.float32]) -> Any:
    """One image shifted, then mirrored, pixel by pixel; `fill` is the colour of the border, one number per channel."""
    channels, height, width = image.shape
    result = np.empty_like(image)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                from_row, from_column = row - down, column - right
                inside = 0 <= from_row < height and 0 <= from_column < width
                result[channel, row, column] = image[channel, from_row, from_column] if inside else fill[channel]
    return result[:, :, ::-1] if flip else result


@pytest.mark.parametrize("border", [1, 2, 7])  # 7 is larger than the images: some are shifted out of sight
def test_every_shift_and_flip_is_that_of_a_loop_over_pixels(border: int) -> None:
    rng = np.random.default_rng(5)
    image = rng.standard_normal((CHANNELS, HEIGHT, WIDTH)).astype(np.float32)
    fill = np.array([0.25, -1.0, 3.0], dtype=np.float32)
    reach = range(-border, border + 1)
    asked = [(down, right, flip) for down in reach for right in reach for flip in (False, True)]
    shifts = torch.tensor([[down, right] for down, right, _ in asked])
    flips = torch.tensor([flip for _, _, flip in asked])
    inputs = torch.from_numpy(image).expand(len(asked), -1, -1, -1)
    found = shift_and_flip(inputs, shifts, flips, border, torch.from_numpy(fill).reshape(1, -1, 1, 1))
    for one, (down, right, flip) in zip(found, asked, strict=True):
        np.testing.assert_array_equal(one, moved(image, down, right, flip, fill))
    only_shifted = shift_and_flip(inputs, shifts, None, border, 0)
    only_flipped = shift_and_flip(inputs, None, flips, border, 0)
    none = np.zeros(CHANNELS, dtype=np.float32)
    for shifted, flipped, (down, right, flip) in zip(only_shifted, only_flipped, asked, strict=True):
        np.testing.assert_array_equal(shifted, moved(image, down, right, False, none))
        np.testing.assert_array_equal(flipped, moved(image, 0, 0, flip, none))


def pixels_of(data: DeviceData) -> NDArray[np.float32]:
    return (data.inputs.numpy() / np.float32(255)).astype(np.float32)


def normal(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """One image, normalised."""
    mean, std = (np.array(numbers, dtype=np.float32).reshape(-1, 1, 1) for numbers in (MEAN, STD))
    return (image - mean) / std


Draw = tuple[int, int, bool]


def draws_of(data: DeviceData, training: Training, seed: int, epoch: int) -> list[tuple[int, Draw]]:
    """Position, shift and flip of every image of a clean epoch, found by trying all possible ones."""
    reach = range(-training.augment.shift, training.augment.shift + 1)
    flips = (False, True) if training.augment.flip else (False,)
    tried = [(down, right, flip) for down in reach for right in reach for flip in flips]
    zero = np.zeros(CHANNELS, dtype=np.float32)  # the mean colour after normalisation
    possible = np.stack([[moved(normal(image), *draw, zero) for draw in tried] for image in pixels_of(data)])
    steps, labels = epoch_of(data, None, training, seed, epoch)
    found = []
    for image, position in zip(torch.cat(steps).numpy(), positions_of(labels), strict=True):
        distance = np.abs(possible[position] - image).max(axis=(1, 2, 3))
        best = int(distance.argmin())
        assert distance[best] < 1e-5  # float32 rounding of numbers below 5; another draw is off by about 1
        found.append((position, tried[best]))
    return found


@pytest.mark.parametrize(("shift", "flip"), [(2, True), (2, False), (0, True)])
def test_an_epoch_draws_a_shift_and_a_flip_for_every_image(data: DeviceData, shift: int, flip: bool) -> None:
    training = Training(batch_size=5, augment=Augment(shift, flip))
    drawn = [draw for epoch in range(12) for _, draw in draws_of(data, training, 0, epoch)]
    reach = list(range(-shift, shift + 1))
    # 276 draws: any of the 5 x 5 shifts is missing with probability below 1e-3, and the seed is fixed.
    assert sorted({draw[:2] for draw in drawn}) == [(down, right) for down in reach for right in reach]
    flips = sum(draw[2] for draw in drawn)
    # Of 276 fair coins, 4 standard deviations are 33.
    assert abs(flips - len(drawn) / 2) < 33 if flip else flips == 0


def test_augmentation_is_the_same_at_one_epoch_and_another_at_the_next(data: DeviceData) -> None:
    training = Training(batch_size=5, augment=Augment(2, True))
    here, again = draws_of(data, training, 0, 3), draws_of(data, training, 0, 3)
    assert here == again
    for seed, epoch in ((0, 4), (1, 3)):
        other = draws_of(data, training, seed, epoch)
        assert [draw for _, draw in other] != [draw for _, draw in here]


@BOTH_ORDERS
def test_a_deficit_that_commutes_with_augmentation_gives_the_same_in_both_orders(
    data: DeviceData, order: Order
) -> None:
    labels_changed = Training(batch_size=6, augment=Augment(2, True), order=order)
    clean, _ = epoch_of(data, None, Training(batch_size=6, augment=Augment(2, True)))
    inputs, labels = epoch_of(data, NextLabel(), labels_changed)
    # Shift and fill move numbers about and do not compute with them: the same bits in both orders.
    assert all(torch.equal(one, other) for one, other in zip(inputs, clean, strict=True))
    positions = positions_of(epoch_of(data, None, labels_changed)[1])
    assert positions_of(labels) == [(position + 1) % SIZE for position in positions]

    flipped = Training(batch_size=6, augment=Augment(0, True), order=order)
    inputs, labels = epoch_of(data, Invert(), flipped)
    pixels = pixels_of(data)
    zero = np.zeros(CHANNELS, dtype=np.float32)
    for image, (position, draw) in zip(torch.cat(inputs), draws_of(data, flipped, 0, 0), strict=True):
        # float32 rounding of a subtraction and a division, of numbers below 5
        np.testing.assert_allclose(image, moved(normal(1 - pixels[position]), *draw, zero), atol=1e-5)


@BOTH_ORDERS
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_deficit_that_does_not_commute_acts_in_the_order_asked_for(
    data: DeviceData, order: Order, deterministic: bool
) -> None:
    training = Training(batch_size=6, augment=Augment(2, True), order=order)

    @dataclass(frozen=True)
    class Flip:
        def __call__(self, batch: Batch, rng: Generator) -> Batch:
            return UpsideDown()(batch, rng)

    inputs, labels = epoch_of(data, UpsideDown() if deterministic else Flip(), training)
    drawn = draws_of(data, replace(training, order="deficit-first"), 0, 0)
    assert positions_of(labels) == [position for position, _ in drawn]
    zero = np.zeros(CHANNELS, dtype=np.float32)
    told_apart = 0
    for image, (position, draw) in zip(torch.cat(inputs), drawn, strict=True):
        picture = normal(pixels_of(data)[position])
        deficit_first = moved(picture[:, ::-1], *draw, zero)
        augment_first = moved(picture, *draw, zero)[:, ::-1]
        told_apart += not np.allclose(deficit_first, augment_first)
        # float32 rounding of a subtraction and a division, of numbers below 5
        np.testing.assert_allclose(image, deficit_first if order == "deficit-first" else augment_first, atol=1e-5)
    assert told_apart > SIZE / 2


def test_after_augmentation_a_deficit_still_meets_the_pixels_themselves(data: DeviceData) -> None:
    seen: list[Batch] = []
    epoch_of(data, Recorder(seen), Training(batch_size=6, augment=Augment(2, True), order="augment-first"))
    for channel in range(CHANNELS):
        allowed = {*pixels_of(data)[:, channel].ravel().tolist(), float(np.float32(MEAN[channel]))}
        assert set(torch.cat([batch.inputs for batch in seen])[:, channel].ravel().tolist()) <= allowed


# --- the order of an epoch ------------------------------------------------------------------------------------------


@BOTH_ORDERS
@pytest.mark.parametrize(
    ("batch_size", "sizes"),
    [
        (1, [1] * 23),
        (2, [2] * 10 + [3]),  # a last batch of one joins the previous
        (5, [5, 5, 5, 5, 3]),
        (11, [11, 12]),
        (22, [23]),
        (23, [23]),
        (100, [23]),
    ],
)
def test_an_epoch_shows_every_image_once(data: DeviceData, batch_size: int, sizes: list[int], order: Order) -> None:
    for deficit in (None, Invert(), Static()):
        inputs, labels = epoch_of(data, deficit, Training(batch_size=batch_size, order=order))
        assert [len(step) for step in labels] == [len(step) for step in inputs] == sizes
        assert sorted(positions_of(labels)) == list(range(SIZE))


def test_a_single_image_is_an_epoch() -> None:
    data = load(Held(random_splits(1)), Path(), "cpu")
    assert epoch_of(data, None, Training(batch_size=4))[1] == [[0]]


def test_the_order_is_that_of_the_seed_and_the_epoch_and_nothing_else(data: DeviceData) -> None:
    orders = {}
    for seed in (0, 1):
        for epoch in (0, 1, 10):
            same = [
                epoch_of(data, deficit, Training(batch_size=5, augment=augment, order=order), seed, epoch)[1]
                for deficit in (None, Invert(), Static())
                for augment in (Augment(), Augment(2, True))
                for order in ORDERS
            ]
            assert all(one == same[0] for one in same)
            orders[seed, epoch] = tuple(positions_of(same[0]))
    assert len(set(orders.values())) == len(orders)


def test_clean_images_arrive_normalised_with_their_own_labels(data: DeviceData) -> None:
    for order in ORDERS:
        inputs, labels = epoch_of(data, None, Training(batch_size=5, order=order))
        for image, position in zip(torch.cat(inputs), positions_of(labels), strict=True):
            # float32 rounding of a division, a subtraction and a division, of numbers below 5
            np.testing.assert_allclose(image, normal(pixels_of(data)[position]), atol=1e-5)


# --- deficits -------------------------------------------------------------------------------------------------------


@BOTH_ORDERS
def test_a_stochastic_deficit_draws_anew_in_every_step_and_epoch(data: DeviceData, order: Order) -> None:
    training = Training(batch_size=5, order=order)
    drawn = {}
    for seed in (0, 1):
        for epoch in (0, 1):
            once, again = (epoch_of(data, Static(), training, seed, epoch)[0] for _ in range(2))
            assert all(torch.equal(one, other) for one, other in zip(once, again, strict=True))
            for step, inputs in enumerate(once):
                drawn[seed, epoch, step] = float(inputs[0, 0, 0, 0])
    assert len(set(drawn.values())) == len(drawn) == 2 * 2 * 5


def test_a_deterministic_deficit_gets_the_same_generator_whenever_it_acts(data: DeviceData) -> None:
    # Not really deterministic: its draws show which generator it received.
    training = Training(batch_size=100, order="augment-first")
    first, second = (epoch_of(data, Static(deterministic=True), training, 0, epoch)[0][0] for epoch in (0, 1))
    assert torch.equal(first, second)
    whole = training_set(data, Condition("deficit", Static(deterministic=True)), 0)
    assert whole is not None
    assert torch.equal(first, whole.inputs)
    other_name = training_set(data, Condition("other", Static(deterministic=True)), 0)
    other_seed = training_set(data, Condition("deficit", Static(deterministic=True)), 1)
    assert other_name is not None
    assert other_seed is not None
    assert not torch.equal(whole.inputs, other_name.inputs)
    assert not torch.equal(whole.inputs, other_seed.inputs)


def test_a_deterministic_view_is_computed_once_before_augmentation(data: DeviceData) -> None:
    fixed, fresh, after = Recorder([], deterministic=True), Recorder([]), Recorder([], deterministic=True)
    for epoch in range(3):
        for deficit, order in ((fixed, "deficit-first"), (fresh, "deficit-first"), (after, "augment-first")):
            epoch_of(data, deficit, Training(batch_size=5, augment=Augment(1, True), order=order), 0, epoch)  # type: ignore[arg-type]
    assert [len(batch.targets) for batch in fixed.seen] == [SIZE]
    assert [len(batch.targets) for batch in fresh.seen] == [5, 5, 5, 5, 3] * 3
    assert [len(batch.targets) for batch in after.seen] == [5, 5, 5, 5, 3] * 3


def test_a_deficit_meets_images_from_0_to_1_with_their_positions(data: DeviceData) -> None:
    seen: list[Batch] = []
    _, labels = epoch_of(data, Recorder(seen), Training(batch_size=5))
    assert torch.cat([batch.positions for batch in seen]).tolist() == positions_of(labels)
    for batch in seen:
        assert batch.outputs == SIZE
        assert torch.equal(batch.inputs, data.inputs[batch.positions].float() / 255)
        assert torch.equal(batch.targets, data.targets[batch.positions])


def test_a_deficit_may_write_into_its_batch(data: DeviceData) -> None:
    @dataclass(frozen=True)
    class Blacken:
        deterministic: bool

        def __call__(self, batch: Batch, rng: Generator) -> Batch:
            batch.inputs.zero_()
            batch.targets.zero_()
            return batch

    before = epoch_of(data, None, Training(batch_size=5))
    for deterministic in (True, False):
        assert set(positions_of(epoch_of(data, Blacken(deterministic), Training(batch_size=5))[1])) == {0}
    after = epoch_of(data, None, Training(batch_size=5))
    assert after[1] == before[1]
    assert all(torch.equal(one, other) for one, other in zip(after[0], before[0], strict=True))


@BOTH_ORDERS
@pytest.mark.parametrize("deterministic", [True, False])
def test_idle_shows_nothing(data: DeviceData, order: Order, deterministic: bool) -> None:
    assert epoch_of(data, Nothing(deterministic), Training(batch_size=5, order=order)) == ([], [])


def test_a_deficit_must_keep_the_shape_of_its_batch(data: DeviceData) -> None:
    @dataclass(frozen=True)
    class Crop:
        def __call__(self, batch: Batch, rng: Generator) -> Batch:
            return batch._replace(inputs=batch.inputs[..., 1:])

    with pytest.raises(ValueError, match="changed the shape of its batch"):
        apply_condition(data.batch(torch.arange(3)), Condition("crop", Crop()), 0)


# --- loading --------------------------------------------------------------------------------------------------------


def test_the_test_set_is_normalised_and_nothing_else(data: DeviceData) -> None:
    splits = random_splits()
    for image, raw in zip(data.test_inputs, splits.test_inputs, strict=True):
        # float32 rounding of a division, a subtraction and a division, of numbers below 5
        np.testing.assert_allclose(image, normal((raw.numpy() / np.float32(255)).astype(np.float32)), atol=1e-5)
    assert torch.equal(data.test_targets, splits.test_targets)


def other_task(outputs: int) -> Task:
    """Regression: the targets are numbers."""
    return Task(
        "regression", outputs, lambda out, want: (out[:, 0] - want) ** 2, lambda out, want: torch.ones(len(out))
    )


def test_data_that_are_no_images_stay_as_they_are() -> None:
    rows = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    numbers = rows.sum(dim=1)
    splits = Splits(rows[:9], numbers[:9], rows[9:], numbers[9:], (0.0,) * 4, (1.0,) * 4, other_task(1))
    data = load(Held(splits), Path(), "cpu")
    assert data.shape == (4,)
    steps = list(batches(data, CLEANLY, Training(batch_size=4), 0, 0))
    assert torch.equal(torch.cat([inputs for inputs, _ in steps]).sum(dim=1), torch.cat([want for _, want in steps]))


def test_augmentation_needs_images() -> None:
    rows, labels = torch.randn(12, 4), torch.arange(12) % 3
    splits = Splits(rows, labels, rows, labels, (0.0,) * 4, (1.0,) * 4, classification(3))
    data = load(Held(splits), Path(), "cpu")
    for augment in (Augment(shift=1), Augment(flip=True)):
        with pytest.raises(ValueError, match=r"training\.augment needs images .* not inputs of shape \(4,\)"):
            next(batches(data, CLEANLY, Training(augment=augment), 0, 0))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train_targets": torch.arange(22)}, "training set must have .* not 23 inputs and 22 targets"),
        ({"test_targets": torch.arange(8)}, "test set must have .* not 7 inputs and 8 targets"),
        (
            {"test_inputs": torch.zeros(0, 3, 6, 5, dtype=torch.uint8), "test_targets": torch.zeros(0).long()},
            "test set must have .* at least one, not 0 inputs",
        ),
        ({"train_inputs": torch.zeros(23, 3, 6, 5, dtype=torch.float64)}, "not torch.float64"),
        ({"train_inputs": torch.zeros(23, dtype=torch.float32)}, r"not torch.float32 of shape \(23,\)"),
        ({"test_inputs": torch.zeros(7, 3, 6, 5, dtype=torch.int64)}, "not torch.int64"),
        ({"test_inputs": torch.zeros(7, 3, 6, 4, dtype=torch.uint8)}, "must have the same type and shape"),
        ({"test_inputs": torch.zeros(7, 3, 6, 5)}, "must have the same type and shape"),
        ({"mean": (0.5,)}, "one number for each of 3 channels"),
        ({"std": (0.5, 0.5)}, "one number for each of 3 channels"),
        ({"std": (0.5, 0.0, 0.5)}, "std above 0"),
        ({"std": (0.5, -1.0, 0.5)}, "std above 0"),
        ({"std": (0.5, float("nan"), 0.5)}, "std above 0"),
        ({"mean": (0.5, float("inf"), 0.5)}, "mean and std"),
        ({"train_targets": torch.arange(23).float()}, "int64 .* not torch.float32"),
        ({"test_targets": torch.zeros(7, 2).long()}, r"not torch.int64 of shape \(7, 2\)"),
        ({"train_targets": torch.arange(23) + 1}, "from 0 to 22, not from 1 to 23"),
        ({"test_targets": torch.arange(7) - 1}, "from 0 to 22, not from -1 to 5"),
    ],
)
def test_splits_that_break_their_promise_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        load(Held(replace(random_splits(), **changes)), Path(), "cpu")


def test_the_probe_of_a_seed_is_fixed_and_without_repetition(data: DeviceData) -> None:
    chosen = probe_positions(data, 10, 0)
    assert torch.equal(chosen, probe_positions(data, 10, 0))
    assert len(set(chosen.tolist())) == 10
    assert not torch.equal(chosen, probe_positions(data, 10, 1))
    assert sorted(probe_positions(data, 1000, 0).tolist()) == list(range(SIZE))
