"""The choice of device and profile on machines with and without GPUs."""

import re

import pytest

from cpframe.errors import SpecError
from cpframe.numerics import Numerics, resolve


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch):
    def pretend(gpus: int, mps: bool = False) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
        monkeypatch.setattr("torch.backends.mps.is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("gpus", "mps", "device", "profile", "expected"),
    [
        (2, False, "auto", "auto", Numerics("cuda", "fast", "bfloat16")),
        (2, False, "cuda:1", "exact", Numerics("cuda:1", "exact", "float32")),
        (2, False, "cpu", "auto", Numerics("cpu", "exact", "float32")),
        (1, True, "auto", "auto", Numerics("cuda", "fast", "bfloat16")),
        (0, True, "auto", "auto", Numerics("mps", "exact", "float32")),
        (0, False, "auto", "auto", Numerics("cpu", "exact", "float32")),
        (0, False, "cpu:0", "auto", Numerics("cpu:0", "exact", "float32")),
    ],
)
def test_the_fastest_device_is_chosen_and_its_profile(machine, gpus, mps, device, profile, expected) -> None:
    machine(gpus, mps)
    assert resolve(device, profile) == expected


@pytest.mark.parametrize(
    ("gpus", "mps", "device", "devices"),
    [
        (2, False, "cuda:7", "2 GPUs (cuda:0, cuda:1) and a CPU (cpu)"),
        (1, False, "cuda:1", "1 GPU (cuda:0) and a CPU (cpu)"),
        (0, True, "cuda", "a GPU (mps) and a CPU (cpu)"),
        (0, False, "cuda:0", "a CPU (cpu)"),
        (0, False, "tpu", "a CPU (cpu)"),
        (0, False, "cpu:1", "a CPU (cpu)"),
        (0, False, "cpu:x", "a CPU (cpu)"),
        (0, False, "cpu:", "a CPU (cpu)"),
    ],
)
def test_a_device_that_is_missing_is_refused_with_those_that_exist(machine, gpus, mps, device, devices) -> None:
    machine(gpus, mps)
    message = f"--device {device}: no such device: this machine has {devices}"
    with pytest.raises(SpecError, match=f"^{re.escape(message)}$"):
        resolve(device, "auto")


def test_fast_numerics_need_cuda(machine) -> None:
    machine(0)
    message = 'training.numerics: "fast" needs a CUDA device, and the device of this run is cpu; use "exact" or "auto"'
    with pytest.raises(SpecError, match=f"^{re.escape(message)}$"):
        resolve("auto", "fast")
