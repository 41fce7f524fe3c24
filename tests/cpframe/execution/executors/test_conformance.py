"""The contract of every executor: identical results, failures as events or typed errors, retries."""

from __future__ import annotations

import importlib
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
from cpframe.execution.executors.processes import start_processes
from cpframe.plan.stages import plan
from cpframe.records.model import StudyRecord
from cpframe.spec.model import Component, Spec
from cpframe.store import StoreError, read_results, read_stage, read_state
from cpframe.testing import small_spec
from cpframe.testing.training import EXACT, make_job, make_stage, make_workspace, train_study
from cpframe.training.job import EpochDone, Event, Job, StageDone

STEPS = 3  # per epoch: 60 images in batches of 20

# A deficit that workers can import, and that misbehaves as the file `orders` says; each step adds a dot to the file
# `log`. The second epoch begins late enough for the first to be committed.
FAULTY = """
import os, signal, time
from dataclasses import dataclass
from pathlib import Path

@dataclass(frozen=True)
class Faulty:
    folder: Path

    def __call__(self, batch, rng):
        log, orders = self.folder / "log", self.folder / "orders"
        step = len(log.read_text()) if log.exists() else 0
        order = orders.read_text() if orders.exists() else ""
        if order == "raise":
            raise RuntimeError("no output")
        if order == "diverge":
            return batch._replace(inputs=batch.inputs * float("nan"))
        if order.startswith("kill") and step >= 4:
            if order == "kill once":
                orders.unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        if order and step == 2:
            time.sleep(1.1)
        with log.open("a") as file:
            file.write(".")
        return batch._replace(inputs=1 - batch.inputs)
"""


class Shared:
    """An executor that `run_study` does not close, so that several tests use the same workers."""

    def __init__(self, executor: Executor) -> None:
        self.executor, self.wait, self.submit = executor, executor.wait, executor.submit

    @property
    def slots(self) -> int:
        return self.executor.slots

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The module `faulty`, importable in this process and in every worker."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "faulty.py").write_text(FAULTY)
    with pytest.MonkeyPatch.context() as patches:
        patches.syspath_prepend(folder)
        patches.setenv("PYTHONPATH", str(folder), prepend=":")
        yield importlib.import_module("faulty")


@pytest.fixture(scope="module")
def cluster(plugin: Any) -> Iterator[Any]:
    """A Ray cluster on this machine, with two cores."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def all_executors(plugin: Any, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A function that returns an executor by name, with two workers if it can have several, started on first use."""

    @cache
    def executor(name: str) -> Executor:
        if name == "inline":
            return Inline(EXACT)
        if name == "processes":
            return start_processes([EXACT, EXACT])
        request.getfixturevalue("cluster")
        from cpframe.execution.executors.ray_actors import start_ray_actors

        return start_ray_actors("ray", 2, 2, EXACT, tmp_path_factory.mktemp("shared"))

    started: set[str] = set()

    def share(name: str) -> Executor:
        started.add(name)
        return Shared(executor(name))

    yield share
    for name in started:
        executor(name).close()


RAY = pytest.param("ray", marks=[pytest.mark.long, pytest.mark.needs_extra("ray")])


@pytest.fixture(params=["inline", "processes", RAY])
def executor(request: pytest.FixtureRequest, all_executors: Callable[[str], Executor]) -> Executor:
    return all_executors(request.param)


@pytest.fixture(params=["processes", RAY])
def pool(request: pytest.FixtureRequest, all_executors: Callable[[str], Executor]) -> Executor:
    """An executor whose workers can die without this process."""
    return all_executors(request.param)


@pytest.fixture(scope="module")
def spec() -> Spec:
    return small_spec(
        seeds=[0, 1],
        score_epochs=2,
        architecture={"use": "mlp", "sizes": [16], "batchnorm": True},
        optimizer={"use": "adam"},
        training={"batch_size": 20, "augment": {"shift": 1}},
        deficits={"noise": {"use": "noise"}},
        protocols=[{"use": "removal", "until": [0, 2], "recovery": 2}],
        metrics={"fisher": {"use": "fisher-trace", "every": 2, "inputs": 16}},
    )


def run(spec: Spec, folder: Path, executor: Executor, observe: Callable[[Event], None] = lambda _: None) -> StudyRecord:
    folder.mkdir(exist_ok=True)
    return train_study(plan(spec, {}), make_workspace(folder), observe, executor)


def with_deficit(spec: Spec, call: Any, *seeds: int) -> Spec:
    """Return the spec with another deficit in place of the noise."""
    (variant,) = spec.variants
    deficits = {"noise": Component("faulty/faulty", "0", call)}
    return replace(spec, variants=(replace(variant, deficits=deficits),), seeds=seeds or spec.seeds)


def job_of(spec: Spec, folder: Path, name: str, epochs: int = 4, parent: str | None = None, **changes: Any) -> Job:
    start = 0 if parent is None else epochs
    return replace(make_job(make_stage(name, epochs, "noise", parent, start), spec, folder, keep_state=True), **changes)


def wait_for(executor: Executor, *stages: str) -> list[Event]:
    """Wait until these stages are done, and return all events."""
    events: list[Event] = []
    while set(stages) - {event.stage for event in events if isinstance(event, StageDone)}:
        events += executor.wait()
    return events


def failures(events: list[Event]) -> dict[str, str]:
    return {event.stage: event.failure for event in events if isinstance(event, StageDone)}


def epochs(events: list[Event], stage: str) -> list[int]:
    return [event.epoch for event in events if isinstance(event, EpochDone) and event.stage == stage]


def weights(folder: Path) -> list[torch.Tensor]:
    """Return all tensors of a stage's state, those of the model and of the optimizer."""
    record = read_stage(folder)
    assert record is not None
    state = torch.load(io.BytesIO(read_state(folder, record)), weights_only=True)
    moments = [value for one in state["optimizer"]["state"].values() for value in one.values()]
    return [*state["model"].values(), *moments]


def assert_same(one: object, other: object) -> None:
    """Assert that records are identical; nan equals nan, and the time of writing is ignored."""
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


def test_all_results_of_a_study_are_identical_to_inline_training(
    executor: Executor, spec: Spec, tmp_path: Path
) -> None:
    events: list[Event] = []
    record = run(spec, tmp_path / "tested", executor, events.append)
    inline = run(spec, tmp_path / "inline", Inline(EXACT))
    assert {trajectory.status for trajectory in inline.trajectories} == {"complete"}
    assert_same(record, inline)
    assert_same(read_results(tmp_path / "tested" / "results.h5"), inline)
    study = plan(spec, {})
    assert set(failures(events)) == set(study.stages)
    for stage in study.stages.values():
        assert epochs(events, stage.id) == list(range(stage.start + 1, stage.stop + 1))
        assert_same(*(read_stage(make_workspace(tmp_path / name).of(stage.id)) for name in ("tested", "inline")))


def test_all_weights_are_identical_to_inline_training(executor: Executor, spec: Spec, tmp_path: Path) -> None:
    for trainer, name in ((executor, "tested"), (Inline(EXACT), "inline")):
        folder = tmp_path / name
        trainer.submit(job_of(spec, folder, "first"))
        assert failures(wait_for(trainer, "first")) == {"first": ""}
        trainer.submit(job_of(spec, folder, "second", parent="first"))
        assert failures(wait_for(trainer, "second")) == {"second": ""}
    for stage in ("first", "second"):
        tested, inline = weights(tmp_path / "tested" / stage), weights(tmp_path / "inline" / stage)
        assert len(tested) == len(inline) > 8
        assert all(torch.equal(one, other) for one, other in zip(tested, inline, strict=True))


def test_a_plugin_that_raises_fails_only_its_own_stage(
    executor: Executor, spec: Spec, plugin: Any, tmp_path: Path
) -> None:
    (tmp_path / "orders").write_text("raise")
    record = run(with_deficit(spec, plugin.Faulty(tmp_path)), tmp_path / "study", executor)
    assert {one.status for one in record.trajectories if one.deficit == "clean"} == {"complete"}
    reasons = {one.reason for one in record.trajectories if one.deficit == "noise"}
    assert len(reasons) == 1
    assert next(iter(reasons)).startswith("RuntimeError: no output (faulty.py:")


def test_a_training_that_diverges_is_committed_as_failed(
    executor: Executor, spec: Spec, plugin: Any, tmp_path: Path
) -> None:
    (tmp_path / "orders").write_text("diverge")
    executor.submit(job_of(with_deficit(spec, plugin.Faulty(tmp_path)), tmp_path, "stage"))
    failure = failures(wait_for(executor, "stage"))["stage"]
    assert failure == "diverged in epoch 1: the training loss is nan"
    record = read_stage(tmp_path / "stage")
    assert record is not None
    assert (record.status, record.reason) == ("failed", failure)


def test_a_commit_that_cannot_be_written_raises_and_the_executor_stays_usable(
    executor: Executor, spec: Spec, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder")
    executor.submit(job_of(spec, tmp_path / "file", "stage"))
    with pytest.raises(StoreError, match=r"file/stage: cannot be written: Not a directory"):
        wait_for(executor, "stage")
    executor.submit(job_of(spec, tmp_path, "stage"))
    assert failures(wait_for(executor, "stage")) == {"stage": ""}


def test_a_stage_whose_worker_is_killed_continues_from_its_last_commit(
    pool: Executor, spec: Spec, plugin: Any, tmp_path: Path
) -> None:
    job = job_of(with_deficit(spec, plugin.Faulty(tmp_path)), tmp_path, "stage")
    (tmp_path / "orders").write_text("kill once")
    pool.submit(job)
    events = wait_for(pool, "stage")
    assert failures(events) == {"stage": ""}
    assert epochs(events, "stage")[-1] == 4
    assert epochs(events, "stage") == sorted(set(epochs(events, "stage")))
    # The worker died in the second step of the second epoch, so only the first step of that epoch was repeated.
    assert len((tmp_path / "log").read_text()) == 4 * STEPS + 1
    reference = tmp_path / "reference"
    reference.mkdir()
    inline = Inline(EXACT)
    inline.submit(job_of(with_deficit(spec, plugin.Faulty(reference)), reference, "stage"))
    wait_for(inline, "stage")
    assert_same(read_stage(tmp_path / "stage"), read_stage(reference / "stage"))
    pairs = zip(weights(tmp_path / "stage"), weights(reference / "stage"), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_stage_whose_workers_keep_dying_fails_and_its_siblings_continue(
    pool: Executor, spec: Spec, plugin: Any, tmp_path: Path
) -> None:
    orders = tmp_path / "orders"
    orders.write_text("kill")
    faulty = with_deficit(spec, plugin.Faulty(tmp_path), 0)
    record = run(faulty, tmp_path / "study", pool)
    (failed,) = [one for one in record.trajectories if one.deficit == "noise"]
    assert failed.status == "failed"
    assert failed.reason.startswith("its worker died 3 times at the same epoch: ")
    assert {one.status for one in record.trajectories if one.deficit == "clean"} == {"complete"}
    assert pool.slots == 2
    # The failure is not committed: the next run tries the stage again.
    orders.unlink()
    again = run(faulty, tmp_path / "study", pool)
    assert {one.status for one in again.trajectories} == {"complete"}
    assert_same(again, run(faulty, tmp_path / "inline", Inline(EXACT)))
