"""Training in this process: whole studies, planned studies, and the jobs of single stages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cpframe.execution.executors import Executor
from cpframe.execution.executors.inline import Inline
from cpframe.execution.preparation import prepare_study
from cpframe.execution.progress import read_progress
from cpframe.execution.scheduler import run_study
from cpframe.execution.workspace import RunOptions, Workspace
from cpframe.numerics import Numerics, preserve_settings
from cpframe.plan.stages import Stage, Study
from cpframe.records.model import CLEAN, StudyRecord
from cpframe.spec.model import Spec
from cpframe.training.job import Event, Job

EXACT = Numerics("cpu", "exact", "float32")
"""The numerics profile of most tests: deterministic float32 on the CPU."""


def run_study_inline(spec: Spec, folder: Path, data_folder: Path | None = None) -> StudyRecord:
    """Train a study in this process, on the CPU; the settings of torch are as before at the end.

    Args:
        spec: the spec of the study.
        folder: an existing folder, for ``results.h5`` and the stages; trained stages in it are reused.
        data_folder: the folder of the data sets; `folder` by default.

    Returns:
        The study as it stands in ``results.h5``. Failed trajectories are in it, with their reason.

    Raises:
        SpecError: when the numerics profile of the spec is not available on the CPU.
        DataError: when a data set cannot be fingerprinted.
        StoreError: when a file cannot be written.
    """
    options = RunOptions(out=folder, store=folder / "stages", data=data_folder or folder, device="cpu")
    with preserve_settings():
        prepared = prepare_study(spec, options)
        executor = Inline(prepared.workspace.numerics)
        return run_study(prepared.progress, prepared.workspace, executor, ignore_event)


def make_workspace(folder: Path, data_folder: Path | None = None, keep_states: bool = False) -> Workspace:
    """Return a workspace in a folder, with `EXACT` numerics.

    Args:
        folder: the folder of the study; the stages are in its subfolder ``stages``.
        data_folder: the folder of the data sets; `folder` by default.
        keep_states: whether the state at the end of every stage stays.
    """
    return Workspace(folder, folder / "stages", data_folder or folder, EXACT, {"device": "cpu"}, keep_states)


def ignore_event(event: Event) -> None:
    """Do nothing with an event of a run."""


def train_study(
    study: Study,
    workspace: Workspace,
    observe: Callable[[Event], None] = ignore_event,
    executor: Executor | None = None,
) -> StudyRecord:
    """Train the remaining stages of a planned study.

    Args:
        study: the planned study.
        workspace: the workspace of the study.
        observe: called with every event.
        executor: the executor, closed at the end; by default one that trains in this process.
    """
    return run_study(read_progress(study, workspace), workspace, executor or Inline(workspace.numerics), observe)


def make_stage(name: str, epochs: int, condition: str = CLEAN, parent: str | None = None, start: int = 0) -> Stage:
    """Return a stage of seed 0 with a constant learning rate of 0.01.

    Args:
        name: the id of the stage.
        epochs: the number of epochs in the stage.
        condition: the condition of all its epochs.
        parent: the id of its parent, or None.
        start: the number of epochs completed before it.
    """
    return Stage(name, parent, 0, 0, condition, start, start + epochs, (0.01,) * epochs, restart_state=False)


def make_job(stage: Stage, spec: Spec, folder: Path, keep_state: bool = False) -> Job:
    """Return the job of a stage: the first variant of a spec, and all metrics of the spec.

    Args:
        stage: the stage to train.
        spec: the spec of the study.
        folder: the folder of the data sets and of the stage folders, which have the ids of the stages as names.
        keep_state: whether the state at the end is stored.
    """
    parent = None if stage.parent is None else folder / stage.parent
    return Job(stage, spec.variants[0], spec.metrics, EXACT, folder, folder / stage.id, parent, keep_state)
