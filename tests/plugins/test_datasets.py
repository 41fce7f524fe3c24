"""The bundled data sets, on files written here in the original formats, and on real files if they are available.

Set CPFRAME_DATA to a folder with MNIST/raw to test on the real MNIST as well.
"""

import hashlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from cpframe.api import DataError, Splits
from cpframe_plugins.datasets import (
    Cifar10,
    Cifar100,
    Digits,
    FashionMnist,
    Mnist,
    cpframe_datasets,
)

Pixels = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


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


# Digits


def test_digits_are_those_of_scikit_learn(tmp_path: Path) -> None:
    splits = Digits()(tmp_path)
    check(splits)
    check_normalised_by_training_images(splits)
    assert splits.train_inputs.shape == (300, 1, 8, 8)
    assert splits.test_inputs.shape == (1497, 1, 8, 8)
    assert splits.task.outputs == 10
    original = load_digits()
    together = torch.cat([splits.train_inputs, splits.test_inputs]).numpy().reshape(1797, 64)
    labels = torch.cat([splits.train_targets, splits.test_targets]).numpy()
    levels = np.round(together * (16 / 255))
    # The 17 levels are 15.9 grey levels apart, so rounding cannot confuse them.
    assert np.abs(levels * (255 / 16) - together).max() <= 0.5
    ours = sorted((*row, label) for row, label in zip(levels.tolist(), labels.tolist(), strict=True))
    theirs = sorted((*row, label) for row, label in zip(original.data.tolist(), original.target.tolist(), strict=True))
    assert ours == theirs


def test_digits_are_split_by_the_seed_alone(tmp_path: Path) -> None:
    first, again, other = Digits()(tmp_path), Digits()(tmp_path), Digits(split_seed=1)(tmp_path)
    assert torch.equal(first.train_inputs, again.train_inputs)
    assert not torch.equal(first.train_inputs, other.train_inputs)
    fewer = Digits(train=100)(tmp_path)
    assert torch.equal(fewer.train_inputs, first.train_inputs[:100])


def test_digits_keep_an_image_for_the_test(tmp_path: Path) -> None:
    assert len(Digits(train=1796)(tmp_path).test_inputs) == 1
    with pytest.raises(
        DataError, match="digits: `train` must be at most 1796, not 1797: at least one of the 1797 images"
    ):
        Digits(train=1797)(tmp_path)


# MNIST and Fashion-MNIST

IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def idx(values: Pixels) -> bytes:
    """Encode in the format of MNIST's authors: type, number of dimensions and sizes, big-endian; then the bytes."""
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


def mnist_arrays() -> dict[str, Pixels]:
    rng = np.random.default_rng(0)
    labels = np.concatenate([rng.permutation(10) for _ in range(5)]).astype(np.uint8)
    return {
        IDX[0]: rng.integers(256, size=(50, 28, 28), dtype=np.uint8),
        IDX[1]: labels,
        IDX[2]: rng.integers(256, size=(20, 28, 28), dtype=np.uint8),
        IDX[3]: labels[:20],
    }


def write_mnist(raw: Path) -> dict[str, Pixels]:
    raw.mkdir(parents=True)
    arrays = mnist_arrays()
    for name, values in arrays.items():
        (raw / name).write_bytes(idx(values))
    return arrays


@pytest.mark.parametrize(("dataset", "folder"), [(Mnist, "MNIST"), (FashionMnist, "FashionMNIST")])
def test_mnist_is_read_as_written(dataset: type[Mnist] | type[FashionMnist], folder: str, tmp_path: Path) -> None:
    arrays = write_mnist(tmp_path / folder / "raw")
    splits = dataset()(tmp_path)
    check(splits)
    check_normalised_by_training_images(splits)
    assert splits.train_inputs.shape == (50, 1, 32, 32)
    np.testing.assert_array_equal(splits.train_inputs[:, 0, 2:-2, 2:-2], arrays[IDX[0]])
    assert splits.train_inputs.sum() == arrays[IDX[0]].sum(dtype=np.int64)  # the padding is black
    np.testing.assert_array_equal(splits.train_targets, arrays[IDX[1]])
    np.testing.assert_array_equal(dataset(pad=0)(tmp_path).test_inputs[:, 0], arrays[IDX[2]])
    np.testing.assert_array_equal(splits.test_targets, arrays[IDX[3]])


def test_size_averages_the_padded_images(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST/raw")
    padded, small = Mnist()(tmp_path), Mnist(size=16)(tmp_path)
    blocks = padded.test_inputs.numpy().astype(int).reshape(20, 16, 2, 16, 2).sum(axis=(2, 4))
    np.testing.assert_array_equal(small.test_inputs[:, 0], np.rint(blocks / 4))
    check_normalised_by_training_images(small)


def test_the_first_of_each_class_are_taken_in_file_order(tmp_path: Path) -> None:
    arrays = write_mnist(tmp_path / "MNIST/raw")
    splits = Mnist(pad=0, train=23, test=7)(tmp_path)
    # 23 of 10 classes: three of the first three classes, two of the others
    taken: list[int] = []
    left = {label: 3 if label < 3 else 2 for label in range(10)}
    for position, label in enumerate(arrays[IDX[1]].tolist()):
        if left[label]:
            left[label] -= 1
            taken.append(position)
    assert len(taken) == 23
    np.testing.assert_array_equal(splits.train_inputs[:, 0], arrays[IDX[0]][taken])
    np.testing.assert_array_equal(splits.train_targets, arrays[IDX[1]][taken])
    assert sorted(splits.test_targets.tolist()) == list(range(7))
    check_normalised_by_training_images(splits)


def test_too_many_images_are_refused_with_the_largest_possible_number(tmp_path: Path) -> None:
    arrays = write_mnist(tmp_path / "MNIST/raw")
    assert len(Mnist(train=50)(tmp_path).train_inputs) == 50
    with pytest.raises(DataError, match="mnist: `train` must be at most 50, not 51: of the 50 images, 50 can be"):
        Mnist(train=51)(tmp_path)
    with pytest.raises(DataError, match="mnist: `test` must be at most 20, not 21: of the 20 images, 20 can be"):
        Mnist(test=21)(tmp_path)
    labels = arrays[IDX[1]]
    labels[np.flatnonzero(labels == 3)[:2]] = 4  # three of class 3, seven of class 4
    (tmp_path / "MNIST/raw" / IDX[1]).write_bytes(idx(labels))
    assert len(Mnist(train=33)(tmp_path).train_inputs) == 33
    with pytest.raises(DataError, match="at most 33, not 34: of the 50 images, 33 can be"):
        Mnist(train=34)(tmp_path)


def test_the_real_mnist() -> None:
    real = Path(os.environ.get("CPFRAME_DATA", "not set"))
    if not (real / "MNIST/raw").is_dir():
        pytest.skip("CPFRAME_DATA names no folder with MNIST/raw")
    splits = Mnist(pad=0)(real)
    check(splits)
    assert splits.train_inputs.shape == (60_000, 1, 28, 28)
    assert splits.test_inputs.shape == (10_000, 1, 28, 28)
    assert splits.train_targets[:5].tolist() == [5, 0, 4, 1, 9]
    # the usual constants, to their four digits
    assert splits.mean == pytest.approx((0.1307,), abs=5e-5)
    assert splits.std == pytest.approx((0.3081,), abs=5e-5)
    few = Mnist(train=1000, test=10_000 - 1080)(real)  # class 5 has 892 test images, so at most 8,920 can be selected
    assert torch.bincount(few.train_targets).tolist() == [100] * 10
    assert torch.bincount(few.test_targets).tolist() == [892] * 10
    with pytest.raises(DataError, match="at most 54215, not 60000: of the 60000 images, 54215 can be"):
        Mnist(train=60_000)(real)


# CIFAR


class OldPickler(pickle.Pickler):
    """Writes arrays as numpy did when the CIFAR files were made: byte order and alignment as 0 and 1."""

    def reducer_override(self, obj: object) -> Any:
        if isinstance(obj, np.dtype):
            return np.dtype, (obj.str[1:], 0, 1), (3, "|", None, None, None, -1, -1, 0)
        return NotImplemented


def old_pickle(content: object) -> bytes:
    buffer = io.BytesIO()
    OldPickler(buffer, protocol=2).dump(content)
    return buffer.getvalue()


def cifar_batch(seed: int, labels: list[int], key: str) -> tuple[dict[str, object], Pixels]:
    pixels = np.random.default_rng(seed).integers(256, size=(len(labels), 3072), dtype=np.uint8)
    return {"data": pixels, key: labels}, pixels.reshape(-1, 3, 32, 32)


def cifar10_files() -> tuple[dict[str, bytes], Pixels, Pixels]:
    batches = [cifar_batch(number, [9, 1, 1, 0, 4, 2, 3, 5, 6, 7, 8], "labels") for number in range(6)]
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    files = {name: old_pickle(content) for name, (content, _) in zip(names, batches, strict=True)}
    files["batches.meta"] = old_pickle({"label_names": list("abcdefghij")})
    return files, np.concatenate([pixels for _, pixels in batches[:5]]), batches[5][1]


def expect_cifar10(monkeypatch: pytest.MonkeyPatch, files: dict[str, bytes]) -> None:
    sums = [[name, hashlib.md5(content).hexdigest()] for name, content in files.items()]
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "train_list", sums[:5])
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "test_list", sums[5:6])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums[6][1]}
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "meta", meta)


def archive(path: Path, folder: str, files: dict[str, bytes]) -> str:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_cifar10_is_unpacked_and_read_as_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, train, test = cifar10_files()
    expect_cifar10(monkeypatch, files)
    made = archive(tmp_path / "cifar-10-python.tar.gz", "cifar-10-batches-py", files)
    monkeypatch.setattr(torchvision.datasets.CIFAR10, "tgz_md5", made)
    splits = Cifar10()(tmp_path)
    check(splits)
    np.testing.assert_array_equal(splits.train_inputs, train)
    np.testing.assert_array_equal(splits.test_inputs, test)
    assert splits.train_targets.tolist() == [9, 1, 1, 0, 4, 2, 3, 5, 6, 7, 8] * 5
    assert splits.mean == (0.4914, 0.4822, 0.4465)
    assert splits.std == (0.2023, 0.1994, 0.2010)
    few = Cifar10(size=8, train=10)(tmp_path)
    assert few.train_inputs.shape == (10, 3, 8, 8)
    assert few.train_targets.tolist() == [9, 1, 0, 4, 2, 3, 5, 6, 7, 8]


def test_a_damaged_cifar_batch_is_never_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files, _, _ = cifar10_files()
    expect_cifar10(monkeypatch, files)
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert len(Cifar10()(tmp_path).train_inputs) == 55
    (folder / "data_batch_3").write_bytes(files["data_batch_3"][:-100])
    with pytest.raises(DataError, match=r"CIFAR-10: the files in .*cifar-10-batches-py are damaged"):
        Cifar10()(tmp_path)
    (folder / "data_batch_3").unlink()
    with pytest.raises(DataError, match=r"CIFAR-10 is not in .*; put cifar-10-python.tar.gz into"):
        Cifar10()(tmp_path)


def test_a_damaged_cifar_archive_is_never_used(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"half a download")
    with pytest.raises(DataError, match=r"CIFAR-10 is not in .* cannot be downloaded"):
        Cifar10()(tmp_path)
    assert not (tmp_path / "cifar-10-batches-py").exists()


def test_cifar100_has_a_hundred_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, pixels = cifar_batch(0, list(range(100)) * 2, "fine_labels")
    test, _ = cifar_batch(1, list(range(100)), "fine_labels")
    files = {"train": old_pickle(train), "test": old_pickle(test), "meta": old_pickle({"fine_label_names": []})}
    sums = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    kind = torchvision.datasets.CIFAR100
    monkeypatch.setattr(kind, "train_list", [["train", sums["train"]]])
    monkeypatch.setattr(kind, "test_list", [["test", sums["test"]]])
    monkeypatch.setattr(kind, "meta", {"filename": "meta", "key": "fine_label_names", "md5": sums["meta"]})
    (tmp_path / "cifar-100-python").mkdir()
    for name, content in files.items():
        (tmp_path / "cifar-100-python" / name).write_bytes(content)
    splits = Cifar100(test=50)(tmp_path)
    check(splits)
    check_normalised_by_training_images(splits)
    assert splits.task.outputs == 100
    np.testing.assert_array_equal(splits.train_inputs, pixels)
    assert splits.test_targets.tolist() == list(range(50))


def test_the_hook_offers_all_of_them_without_torch() -> None:
    names = {"digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "image-folder"}
    assert set(cpframe_datasets()) == names
    heavy = "'torch', 'torchvision', 'sklearn', 'PIL'"
    code = f"import sys, cpframe_plugins.datasets; sys.exit(any(name in sys.modules for name in ({heavy},)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
