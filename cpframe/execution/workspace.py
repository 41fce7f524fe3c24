"""Where a study is kept and what it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpframe.environment import data_folder
from cpframe.errors import Problem, SpecError
from cpframe.numerics import Numerics, resolve
from cpframe.spec.model import Spec
from cpframe.store import (
    stage_folder,
)


@dataclass(frozen=True)
class Workspace:
    """Where a study is kept and what it runs on.

    Attributes:
        folder: of the study, for ``results.h5``.
        store: folder of the stages, which other studies may share.
        data_folder: of the data sets.
        numerics: profile and device.
        provenance: facts for the head of results.h5.
        keep_states: whether the state at the end of every stage stays for good.
    """

    folder: Path
    store: Path
    data_folder: Path
    numerics: Numerics
    provenance: Mapping[str, str]
    keep_states: bool = False

    @property
    def results(self) -> Path:
        """The results file."""
        return self.folder / "results.h5"

    def of(self, stage: str) -> Path:
        """The folder of a stage."""
        return stage_folder(self.store, stage)


def numerics_of(spec: Spec, device: str) -> Numerics:
    """The device and numerics profile of a study.

    Raises:
        SpecError: when the device is not there, or not able to do what the spec asks for.
    """
    profiles = {variant.training.numerics for variant in spec.variants}
    if len(profiles) > 1:
        raise SpecError([Problem("", "training.numerics", "cannot vary within a study")])
    return resolve(device, profiles.pop())


def place_of(
    folder: Path,
    store: Path | None,
    data: Path | None,
    numerics: Numerics,
    facts: Mapping[str, str],
    *,
    keep_states: bool,
) -> Workspace:
    """Where a study is kept: its stages in ``.stages`` beside its folder unless another store is named."""
    return Workspace(folder, store or folder.parent / ".stages", data_folder(data), numerics, facts, keep_states)
