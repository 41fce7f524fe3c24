"""Where results come from: versions, machine and commit, for the head of a results file."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path

from cpframe.numerics import Numerics, hardware
from cpframe.spec.model import Component, Spec


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


def _git_commit(path: Path) -> str:
    """The commit of the repository that a file is in; empty where there is none, or no git."""
    command = ["git", "-C", str(path.resolve().parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
