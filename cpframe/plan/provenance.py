"""The provenance of results: versions, machine and commit, for the attributes of a results file."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

from cpframe.numerics import Numerics, hardware
from cpframe.spec.model import Component, Spec


def provenance(spec: Spec, numerics: Numerics) -> dict[str, str]:
    """Return the facts for the attributes of results.h5, without empty ones."""
    packages = ("torchvision", "numpy", "h5py")
    document = spec.document
    facts = {
        "spec_file": document.path.name if document.path is not None else "",
        "profile": document.profile or "",
        "overrides": " ".join(document.overrides),
        "numerics": f"{numerics.profile} ({numerics.precision})",
        "device": numerics.device,
        "hardware": hardware(numerics.device),
        "cpframe": version("cpframe"),
        "torch": version("torch"),
        "versions": ", ".join(
            [*(f"{name} {version(name)}" for name in packages), f"python {platform.python_version()}"]
        ),
        "plugins": _packages(_components(spec)),
        "git_commit": _git_commit(document.path) if document.path is not None else "",
    }
    return {name: fact for name, fact in facts.items() if fact}


def _components(spec: Spec) -> Iterator[Component[object]]:
    for variant in spec.variants:
        yield from (variant.dataset, variant.architecture, variant.optimizer, *variant.deficits.values())
    for metric in spec.metrics:
        yield metric.component


def _packages(components: Iterable[Component[object]]) -> str:
    """Return the packages of components, with their versions."""
    return ", ".join(sorted({f"{component.use.partition('/')[0]} {component.version}" for component in components}))


def _git_commit(path: Path) -> str:
    """Return the commit of the repository of a file; empty without a repository or git."""
    command = ["git", "-C", str(path.resolve().parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return answer.stdout.strip() if answer.returncode == 0 else ""
