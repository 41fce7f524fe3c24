"""``cpframe plan``: what a run would train, how long that takes and how much room; it trains nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cpframe.commands.progress_bar import duration
from cpframe.commands.stage_tree import drawn
from cpframe.execution.cost_cache import cached_costs
from cpframe.execution.executors.selection import default_workers
from cpframe.execution.forecast import Forecast, forecast
from cpframe.execution.progress import StudyProgress, read_progress
from cpframe.execution.workspace import numerics_of, place_of
from cpframe.numerics import prepare
from cpframe.plan.identity import data_determinants, determinants, with_data
from cpframe.plan.stages import plan
from cpframe.spec.model import Spec
from cpframe.store import other_formats


def plan_spec(
    spec: Spec, folder: Path, store: Path | None, data: Path | None, workers: int | None, device: str
) -> None:
    """Print the stage tree of a spec, what of it is in the store, and what the rest takes.

    Args:
        spec: checked.
        folder: of the study.
        store: folder of the stages; None for ``.stages`` beside the study's folder.
        data: folder of the data sets; None leaves the choice to the environment.
        workers: processes; None leaves the choice to us.
        device: ``auto``, or as torch names it.

    Raises:
        SpecError: when the parts of the study do not fit one another, or the device is not there.
        DataError: when a data set cannot be had.
        StoreError: when the store cannot be read.
    """
    console = Console(highlight=False)
    numerics = numerics_of(spec, device)
    workspace = place_of(folder, store, data, numerics, {}, keep_states=False)
    spec = with_data(spec, workspace.data_folder)
    progress = read_progress(
        plan(spec, determinants(numerics) | data_determinants(spec, workspace.data_folder)), workspace
    )
    for tree in drawn(progress):
        console.print(tree)
        console.print()
    facts = Table.grid(padding=(0, 2))
    for name, fact in _counts(progress).items():
        facts.add_row(name, fact)
    facts.add_row("store", str(workspace.store))
    if others := other_formats(workspace.store):
        facts.add_row("", f"stages of other versions of cpframe ({', '.join(others)}) are not used")
    if progress.todo:
        prepare(numerics)
        costs, remembered = cached_costs(spec, numerics, workspace.data_folder)
        slots = workers or default_workers(progress, forecast(progress, costs, 1, keep_states=False).seconds, numerics)
        for name, fact in _takes(forecast(progress, costs, slots, keep_states=False), slots, remembered).items():
            facts.add_row(name, fact)
    else:
        facts.add_row("time", "nothing to train")
    console.print(facts)
    for message in list(progress.damage.values())[:5]:
        console.print(f"{message}; a run trains it again", style="yellow", markup=False, soft_wrap=True)


def _counts(progress: StudyProgress) -> dict[str, str]:
    study = progress.study
    asked, to_train = study.epochs_asked, study.epochs_to_train
    states = Counter(map(progress.stage_status, study.stages.values()))
    return {
        "trajectories": f"{len(study.trajectories):,}",
        "stages": f"{len(study.stages):,}: "
        + ", ".join(f"{count:,} {state}" for state, count in sorted(states.items())),
        "epochs": f"{asked:,} asked for; with those shared counted once {to_train:,}: {1 - to_train / asked:.0%} saved",
        "to train": f"{progress.epochs:,} epochs" if progress.epochs != to_train else "all of them",
    }


def _takes(cost: Forecast, slots: int, remembered: bool) -> dict[str, str]:
    source = "as measured here before" if remembered else "measured just now"
    processes = "1 worker" if slots == 1 else f"{slots} workers"
    return {
        "time": f"about {duration(cost.seconds)} with {processes} ({source})",
        "disk": f"about {_size(cost.peak_bytes)} at most, {_size(cost.final_bytes)} in the end",
    }


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"
