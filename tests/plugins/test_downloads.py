"""Downloaded data sets: missing or damaged files, archives copied by hand, and two processes at once."""

import functools
import gzip
import hashlib
import http.server
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from filelock import FileLock
from numpy.typing import NDArray

from cpframe.api import DataError, Splits
from cpframe_plugins.datasets import Cifar10, Cifar100, FashionMnist, Mnist

Pixels = NDArray[np.uint8]


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no network in tests")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)


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


@pytest.mark.parametrize("name", IDX)
@pytest.mark.parametrize("kept", [-1, 12, 5, 0])
def test_a_truncated_file_is_damaged(name: str, kept: int, tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST/raw")
    file = tmp_path / "MNIST/raw" / name
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"MNIST: the files in .*MNIST/raw are damaged .* delete that folder"):
        Mnist()(tmp_path)


def test_labels_that_do_not_fit_the_images_or_classes_are_damage(tmp_path: Path) -> None:
    arrays = write_mnist(tmp_path / "MNIST/raw")
    file = tmp_path / "MNIST/raw" / IDX[1]
    file.write_bytes(idx(arrays[IDX[1]][:49]))
    with pytest.raises(DataError, match="50 images and 49 labels"):
        Mnist()(tmp_path)
    file.write_bytes(idx(arrays[IDX[1]] + np.uint8(1)))
    with pytest.raises(DataError, match="labels must be from 0 to 9, not from 1 to 10"):
        Mnist()(tmp_path)


@pytest.mark.parametrize(
    ("dataset", "archive"),
    [
        (Mnist(), "MNIST/raw/train-images-idx3-ubyte.gz"),
        (FashionMnist(), "FashionMNIST/raw/t10k-labels-idx1-ubyte.gz"),
        (Cifar10(), "cifar-10-python.tar.gz"),
        (Cifar100(), "cifar-100-python.tar.gz"),
    ],
)
def test_without_a_network_the_error_names_the_files_and_the_folder(
    dataset: Mnist | FashionMnist | Cifar10 | Cifar100, archive: str, tmp_path: Path
) -> None:
    for _ in range(2):  # the files of a failed attempt do not change the next one
        with pytest.raises(DataError, match=r"cannot be downloaded .*no network in tests") as caught:
            dataset(tmp_path / "data")
        assert archive in str(caught.value)
        assert str(tmp_path / "data") in str(caught.value)


@pytest.mark.parametrize("dataset", [Mnist(), Cifar10()])
def test_a_folder_that_cannot_be_created_is_named(dataset: Mnist | Cifar10, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(DataError, match=r"file/data.* cannot be downloaded \(.*Not a directory"):
        dataset(tmp_path / "file" / "data")


def zipped_mnist() -> dict[str, bytes]:
    return {f"{name}.gz": gzip.compress(idx(values), mtime=0) for name, values in mnist_arrays().items()}


def expect_sums(monkeypatch: pytest.MonkeyPatch, archives: dict[str, bytes]) -> None:
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in archives.items()]
    monkeypatch.setattr(torchvision.datasets.MNIST, "resources", sums)


def test_archives_copied_by_hand_are_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = zipped_mnist()
    expect_sums(monkeypatch, archives)
    (tmp_path / "MNIST/raw").mkdir(parents=True)
    for name, content in archives.items():
        (tmp_path / "MNIST/raw" / name).write_bytes(content)
    np.testing.assert_array_equal(Mnist(pad=0)(tmp_path).train_inputs[:, 0], mnist_arrays()[IDX[0]])


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name it overrides
        pass


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a web server that replaces MNIST's mirror."""
    monkeypatch.undo()  # this server is reachable
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as serving:
        monkeypatch.setattr(torchvision.datasets.MNIST, "mirrors", [f"http://127.0.0.1:{serving.server_port}/"])
        thread = threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder
        serving.shutdown()
        thread.join()


def test_missing_files_are_downloaded_once(server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archives = zipped_mnist()
    expect_sums(monkeypatch, archives)
    for name, content in archives.items():
        (server / name).write_bytes(content)
    folder = tmp_path / "new" / "data"
    first = Mnist(pad=0)(folder)
    np.testing.assert_array_equal(first.test_inputs[:, 0], mnist_arrays()[IDX[2]])
    for file in server.iterdir():
        file.unlink()
    assert torch.equal(Mnist(pad=0)(folder).test_inputs, first.test_inputs)


def test_a_download_with_a_wrong_checksum_is_not_used_and_can_be_repeated(
    server: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archives = zipped_mnist()
    expect_sums(monkeypatch, archives)
    for name, content in archives.items():
        (server / name).write_bytes(content[: len(content) // 2] if "t10k-images" in name else content)
    for _ in range(2):
        with pytest.raises(DataError, match=r"MNIST is not in .* cannot be downloaded"):
            Mnist()(tmp_path)
    for name, content in archives.items():
        (server / name).write_bytes(content)
    assert len(Mnist()(tmp_path).test_inputs) == 20


def test_a_process_that_finds_partial_files_waits_for_the_one_that_writes_them(tmp_path: Path) -> None:
    loaded: list[Splits] = []
    with FileLock(tmp_path / ".MNIST.lock"):  # like another process that downloads
        raw = tmp_path / "MNIST/raw"
        write_mnist(raw)
        whole = (raw / IDX[0]).read_bytes()
        (raw / IDX[0]).write_bytes(whole[:1000])
        thread = threading.Thread(target=lambda: loaded.append(Mnist()(tmp_path)))
        thread.start()
        thread.join(timeout=0.5)  # long enough to fail without waiting
        assert thread.is_alive()
        (raw / IDX[0]).write_bytes(whole)
    thread.join()
    assert [len(splits.train_inputs) for splits in loaded] == [50]
