"""``cpframe plan``: the stages of a study, and the time and disk space of a run; nothing is trained."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from cpframe.commands.display import html_block, plain_text
from cpframe.commands.progress_bar import duration
from cpframe.commands.run import format_note
from cpframe.commands.stage_tree import draw_trees
from cpframe.execution.cost_cache import cached_costs
from cpframe.execution.executors.selection import default_workers
from cpframe.execution.forecast import Forecast, forecast
from cpframe.execution.preparation import PreparedStudy, prepare_study
from cpframe.execution.workspace import RunOptions
from cpframe.numerics import prepare
from cpframe.spec.model import Spec
from cpframe.training.cache import clear_caches

_MOST_DAMAGE = 5


@dataclass(frozen=True)
class StudyPlan:
    """What a run would train. It shows itself: printed, in a terminal by rich, and as HTML in a notebook.

    Attributes:
        prepared: the study, and its part in the store.
        workers: the number of workers that the forecast assumes.
        forecast: the time and disk space of the remaining stages; None when everything is complete.
        from_cache: whether the forecast rests on costs measured before on this machine, and not just now.
    """

    prepared: PreparedStudy
    workers: int
    forecast: Forecast | None
    from_cache: bool

    @property
    def trajectories(self) -> int:
        """The number of trajectories that the spec asks for."""
        return len(self.prepared.study.trajectories)

    @property
    def stages(self) -> int:
        """The number of stages that the trajectories share."""
        return len(self.prepared.study.stages)

    @property
    def epochs_to_train(self) -> int:
        """The number of epochs that are still to be trained."""
        return self.prepared.progress.epochs

    @property
    def seconds(self) -> float:
        """The wall time of the remaining stages, in seconds; 0 when everything is complete."""
        return self.forecast.seconds if self.forecast else 0.0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Yield the stage trees, a table of facts, and the damage found in the store."""
        del console, options
        return render_plan(self)

    def __str__(self) -> str:
        """Return the plan as plain text."""
        return plain_text(self)

    def _repr_html_(self) -> str:
        """Return the plan as HTML, for a notebook."""
        return html_block(self)


def plan_study(spec: Spec, options: RunOptions) -> StudyPlan:
    """Plan a study and forecast its remaining stages, from the costs of one preflight on this machine.

    Raises:
        SpecError: when the parts of the study do not fit one another, or the device does not exist.
        DataError: when a data set cannot be loaded.
        StoreError: when the store cannot be read.
    """
    prepared = prepare_study(spec, options)
    progress, numerics = prepared.progress, prepared.workspace.numerics
    if not progress.todo:
        return StudyPlan(prepared, 0, None, from_cache=False)
    clear_caches()
    prepare(numerics)
    costs, from_cache = cached_costs(prepared.spec, numerics, prepared.workspace.data_folder)
    keep = options.keep_states
    alone = forecast(progress, costs, 1, keep_states=keep).seconds
    workers = options.workers or default_workers(progress, alone, numerics)
    return StudyPlan(prepared, workers, forecast(progress, costs, workers, keep_states=keep), from_cache)


def render_plan(plan: StudyPlan) -> Iterator[RenderableType]:
    """Yield the stage trees, a table of facts, and the damage found in the store."""
    progress, store = plan.prepared.progress, plan.prepared.workspace.store
    for tree in draw_trees(progress):
        yield tree
        yield ""
    facts = Table.grid(padding=(0, 2))
    for name, fact in _counts(plan).items():
        facts.add_row(name, fact)
    facts.add_row("store", Text(str(store)))
    if note := format_note(store):
        facts.add_row("", Text(note))
    for name, fact in _resources(plan).items():
        facts.add_row(name, fact)
    yield facts
    for message in list(progress.damage.values())[:_MOST_DAMAGE]:
        yield Text(f"{message}; a run trains the stage again", "yellow")


def _counts(plan: StudyPlan) -> dict[str, str]:
    study, progress = plan.prepared.study, plan.prepared.progress
    asked, to_train = study.epochs_asked, study.epochs_to_train
    states = Counter(map(progress.stage_status, study.stages.values()))
    return {
        "trajectories": f"{len(study.trajectories):,}",
        "stages": f"{len(study.stages):,}: "
        + ", ".join(f"{count:,} {state}" for state, count in sorted(states.items())),
        "epochs": f"{asked:,} in all trajectories; {to_train:,} with shared ones counted once "
        f"({1 - to_train / asked:.0%} saved)",
        "to train": f"{progress.epochs:,} epochs" if progress.epochs != to_train else "all of them",
    }


def _resources(plan: StudyPlan) -> dict[str, str]:
    if plan.forecast is None:
        return {"time": "nothing to train"}
    source = "measured earlier on this machine" if plan.from_cache else "measured just now"
    workers = "1 worker" if plan.workers == 1 else f"{plan.workers} workers"
    return {
        "time": f"about {duration(plan.forecast.seconds)} with {workers} ({source})",
        "disk": f"about {decimal(plan.forecast.peak_bytes)} at most, {decimal(plan.forecast.final_bytes)} at the end",
    }
