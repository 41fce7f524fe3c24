"""What every executor promises, whichever it is: the same bits, typed failures, retries, cancelling."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cpframe.execution.executors import Executor
from cpframe.execution.executors.inline import Inline
from cpframe.execution.executors.processes import processes
from cpframe.execution.progress import read_progress
from cpframe.execution.scheduler import run_study
from cpframe.execution.workspace import Workspace
from cpframe.numerics import Numerics
from cpframe.plan.stages import Stage, plan
from cpframe.plugins.discovery import discover
from cpframe.records.model import StudyRecord
from cpframe.spec.model import Component, Spec
from cpframe.spec.reader import read_spec
from cpframe.store import StoreError, read_results, read_stage, read_state
from cpframe.training.job import EpochDone, Event, Job, StageDone

EXACT = Numerics("cpu", "exact", "float32")
NO_RAY = "Ray is not installed: pip install 'cpframe[ray]'"
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
batchnorm = true
[optimizer]
use = "adam"
[training]
batch_size = 20
augment = { shift = 1 }
[deficits.noise]
use = "noise"
[[protocols]]
use = "removal"
until = [0, 2]
recovery = 2
[metrics.fisher]
use = "fisher-trace"
every = 2
inputs = 16
"""
STEPS = 3  # of an epoch: 60 images in batches of 20

# A deficit that workers can import, and that does strange things while its file says so; each step leaves a line in
# `log`. The second epoch begins late enough for the first to be committed.
STRANGE = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path

@dataclass(frozen=True)
class Strange:
    folder: Path

    def __call__(self, batch, rng):
        log, orders = self.folder / "log", self.folder / "orders"
        step = len(log.read_text()) if log.exists() else 0
        order = orders.read_text() if orders.exists() else ""
        if order == "raise":
            raise RuntimeError("out of ideas")
        if order == "diverge":
            return batch._replace(inputs=batch.inputs * float("nan"))
        if order.startswith("die") and step >= 4:
            if order == "die once":
                orders.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if order and step == 2:
            time.sleep(1.1)
        with log.open("a") as file:
            file.write(".")
        return batch._replace(inputs=1 - batch.inputs)
"""

Make = Callable[[], Executor]


class Lent:
    """An executor that stays open when a study is done with it, so that workers start but once."""

    def __init__(self, executor: Executor) -> None:
        self.executor, self.wait = executor, executor.wait
        self.submit, self.cancel = executor.submit, executor.cancel

    @property
    def slots(self) -> int:
        return self.executor.slots

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module `strange`, where this process and every worker finds it."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "strange.py").write_text(STRANGE)
    with pytest.MonkeyPatch.context() as patches:
        patches.syspath_prepend(folder)
        patches.setenv("PYTHONPATH", str(folder), prepend=":")
        yield importlib.import_module("strange")


@pytest.fixture(scope="module")
def cluster(plugin: Any) -> Iterator[Any]:
    """A real Ray on this machine, with two cores."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip(NO_RAY)
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def all_executors(plugin: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Executors by name, with two workers where they can have more than one, each started when it is first wanted."""

    @cache
    def executor(name: str) -> Executor:
        if name == "inline":
            return Inline(EXACT)
        if name == "processes":
            return processes([EXACT, EXACT])
        request.getfixturevalue("cluster")
        from cpframe.execution.executors.ray_actors import ray_actors

        return ray_actors("ray", 2, 2, EXACT, tmp_path_factory.mktemp("shared"))

    started: set[str] = set()

    def lent(name: str) -> Executor:
        started.add(name)
        return Lent(executor(name))

    yield lent
    for name in started:
        executor(name).close()


RAY = pytest.param("ray", marks=pytest.mark.long)


@pytest.fixture(params=["inline", "processes", RAY])
def executor(request: pytest.FixtureRequest, all_executors: Callable[[str], Executor]) -> Executor:
    return all_executors(request.param)


@pytest.fixture(params=["processes", RAY])
def mortal(request: pytest.FixtureRequest, all_executors: Callable[[str], Executor]) -> Executor:
    """One whose workers can die without this process."""
    return all_executors(request.param)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    path = tmp_path_factory.mktemp("spec") / "small.toml"
    path.write_text(SPEC)
    return read_spec(path, discover())


def place_of(folder: Path) -> Workspace:
    folder.mkdir(exist_ok=True)
    return Workspace(folder, folder / "stages", folder, EXACT, {})


def run(spec: Spec, folder: Path, executor: Executor, observe: Callable[[Event], None] = lambda _: None) -> StudyRecord:
    workspace = place_of(folder)
    return run_study(read_progress(plan(spec, {}), workspace), workspace, executor, observe)


def strange(spec: Spec, call: Any, *seeds: int) -> Spec:
    """The spec with a strange deficit in the place of the noise."""
    (variant,) = spec.variants
    deficits = {"noise": Component("strange/strange", "0", call)}
    return replace(spec, variants=(replace(variant, deficits=deficits),), seeds=seeds or spec.seeds)


def job_of(spec: Spec, folder: Path, name: str, epochs: int = 4, parent: str | None = None, **changes: Any) -> Job:
    start = 0 if parent is None else epochs
    rates = (0.01,) * epochs
    stage = Stage(name, parent, 0, 0, "noise", start, start + epochs, rates, restart_state=False)
    parent_folder = None if parent is None else folder / parent
    job = Job(stage, spec.variants[0], spec.metrics, EXACT, folder, folder / name, parent_folder, keep_state=True)
    return replace(job, **changes)


def until_done(executor: Executor, *stages: str) -> list[Event]:
    """Wait until these stages are done; everything that happened."""
    events: list[Event] = []
    while set(stages) - {event.stage for event in events if isinstance(event, StageDone)}:
        events += executor.wait()
    return events


def failures(events: list[Event]) -> dict[str, str]:
    return {event.stage: event.failure for event in events if isinstance(event, StageDone)}


def epochs(events: list[Event], stage: str) -> list[int]:
    return [event.epoch for event in events if isinstance(event, EpochDone) and event.stage == stage]


def weights(folder: Path) -> list[torch.Tensor]:
    """Every tensor of a stage's state: of the model and of the optimizer."""
    record = read_stage(folder)
    assert record is not None
    state = torch.load(io.BytesIO(read_state(folder, record)), weights_only=True)
    moments = [value for one in state["optimizer"]["state"].values() for value in one.values()]
    return [*state["model"].values(), *moments]


def assert_same(one: object, other: object) -> None:
    """The same records, bit for bit; nan is equal to nan, and the time of writing does not count."""
    if isinstance(one, tuple | list):
        assert isinstance(other, type(one))
        for mine, its in zip(one, other, strict=True):
            assert_same(mine, its)
    elif hasattr(one, "__dataclass_fields__"):
        assert type(one) is type(other)
        for part in fields(one):  # type: ignore[arg-type]
            if part.name not in ("created", "digest", "state"):
                assert_same(getattr(one, part.name), getattr(other, part.name))
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        assert_same(tuple(one.values()), tuple(other.values()))
    else:
        np.testing.assert_equal(one, other)


def test_every_number_of_a_study_has_the_bits_of_one_trained_here(
    executor: Executor, spec: Spec, tmp_path: Path
) -> None:
    told: list[Event] = []
    record = run(spec, tmp_path / "it", executor, told.append)
    here = run(spec, tmp_path / "here", Inline(EXACT))
    assert {one.status for one in here.trajectories} == {"complete"}
    assert_same(record, here)
    assert_same(read_results(tmp_path / "it" / "results.h5"), here)
    study = plan(spec, {})
    assert set(failures(told)) == set(study.stages)
    for stage in study.stages.values():
        assert epochs(told, stage.id) == list(range(stage.start + 1, stage.stop + 1))
        assert_same(*(read_stage(place_of(tmp_path / name).of(stage.id)) for name in ("it", "here")))


def test_every_weight_has_the_bits_of_one_trained_here(executor: Executor, spec: Spec, tmp_path: Path) -> None:
    for where, name in ((executor, "it"), (Inline(EXACT), "here")):
        folder = tmp_path / name
        where.submit(job_of(spec, folder, "first"))
        assert failures(until_done(where, "first")) == {"first": ""}
        where.submit(job_of(spec, folder, "second", parent="first"))
        assert failures(until_done(where, "second")) == {"second": ""}
    for stage in ("first", "second"):
        mine, its = weights(tmp_path / "it" / stage), weights(tmp_path / "here" / stage)
        assert len(mine) == len(its) > 8
        assert all(torch.equal(one, other) for one, other in zip(mine, its, strict=True))


def test_a_plugin_that_raises_fails_its_stage_alone(
    executor: Executor, spec: Spec, plugin: Any, tmp_path: Path
) -> None:
    (tmp_path / "orders").write_text("raise")
    told: list[Event] = []
    record = run(strange(spec, plugin.Strange(tmp_path)), tmp_path / "it", executor, told.append)
    assert {one.status for one in record.trajectories if one.deficit == "clean"} == {"complete"}
    reasons = {one.reason for one in record.trajectories if one.deficit == "noise"}
    assert len(reasons) == 1
    assert next(iter(reasons)).startswith("RuntimeError: out of ideas (strange.py:")


def test_a_training_that_diverges_is_committed_as_failed(
    executor: Executor, spec: Spec, plugin: Any, tmp_path: Path
) -> None:
    (tmp_path / "orders").write_text("diverge")
    executor.submit(job_of(strange(spec, plugin.Strange(tmp_path)), tmp_path, "stage"))
    failure = failures(until_done(executor, "stage"))["stage"]
    assert failure == "diverged in epoch 1: the training loss is nan"
    record = read_stage(tmp_path / "stage")
    assert record is not None
    assert (record.status, record.reason) == ("failed", failure)


def test_a_commit_that_cannot_be_written_is_raised_and_the_executor_goes_on(
    executor: Executor, spec: Spec, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    executor.submit(job_of(spec, tmp_path / "file", "stage"))
    with pytest.raises(StoreError, match=r"file/stage: cannot be written: Not a directory"):
        until_done(executor, "stage")
    executor.submit(job_of(spec, tmp_path, "stage"))
    assert failures(until_done(executor, "stage")) == {"stage": ""}


def test_a_cancelled_stage_is_heard_of_no_more_and_its_slot_is_free(
    executor: Executor, spec: Spec, tmp_path: Path
) -> None:
    executor.submit(job_of(spec, tmp_path, "long", 100_000))
    assert epochs(executor.wait(), "long")[0] == 1
    executor.cancel("long")
    executor.cancel("never heard of")
    names = [f"short{number}" for number in range(executor.slots)]
    for name in names:
        executor.submit(job_of(spec, tmp_path, name))
    events = until_done(executor, *names)
    assert {event.stage for event in events} == set(names)
    record = read_stage(tmp_path / "long")
    assert record is None or record.status == "unfinished"


def test_a_stage_whose_worker_is_killed_goes_on_from_its_last_commit(
    mortal: Executor, spec: Spec, plugin: Any, tmp_path: Path
) -> None:
    job = job_of(strange(spec, plugin.Strange(tmp_path)), tmp_path, "stage")
    (tmp_path / "orders").write_text("die once")
    mortal.submit(job)
    events = until_done(mortal, "stage")
    assert failures(events) == {"stage": ""}
    assert epochs(events, "stage")[-1] == 4
    assert epochs(events, "stage") == sorted(set(epochs(events, "stage")))
    # It died in the second step of the second epoch: only the first step of that was made twice.
    assert len((tmp_path / "log").read_text()) == 4 * STEPS + 1
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    here = Inline(EXACT)
    here.submit(job_of(strange(spec, plugin.Strange(undisturbed)), undisturbed, "stage"))
    until_done(here, "stage")
    assert_same(read_stage(tmp_path / "stage"), read_stage(undisturbed / "stage"))
    pairs = zip(weights(tmp_path / "stage"), weights(undisturbed / "stage"), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_stage_that_keeps_dying_fails_with_its_reason_and_its_siblings_go_on(
    mortal: Executor, spec: Spec, plugin: Any, tmp_path: Path
) -> None:
    orders = tmp_path / "orders"
    orders.write_text("die")
    sick = strange(spec, plugin.Strange(tmp_path), 0)
    record = run(sick, tmp_path / "it", mortal)
    (failed,) = [one for one in record.trajectories if one.deficit == "noise"]
    assert failed.status == "failed"
    assert failed.reason.startswith("its worker ")
    assert failed.reason.endswith(", 3 times at the same epoch")
    assert {one.status for one in record.trajectories if one.deficit == "clean"} == {"complete"}
    assert mortal.slots == 2
    # Nothing about it is committed as failed: the next run tries it again.
    orders.unlink()
    again = run(sick, tmp_path / "it", mortal)
    assert {one.status for one in again.trajectories} == {"complete"}
    assert_same(again, run(sick, tmp_path / "here", Inline(EXACT)))
