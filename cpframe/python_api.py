"""The public functions of ``cpframe``: the steps of the commands, for scripts and notebooks.

Whatever is heavy is imported inside them: ``import cpframe`` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpframe.commands.plan import StudyPlan
    from cpframe.commands.report import Report
    from cpframe.execution.workspace import RunOptions
    from cpframe.export.results import Results
    from cpframe.spec.model import Spec

SpecLike = str | PathLike[str] | Mapping[str, object]
"""A spec: the path of a TOML file, TOML text, or a dictionary with the tables of one."""
Overrides = Mapping[str, object] | Sequence[str]
"""Values of the spec by dotted key, ``{"optimizer.lr": 0.1}``, or texts as ``--set`` takes them."""


def run(
    spec: SpecLike,
    *,
    profile: str | None = None,
    overrides: Overrides | None = None,
    out: str | PathLike[str] | None = None,
    store: str | PathLike[str] | None = None,
    data: str | PathLike[str] | None = None,
    workers: int | None = None,
    executor: str = "auto",
    device: str = "auto",
    keep_states: bool = False,
    quiet: bool = False,
) -> Results:
    """Train everything that a spec asks for and that is not in the store yet, as ``cpframe run`` does.

    Interrupting it (Ctrl-C, or the stop button of a notebook) raises KeyboardInterrupt once the workers have ended;
    calling it again continues from the last commit.

    Args:
        spec: the path of a TOML file, TOML text, or a dictionary with the tables of a spec.
        profile: the name of a ``[profiles.NAME]`` table of the spec to apply.
        overrides: values by dotted key, such as ``{"optimizer.lr": 0.1}``.
        out: the folder of the study; by default ``runs/NAME`` or ``runs/NAME-PROFILE``, NAME being the file's stem, or
            ``study`` for a spec that is no file.
        store: the folder of the stages, which studies share; by default ``.stages`` next to `out`.
        data: the folder of the data sets; by default ``CPFRAME_DATA``, or else the cache folder.
        workers: the number of workers; by default one per CPU core or one per GPU, if there is enough to do.
        executor: ``auto`` (here: ``processes``), ``inline``, ``processes``, ``ray`` or ``ray://HOST:PORT``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        keep_states: whether the weights at the end of every stage stay in the store.
        quiet: whether nothing is printed: neither progress nor notes.

    Returns:
        The results. Trajectories that failed are among them, with their reason.

    Raises:
        SpecError: when the spec has mistakes; the message has all of them.
        DataError: when a data set cannot be loaded.
        StoreError: when the folder is in use, damaged, or cannot be written.
        ExecutorError: when workers cannot be started.
    """
    checked = _read_spec(spec, profile, overrides)
    options = _options(checked, out=out, store=store, data=data, device=device)
    from dataclasses import replace

    from cpframe.commands.run import notes_console, print_outcome
    from cpframe.commands.run import run as run_spec
    from cpframe.commands.signals import interruptible
    from cpframe.export.results import Results
    from cpframe.numerics import preserve_settings

    # Whatever else this process does to torch must not reach a training, and a training must not reach it.
    executor = "processes" if executor == "auto" else executor
    options = replace(options, workers=workers, executor=executor, keep_states=keep_states)
    console = notes_console(quiet=quiet)
    with preserve_settings(), interruptible() as check:
        outcome = run_spec(checked, options, console, [], check)
    print_outcome(outcome, console)
    return Results(outcome.results, outcome.record)


def plan(
    spec: SpecLike,
    *,
    profile: str | None = None,
    overrides: Overrides | None = None,
    out: str | PathLike[str] | None = None,
    store: str | PathLike[str] | None = None,
    data: str | PathLike[str] | None = None,
    workers: int | None = None,
    device: str = "auto",
) -> StudyPlan:
    """Lay out a study and forecast its time and disk space, as ``cpframe plan`` does; nothing is trained.

    The arguments and errors are those of `run`.

    Returns:
        The plan, which shows itself: printed, in a terminal, and in a notebook.
    """
    checked = _read_spec(spec, profile, overrides)
    options = _options(checked, out=out, store=store, data=data, device=device)
    from dataclasses import replace

    from cpframe.commands.plan import plan_study
    from cpframe.numerics import preserve_settings

    with preserve_settings():
        return plan_study(checked, replace(options, workers=workers))


def open_results(path: str | PathLike[str]) -> Results:
    """Open the results of a study: tables in pandas, histories in xarray; see `cpframe.export.results.Results`.

    Args:
        path: the path of a ``results.h5``, or of the folder that contains it.

    Raises:
        StoreError: when it is no results file, is damaged, or is of another format version.
    """
    from cpframe.export.results import open_results as open_file

    return open_file(path)


def report(results: Results | str | PathLike[str], *, sections: Sequence[str] = (), threshold: float = 1.0) -> Report:
    """Report on the results of a study, as ``cpframe report`` does.

    Args:
        results: what `run` or `open_results` returned, or the path of a results file or of its folder.
        sections: the names of the sections to show, in full; all of them, abridged, by default.
        threshold: a deficit counts as recovered when its drop is at most this many percentage points.

    Returns:
        The report, which shows itself: as text when printed, in a terminal by rich, and as a page in a notebook.

    Raises:
        ValueError: when there is no such section, or the threshold is not in [0, 100).
        StoreError: when a path is no results file.
    """
    from cpframe.commands.report import Report
    from cpframe.export.results import Results

    study = (results if isinstance(results, Results) else open_results(results)).study
    return Report(study, (sections,) if isinstance(sections, str) else tuple(sections), threshold)


def _read_spec(spec: SpecLike, profile: str | None, overrides: Overrides | None) -> Spec:
    from cpframe.plugins.discovery import discover
    from cpframe.spec.reader import read_spec

    if not isinstance(spec, str | PathLike | Mapping):
        raise TypeError(f"spec must be a path, TOML text or a dictionary, not {type(spec).__name__}")
    texts = isinstance(overrides, Sequence) and all(isinstance(text, str) for text in overrides)
    if overrides is not None and not (texts or isinstance(overrides, Mapping)):
        raise TypeError(f"overrides must be a dictionary or a list of texts, not {type(overrides).__name__}")
    source = Path(spec) if isinstance(spec, PathLike) else spec
    return read_spec(source, discover(), profile, overrides or ())


def _options(checked: Spec, device: str, **folders: str | PathLike[str] | None) -> RunOptions:
    from cpframe.commands.options import default_folder
    from cpframe.execution.workspace import RunOptions

    paths = {name: None if folder is None else Path(folder) for name, folder in folders.items()}
    out = paths["out"] or default_folder(checked.document.name, checked.document.profile)
    return RunOptions(out=out, store=paths["store"], data=paths["data"], device=device)
