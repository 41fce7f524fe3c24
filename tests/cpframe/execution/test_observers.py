"""Observers see every committed epoch, and nothing that they do shows in a run."""

from __future__ import annotations

import io
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from cpframe.api import EpochsCommitted, RunFinished, RunStarted
from cpframe.commands.run import run_spec
from cpframe.commands.signals import Stopped
from cpframe.errors import SpecError
from cpframe.execution import observers as observing
from cpframe.execution.executors import Executor
from cpframe.execution.executors.inline import Inline
from cpframe.execution.executors.processes import processes
from cpframe.execution.observers import observed
from cpframe.execution.progress import read_progress
from cpframe.execution.scheduler import run_study
from cpframe.execution.workspace import Workspace
from cpframe.numerics import Numerics
from cpframe.plan.stages import Study, plan
from cpframe.plugins.discovery import Catalogue, discover
from cpframe.records.histories import rows_after
from cpframe.records.model import History, StudyRecord
from cpframe.spec.model import Component, Observer, ObserverOptions
from cpframe.spec.reader import read_spec
from cpframe.store import read_results, read_stage, stage_folder
from cpframe.training import stage as training
from cpframe.training.job import EpochDone, Event

EXACT = Numerics("cpu", "exact", "float32")
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
    """Keeps what it is told, and looks whether it lies in the store."""

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


def planned(folder: Path, *calls: Any, wait: float = 30.0) -> Study:
    path = folder / "small.toml"
    path.write_text(SPEC)
    observers = tuple(
        Observer(f"number{number}", Component("test/observer", "", call), ObserverOptions(wait))
        for number, call in enumerate(calls)
    )
    return plan(replace(read_spec(path, CATALOGUE), observers=observers), {})


def place_of(folder: Path) -> Workspace:
    return Workspace(folder, folder / "stages", folder, EXACT, {"device": "cpu"})


def run(
    study: Study, folder: Path, crew: Executor | None = None, act: Callable[[Event], None] = lambda _: None
) -> tuple[StudyRecord, list[str]]:
    """Run a study with its observers; gives the record and the lines that are told."""
    said = io.StringIO()
    workspace = place_of(folder)
    progress = read_progress(study, workspace)
    with observed(progress, workspace, Console(file=said, width=500)) as observe:

        def both(event: Event) -> None:
            observe(event)
            act(event)

        record = run_study(progress, workspace, crew or Inline(EXACT), both)
    return record, said.getvalue().splitlines()


def flat(one: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value of a record, by where it is; not the time of writing."""
    if hasattr(one, "__dataclass_fields__"):
        for part in fields(one):
            if part.name != "created":
                yield from flat(getattr(one, part.name), f"{name}.{part.name}")
    elif isinstance(one, dict):
        for key, value in one.items():
            yield from flat(value, f"{name}.{key}")
    elif isinstance(one, tuple) and any(hasattr(inner, "__dataclass_fields__") for inner in one):
        for number, inner in enumerate(one):
            yield from flat(inner, f"{name}[{number}]")
    else:
        yield name, one


def assert_same(one: Any, other: Any) -> None:
    for (where, mine), (its_place, its) in zip(flat(one), flat(other), strict=True):
        assert where == its_place
        np.testing.assert_equal(mine, its, err_msg=where)


@pytest.fixture(scope="module")
def unobserved(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    folder = tmp_path_factory.mktemp("unobserved")
    run(planned(folder), folder)
    return read_results(folder / "results.h5")


def assert_whole(recorder: Recorder, record: StudyRecord) -> None:
    """What the run started with and what was told make up every trajectory, in order, each epoch once."""
    (started,), (finished,) = recorder.started, recorder.finished
    assert_same(finished.record, record)
    for one in record.trajectories:
        before = next(other for other in started.record.trajectories if other.name == one.name).history
        told = [notice for notice in recorder.committed if one.name in notice.trajectories]
        parts = [before, *(notice.history for notice in told)] if len(before.epoch) else [n.history for n in told]
        assert {notice.seed for notice in told} <= {one.seed}
        assert all(notice.variant == one.variant for notice in told)
        assert all(set(notice.history.condition) == {notice.condition} for notice in told)
        assert_same(joined_by_hand(parts, one.history), one.history)
    rows = [(notice.stage, epoch) for notice in recorder.committed for epoch in notice.history.epoch.tolist()]
    assert len(rows) == len(set(rows))
    assert all(notice.history.epoch.size for notice in recorder.committed)


def joined_by_hand(parts: list[History], like: History) -> History:
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
def test_every_committed_epoch_is_told_once_and_in_order(
    tmp_path: Path, unobserved: StudyRecord, monkeypatch: pytest.MonkeyPatch, commit_seconds: float
) -> None:
    monkeypatch.setattr(training, "COMMIT_SECONDS", commit_seconds)
    recorder = Recorder(store=tmp_path / "stages")
    record, lines = run(planned(tmp_path, recorder), tmp_path)
    assert lines == []
    assert_same(record, unobserved)
    assert_same(read_results(tmp_path / "results.h5"), unobserved)
    assert_whole(recorder, record)
    assert recorder.started[0].folder == tmp_path
    assert not recorder.finished[0].stopped
    most = max(len(notice.history.epoch) for notice in recorder.committed)
    assert most == 1 if commit_seconds == 0 else most > 1


def test_of_local_processes_as_well(tmp_path: Path, unobserved: StudyRecord) -> None:
    recorder = Recorder()
    record, lines = run(planned(tmp_path, recorder), tmp_path, processes([EXACT, EXACT]))
    assert lines == []
    assert_same(record, unobserved)
    assert_whole(recorder, record)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:subprocess .* is still running:ResourceWarning")
def test_of_ray_as_well(tmp_path: Path, unobserved: StudyRecord) -> None:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'cpframe[ray]'")
    from cpframe.execution.executors.ray_actors import ray_actors

    recorder = Recorder()
    crew = ray_actors("ray", 1, 1, EXACT, tmp_path / "stages")
    record, lines = run(planned(tmp_path, recorder), tmp_path, crew)
    assert lines == []
    assert_same(record, unobserved)
    assert_whole(recorder, record)


def test_a_stopped_run_and_the_next_one_give_whole_curves(
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
        run(planned(tmp_path, first), tmp_path, act=stop)
    (finished,) = first.finished
    assert finished.stopped
    assert {one.status for one in finished.record.trajectories} > {"unfinished"}
    assert_whole(first, finished.record)
    second = Recorder()
    record, _ = run(planned(tmp_path, second), tmp_path)
    assert_same(record, unobserved)
    assert_same(second.started[0].record, finished.record)
    assert_whole(second, record)
    assert not second.finished[0].stopped


def test_a_finished_study_is_in_the_record_that_a_run_starts_with(tmp_path: Path, unobserved: StudyRecord) -> None:
    run(planned(tmp_path), tmp_path)
    recorder = Recorder()
    run(planned(tmp_path, recorder), tmp_path)
    assert_same(recorder.started[0].record, unobserved)
    assert recorder.committed == []
    assert_whole(recorder, unobserved)


def test_what_follows_a_lost_stage_is_told_after_it(tmp_path: Path, unobserved: StudyRecord) -> None:
    """A stage in the middle of trajectories is gone, those after it are not."""
    study = planned(tmp_path)
    run(study, tmp_path)
    parents = {stage.parent for stage in study.stages.values()}
    lost = [stage for stage in study.stages.values() if stage.parent and stage.id in parents]
    assert lost
    for stage in lost:
        shutil.rmtree(stage_folder(tmp_path / "stages", stage.id))
    recorder = Recorder()
    record, _ = run(planned(tmp_path, recorder), tmp_path)
    assert_same(record, unobserved)
    assert_whole(recorder, record)
    assert {notice.stage for notice in recorder.committed} > {stage.id for stage in lost}


def test_observers_are_no_part_of_what_a_stage_is(tmp_path: Path) -> None:
    assert planned(tmp_path).stages.keys() == planned(tmp_path, Recorder()).stages.keys()


class WordlessError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even a word")


@dataclass(frozen=True)
class Unruly:
    """Does its worst at one of its calls."""

    at: str
    what: Callable[[], object]

    def __call__(self, run: RunStarted) -> Unruly:
        return self._act("call")

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        self._act("epochs_committed")

    def run_finished(self, finished: RunFinished) -> None:
        self._act("run_finished")

    def _act(self, at: str) -> Unruly:
        if at == self.at:
            self.what()
        return self


def raising(error: BaseException) -> Callable[[], object]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize("at", ["call", "epochs_committed", "run_finished"])
@pytest.mark.parametrize(
    ("what", "why"),
    [
        (raising(ValueError("two\nlines [/] of %s")), r"ValueError: two lines [/] of %s"),
        (sys.exit, "SystemExit"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raising(WordlessError()), "WordlessError"),
    ],
)
def test_one_that_raises_is_left_out_with_a_line_and_harms_nothing(
    tmp_path: Path, unobserved: StudyRecord, at: str, what: Callable[[], object], why: str
) -> None:
    recorder = Recorder()
    record, lines = run(planned(tmp_path, Unruly(at, what), recorder), tmp_path)
    assert_same(record, unobserved)
    assert_same(read_results(tmp_path / "results.h5"), unobserved)
    assert len(lines) == 1
    assert lines[0].startswith("observer number0: is left out")
    assert why in lines[0]
    assert_whole(recorder, record)  # the other one


@pytest.mark.parametrize("at", ["call", "epochs_committed", "run_finished"])
def test_one_that_never_comes_back_is_left_behind(tmp_path: Path, unobserved: StudyRecord, at: str) -> None:
    release = threading.Event()
    record, lines = run(planned(tmp_path, Unruly(at, release.wait), wait=0.3), tmp_path)
    assert_same(record, unobserved)
    assert len(lines) == 1
    epochs = sum(stage.epochs for stage in planned(tmp_path).stages.values())
    # Those in the call that hangs are among them.
    missing = "" if at == "run_finished" else f"; at least {epochs} epochs are lost to it"
    assert lines == [f"observer number0: is left behind 0.3 s after the run (see `wait`){missing}"]
    release.set()


def test_one_that_is_slow_loses_what_there_is_no_room_for_and_is_told_so(
    tmp_path: Path, unobserved: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "_ROOM", 2)
    done = threading.Event()
    recorder = Recorder()

    @dataclass(frozen=True)
    class Slow:
        def __call__(self, run: RunStarted) -> Recorder:
            done.wait()
            return recorder(run)

    study = planned(tmp_path, Slow())
    total = sum(stage.epochs for stage in study.stages.values())
    seen = 0

    def release(event: Event) -> None:
        nonlocal seen
        seen += isinstance(event, EpochDone)
        if seen == total:
            done.set()

    record, lines = run(study, tmp_path, act=release)
    told = sum(len(notice.history.epoch) for notice in recorder.committed)
    assert 0 < told < total
    assert lines == [
        f"observer number0: was too slow to be told of {total - told} epochs one by one; it had them at the end"
    ]
    assert_same(recorder.finished[0].record, record)


@dataclass(frozen=True)
class Meddler:
    """Sets what is torch's for the whole process, as early and as often as it can."""

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


def test_what_one_does_to_torch_does_not_reach_the_training(tmp_path: Path) -> None:
    spec = planned(tmp_path, meddler := Meddler()).spec
    numbers = torch.get_rng_state()
    try:
        for name, observers in (("alone", ()), ("observed", spec.observers)):
            assert run_spec(replace(spec, observers=observers), tmp_path / name, tmp_path, 1, "cpu")
            shutil.rmtree(tmp_path / ".stages")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_rng_state(numbers)
    assert meddler.done
    assert_same(read_results(tmp_path / "observed" / "results.h5"), read_results(tmp_path / "alone" / "results.h5"))


@contextmanager
def written(folder: Path, text: str) -> Iterator[Path]:
    path = folder / "spec.toml"
    path.write_text(SPEC + text)
    yield path


def problems(folder: Path, text: str, catalogue: Catalogue = CATALOGUE) -> list[str]:
    with written(folder, text) as path, pytest.raises(SpecError) as error:
        read_spec(path, catalogue)
    return [str(problem).removeprefix(f"{folder}/") for problem in error.value.problems]


def test_what_is_wrong_with_an_observer_is_told_at_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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
        (found,) = problems(tmp_path, f"[observers.tb]\n{text}\n")
        assert found.startswith(f"spec.toml:{why}"), found
    (found,) = problems(tmp_path, '[observers]\ntb = "tensorboard"\n')
    assert 'observers.tb: must be a table with use = "..."' in found
    monkeypatch.setattr("cpframe_plugins.observers.curves.find_spec", lambda package: None)
    for name in ("tensorboard", "mlflow", "wandb"):
        (found,) = problems(tmp_path, f'[observers.tb]\nuse = "{name}"\n')
        assert f"spec.toml:{line + 2}: observers.tb.use: " in found
        assert f"pip install 'cpframe[{name}]'" in found


def test_two_observers_that_are_the_same_are_refused(tmp_path: Path) -> None:
    line = len(SPEC.splitlines())
    same = '[observers.one]\nuse = "wandb"\nproject = "eyes"\n[observers.two]\nuse = "wandb"\nproject = "{}"\n{}'
    # The default said, and how long it is waited for, make no other of it.
    (found,) = problems(tmp_path, same.format("eyes", 'mode = "offline"\nwait = 3\n'))
    assert found.startswith(
        f"spec.toml:{line + 4}: observers.two: is the same as observers.one, so both would write to the same place;"
    )
    assert "change a parameter" in found
    with written(tmp_path, same.format("ears", "") + '[observers.three]\nuse = "tensorboard"\n') as path:
        assert len(read_spec(path, CATALOGUE).observers) == 3


def test_an_observer_by_the_command_line(tmp_path: Path) -> None:
    with written(tmp_path, "") as path:
        spec = read_spec(path, CATALOGUE, None, ["observers.tb.use=tensorboard", "observers.tb.wait=5"])
    (observer,) = spec.observers
    assert (observer.name, observer.component.use, observer.options.wait) == ("tb", "cpframe_plugins/tensorboard", 5.0)


def test_rows_after_an_epoch(unobserved: StudyRecord) -> None:
    history = unobserved.trajectories[-1].history
    rest = rows_after(history, 2)
    assert rest.epoch.tolist() == [3, 4]
    assert rest.measured_epoch.tolist() == [4]
    assert rest.condition == history.condition[2:]
    np.testing.assert_array_equal(rest.metrics["fisher"].values, history.metrics["fisher"].values[-1:])
