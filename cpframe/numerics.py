"""Numerics profiles: where a training runs, and how its numbers are rounded."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from cpframe.environment import cores
from cpframe.errors import Problem, SpecError

Precision = Literal["float32", "bfloat16"]


@dataclass(frozen=True)
class Numerics:
    """How a training computes.

    Attributes:
        device: as torch names it: ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        profile: ``exact`` (float32, deterministic algorithms, one thread) or ``fast``.
        precision: of the matrix products of the forward and backward pass.
    """

    device: str
    profile: Literal["exact", "fast"]
    precision: Precision

    @property
    def identity(self) -> str:
        """What of it determines the bits of a result, whichever of several like devices it ran on."""
        return f"{self.device.partition(':')[0]} {self.profile} {self.precision}"


def resolve(device: str, profile: Literal["auto", "exact", "fast"]) -> Numerics:
    """Choose device and profile: ``auto`` takes CUDA, then MPS, then the CPU; fast on CUDA, exact elsewhere.

    Raises:
        SpecError: when the device is not here, or the profile not to be had on it.
    """
    import torch

    present = ["cpu"]
    if torch.backends.mps.is_available():
        present.insert(0, "mps")
    if torch.cuda.is_available():
        present.insert(0, "cuda")
    kind, _, number = device.partition(":")
    if device == "auto":
        device = kind = present[0]
    if kind not in present or (number and not number.isdigit()):
        raise SpecError([Problem(f"--device {device}", "", f"is not here; there is {', '.join(present)}, or auto")])
    if number and int(number) >= (torch.cuda.device_count() if kind == "cuda" else 1):
        raise SpecError([Problem(f"--device {device}", "", "there are not so many")])
    if profile == "fast" and kind != "cuda":
        why = f'"fast" needs a CUDA device, and this run is on {kind}: use "exact"'
        raise SpecError([Problem("", "training.numerics", why)])
    if profile == "fast" or (profile == "auto" and kind == "cuda"):
        return Numerics(device, "fast", "bfloat16")
    return Numerics(device, "exact", "float32")


def devices(numerics: Numerics) -> tuple[str, ...]:
    """The devices of this machine that workers can be given: for plain ``cuda`` every GPU, else the one it names."""
    if numerics.device != "cuda":
        return (numerics.device,)
    import torch

    return tuple(f"cuda:{number}" for number in range(torch.cuda.device_count()))


def shared_out(numerics: Numerics, devices: Sequence[str], workers: int) -> tuple[Numerics, ...]:
    """The numerics of each worker: one device each, and again from the first when there are more workers."""
    return tuple(replace(numerics, device=devices[slot % len(devices)]) for slot in range(workers))


def prepare(numerics: Numerics) -> None:
    """Set this process up for a profile, before its first computation."""
    # cuBLAS is deterministic only with a workspace of fixed size, which it reads from the environment.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    import torch

    exact = numerics.profile == "exact"
    if numerics.device.startswith("cuda:"):
        torch.cuda.set_device(numerics.device)  # for plugins that say just "cuda"
    torch.set_num_threads(1)
    # Not use_deterministic_algorithms, which does the same but first imports the compiler, in seconds.
    torch.set_deterministic_debug_mode("error" if exact else "default")
    # Memory that an algorithm writes in full need not be filled with nan before.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not exact
    torch.backends.cuda.matmul.allow_tf32 = not exact
    torch.backends.cudnn.allow_tf32 = not exact


def hardware(device: str) -> str:
    """The processor or card behind a device, in words."""
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
