"""Executors: in this process and in several, the same bits; and what happens when workers die."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpframe.engine import Place, run_study, survey
from cpframe.executors.inline import Inline
from cpframe.executors.processes import Processes
from cpframe.numerics import Numerics
from cpframe.plan import Stage, plan
from cpframe.plugins import discover
from cpframe.reading import read_spec
from cpframe.spec import Component, Spec, Variant
from cpframe.store import StoreError, read_results, read_stage
from cpframe.training import EpochDone, Event, Job, StageDone

EXACT = Numerics("cpu", "exact", "float32")
CATALOGUE = discover()
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

# A plugin that workers can import: while its file is there, it kills its process in the second epoch of a stage.
DEADLY = """
import os, signal
from dataclasses import dataclass
from pathlib import Path

calls = 0

@dataclass(frozen=True)
class Deadly:
    file: Path

    def __call__(self, batch, rng):
        global calls
        calls += 1
        if calls > 3 and self.file.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        return batch._replace(inputs=1 - batch.inputs)
"""


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> Spec:
    path = tmp_path_factory.mktemp("spec") / "small.toml"
    path.write_text(SPEC)
    return read_spec(path, CATALOGUE)


@pytest.fixture(scope="module")
def workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    """Two worker processes, which start but once; they find the module `deadly` as they find any plugin."""
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "deadly.py").write_text(DEADLY)
    with pytest.MonkeyPatch.context() as patches:
        patches.syspath_prepend(folder)
        executor = Processes(2, EXACT)
        yield executor
        executor.close()


class Lent:
    """An executor that stays open when a study is done with it."""

    def __init__(self, executor: Processes) -> None:
        self.executor, self.slots = executor, executor.slots

    def submit(self, job: Job) -> None:
        self.executor.submit(job)

    def wait(self) -> list[Event]:
        return self.executor.wait()

    def close(self) -> None:
        pass


def place_of(folder: Path) -> Place:
    return Place(folder, folder / "stages", folder, EXACT, {})


def ignore(event: Event) -> None:
    pass


def assert_same(one: object, other: object) -> None:
    """The same records, bit for bit; nan is equal to nan, and the time of writing does not count."""
    if isinstance(one, tuple):
        assert isinstance(other, tuple)
        for mine, its in zip(one, other, strict=True):
            assert_same(mine, its)
    elif hasattr(one, "__dataclass_fields__"):
        assert type(one) is type(other)
        for part in fields(one):  # type: ignore[arg-type]
            if part.name != "created":
                assert_same(getattr(one, part.name), getattr(other, part.name))
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        assert_same(tuple(one.values()), tuple(other.values()))
    else:
        np.testing.assert_equal(one, other)


def with_deficit(spec: Spec, call: Any) -> Spec:
    """The spec with another deficit in the place of the noise."""
    (variant,) = spec.variants
    deficits = {"noise": Component("deadly/deadly", "0", call)}
    return replace(spec, variants=(replace(variant, deficits=deficits),))


def job_of(variant: Variant, folder: Path, name: str, condition: str = "clean", seed: int = 0) -> Job:
    stage = Stage(name, None, seed, 0, condition, 0, 2, (0.01, 0.01), restart_state=False)
    return Job(stage, variant, (), EXACT, folder, folder / name, None, keep_state=False)


def ends(executor: Processes, count: int) -> dict[str, str]:
    """Wait until so many stages are done; why each failed."""
    done: dict[str, str] = {}
    while len(done) < count:
        done |= {event.stage: event.failure for event in executor.wait() if isinstance(event, StageDone)}
    return done


def test_two_workers_come_to_the_bits_of_one(spec: Spec, workers: Processes, tmp_path: Path) -> None:
    study = plan(spec, {})
    folders = tmp_path / "one", tmp_path / "two"
    for folder in folders:
        folder.mkdir()
    told: list[Event] = []
    inline = run_study(survey(study, place_of(folders[0])), place_of(folders[0]), Inline(EXACT), ignore)
    lent = Lent(workers)
    parallel = run_study(survey(study, place_of(folders[1])), place_of(folders[1]), lent, told.append)
    assert {one.status for one in inline.trajectories} == {"complete"}
    assert_same(parallel, inline)
    assert_same(read_results(folders[1] / "results.h5"), inline)
    assert sum(isinstance(event, EpochDone) for event in told) == study.epochs_to_train
    assert sum(isinstance(event, StageDone) for event in told) == len(study.stages)
    for stage in study.stages:
        one, two = (read_stage(place_of(folder).of(stage)) for folder in folders)
        assert_same(one, two)


def test_a_worker_that_is_killed_fails_its_stage_and_the_rest_goes_on(
    spec: Spec, workers: Processes, tmp_path: Path
) -> None:
    from deadly import Deadly  # type: ignore[import-not-found]  # made by the fixture

    flag = tmp_path / "deadly"
    flag.touch()
    study = plan(replace(with_deficit(spec, Deadly(flag)), seeds=(0,)), {})
    place = place_of(tmp_path)
    record = run_study(survey(study, place), place, Lent(workers), ignore)
    failed = [one for one in record.trajectories if one.deficit == "noise"]
    assert [one.status for one in failed] == ["failed"]
    assert [one.reason for one in failed] == ["its worker process was killed by signal 9"]
    assert {one.status for one in record.trajectories if one.deficit == "clean"} == {"complete"}
    flag.unlink()
    again = run_study(survey(study, place), place, Lent(workers), ignore)
    assert {one.status for one in again.trajectories} == {"complete"}
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert_same(again, run_study(survey(study, place_of(fresh)), place_of(fresh), Inline(EXACT), ignore))


def test_an_idle_worker_that_died_is_replaced_before_it_gets_a_stage(
    spec: Spec, workers: Processes, tmp_path: Path
) -> None:
    (variant,) = spec.variants
    for worker in workers._workers:
        worker.process.kill()
        worker.process.join()
    workers.submit(job_of(variant, tmp_path, "stage"))
    assert ends(workers, 1) == {"stage": ""}


def test_a_disk_that_refuses_ends_the_study_wherever_its_workers_are(
    spec: Spec, workers: Processes, tmp_path: Path
) -> None:
    (variant,) = spec.variants
    (tmp_path / "file").write_text("in the way")
    workers.submit(job_of(variant, tmp_path / "file", "stage"))
    with pytest.raises(StoreError, match=r"file/stage: cannot be written: Not a directory"):
        ends(workers, 1)
    workers.submit(job_of(variant, tmp_path, "stage"))
    assert ends(workers, 1) == {"stage": ""}


def test_closing_ends_the_workers_at_once(spec: Spec, workers: Processes, tmp_path: Path) -> None:
    (variant,) = spec.variants
    long = job_of(variant, tmp_path, "long")
    long = replace(long, stage=replace(long.stage, stop=100_000, rates=(0.01,) * 100_000))
    workers.submit(long)
    workers.wait()
    processes = [worker.process for worker in workers._workers]
    workers.close()
    assert not any(process.is_alive() for process in processes)


def test_inline_trains_an_epoch_for_every_wait(spec: Spec, tmp_path: Path) -> None:
    (variant,) = spec.variants
    executor = Inline(EXACT)
    executor.submit(job_of(variant, tmp_path, "stage"))
    events = [executor.wait() for _ in range(4)]
    assert [[getattr(event, "epoch", None) for event in some] for some in events] == [[1], [2], [None], []]
    executor.submit(job_of(variant, tmp_path, "other"))
    executor.wait()
    executor.close()
    assert executor.wait() == []
    assert read_stage(tmp_path / "other") is None
