"""The bundled deficits: blur against PIL, draws against their distributions, images independent of each other."""

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from torch import Tensor

from cpframe.api import Batch, Deficit
from cpframe_plugins import deficits
from cpframe_plugins.deficits import Blur, Idle, LabelPermutation, Noise, RandomLabels, VerticalFlip, cpframe_deficits

FIXED: list[Deficit] = [
    Blur(4),
    Blur(7),
    VerticalFlip(),
    LabelPermutation(),
    RandomLabels(),
    Noise("gaussian", fixed=True),
    Noise("uniform", fixed=True),
]


def batch(count: int = 50, shape: tuple[int, ...] = (3, 16, 16), outputs: int = 10) -> Batch:
    generator = torch.Generator().manual_seed(count)
    inputs = torch.rand(count, *shape, generator=generator)
    targets = torch.randint(outputs, (count,), generator=generator)
    return Batch(inputs, targets, torch.arange(count), outputs)


def part(whole: Batch, chosen: Tensor) -> Batch:
    return Batch(whole.inputs[chosen], whole.targets[chosen], whole.positions[chosen], whole.outputs)


def rng(seed: int = 5) -> np.random.Generator:
    return np.random.default_rng(seed)


def seen(deficit: Deficit, given: Batch, seed: int = 5) -> Batch:
    degraded = deficit(given, rng(seed))
    assert degraded is not None
    return degraded


@pytest.mark.parametrize("deficit", FIXED, ids=repr)
@pytest.mark.parametrize("chosen", [[3], [49, 0, 7], list(range(25, 50)), [8, 8]])
def test_a_fixed_deficit_does_not_depend_on_the_other_images(deficit: Deficit, chosen: list[int]) -> None:
    assert getattr(deficit, "deterministic", False)
    whole, rows = batch(), torch.tensor(chosen)
    expected, found = part(seen(deficit, whole), rows), seen(deficit, part(whole, rows))
    for wanted, got in zip(expected[:3], found[:3], strict=True):
        assert torch.equal(wanted, got)


@pytest.mark.parametrize("deficit", [*FIXED, RandomLabels(fresh=True), Noise()], ids=repr)
def test_the_given_batch_is_unchanged_and_its_types_are_kept(deficit: Deficit) -> None:
    given, copy = batch(), batch()
    degraded = seen(deficit, given)
    for before, after, result in zip(copy[:3], given[:3], degraded[:3], strict=True):
        assert torch.equal(before, after)
        assert (result.shape, result.dtype) == (before.shape, before.dtype)
    assert degraded.outputs == given.outputs
    assert torch.equal(degraded.positions, given.positions)
    assert degraded.inputs.min() >= 0
    assert degraded.inputs.max() <= 1


@pytest.mark.parametrize("deficit", [RandomLabels(fresh=True), Noise()], ids=repr)
def test_a_fresh_deficit_says_so_and_follows_the_generator(deficit: Deficit) -> None:
    assert not getattr(deficit, "deterministic", False)
    stream, given = rng(), batch()
    first, second = deficit(given, stream), deficit(given, stream)
    assert first is not None
    assert second is not None
    assert not (torch.equal(first.inputs, second.inputs) and torch.equal(first.targets, second.targets))
    again = seen(deficit, given)
    assert torch.equal(first.inputs, again.inputs)
    assert torch.equal(first.targets, again.targets)


def pil_blur(plane: np.ndarray, size: int, mode: str) -> np.ndarray:
    height, width = plane.shape
    image = Image.frombytes(mode, (width, height), plane.tobytes())
    small = image.resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(("shape", "size"), [((32, 32), 8), ((16, 16), 4), ((8, 8), 2), ((30, 30), 7), ((24, 40), 5)])
def test_blur_is_that_of_pil(shape: tuple[int, int], size: int) -> None:
    levels = np.random.default_rng(0).integers(256, size=(6, 1, *shape), dtype=np.uint8)
    planes = levels.astype(np.float32) / 255
    given = Batch(torch.from_numpy(planes), torch.zeros(6, dtype=torch.int64), torch.arange(6), 10)
    blurred = seen(Blur(size), given).inputs.numpy()
    for row in range(6):
        # float images: only the rounding of float32 sums and weights differs
        np.testing.assert_allclose(blurred[row, 0], pil_blur(planes[row, 0], size, "F"), rtol=0, atol=2e-6)
        # grey levels: PIL rounds after each of its four passes, by half a level each; averages keep the errors' bound
        difference = blurred[row, 0] * 255 - pil_blur(levels[row, 0], size, "L")
        assert np.abs(difference).max() <= 4 * 0.5 + 0.01


def test_blur_keeps_uniform_images_and_stays_within_the_range() -> None:
    inputs = torch.stack([torch.full((1, 33, 32), 1.0), torch.zeros(1, 33, 32), torch.full((1, 33, 32), 0.3)])
    blurred = seen(Blur(5), Batch(inputs, torch.zeros(3), torch.arange(3), 2)).inputs
    # weights sum to 1 up to float32 rounding
    torch.testing.assert_close(blurred, inputs, rtol=0, atol=1e-6)
    assert blurred.max() <= 1
    assert blurred.min() >= 0


def test_blur_in_chunks_is_blur_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    given = batch(10)
    whole = seen(Blur(4), given).inputs
    monkeypatch.setattr(deficits, "_CHUNK", 3)
    assert torch.equal(seen(Blur(4), given).inputs, whole)


def test_blur_on_another_memory_layout() -> None:
    given = batch(10)
    layout = given._replace(inputs=given.inputs.to(memory_format=torch.channels_last))
    # another kernel, hence another order of float32 sums
    torch.testing.assert_close(seen(Blur(4), layout).inputs, seen(Blur(4), given).inputs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [16, 17])
def test_a_blur_that_does_nothing_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=rf"`size` must be below 16 for images of \d+ x 16 pixels, not {size}"):
        Blur(size)(batch(2), rng())
    with pytest.raises(ValueError, match=rf"`size` must be below 16 for images of \d+ x 16 pixels, not {size}"):
        Blur(size)(batch(2, (1, 32, 16)), rng())


def test_vertical_flip_exchanges_top_and_bottom() -> None:
    given = batch(3, (2, 5, 4))
    flipped = seen(VerticalFlip(), given)
    for row in range(5):
        assert torch.equal(flipped.inputs[:, :, row], given.inputs[:, :, 4 - row])
    assert torch.equal(flipped.targets, given.targets)


@pytest.mark.parametrize("deficit", [Blur(2), VerticalFlip()])
def test_inputs_that_are_not_images_are_refused(deficit: Deficit) -> None:
    with pytest.raises(ValueError, match=r"needs images, \(N, C, H, W\), not inputs of shape \(4, 64\)"):
        deficit(batch(4, (64,)), rng())


def test_label_permutation_is_one_to_one_and_not_the_identity() -> None:
    given = batch(200)
    permuted = seen(LabelPermutation(), given)
    pairs = set(zip(given.targets.tolist(), permuted.targets.tolist(), strict=True))
    assert len(pairs) == 10
    assert sorted(new for _, new in pairs) == list(range(10))
    assert any(old != new for old, new in pairs)
    assert torch.equal(permuted.inputs, given.inputs)


def test_label_permutation_is_drawn_uniformly_from_all_but_the_identity() -> None:
    labels = Batch(torch.zeros(3, 1), torch.arange(3), torch.arange(3), 3)
    drawn = Counter(tuple(seen(LabelPermutation(), labels, seed).targets.tolist()) for seed in range(1000))
    assert (0, 1, 2) not in drawn
    assert len(drawn) == 5
    # The seed is fixed, so this always passes or never does; a uniform draw fails one time in 1000.
    assert stats.chisquare(list(drawn.values())).pvalue > 1e-3


def test_two_classes_are_exchanged_for_every_seed() -> None:
    labels = Batch(torch.zeros(2, 1), torch.arange(2), torch.arange(2), 2)
    assert all(seen(LabelPermutation(), labels, seed).targets.tolist() == [1, 0] for seed in range(30))


@pytest.mark.parametrize("fresh", [False, True])
def test_random_labels_are_uniform_and_independent_of_the_correct_ones(fresh: bool) -> None:
    given = batch(5000, (1,))
    labels = seen(RandomLabels(fresh), given).targets
    table = np.zeros((10, 10))
    np.add.at(table, (given.targets.numpy(), labels.numpy()), 1)
    # The seeds are fixed, so this always passes or never does; correct draws fail one time in 1000.
    assert stats.chisquare(table.sum(axis=0)).pvalue > 1e-3
    assert stats.chi2_contingency(table).pvalue > 1e-3


def test_fixed_random_labels_follow_the_position_and_the_seed() -> None:
    given = batch(100, (1,))
    moved = given._replace(positions=given.positions + 100)
    assert not torch.equal(seen(RandomLabels(), given).targets, seen(RandomLabels(), moved).targets)
    assert not torch.equal(seen(RandomLabels(), given, 1).targets, seen(RandomLabels(), given, 2).targets)


@pytest.mark.parametrize("deficit", [LabelPermutation(), RandomLabels(), RandomLabels(fresh=True)], ids=repr)
def test_targets_that_are_not_labels_are_refused(deficit: Deficit) -> None:
    numbers = Batch(torch.zeros(4, 1), torch.zeros(4, 2), torch.arange(4), 2)
    with pytest.raises(ValueError, match=r"needs class labels, int64 \(N,\), not float32 targets of shape \(4, 2\)"):
        deficit(numbers, rng())
    with pytest.raises(ValueError, match="at least two classes, not 1"):
        deficit(Batch(torch.zeros(4, 1), torch.zeros(4, dtype=torch.int64), torch.arange(4), 1), rng())


@pytest.mark.parametrize("fixed", [False, True])
def test_uniform_noise_is_uniform(fixed: bool) -> None:
    noise = seen(Noise("uniform", fixed=fixed), batch(20)).inputs.numpy().ravel()
    assert stats.kstest(noise, "uniform").pvalue > 1e-3  # fixed seed; a correct draw fails one time in 1000


@pytest.mark.parametrize("fixed", [False, True])
def test_gaussian_noise_is_a_clipped_gaussian(fixed: bool) -> None:
    noise = seen(Noise(fixed=fixed), batch(20)).inputs.numpy().ravel()
    inner = noise[(noise > 0) & (noise < 1)]
    assert stats.kstest(inner, stats.truncnorm(-2, 2, loc=0.5, scale=0.25).cdf).pvalue > 1e-3  # as above
    # The share beyond two deviations, within five standard errors of a share of 15360 numbers.
    share = 2 * stats.norm.cdf(-2)
    for end, expected in ((0, share / 2), (1, share / 2)):
        assert abs((noise == end).mean() - expected) < 5 * (expected / noise.size) ** 0.5


@pytest.mark.parametrize("fixed", [False, True])
def test_noise_keeps_labels_and_differs_between_images_and_seeds(fixed: bool) -> None:
    given = batch(2)
    noise = seen(Noise(fixed=fixed), given)
    assert torch.equal(noise.targets, given.targets)
    assert (noise.inputs[0] != noise.inputs[1]).float().mean() > 0.9  # clipped values may be equal
    assert not torch.equal(seen(Noise(fixed=fixed), given, 6).inputs, noise.inputs)


def test_idle_returns_none() -> None:
    assert Idle.deterministic
    assert cpframe_deficits()["idle"]()(batch(2), rng()) is None


def test_the_hook_offers_all_of_them_without_torch() -> None:
    names = {"blur", "vertical-flip", "label-permutation", "random-labels", "noise", "idle"}
    names |= {"coarse-labels", "rotation", "other-images"}
    assert set(cpframe_deficits()) == names
    code = "import sys, cpframe_plugins.deficits; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
