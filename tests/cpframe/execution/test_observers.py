"""Observers receive every committed epoch, and nothing that they do affects a run."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from threading import Event as Flag
from threading import Thread
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from cpframe.api import EpochsCommitted, RunFinished, RunStarted
from cpframe.commands.run import notes_console
from cpframe.commands.run import run as run_command
from cpframe.commands.signals import Stopped
from cpframe.errors import SpecError
from cpframe.execution import observers as observers_module
from cpframe.execution.executors import Executor
from cpframe.execution.executors.inline import Inline
from cpframe.execution.executors.processes import start_processes
from cpframe.execution.observers import run_observers
from cpframe.execution.progress import read_progress
from cpframe.execution.scheduler import run_study
from cpframe.execution.workspace import RunOptions
from cpframe.plan.stages import Study, plan
from cpframe.plugins.discovery import Catalogue, discover
from cpframe.records.histories import rows_after
from cpframe.records.model import History, StudyRecord
from cpframe.spec.model import Component, Observer, ObserverOptions
from cpframe.spec.reader import read_spec
from cpframe.store import read_results, read_stage, stage_folder
from cpframe.testing.training import EXACT, make_workspace
from cpframe.training import stage as training
from cpframe.training.job import EpochDone, Event

CATALOGUE = discover([EntryPoint(name, f"cpframe_plugins.{name}", "cpframe") for name in (
    "architectures", "datasets", "deficits", "optimizers", "metrics", "observers"
)])  # fmt: skip
SPEC = """
title = "Small"
seeds = [0, 1]
score_epochs = 2
[dataset]
use = "digits"
train = 60
[architecture]
use = "mlp"
sizes = [16]
[optimizer]
use = "sgd"
lr = 0.05
[training]
batch_size = 20
[deficits.blur]
use = "blur"
size = 2
[[protocols]]
use = "removal"
until = [0, 2, 4]
recovery = 3
[[protocols]]
use = "sliding"
onsets = [0, 1]
length = 2
epochs = 4
[metrics.fisher]
use = "fisher-trace"
every = 2
inputs = 16
"""


@dataclass(frozen=True)
class Recorder:
    """Keeps all events that it receives, and checks that the epochs are in the store."""

    store: Path | None = None
    started: list[RunStarted] = field(default_factory=list)
    committed: list[EpochsCommitted] = field(default_factory=list)
    finished: list[RunFinished] = field(default_factory=list)

    def __call__(self, run: RunStarted) -> Recorder:
        self.started.append(run)
        return self

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        if self.store is not None:
            record = read_stage(stage_folder(self.store, committed.stage))
            assert record is not None
            kept = record.history.epoch.searchsorted(committed.history.epoch)
            np.testing.assert_array_equal(record.history.test_loss[kept], committed.history.test_loss)
        self.committed.append(committed)

    def run_finished(self, finished: RunFinished) -> None:
        self.finished.append(finished)


def plan_study(folder: Path, *calls: Any, wait: float = 30.0) -> Study:
    path = folder / "small.toml"
    path.write_text(SPEC)
    observers = tuple(
        Observer(f"number{number}", Component("test/observer", "", call), ObserverOptions(wait))
        for number, call in enumerate(calls)
    )
    return plan(replace(read_spec(path, CATALOGUE), observers=observers), {})


def run(
    study: Study,
    folder: Path,
    executor: Executor | None = None,
    act: Callable[[Event], None] = lambda _: None,
    abandoned: list[Thread] | None = None,
) -> tuple[StudyRecord, list[str]]:
    """Run a study with its observers; return the record and the lines on the console."""
    output = io.StringIO()
    workspace = make_workspace(folder)
    progress = read_progress(study, workspace)
    console = Console(file=output, width=500)
    threads = [] if abandoned is None else abandoned
    with run_observers(progress, workspace, console, threads) as observe:

        def both(event: Event) -> None:
            observe(event)
            act(event)

        record = run_study(progress, workspace, executor or Inline(EXACT), both)
    if abandoned is None:
        assert threads == []
    return record, output.getvalue().splitlines()


def flatten(one: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every value of a record with its path, except the time of writing."""
    if hasattr(one, "__dataclass_fields__"):
        for part in fields(one):
            if part.name != "created":
                yield from flatten(getattr(one, part.name), f"{name}.{part.name}")
    elif isinstance(one, dict):
        for key, value in one.items():
            yield from flatten(value, f"{name}.{key}")
    elif isinstance(one, tuple) and any(hasattr(inner, "__dataclass_fields__") for inner in one):
        for number, inner in enumerate(one):
            yield from flatten(inner, f"{name}[{number}]")
    else:
        yield name, one


def assert_same(one: Any, other: Any) -> None:
    for (path, value), (other_path, other_value) in zip(flatten(one), flatten(other), strict=True):
        assert path == other_path
        np.testing.assert_equal(value, other_value, err_msg=path)


@pytest.fixture(scope="module")
def unobserved(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    folder = tmp_path_factory.mktemp("unobserved")
    run(plan_study(folder), folder)
    return read_results(folder / "results.h5")


def assert_complete(recorder: Recorder, record: StudyRecord) -> None:
    """Assert that the record at the start and the events make up every trajectory, in order, each epoch once."""
    (started,), (finished,) = recorder.started, recorder.finished
    assert_same(finished.record, record)
    for one in record.trajectories:
        before = next(other for other in started.record.trajectories if other.name == one.name).history
        events = [event for event in recorder.committed if one.name in event.trajectories]
        parts = [event.history for event in events]
        if len(before.epoch):
            parts.insert(0, before)
        assert {event.seed for event in events} <= {one.seed}
        assert all(event.variant == one.variant for event in events)
        assert all(set(event.history.condition) == {event.condition} for event in events)
        assert_same(concatenate_by_hand(parts, one.history), one.history)
    rows = [(event.stage, epoch) for event in recorder.committed for epoch in event.history.epoch.tolist()]
    assert len(rows) == len(set(rows))
    assert all(event.history.epoch.size for event in recorder.committed)


def concatenate_by_hand(parts: list[History], like: History) -> History:
    metrics = {}
    for name, metric in like.metrics.items():
        values = [part.metrics[name].values for part in parts if name in part.metrics]
        stderr = [part.metrics[name].stderr for part in parts if name in part.metrics]
        metrics[name] = replace(metric, values=np.concatenate(values), stderr=np.concatenate(stderr))  # type: ignore[arg-type]
    arrays = {
        one.name: np.concatenate([getattr(part, one.name) for part in parts])
        for one in fields(History)
        if isinstance(getattr(like, one.name), np.ndarray)
    }
    condition = tuple(name for part in parts for name in part.condition)
    return replace(like, condition=condition, metrics=metrics, **arrays)


@pytest.mark.parametrize("commit_seconds", [0.0, 1.0])
def test_every_committed_epoch_is_received_once_and_in_order(
    tmp_path: Path, unobserved: StudyRecord, monkeypatch: pytest.MonkeyPatch, commit_seconds: float
) -> None:
    monkeypatch.setattr(training, "COMMIT_SECONDS", commit_seconds)
    recorder = Recorder(store=tmp_path / "stages")
    record, lines = run(plan_study(tmp_path, recorder), tmp_path)
    assert lines == []
    assert_same(record, unobserved)
    assert_same(read_results(tmp_path / "results.h5"), unobserved)
    assert_complete(recorder, record)
    assert recorder.started[0].folder == tmp_path
    assert not recorder.finished[0].stopped
    most = max(len(event.history.epoch) for event in recorder.committed)
    assert most == 1 if commit_seconds == 0 else most > 1


def test_epochs_of_local_processes_are_received(tmp_path: Path, unobserved: StudyRecord) -> None:
    recorder = Recorder()
    record, lines = run(plan_study(tmp_path, recorder), tmp_path, start_processes([EXACT, EXACT]))
    assert lines == []
    assert_same(record, unobserved)
    assert_complete(recorder, record)


@pytest.mark.long
@pytest.mark.needs_extra("ray")
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_epochs_of_ray_actors_are_received(tmp_path: Path, unobserved: StudyRecord) -> None:
    from cpframe.execution.executors.ray_actors import start_ray_actors

    recorder = Recorder()
    executor = start_ray_actors("ray", 1, 1, EXACT, tmp_path / "stages")
    record, lines = run(plan_study(tmp_path, recorder), tmp_path, executor)
    assert lines == []
    assert_same(record, unobserved)
    assert_complete(recorder, record)


def test_a_stopped_run_and_the_next_one_give_complete_curves(
    tmp_path: Path, unobserved: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "COMMIT_SECONDS", 0.0)
    count = 0

    def stop(event: Event) -> None:
        nonlocal count
        count += isinstance(event, EpochDone)
        if count == 20:
            raise Stopped(2)

    first = Recorder()
    with pytest.raises(Stopped):
        run(plan_study(tmp_path, first), tmp_path, act=stop)
    (finished,) = first.finished
    assert finished.stopped
    assert {one.status for one in finished.record.trajectories} > {"unfinished"}
    assert_complete(first, finished.record)
    second = Recorder()
    record, _ = run(plan_study(tmp_path, second), tmp_path)
    assert_same(record, unobserved)
    assert_same(second.started[0].record, finished.record)
    assert_complete(second, record)
    assert not second.finished[0].stopped


def test_a_finished_study_is_in_the_record_that_a_run_starts_with(tmp_path: Path, unobserved: StudyRecord) -> None:
    run(plan_study(tmp_path), tmp_path)
    recorder = Recorder()
    run(plan_study(tmp_path, recorder), tmp_path)
    assert_same(recorder.started[0].record, unobserved)
    assert recorder.committed == []
    assert_complete(recorder, unobserved)


def test_the_descendants_of_a_lost_stage_are_received_after_it(tmp_path: Path, unobserved: StudyRecord) -> None:
    """Stages in the middle of trajectories are missing from the store, their descendants are not."""
    study = plan_study(tmp_path)
    run(study, tmp_path)
    parents = {stage.parent for stage in study.stages.values()}
    lost = [stage for stage in study.stages.values() if stage.parent and stage.id in parents]
    assert lost
    for stage in lost:
        shutil.rmtree(stage_folder(tmp_path / "stages", stage.id))
    recorder = Recorder()
    record, _ = run(plan_study(tmp_path, recorder), tmp_path)
    assert_same(record, unobserved)
    assert_complete(recorder, record)
    assert {event.stage for event in recorder.committed} > {stage.id for stage in lost}


def test_observers_are_not_part_of_stage_ids(tmp_path: Path) -> None:
    assert plan_study(tmp_path).stages.keys() == plan_study(tmp_path, Recorder()).stages.keys()


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@dataclass(frozen=True)
class Misbehaving:
    """Calls a function in one of its methods."""

    at: str
    action: Callable[[], object]

    def __call__(self, run: RunStarted) -> Misbehaving:
        return self._act("call")

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        self._act("epochs_committed")

    def run_finished(self, finished: RunFinished) -> None:
        self._act("run_finished")

    def _act(self, at: str) -> Misbehaving:
        if at == self.at:
            self.action()
        return self


def raise_error(error: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("at", ["call", "epochs_committed", "run_finished"])
@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (raise_error(ValueError("two\nlines [/] of %s")), r"ValueError: two lines [/] of %s"),
        (sys.exit, "SystemExit"),
        (raise_error(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raise_error(UnprintableError()), "UnprintableError"),
    ],
)
def test_an_observer_that_raises_is_reported_and_harms_nothing(
    tmp_path: Path, unobserved: StudyRecord, at: str, action: Callable[[], object], reason: str
) -> None:
    recorder = Recorder()
    record, lines = run(plan_study(tmp_path, Misbehaving(at, action), recorder), tmp_path)
    assert_same(record, unobserved)
    assert_same(read_results(tmp_path / "results.h5"), unobserved)
    assert len(lines) == 1
    assert lines[0].startswith("observer number0: failed and receives nothing more: ")
    assert reason in lines[0]
    assert_complete(recorder, record)  # the other observer


@pytest.mark.parametrize("at", ["call", "epochs_committed", "run_finished"])
def test_an_observer_that_hangs_is_abandoned(tmp_path: Path, unobserved: StudyRecord, at: str) -> None:
    release = Flag()
    abandoned: list[Thread] = []
    record, lines = run(plan_study(tmp_path, Misbehaving(at, release.wait), wait=0.3), tmp_path, abandoned=abandoned)
    assert_same(record, unobserved)
    epochs = sum(stage.epochs for stage in plan_study(tmp_path).stages.values())
    # The epochs of the call that hangs are counted.
    missed = "" if at == "run_finished" else f"; it has missed at least {epochs} epochs"
    reason = "abandoned because it did not finish within 0.3 s after the run (see `wait`)"
    assert lines == [f"observer number0: {reason}{missed}"]
    assert [(thread.name, thread.is_alive()) for thread in abandoned] == [("observer number0", True)]
    release.set()


def test_an_observer_that_hangs_is_abandoned_when_the_run_ends_by_an_exception(tmp_path: Path) -> None:
    release = Flag()
    abandoned: list[Thread] = []

    def stop(event: Event) -> None:
        raise Stopped(2)

    study = plan_study(tmp_path, Recorder(), Misbehaving("run_finished", release.wait), wait=0.3)
    with pytest.raises(Stopped):
        run(study, tmp_path, act=stop, abandoned=abandoned)
    assert [(thread.name, thread.is_alive()) for thread in abandoned] == [("observer number1", True)]
    release.set()


def test_a_slow_observer_misses_the_epochs_for_which_the_queue_is_full(
    tmp_path: Path, unobserved: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observers_module, "_QUEUE_SIZE", 2)
    done = Flag()
    recorder = Recorder()

    @dataclass(frozen=True)
    class Slow:
        def __call__(self, run: RunStarted) -> Recorder:
            done.wait()
            return recorder(run)

    study = plan_study(tmp_path, Slow())
    total = sum(stage.epochs for stage in study.stages.values())
    seen = 0

    def release(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, EpochDone)
        if seen == total:
            done.set()

    record, lines = run(study, tmp_path, act=release)
    received = sum(len(event.history.epoch) for event in recorder.committed)
    assert 0 < received < total
    assert lines == [
        f"observer number0: too slow to receive {total - received} epochs when they were committed; "
        "it received them in the record at the end of the run"
    ]
    assert_same(recorder.finished[0].record, record)


@dataclass(frozen=True)
class Meddler:
    """Changes torch's global settings, as early and as often as it can."""

    done: list[str] = field(default_factory=list)

    def __call__(self, run: RunStarted) -> Meddler:
        return self._meddle()

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        self._meddle()

    def run_finished(self, finished: RunFinished) -> None:
        self._meddle()

    def _meddle(self) -> Meddler:
        torch.manual_seed(0)
        torch.set_default_dtype(torch.float64)
        self.done.append("meddled")
        return self


def test_changes_to_torch_by_an_observer_do_not_affect_training(tmp_path: Path) -> None:
    spec = plan_study(tmp_path, meddler := Meddler()).spec
    rng_state = torch.get_rng_state()
    try:
        for name, observers in (("unobserved", ()), ("observed", spec.observers)):
            options = RunOptions(out=tmp_path / name, data=tmp_path, workers=1, device="cpu")
            outcome = run_command(replace(spec, observers=observers), options, notes_console(), [])
            assert not outcome.failures
            shutil.rmtree(tmp_path / ".stages")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_rng_state(rng_state)
    assert meddler.done
    assert_same(
        read_results(tmp_path / "observed" / "results.h5"), read_results(tmp_path / "unobserved" / "results.h5")
    )


@contextmanager
def write_spec(folder: Path, text: str) -> Iterator[Path]:
    path = folder / "spec.toml"
    path.write_text(SPEC + text)
    yield path


def problems(folder: Path, text: str, catalogue: Catalogue = CATALOGUE) -> list[str]:
    with write_spec(folder, text) as path, pytest.raises(SpecError) as error:
        read_spec(path, catalogue)
    return [str(problem).removeprefix(f"{folder}/") for problem in error.value.problems]


@pytest.mark.needs_extra("tensorboard", "mlflow", "wandb")
def test_an_invalid_observer_is_reported_at_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    line = len(SPEC.splitlines())
    for text, why in (
        (
            'use = "tensorbord"',
            f"{line + 2}: observers.tb.use: unknown observer 'tensorbord'; did you mean",
        ),
        ('use = "wandb"\nmode = "on"', f"{line + 3}: observers.tb.mode: must be 'offline' or 'online', not \"on\""),
        ('use = "tensorboard"\nwait = -1', f"{line + 3}: observers.tb.wait: must be at least 0, not -1"),
        ('use = "mlflow"\nexperiment = ""', f"{line + 3}: observers.tb.experiment: `experiment` must not be empty"),
    ):
        (problem,) = problems(tmp_path, f"[observers.tb]\n{text}\n")
        assert problem.startswith(f"spec.toml:{why}"), problem
    (problem,) = problems(tmp_path, '[observers]\ntb = "tensorboard"\n')
    assert 'observers.tb: must be a table with use = "..."' in problem
    monkeypatch.setattr("cpframe_plugins.observers.curves.find_spec", lambda package: None)
    for name in ("tensorboard", "mlflow", "wandb"):
        (problem,) = problems(tmp_path, f'[observers.tb]\nuse = "{name}"\n')
        assert f"spec.toml:{line + 2}: observers.tb.use: " in problem
        assert f"pip install 'cpframe[{name}]'" in problem


@pytest.mark.needs_extra("tensorboard", "mlflow", "wandb")
def test_two_identical_observers_are_refused(tmp_path: Path) -> None:
    line = len(SPEC.splitlines())
    same = '[observers.one]\nuse = "wandb"\nproject = "eyes"\n[observers.two]\nuse = "wandb"\nproject = "{}"\n{}'
    # Writing out a default, or another `wait`, does not make an observer different.
    (problem,) = problems(tmp_path, same.format("eyes", 'mode = "offline"\nwait = 3\n'))
    assert problem.startswith(
        f"spec.toml:{line + 4}: observers.two: repeats observers.one, so both would write to the same place;"
    )
    assert "change a parameter" in problem
    with write_spec(tmp_path, same.format("ears", "") + '[observers.three]\nuse = "tensorboard"\n') as path:
        assert len(read_spec(path, CATALOGUE).observers) == 3


@pytest.mark.needs_extra("tensorboard")
def test_an_observer_set_on_the_command_line(tmp_path: Path) -> None:
    with write_spec(tmp_path, "") as path:
        spec = read_spec(path, CATALOGUE, None, ["observers.tb.use=tensorboard", "observers.tb.wait=5"])
    (observer,) = spec.observers
    assert (observer.name, observer.component.use, observer.options.wait) == ("tb", "cpframe_plugins/tensorboard", 5.0)


def test_the_history_after_an_epoch(unobserved: StudyRecord) -> None:
    history = unobserved.trajectories[-1].history
    rest = rows_after(history, 2)
    assert rest.epoch.tolist() == [3, 4]
    assert rest.measured_epoch.tolist() == [4]
    assert rest.condition == history.condition[2:]
    np.testing.assert_array_equal(rest.metrics["fisher"].values, history.metrics["fisher"].values[-1:])
