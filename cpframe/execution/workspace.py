"""The options of a run, and the workspace of a study: where it is kept, and what it runs on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cpframe.environment import data_folder
from cpframe.errors import Problem, SpecError
from cpframe.numerics import Numerics, resolve
from cpframe.plan.provenance import provenance
from cpframe.spec.model import Spec
from cpframe.store import stage_folder


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Where a study is kept, and what it runs on.

    Attributes:
        out: the folder of the study, for ``results.h5``.
        store: the folder of the stages; None for ``.stages`` next to `out`.
        data: the folder of the data sets; None for ``CPFRAME_DATA`` or else the cache folder.
        device: ``auto``, or a device as torch names it.
        workers: the number of workers; None for one per CPU core or one per GPU, if there is enough to do.
        executor: ``auto``, ``inline``, ``processes``, ``ray`` or ``ray://HOST:PORT``.
        keep_states: whether the weights at the end of every stage stay in the store.
    """

    out: Path
    store: Path | None = None
    data: Path | None = None
    device: str = "auto"
    workers: int | None = None
    executor: str = "auto"
    keep_states: bool = False

    def __post_init__(self) -> None:
        """Check what a caller in Python may get wrong.

        Raises:
            ValueError: when it is not a whole number of at least 1, or a device or an executor is not a text.
        """
        for name in ("device", "executor"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name} must be a text such as 'auto', not {getattr(self, name)!r}")
        if self.workers is not None and (type(self.workers) is not int or self.workers < 1):
            raise ValueError(f"workers must be a whole number of at least 1, not {self.workers!r}")


@dataclass(frozen=True)
class Workspace:
    """Where a study is kept, and what it runs on, with every choice made.

    Attributes:
        folder: the folder of the study, for ``results.h5``.
        store: the folder of the stages, which other studies may share.
        data_folder: the folder of the data sets.
        numerics: the numerics profile and the device.
        provenance: facts for the head of results.h5, by name.
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
        """The path of the results file."""
        return self.folder / "results.h5"

    def of(self, stage: str) -> Path:
        """Return the folder of a stage, given by its id."""
        return stage_folder(self.store, stage)


def open_workspace(spec: Spec, options: RunOptions) -> Workspace:
    """Make every choice that `options` leave open; nothing is written.

    Raises:
        SpecError: when the device does not exist, or cannot do what the spec asks for.
    """
    numerics = resolve_numerics(spec, options.device)
    return Workspace(
        folder=options.out,
        store=options.store or options.out.parent / ".stages",
        data_folder=data_folder(options.data),
        numerics=numerics,
        provenance=provenance(spec, numerics),
        keep_states=options.keep_states,
    )


def resolve_numerics(spec: Spec, device: str) -> Numerics:
    """Return the device and the numerics profile of a study.

    Raises:
        SpecError: when the device does not exist, or cannot do what the spec asks for.
    """
    profiles = {variant.training.numerics for variant in spec.variants}
    if len(profiles) > 1:
        raise SpecError([Problem("", "training.numerics", "must be the same in all variants of a study")])
    return resolve(device, profiles.pop())
