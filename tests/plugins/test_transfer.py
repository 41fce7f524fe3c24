"""Deficits with another task or data set, against labels and rotations by hand and the images of the data sets."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats

from cpframe.api import Batch, DataError
from cpframe_plugins.datasets import Digits, ImageFolder, Mnist
from cpframe_plugins.images import area_average
from cpframe_plugins.transfer import Bundled, CoarseLabels, Folder, OtherImages, Rotation


def batch(count=50, shape=(3, 16, 16), outputs=10, first=0):
    generator = torch.Generator().manual_seed(count)
    inputs = torch.rand(count, *shape, generator=generator)
    targets = torch.randint(outputs, (count,), generator=generator)
    return Batch(inputs, targets, torch.arange(first, first + count), outputs)


def rng(seed=5):
    return np.random.default_rng(seed)


# Coarse labels


@pytest.mark.parametrize(
    ("groups", "outputs", "expected"),
    [
        (2, 10, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]),
        (5, 10, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]),
        (3, 3, [0, 1, 2]),
        (((0, 1, 8, 9), (2, 3, 4, 5, 6, 7)), 10, [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]),  # CIFAR-10: machines and animals
        (((2,), (0,), (1,)), 3, [1, 2, 0]),
    ],
)
def test_coarse_labels_are_the_numbers_of_the_groups(groups, outputs, expected):
    deficit, given = CoarseLabels(groups), batch(outputs=outputs)
    assert deficit.deterministic
    seen = deficit(given, rng())
    assert seen.targets.tolist() == [expected[label] for label in given.targets.tolist()]
    assert seen.targets.dtype == torch.int64
    assert seen.inputs is given.inputs


@pytest.mark.parametrize(
    ("groups", "outputs", "message"),
    [
        (3, 10, "coarse-labels: `groups` must be a divisor of the number of classes, 10, not 3"),
        (20, 10, "must be a divisor of the number of classes, 10, not 20"),
        (((0, 1), (2, 3)), 5, "`groups` must contain the classes 0 to 4; class 4 is missing"),
        (((0, 1), (2, 5)), 3, "`groups` must contain the classes 0 to 2; class 5 is unknown"),
    ],
)
def test_groups_that_do_not_fit_the_classes_are_refused(groups, outputs, message):
    with pytest.raises(ValueError, match=message):
        CoarseLabels(groups)(batch(outputs=outputs), rng())


def test_labels_are_needed():
    given = batch()._replace(targets=torch.rand(50))
    for deficit in (CoarseLabels(), Rotation()):
        with pytest.raises(ValueError, match="needs class labels"):
            deficit(given, rng())


# Rotation


@pytest.mark.parametrize("shape", [(3, 6, 6), (1, 5, 5)])
def test_every_image_is_rotated_by_its_label(shape):
    given = batch(count=64, shape=shape)
    seen = Rotation()(given, rng())
    for image, before, turns in zip(seen.inputs, given.inputs, seen.targets.tolist(), strict=True):
        np.testing.assert_array_equal(image, np.rot90(before.numpy(), turns, axes=(1, 2)))
    assert set(seen.targets.tolist()) == {0, 1, 2, 3}
    assert (seen.inputs.dtype, seen.targets.dtype) == (torch.float32, torch.int64)
    # 90 degrees counterclockwise move the right side to the top
    one = torch.zeros(1, 1, 2, 2)
    one[0, 0, 0, 1] = 1
    turned = torch.rot90(one, 1, (-2, -1))
    assert turned[0, 0].tolist() == [[1, 0], [0, 0]]


def test_rotations_are_drawn_uniformly_each_time():
    assert not getattr(Rotation(), "deterministic", False)
    given, stream = batch(count=4000, shape=(1, 2, 2)), rng()
    first, second = (Rotation()(given, stream).targets.numpy() for _ in range(2))
    for drawn in (first, second):
        assert stats.chisquare(np.bincount(drawn, minlength=4)).pvalue > 0.001
    assert 0.2 < np.mean(first == second) < 0.3  # 1/4 by chance, 4,000 draws: 0.25 +- 0.007
    again = Rotation()(given, rng())
    assert again.targets.tolist() == first.tolist()


def test_batches_that_cannot_be_rotated_are_refused():
    with pytest.raises(ValueError, match="rotation needs square images, not 4 x 6 pixels"):
        Rotation()(batch(shape=(1, 4, 6)), rng())
    with pytest.raises(ValueError, match="rotation needs a network with at least 4 outputs, not 3"):
        Rotation()(batch(outputs=3), rng())
    with pytest.raises(ValueError, match="rotation needs images"):
        Rotation()(batch(shape=(7,)), rng())


# Other images


def convert(image, shape):
    """Convert an image, uint8 (C, H, W), to the channels and size of `shape`, with colours by PIL."""
    if shape[0] == 1 and len(image) == 3:
        image = np.asarray(Image.fromarray(image.transpose(1, 2, 0)).convert("L"))[None]
    if shape[0] == 3 and len(image) == 1:
        image = np.concatenate([image] * 3)
    return area_average(image[None], *shape[1:])[0]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of 4, 5 and 6 colour images of 6 x 8 pixels."""
    for label, count in enumerate((4, 5, 6)):
        for number in range(count):
            pixels = np.random.default_rng([label, number]).integers(256, size=(6, 8, 3), dtype=np.uint8)
            for part in ("train", "test"):
                path = tmp_path / "own" / part / f"class{label}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path


@pytest.mark.parametrize("shape", [(3, 6, 8), (1, 6, 8), (1, 4, 4), (3, 12, 7)])
def test_images_of_a_folder_replace_those_of_the_study(folder, shape):
    deficit = OtherImages(Folder("own")).loaded(folder)
    assert deficit.deterministic
    given = batch(count=12, shape=shape, first=3)
    seen = deficit(given, rng())
    splits = ImageFolder("own")(folder)
    order = rng().permutation(15)
    for row, position in enumerate(given.positions.tolist()):
        chosen = order[position % 15]
        expected = convert(splits.train_inputs[chosen].numpy(), shape)
        # grey levels are whole numbers, so a wrong one differs by 1/255; float32 rounds once
        np.testing.assert_allclose(seen.inputs[row], expected / 255, rtol=0, atol=1e-7)
        assert seen.targets[row] == splits.train_targets[chosen]
    assert (seen.inputs.dtype, seen.targets.dtype) == (torch.float32, torch.int64)
    assert (seen.outputs, seen.positions.tolist()) == (10, given.positions.tolist())


def test_an_image_does_not_depend_on_the_batch_and_none_is_repeated_before_all_are_used(folder):
    deficit = OtherImages(Folder("own")).loaded(folder)
    whole = deficit(batch(count=37, shape=(3, 6, 8)), rng())
    some = torch.tensor([30, 2, 2, 17])
    given = batch(count=37, shape=(3, 6, 8))
    part = deficit(Batch(given.inputs[some], given.targets[some], some, 10), rng())
    assert torch.equal(part.inputs, whole.inputs[some])
    assert torch.equal(part.targets, whole.targets[some])
    for start in (0, 15):
        assert len({image.numpy().tobytes() for image in whole.inputs[start : start + 15]}) == 15
    other = deficit(given, rng(6))
    assert not torch.equal(other.inputs, whole.inputs)


def test_bundled_data_sets(tmp_path):
    splits = Digits(50)(tmp_path)
    seen = OtherImages(Bundled("digits", 50)).loaded(tmp_path)(batch(count=50, shape=(1, 8, 8)), rng())
    expected = {(image.numpy().tobytes(), int(label)) for image, label in
                zip(splits.train_inputs.float() / 255, splits.train_targets, strict=True)}  # fmt: skip
    assert {(i.numpy().tobytes(), int(t)) for i, t in zip(seen.inputs, seen.targets, strict=True)} == expected
    assert Bundled("digits").dataset == Digits()
    assert Bundled("mnist", 7).dataset == Mnist(train=7, test=1)
    assert {Bundled(use).dataset.test for use in ("mnist", "fashion-mnist", "cifar10", "cifar100")} == {1}


def test_batches_that_do_not_fit_the_images_are_refused(folder):
    deficit = OtherImages(Folder("own")).loaded(folder)
    with pytest.raises(
        ValueError, match="other-images: image-folder has 3 classes and needs a network with as many outputs, not 2"
    ):
        deficit(batch(outputs=2), rng())
    with pytest.raises(ValueError, match="other-images: image-folder has 3 channels, which cannot be converted to 2"):
        deficit(batch(shape=(2, 4, 4)), rng())
    with pytest.raises(ValueError, match="other-images needs images"):
        deficit(batch(shape=(7,)), rng())


def test_data_that_cannot_be_loaded_raise_data_errors(tmp_path):
    with pytest.raises(DataError, match=r"^other-images: image-folder: no such folder: .*nowhere"):
        OtherImages(Folder("nowhere")).loaded(tmp_path)
    with pytest.raises(DataError, match=r"^other-images: digits: `train` must be at most 1796, not 2000"):
        OtherImages(Bundled("digits", 2000)).loaded(tmp_path)


def test_the_fingerprint_changes_with_the_files(folder):
    deficit = OtherImages(Folder("own"))
    before = deficit.fingerprint(folder)
    assert before == ImageFolder("own").fingerprint(folder) != ""
    (folder / "own" / "train" / "class0" / "0.png").unlink()
    assert deficit.fingerprint(folder) not in ("", before)
    assert OtherImages(Bundled("mnist")).fingerprint(folder) == ""
