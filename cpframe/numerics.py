"""Numerics: the device that a training runs on, and the precision and determinism of its arithmetic."""

from __future__ import annotations

import os
import platform
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cpframe.environment import cores
from cpframe.errors import Problem, SpecError

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Numerics:
    """The device and the arithmetic of a training.

    Attributes:
        device: the device in PyTorch's notation: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        profile: ``exact`` (float32, deterministic algorithms, one thread) or ``fast``.
        precision: the precision of matrix products in the forward and backward pass.
    """

    device: str
    profile: Literal["exact", "fast"]
    precision: Precision

    @property
    def identity(self) -> str:
        """The part that determines the bits of a result: the device without its number, profile and precision."""
        return f"{self.device.partition(':')[0]} {self.profile} {self.precision}"


def resolve(device: str, profile: Literal["auto", "exact", "fast"]) -> Numerics:
    """Choose the device and the profile of a run.

    Args:
        device: a device in PyTorch's notation, or ``auto``: CUDA, else MPS, else the CPU.
        profile: ``exact``, ``fast``, or ``auto``: fast on CUDA, exact elsewhere.

    Raises:
        SpecError: when this machine has no such device, or the device does not support the profile.
    """
    counts = _device_counts()
    if device == "auto":
        device = next(iter(counts))
    numbered = {f"{kind}:{number}" for kind, count in counts.items() for number in range(count)}
    if device not in counts.keys() | numbered:
        why = f"no such device: this machine has {_inventory(counts)}"
        raise SpecError([Problem(f"--device {device}", "", why)])
    kind = device.partition(":")[0]
    if profile == "fast" and kind != "cuda":
        why = f'"fast" needs a CUDA device, and the device of this run is {device}; use "exact" or "auto"'
        raise SpecError([Problem("", "training.numerics", why)])
    if profile == "fast" or (profile == "auto" and kind == "cuda"):
        return Numerics(device, "fast", "bfloat16")
    return Numerics(device, "exact", "float32")


def _device_counts() -> dict[str, int]:
    """Return the number of devices of each kind that this machine has, the preferred kind first."""
    import torch

    counts = {
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }
    return {kind: count for kind, count in counts.items() if count}


def _inventory(counts: Mapping[str, int]) -> str:
    """Return the devices of this machine in words: ``2 GPUs (cuda:0, cuda:1) and a CPU (cpu)``."""
    words = {"mps": "a GPU (mps)", "cpu": "a CPU (cpu)"}
    if gpus := counts.get("cuda"):
        names = ", ".join(f"cuda:{number}" for number in range(gpus))
        words["cuda"] = f"{gpus} GPU{'s' if gpus > 1 else ''} ({names})"
    return " and ".join(words[kind] for kind in counts)


def devices(numerics: Numerics) -> tuple[str, ...]:
    """Return the devices that workers can use: every GPU for plain ``cuda``, else the one device named."""
    if numerics.device != "cuda":
        return (numerics.device,)
    import torch

    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def assign_devices(numerics: Numerics, devices: Sequence[str], workers: int) -> tuple[Numerics, ...]:
    """Return the numerics of each worker: the devices in turn, several workers per device if necessary."""
    return tuple(replace(numerics, device=devices[slot % len(devices)]) for slot in range(workers))


def prepare(numerics: Numerics) -> None:
    """Configure torch in this process for a profile; call it before the first computation."""
    # cuBLAS is deterministic only with a workspace of fixed size, which it reads from the environment.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    exact = numerics.profile == "exact"
    if numerics.device.startswith("cuda:"):
        torch.cuda.set_device(numerics.device)  # plugins may use plain "cuda"
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest" if exact else "high")
    # use_deterministic_algorithms does the same, but imports the compiler first, which takes seconds.
    torch.set_deterministic_debug_mode("error" if exact else "default")
    # Filling uninitialised memory with nan costs time and does not change results.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cuda.matmul.allow_tf32 = not exact
    torch.backends.cudnn.allow_tf32 = not exact


def hardware(device: str) -> str:
    """Return the name of the processor or GPU of a device."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.get_device_name(device)
    return f"{_processor()}, {cores()} cores"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def preserve_settings() -> Iterator[None]:
    """Give torch its default settings inside, and restore those of the process afterwards.

    This is for a process that continues with other work. A second thread waits: the settings belong to the process.
    """
    import torch

    deterministic, backends = torch.utils.deterministic, torch.backends
    with _ONE_AT_A_TIME:
        threads, mode = torch.get_num_threads(), torch.get_deterministic_debug_mode()
        fill = deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
        cudnn = backends.cudnn.benchmark, backends.cudnn.allow_tf32
        precision, dtype = torch.get_float32_matmul_precision(), torch.get_default_dtype()
        workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
        torch.set_default_dtype(torch.float32)
        try:
            with torch.enable_grad(), torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
                yield
        finally:
            torch.set_num_threads(threads)
            torch.set_deterministic_debug_mode(mode)
            deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
            backends.cudnn.benchmark, backends.cudnn.allow_tf32 = cudnn
            torch.set_float32_matmul_precision(precision)
            torch.set_default_dtype(dtype)
            if workspace is None:
                os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
