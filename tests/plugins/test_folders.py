"""Folders of images, against torchvision's ImageFolder, and errors for unsuitable folders.

Set CPFRAME_DATA to a folder with cifar10-jpeg/{train,test}/<class> to test on real photographs as well.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image

from cpframe.api import DataError, Splits
from cpframe_plugins import images
from cpframe_plugins.datasets import ImageFolder

Pixels = NDArray[np.uint8]


def check(splits: Splits) -> None:
    """Check the contract of every data set of images."""
    for inputs, targets in (
        (splits.train_inputs, splits.train_targets),
        (splits.test_inputs, splits.test_targets),
    ):
        assert inputs.dtype == torch.uint8
        assert targets.dtype == torch.int64
        assert inputs.dim() == 4
        assert targets.shape == inputs.shape[:1]
        assert inputs.is_contiguous()
        assert targets.min() >= 0
        assert targets.max() < splits.task.outputs
        assert len(splits.mean) == len(splits.std) == inputs.shape[1]
    assert min(splits.std) > 0
    assert splits.task.name == "classification"


def check_normalised_by_training_images(splits: Splits) -> None:
    pixels = splits.train_inputs.numpy().astype(np.float64) / 255
    # the same numbers by another formula, in float64
    np.testing.assert_allclose(splits.mean, pixels.mean(axis=(0, 2, 3)), rtol=1e-10)
    np.testing.assert_allclose(splits.std, pixels.std(axis=(0, 2, 3)), rtol=1e-10)


def picture(path: Path, shape: tuple[int, ...] = (6, 6, 3), seed: int = 0) -> Pixels:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def class_folders(folder: Path, count: int, classes: tuple[str, ...] = ("bee", "ant", "Cat")) -> None:
    for number, name in enumerate(classes):
        for image in range(count):
            picture(folder / name / f"{image:03}.png", seed=100 * number + image)


def rows(inputs: torch.Tensor) -> list[bytes]:
    return [image.numpy().tobytes() for image in inputs]


@pytest.mark.parametrize("held_out", ["test", "val"])
def test_folders_train_and_test_are_the_parts(held_out: str, tmp_path: Path) -> None:
    class_folders(tmp_path / "mine/train", 4)
    class_folders(tmp_path / f"mine/{held_out}", 2)
    splits = ImageFolder("mine")(tmp_path)
    check(splits)
    check_normalised_by_training_images(splits)
    for folder, inputs, targets in (
        ("train", splits.train_inputs, splits.train_targets),
        (held_out, splits.test_inputs, splits.test_targets),
    ):
        reference = torchvision.datasets.ImageFolder(str(tmp_path / "mine" / folder))
        assert reference.classes == ["Cat", "ant", "bee"]
        assert targets.tolist() == reference.targets
        for ours, (theirs, _) in zip(inputs, reference, strict=True):
            np.testing.assert_array_equal(ours.permute(1, 2, 0), np.asarray(theirs))


def test_only_the_selected_files_are_read(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", 4)
    class_folders(tmp_path / "test", 4)
    whole = ImageFolder(str(tmp_path))(Path("elsewhere"))
    for name in ("Cat/002.png", "ant/001.png", "bee/001.png"):
        (tmp_path / "train" / name).write_bytes(b"no image")
    (tmp_path / "train" / "Cat" / ".hidden.png").write_bytes(b"no image")
    (tmp_path / "train" / "Cat" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".checkpoints").mkdir()
    splits = ImageFolder(str(tmp_path), train=4, test=3)(Path("elsewhere"))
    assert splits.train_targets.tolist() == [0, 0, 1, 2]
    assert rows(splits.train_inputs) == [rows(whole.train_inputs)[row] for row in (0, 1, 4, 8)]
    with pytest.raises(DataError, match=r"ant/001\.png cannot be read as an image"):
        ImageFolder(str(tmp_path), train=5)(Path("elsewhere"))
    with pytest.raises(DataError, match="image-folder: `train` must be at most 12, not 13: of the 12 images"):
        ImageFolder(str(tmp_path), train=13)(Path("elsewhere"))


def test_one_folder_is_split_at_random_and_evenly(tmp_path: Path) -> None:
    class_folders(tmp_path, 10)
    splits = ImageFolder(".", test=6)(tmp_path)
    check(splits)
    assert torch.bincount(splits.test_targets).tolist() == [2, 2, 2]
    assert torch.bincount(splits.train_targets).tolist() == [8, 8, 8]
    reference = torchvision.datasets.ImageFolder(str(tmp_path))
    everything = {np.asarray(image).transpose(2, 0, 1).tobytes(): label for image, label in reference}
    train, test = rows(splits.train_inputs), rows(splits.test_inputs)
    assert set(train) | set(test) == set(everything)
    assert not set(train) & set(test)
    assert [everything[row] for row in train + test] == [*splits.train_targets, *splits.test_targets]


def test_the_random_split_depends_on_its_seed_and_the_test_set_not_on_the_training_set(tmp_path: Path) -> None:
    class_folders(tmp_path, 10)
    first, again = ImageFolder(".", test=6)(tmp_path), ImageFolder(".", test=6)(tmp_path)
    assert rows(first.test_inputs) == rows(again.test_inputs)
    assert rows(first.test_inputs) != rows(ImageFolder(".", test=6, split_seed=1)(tmp_path).test_inputs)
    fewer = ImageFolder(".", test=6, train=9)(tmp_path)
    assert rows(fewer.test_inputs) == rows(first.test_inputs)
    assert torch.bincount(fewer.train_targets).tolist() == [3, 3, 3]
    with pytest.raises(
        DataError, match="without the test images, `train` must be at most 24, not 25: of the 24 images"
    ):
        ImageFolder(".", test=6, train=25)(tmp_path)
    with pytest.raises(DataError, match="`test` = 30 takes every image"):
        ImageFolder(".", test=30)(tmp_path)
    with pytest.raises(DataError, match="no folders train and test, so `test` must be given"):
        ImageFolder(".")(tmp_path)


def test_images_of_different_shapes_need_a_size(tmp_path: Path) -> None:
    class_folders(tmp_path, 2)
    oblong = picture(tmp_path / "ant" / "002.png", (9, 7, 3))
    with pytest.raises(DataError, match=r"has 7 x 9|has 6 x 6") as caught:
        ImageFolder(".", test=1)(tmp_path)
    assert str(tmp_path / "ant" / "002.png") in str(caught.value)
    assert "7 x 9" in str(caught.value)
    assert "6 x 6" in str(caught.value)
    splits = ImageFolder(".", size=3, test=1)(tmp_path)
    assert splits.train_inputs.shape[1:] == (3, 3, 3)
    expected = images.area_average(oblong.transpose(2, 0, 1)[None], 3)
    together = rows(torch.cat([splits.train_inputs, splits.test_inputs]))
    assert expected[0].tobytes() in together


def test_grey_images_have_one_channel_and_grey_files_three(tmp_path: Path) -> None:
    for name in ("a", "b"):
        picture(tmp_path / name / "0.png", (5, 5), seed=1)
        picture(tmp_path / name / "1.png", (5, 5), seed=2)
    grey, colour = ImageFolder(".", grey=True, test=2)(tmp_path), ImageFolder(".", test=2)(tmp_path)
    check(grey)
    assert grey.train_inputs.shape == (2, 1, 5, 5)
    assert torch.equal(colour.train_inputs, grey.train_inputs.expand(-1, 3, -1, -1))


def test_a_truncated_photograph_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path, 2)
    file = tmp_path / "bee" / "002.jpg"
    picture(file, (64, 64, 3))
    file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(DataError, match=r"bee/002\.jpg cannot be read as an image; it may be damaged"):
        ImageFolder(".", size=6, test=1)(tmp_path)


def test_images_of_more_than_eight_bits_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    class_folders(tmp_path, 2)
    Image.fromarray(np.full((6, 6), 40_000, dtype=np.uint16)).save(tmp_path / "bee" / "002.png")
    with pytest.raises(DataError, match=r"bee/002\.png has more than 8 bits per channel"):
        ImageFolder(".", test=1)(tmp_path)


def test_folders_with_the_wrong_layout_are_described(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"no such folder: {tmp_path / 'mine'}"):
        ImageFolder("mine")(tmp_path)
    class_folders(tmp_path / "mine", 2, ("ant",))
    with pytest.raises(DataError, match="at least two folders of images, one per class; it contains ant"):
        ImageFolder("mine", test=1)(tmp_path)
    (tmp_path / "mine" / "bee").mkdir()
    with pytest.raises(DataError, match="no images in the class folders bee"):
        ImageFolder("mine", test=1)(tmp_path)
    class_folders(tmp_path / "parts/train", 2, ("ant", "bee"))
    class_folders(tmp_path / "parts/test", 2, ("ant", "wasp"))
    with pytest.raises(DataError, match="only one of them has bee, wasp"):
        ImageFolder("parts")(tmp_path)


def test_real_photographs() -> None:
    real = Path(os.environ.get("CPFRAME_DATA", "not set"))
    if not (real / "cifar10-jpeg").is_dir():
        pytest.skip("CPFRAME_DATA names no folder with cifar10-jpeg")
    splits = ImageFolder("cifar10-jpeg", size=16, train=200, test=100)(real)
    check(splits)
    assert splits.train_inputs.shape == (200, 3, 16, 16)
    assert torch.bincount(splits.train_targets).tolist() == [20] * 10
    reference = torchvision.datasets.ImageFolder(str(real / "cifar10-jpeg" / "test"))
    image, label = reference[1003]
    small = np.asarray(image).astype(int).reshape(16, 2, 16, 2, 3).sum(axis=(1, 3))
    np.testing.assert_array_equal(splits.test_inputs[13].permute(1, 2, 0), np.rint(small / 4))
    assert splits.test_targets[13] == label == 1


def test_a_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    (tmp_path / "pics" / "a").mkdir(parents=True)
    (tmp_path / "pics" / "a" / "1.png").write_bytes(b"one")
    data = ImageFolder(path="pics")
    before = data.fingerprint(tmp_path)
    assert data.fingerprint(tmp_path) == before
    (tmp_path / "pics" / "a" / "2.png").write_bytes(b"two")
    added = data.fingerprint(tmp_path)
    (tmp_path / "pics" / "a" / "2.png").write_bytes(b"three")
    assert len({before, added, data.fingerprint(tmp_path)}) == 3
    assert data.fingerprint(tmp_path / "nowhere") == ""
