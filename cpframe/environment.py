"""Facts about this machine and installation, for provenance and for what else determines the bits of a result."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from cpframe.numerics import Numerics
from cpframe.spec import Component, Spec


def provenance(spec: Spec, numerics: Numerics, profile: str | None, overrides: Sequence[str]) -> dict[str, str]:
    """Facts for the head of results.h5; empty ones are left out."""
    packages = ("torchvision", "numpy", "h5py")
    facts = {
        "spec_file": spec.document.path.name,
        "profile": profile or "",
        "overrides": " ".join(overrides),
        "numerics": f"{numerics.profile} ({numerics.precision})",
        "device": numerics.device,
        "hardware": hardware(numerics.device),
        "cpframe": version("cpframe"),
        "torch": version("torch"),
        "versions": ", ".join(
            [*(f"{name} {version(name)}" for name in packages), f"python {platform.python_version()}"]
        ),
        "plugins": _packages([*_in_every_stage(spec), *_deficits(spec)]),
        "git_commit": _git_commit(spec.document.path),
    }
    return {name: fact for name, fact in facts.items() if fact}


def data_folder(chosen: Path | None) -> Path:
    """The folder of the data sets: as chosen, else CPFRAME_DATA, else the platform's cache folder."""
    if chosen is not None:
        return chosen
    if from_environment := os.environ.get("CPFRAME_DATA"):
        return Path(from_environment)
    return cache_folder()


def cache_folder() -> Path:
    """The platform's folder for what can be had again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "cpframe" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "cpframe"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cpframe"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _in_every_stage(spec: Spec) -> list[Component]:
    of_variants = [
        one for variant in spec.variants for one in (variant.dataset, variant.architecture, variant.optimizer)
    ]
    return of_variants + [metric.component for metric in spec.metrics]


def _deficits(spec: Spec) -> list[Component]:
    return [deficit for variant in spec.variants for deficit in variant.deficits.values()]


def _packages(components: Iterable[Component]) -> str:
    """The packages that components come from, with their versions."""
    return ", ".join(sorted({f"{component.use.partition('/')[0]} {component.version}" for component in components}))


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


def _git_commit(path: Path) -> str:
    """The commit of the repository that a file is in; empty where there is none, or no git."""
    command = ["git", "-C", str(path.resolve().parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
