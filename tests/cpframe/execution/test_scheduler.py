"""A small study from its spec to results.h5: run, run again, extended, interrupted, and with failing parts."""

from __future__ import annotations

import io
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from rich.console import Console

from cpframe.api import Batch, Generator
from cpframe.commands.progress_bar import duration, show_progress
from cpframe.commands.run import RunOutcome, notes_console, print_outcome
from cpframe.commands.run import run as run_command
from cpframe.execution import scheduler
from cpframe.execution.executors.inline import Inline
from cpframe.execution.progress import StudyProgress, read_progress
from cpframe.execution.scheduler import run_study
from cpframe.execution.workspace import RunOptions, Workspace
from cpframe.plan.stages import Study, plan
from cpframe.plugins.discovery import discover
from cpframe.records.model import CLEAN, History, StudyRecord
from cpframe.spec.model import Component, Spec
from cpframe.spec.reader import read_spec
from cpframe.store import StoreError, commit, drop_state, lock_folder, read_results, read_stage
from cpframe.testing.training import EXACT, make_workspace, train_study
from cpframe.training import stage as training
from cpframe.training.job import EpochDone, Event, StageDone, StageWarning

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

[optimizer]
use = "sgd"
lr = 0.05

[training]
batch_size = 20

[deficits.blur]
use = "blur"
size = 2

[deficits.off]
use = "idle"

[[protocols]]
use = "removal"
until = [0, 2]
recovery = 3

[[protocols]]
use = "sliding"
deficits = ["blur"]
onsets = [0, 1]
length = 2
epochs = 4

[metrics.fisher]
use = "fisher-trace"
every = 2
inputs = 16
"""


def spec_of(folder: Path, text: str = SPEC, *overrides: str) -> Spec:
    path = folder / "small.toml"
    path.write_text(text)
    return read_spec(path, CATALOGUE, None, overrides)


def plan_study(folder: Path, *overrides: str) -> Study:
    return plan(spec_of(folder, SPEC, *overrides), {})


def run_with_events(study: Study, workspace: Workspace) -> tuple[StudyRecord, list[Event]]:
    events: list[Event] = []
    return train_study(study, workspace, events.append), events


def trained_stages(events: list[Event]) -> set[str]:
    """Return the ids of the stages of which epochs were trained."""
    return {event.stage for event in events if isinstance(event, EpochDone)}


def assert_same(one: object, other: object) -> None:
    """Assert that records are identical; nan equals nan, and the time of writing is ignored."""
    assert type(one) is type(other)
    if isinstance(one, np.ndarray):
        np.testing.assert_array_equal(one, other)
    elif isinstance(one, dict):
        assert isinstance(other, dict)
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, tuple):
        assert isinstance(other, tuple)
        assert len(one) == len(other)
        for mine, its in zip(one, other, strict=True):
            assert_same(mine, its)
    elif hasattr(one, "__dataclass_fields__"):
        for part in fields(one):  # type: ignore[arg-type]
            if part.name != "created":
                assert_same(getattr(one, part.name), getattr(other, part.name))
    elif isinstance(one, float):
        np.testing.assert_equal(one, other)
    else:
        assert one == other


def assert_prefix(part: History, whole: History) -> None:
    count = len(part.epoch)
    assert part.condition == whole.condition[:count]
    for name in ("epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[:count])


def states(folder: Path) -> list[Path]:
    return sorted(folder.glob("stages/*/*/state-*"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    """The record of the study with seed 0 only, run without interruption."""
    folder = tmp_path_factory.mktemp("whole")
    return train_study(plan_study(folder, "seeds=[0]"), make_workspace(folder))


def with_ancestors(study: Study, stages: set[str]) -> set[str]:
    """Return the stages and all their ancestors."""
    chain = set(stages)
    for stage in reversed(study.stages.values()):  # type: ignore[call-overload]
        if stage.id in chain and stage.parent is not None:
            chain.add(stage.parent)
    return chain


# --- from the spec to results.h5 --------------------------------------------------------------------------------------


def test_every_trajectory_is_complete_and_has_its_timeline(tmp_path: Path) -> None:
    study = plan_study(tmp_path)
    record, events = run_with_events(study, make_workspace(tmp_path))
    assert_same(read_results(tmp_path / "results.h5"), record)
    assert record.title == "Small"
    assert record.spec == SPEC
    assert record.score_epochs == 2
    assert dict(record.deficits) == {"blur": "cpframe/blur", "off": "cpframe/idle"}
    assert dict(record.provenance) == {"device": "cpu"}

    blur, off = ["blur"] * 2, ["off"] * 2
    timelines = {
        ("clean", CLEAN, 0): [CLEAN] * 5,
        ("removal", CLEAN, 0): [CLEAN] * 3,
        ("removal", "blur", 0): [*blur, *[CLEAN] * 3],
        ("removal", "off", 0): [*off, *[CLEAN] * 3],
        ("sliding", "blur", 0): [*blur, *[CLEAN] * 2],
        ("sliding", "blur", 1): [CLEAN, *blur, CLEAN],
    }
    found = {(one.protocol, one.deficit, one.onset, one.seed): one for one in record.trajectories}
    assert found.keys() == {(*key, seed) for key in timelines for seed in (0, 1)}
    assert len(record.trajectories) == len(found) == len({one.name for one in record.trajectories})
    for (protocol, deficit, onset, _), one in found.items():
        timeline = timelines[protocol, deficit, onset]
        history = one.history
        assert (one.status, one.reason, one.epochs) == ("complete", "", len(timeline))
        assert list(history.condition) == timeline
        assert history.epoch.tolist() == list(range(1, len(timeline) + 1))
        assert one.offset == onset + timeline.count("blur") + timeline.count("off")
        assert one.score == history.test_accuracy[-2:].mean()
        assert np.isnan(history.train_loss).tolist() == [condition == "off" for condition in timeline]
        fisher = history.metrics["fisher"]
        assert history.measured_epoch.tolist() == [epoch for epoch in (1, 2, 4) if epoch <= len(timeline)]
        assert fisher.values.shape == (len(history.measured_epoch), 2)
        assert (fisher.values > 0).all()
    # Trajectories of one seed are identical up to the epoch in which their timelines differ.
    clean, late = found["clean", CLEAN, 0, 0], found["sliding", "blur", 1, 0]
    assert clean.history.test_loss[0] == late.history.test_loss[0]
    assert clean.history.test_loss[1] != late.history.test_loss[1]
    assert clean.history.test_loss[0] != found["clean", CLEAN, 0, 1].history.test_loss[0]

    done = [event for event in events if isinstance(event, EpochDone)]
    assert len(done) == study.epochs_to_train == 2 * (5 + 5 + 5 + 3)
    assert len(done) < study.epochs_asked
    assert [event for event in events if isinstance(event, StageDone) and event.failure] == []
    assert sum(isinstance(event, StageDone) for event in events) == len(study.stages)
    assert states(tmp_path) == []


def test_a_study_run_again_trains_nothing(tmp_path: Path, whole: StudyRecord) -> None:
    study, workspace = plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path)
    assert_same(train_study(study, workspace), whole)
    progress = read_progress(study, workspace)
    assert (progress.todo, progress.epochs, progress.failures) == ({}, 0, {})
    again, events = run_with_events(study, workspace)
    assert events == []
    assert_same(again, whole)
    (tmp_path / "results.h5").unlink()
    assert_same(train_study(study, workspace), whole)
    assert_same(read_results(tmp_path / "results.h5"), whole)


def test_additional_seeds_are_the_only_ones_trained(tmp_path: Path, whole: StudyRecord) -> None:
    workspace = make_workspace(tmp_path)
    train_study(plan_study(tmp_path, "seeds=[4]"), workspace)
    study = plan_study(tmp_path, "seeds=[4, 0]")
    record, events = run_with_events(study, workspace)
    assert {study.stages[stage].seed for stage in trained_stages(events)} == {0}
    assert_same(record.trajectories[len(whole.trajectories) :], whole.trajectories)
    assert {one.status for one in record.trajectories} == {"complete"}


def test_another_removal_epoch_trains_the_new_stages_and_their_ancestors(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    before = plan_study(tmp_path, "seeds=[0]")
    first = {one.name: one for one in train_study(before, workspace).trajectories}
    study = plan_study(tmp_path, "seeds=[0]", "protocols.0.until=[0, 2, 3]")
    record, events = run_with_events(study, workspace)
    new = study.stages.keys() - before.stages.keys()
    # [0, 2) with blur and with idle again, for their states; and the longest training has one more epoch.
    assert trained_stages(events) == with_ancestors(study, new)
    kept = [study.stages[stage] for stage in study.stages if stage not in trained_stages(events)]
    assert {(stage.condition, stage.start) for stage in kept} == {("blur", 1), (CLEAN, 2), (CLEAN, 3), (CLEAN, 4)}
    names = {one.name for one in record.trajectories}
    assert {one.name for one in first.values() if one.protocol != "clean"} < names
    for one in record.trajectories:
        assert one.status == "complete"
        if one.name in first and one.protocol != "clean":
            assert_same(one, first[one.name])
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert_same(record, train_study(study, make_workspace(fresh)))
    assert states(tmp_path) == []


def test_a_smaller_study_reuses_stored_stages(tmp_path: Path, whole: StudyRecord) -> None:
    before, workspace = plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path)
    train_study(before, workspace)
    # After blur in [0, 2), the clean stages [2, 4) and [4, 5) become one; it is trained, and its ancestors again.
    study = plan_study(tmp_path, "seeds=[0]", "protocols.1.onsets=[1]")
    new = study.stages.keys() - before.stages.keys()
    assert [(study.stages[stage].start, study.stages[stage].stop) for stage in new] == [(2, 5)]
    record, events = run_with_events(study, workspace)
    assert trained_stages(events) == with_ancestors(study, new)
    full = {one.name: one for one in whole.trajectories}
    for one in record.trajectories:
        assert_same(one, full[one.name])


# --- interruptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "commit_seconds"),
    [(1, 0.0), (2, 0.0), (4, 0.0), (9, 0.0), (16, 0.0), (27, 0.0), (6, 3600.0), (17, 3600.0)],
)
def test_an_interrupted_study_continues_with_identical_results(
    tmp_path: Path, whole: StudyRecord, monkeypatch: pytest.MonkeyPatch, events: int, commit_seconds: float
) -> None:
    monkeypatch.setattr(training, "COMMIT_SECONDS", commit_seconds)
    study, workspace = plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path)
    count = 0

    def interrupt(event: Event) -> None:
        nonlocal count
        count += 1
        if count == events:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_study(study, workspace, interrupt)
    partial = read_results(tmp_path / "results.h5")
    full = {one.name: one for one in whole.trajectories}
    assert [one.name for one in partial.trajectories] == list(full)
    for one in partial.trajectories:
        assert one.status in ("complete", "unfinished")
        assert_prefix(one.history, full[one.name].history)
        assert (len(one.history.epoch) == one.epochs) == (one.status == "complete")
        assert np.isnan(one.score) == (one.status == "unfinished")
    progress = read_progress(study, workspace)
    remaining = progress.epochs
    done: list[Event] = []
    record = run_study(progress, workspace, Inline(EXACT), done.append)
    assert sum(isinstance(event, EpochDone) for event in done) == remaining
    assert_same(record, whole)
    assert_same(read_results(tmp_path / "results.h5"), whole)
    assert states(tmp_path) == []


def test_results_are_written_before_the_study_is_complete(tmp_path: Path) -> None:
    study, workspace = plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path)
    seen: list[list[str]] = []

    def read_statuses(event: Event) -> None:
        if workspace.results.exists():
            seen.append([one.status for one in read_results(workspace.results).trajectories])

    train_study(study, workspace, read_statuses)
    assert seen
    assert all("unfinished" in statuses for statuses in seen[:1])


def test_states_left_by_a_killed_run_are_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    study, workspace = plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path)
    with monkeypatch.context() as patches:
        patches.setattr(scheduler, "drop_state", lambda folder: None)
        record = train_study(study, workspace)
    assert states(tmp_path)
    again, events = run_with_events(study, workspace)
    assert events == []
    assert states(tmp_path) == []
    assert_same(again, record)


def damage(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "cut short":
        path.write_bytes(content[: len(content) // 2])
    elif how == "a bit flipped":
        path.write_bytes(content[:99] + bytes([content[99] ^ 4]) + content[100:])
    elif how == "another stage's":
        other = next(one for one in path.parent.parent.glob("*/history.h5") if one.parent != path.parent)
        path.write_bytes(other.read_bytes())
    elif how == "a folder":
        path.unlink()
        path.mkdir()
    else:
        path.unlink()


HOWS = ("cut short", "a bit flipped", "another stage's", "a folder", "gone")


@pytest.mark.parametrize("keep_states", [False, True])
def test_any_damaged_history_is_reported_and_only_its_stage_trained_again(
    tmp_path: Path, whole: StudyRecord, keep_states: bool
) -> None:
    study, workspace = plan_study(tmp_path, "seeds=[0]"), replace(make_workspace(tmp_path), keep_states=keep_states)
    train_study(study, workspace)
    shift = 0
    while shift < len(study.stages):
        damaged = dict(zip(list(study.stages)[shift : shift + len(HOWS)], HOWS, strict=False))
        shift += len(HOWS)
        for stage, how in damaged.items():
            damage(workspace.of(stage) / "history.h5", how)
        progress = read_progress(study, workspace)
        assert progress.damage.keys() == {stage for stage, how in damaged.items() if how != "gone"}
        events: list[Event] = []
        assert_same(run_study(progress, workspace, Inline(EXACT), events.append), whole)
        assert trained_stages(events) == (set(damaged) if keep_states else with_ancestors(study, set(damaged)))
        warnings = {event.stage: event.message for event in events if isinstance(event, StageWarning)}
        assert warnings.keys() == progress.damage.keys()
        for stage, message in warnings.items():
            assert str(workspace.of(stage) / "history.h5") in message
            assert message.endswith("; renamed to history.h5.damaged, and its epochs are trained again")
    assert bool(states(tmp_path)) == keep_states
    assert read_progress(study, workspace).todo == {}


@pytest.mark.parametrize("how", ["cut short", "a bit flipped", "gone"])
def test_a_damaged_state_is_trained_again_when_it_is_needed(tmp_path: Path, how: str) -> None:
    workspace = replace(make_workspace(tmp_path), keep_states=True)
    train_study(plan_study(tmp_path, "seeds=[0]"), workspace)
    for path in states(tmp_path):
        damage(path, how)
    # Another recovery length: its new stages continue from stages whose states are damaged.
    study = plan_study(tmp_path, "seeds=[0]", "protocols.0.recovery=4")
    record, events = run_with_events(study, workspace)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert_same(record, train_study(study, make_workspace(fresh)))
    assert {one.status for one in record.trajectories} == {"complete"}
    warnings = [event.message for event in events if isinstance(event, StageWarning)]
    expected = "is missing" if how == "gone" else "is damaged: its bytes differ from those that were committed"
    assert warnings
    assert all(expected in message for message in warnings)


# --- a store shared by several studies ------------------------------------------------------------------------------


def test_another_study_reuses_the_stages_in_the_store(tmp_path: Path) -> None:
    one, other = (tmp_path / name for name in ("one", "other"))
    one.mkdir()
    other.mkdir()
    first, second = (
        plan_study(one, "seeds=[0]"),
        plan_study(other, "seeds=[0]", "title='Other'", "protocols.1.onsets=[2]"),
    )
    shared = first.stages.keys() & second.stages.keys()
    assert shared
    train_study(first, make_workspace(one))
    _, events = run_with_events(second, replace(make_workspace(other), store=make_workspace(one).store))
    assert trained_stages(events) == with_ancestors(second, second.stages.keys() - shared)
    assert not (other / "stages").exists()


def test_a_stage_that_another_run_is_training_is_awaited_and_not_trained_twice(
    tmp_path: Path, whole: StudyRecord
) -> None:
    study, workspace = plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path)
    root = next(stage for stage in study.stages.values() if stage.parent is None and stage.condition == CLEAN)
    events: list[Event] = []
    with ThreadPoolExecutor(1) as thread, lock_folder(workspace.of(root.id)):
        record = thread.submit(train_study, study, workspace, events.append)
        for _ in range(3000):
            if record.done() or StageDone(root.id, "", "in use") in events:
                break
            time.sleep(0.01)
        assert root.id not in trained_stages(list(events))
    assert_same(record.result(), whole)
    assert len([event for event in events if isinstance(event, EpochDone)]) == study.epochs_to_train


def test_a_state_that_another_run_dropped_is_trained_again(tmp_path: Path, whole: StudyRecord) -> None:
    study, workspace = plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path)
    dropped: list[str] = []

    def drop(event: Event) -> None:
        if isinstance(event, StageDone) and not event.returned and event.stage not in dropped:
            dropped.append(event.stage)
            drop_state(workspace.of(event.stage))

    assert_same(train_study(study, workspace, drop), whole)
    assert set(dropped) == study.stages.keys()
    assert states(tmp_path) == []


def test_two_runs_of_different_studies_share_a_store_at_the_same_time(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("alone", "other-alone", "one", "other")]
    for folder in folders:
        folder.mkdir()
    changes = ("seeds=[0, 1]", "protocols.1.onsets=[0, 2]")
    alone = train_study(plan_study(folders[0]), make_workspace(folders[0]))
    other_alone = train_study(plan_study(folders[1], *changes), make_workspace(folders[1]))
    shared = ["--store", tmp_path / "store", "--workers", "1", "--device", "cpu"]
    commands = [
        [sys.executable, "-m", "cpframe", "run", folder / "small.toml", "--out", folder / "out", *shared]
        for folder in folders[2:]
    ]
    plan_study(folders[2])
    plan_study(folders[3])
    for change in changes:
        commands[1] += ["--set", change]
    processes = [subprocess.Popen(command, stdout=subprocess.DEVNULL) for command in commands]
    assert [process.wait(timeout=120) for process in processes] == [0, 0]
    for folder, expected in zip(folders[2:], (alone, other_alone), strict=True):
        assert_same(read_results(folder / "out" / "results.h5").trajectories, expected.trajectories)
    assert list((tmp_path / "store").glob("*/*/state-*")) == []


def test_kept_states_survive_a_run_that_keeps_none(tmp_path: Path) -> None:
    study, workspace = plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path)
    train_study(study, replace(workspace, keep_states=True))
    assert len(states(tmp_path)) == len(study.stages)
    train_study(study, workspace)
    train_study(plan_study(tmp_path, "seeds=[0]", "protocols.1.onsets=[1]"), workspace)
    assert len(states(tmp_path)) == len(study.stages)


def test_a_clock_that_jumps_changes_nothing(
    tmp_path: Path, whole: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(hours)))
    record, events = run_with_events(plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path))
    assert_same(record, whole)
    assert not any(isinstance(event, StageWarning) for event in events)


LEARNERS = {
    "momentum": ("optimizer.momentum=0.9",),
    "adam": ("optimizer={use='adam', lr=0.01}",),
    "batchnorm": ("architecture.batchnorm=true",),
    "noise": ("deficits.blur={use='noise'}",),
    "restart": ("training.restart_at_removal='rate-and-state'", "optimizer.momentum=0.9"),
}


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_trajectory_on_its_own_is_identical_to_that_of_the_whole_study(tmp_path: Path, learner: str) -> None:
    """Each trajectory has its own spec and its own store, so nothing is shared."""
    changes = ("seeds=[0]", *LEARNERS[learner])
    record = train_study(plan_study(tmp_path, *changes), make_workspace(tmp_path))
    shared = {one.name: one for one in record.trajectories}
    alone = {
        "removal": "[{use='removal', deficits=['blur'], until=[2], recovery=3}]",
        "sliding": "[{use='sliding', deficits=['blur'], onsets=[1], length=2, epochs=4}]",
    }
    compared = set()
    for name, protocols in alone.items():
        folder = tmp_path / name
        folder.mkdir()
        study = plan_study(folder, *changes, f"protocols={protocols}")
        for one in train_study(study, make_workspace(folder)).trajectories:
            if one.deficit == "blur":
                assert_same(one, shared[one.name])
                compared.add(one.name)
    assert len(compared) == 2


# --- disks ----------------------------------------------------------------------------------------------------------


def test_a_full_disk_ends_the_study_and_a_second_run_completes_it(
    tmp_path: Path, whole: StudyRecord, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, workspace = plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path)
    calls = 0

    def fail_once(*arguments: Any, **keywords: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise StoreError("the disk is full")
        commit(*arguments, **keywords)

    with monkeypatch.context() as patches:
        patches.setattr(training, "commit", fail_once)
        with pytest.raises(StoreError, match="the disk is full"):
            train_study(study, workspace)
    assert {one.status for one in read_results(workspace.results).trajectories} >= {"unfinished"}
    assert_same(train_study(study, workspace), whole)


# --- failures -------------------------------------------------------------------------------------------------------


def test_only_the_diverging_variant_fails(tmp_path: Path, whole: StudyRecord) -> None:
    grid = SPEC + '\n[grid]\n"optimizer.lr" = [0.05, 1e30]\n'
    study, workspace = plan(spec_of(tmp_path, grid, "seeds=[0]"), {}), make_workspace(tmp_path)
    record, events = run_with_events(study, workspace)
    stable = [one for one in record.trajectories if one.variant["optimizer.lr"] == 0.05]
    diverging = [one for one in record.trajectories if one.variant["optimizer.lr"] == 1e30]
    assert len(stable) == len(diverging) == len(whole.trajectories)
    for one, known in zip(stable, whole.trajectories, strict=True):
        assert_same(one, replace(known, name=f"variant0-{known.name}", variant=one.variant))
    for one in diverging:
        assert one.status == "failed"
        assert one.reason.startswith("diverged in epoch ")
        assert np.isnan(one.score)
        # The epochs up to the one that diverged are kept; idle epochs do not diverge.
        assert len(one.history.epoch) < one.epochs
        assert len(one.history.epoch) >= (3 if one.deficit == "off" else 1)
    again, events = run_with_events(study, workspace)
    assert events == []
    assert_same(again, record)
    assert states(tmp_path) == []


@dataclass(frozen=True)
class Raising:
    """A deficit that raises an error with a message, as long as one is set."""

    message: ClassVar[str] = ""
    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        if self.message and len(batch.targets) > 32:  # the preflight uses fewer examples
            raise RuntimeError(self.message)
        return batch._replace(inputs=1 - batch.inputs)


def with_raising(spec: Spec) -> Spec:
    """Return the spec with `Raising` in place of the idle deficit."""
    (variant,) = spec.variants
    deficits = {**variant.deficits, "off": Component("tests/raising", "0", Raising())}
    return replace(spec, variants=(replace(variant, deficits=deficits),))


MESSAGES = ["no output", "control \x00 character\nand half a letter \ud800", "x" * 99_999]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_plugin_that_raises_fails_only_its_trajectories_until_it_is_repaired(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, message: str
) -> None:
    study, workspace = plan(with_raising(spec_of(tmp_path, SPEC, "seeds=[0]")), {}), make_workspace(tmp_path)
    monkeypatch.setattr(Raising, "message", message)
    record = train_study(study, workspace)
    assert_same(read_results(workspace.results), record)
    status = {one.name: one.status for one in record.trajectories}
    reasons = [one.reason for one in record.trajectories if one.deficit == "off"]
    assert set(status.values()) == {"complete", "failed"}
    assert [one.deficit for one in record.trajectories if one.status == "failed"] == ["off"]
    assert reasons[0].startswith("RuntimeError: ")
    assert "(test_scheduler.py:" in reasons[0]

    monkeypatch.setattr(Raising, "message", "")
    repaired, events = run_with_events(study, workspace)
    assert {study.stages[stage].condition for stage in trained_stages(events)} == {"off", CLEAN}
    assert {one.status for one in repaired.trajectories} == {"complete"}
    for one, before in zip(repaired.trajectories, record.trajectories, strict=True):
        if one.deficit != "off":
            assert_same(one, before)


def test_the_state_before_a_failed_stage_is_kept_for_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = SPEC.replace('deficits = ["blur"]\nonsets = [0, 1]', 'deficits = ["off"]\nonsets = [1]')
    study, workspace = plan(with_raising(spec_of(tmp_path, text, "seeds=[0]")), {}), make_workspace(tmp_path)
    (before,) = [stage for stage in study.stages.values() if stage.stop == 1 and stage.condition == CLEAN]
    monkeypatch.setattr(Raising, "message", "no")
    train_study(study, workspace)
    assert len(states(tmp_path)) == 1
    monkeypatch.setattr(Raising, "message", "")
    _, events = run_with_events(study, workspace)
    assert before.id not in trained_stages(events)
    assert states(tmp_path) == []


# --- what the user sees -----------------------------------------------------------------------------------------------


def shown_on(console: Console, progress: StudyProgress) -> None:
    """Show the events of all epochs to be trained."""
    with show_progress(progress, console) as observe:
        for stage in progress.todo.values():
            for epoch in range(stage.start, stage.stop):
                observe(EpochDone(stage.id, epoch + 1, 0.625))
            observe(StageDone(stage.id, ""))


def test_without_a_terminal_progress_is_one_line_per_epoch(tmp_path: Path) -> None:
    progress, text = read_progress(plan_study(tmp_path, "seeds=[7]"), make_workspace(tmp_path)), io.StringIO()
    shown_on(Console(file=text, width=40), progress)
    lines = text.getvalue().splitlines()
    assert [line.partition(" ")[0] for line in lines] == [f"{number}/18" for number in range(1, 19)]
    assert all(" test accuracy 62.50%, " in line and line.endswith(" left") for line in lines)
    shown_epochs = sorted(tuple(line.split()[1:6]) for line in lines)
    expected = [
        ("seed", "7", stage.condition, "epoch", str(epoch + 1))
        for stage in progress.todo.values()
        for epoch in range(stage.start, stage.stop)
    ]
    assert shown_epochs == sorted(expected)


def test_on_a_terminal_progress_is_a_bar(tmp_path: Path) -> None:
    progress, text = read_progress(plan_study(tmp_path, "seeds=[7]"), make_workspace(tmp_path)), io.StringIO()
    shown_on(Console(file=text, width=100, force_terminal=True), progress)
    assert "18/18" in text.getvalue()
    assert "test accuracy" not in text.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89, "89 s"),
        (90, "2 min"),
        (3600, "60 min"),
        (5400, "1.5 h"),
        (47 * 3600, "47.0 h"),
        (172800, "2 days"),
    ],
)
def test_durations_have_a_readable_unit(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_run_prints_failures_without_markup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = with_raising(spec_of(tmp_path, SPEC, "seeds=[0]"))
    monkeypatch.setattr(Raising, "message", "[/this] is [bold] :warning: not markup")

    def run_once(workers: int) -> RunOutcome:
        options = RunOptions(out=tmp_path / "[runs]", data=tmp_path, workers=workers, device="cpu")
        outcome = run_command(spec, options, console := notes_console(), [])
        print_outcome(outcome, console)
        return outcome

    assert run_once(1).failures
    output = capsys.readouterr().err
    assert "1 of 6 trajectories failed; the first, removal-off-0-2-of-5-seed0: " in output
    assert "RuntimeError: [/this] is [bold] :warning: not markup (test_scheduler.py:" in output
    assert "[runs]/results.h5" in output
    monkeypatch.setattr(Raising, "message", "")
    assert not run_once(1).failures
    assert not run_once(2).failures
    assert "nothing to train: all 6 trajectories are complete" in capsys.readouterr().err


def test_progress_counts_the_remaining_epochs_of_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "COMMIT_SECONDS", 0.0)
    study, workspace = plan_study(tmp_path, "seeds=[0]"), make_workspace(tmp_path)
    executor = Inline(EXACT)
    events: list[Event] = []

    def stop_in_recovery(event: Event) -> None:
        events.append(event)
        if isinstance(event, EpochDone) and event.epoch == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_study(read_progress(study, workspace), workspace, executor, stop_in_recovery)
    (stage,) = [study.stages[event.stage] for event in events[-1:]]
    progress: StudyProgress = read_progress(study, workspace)
    record = read_stage(workspace.of(stage.id))
    assert record is not None
    assert record.status == "unfinished"
    assert progress.completed_epochs(stage) == 4
    assert progress.epochs == study.epochs_to_train - sum(isinstance(event, EpochDone) for event in events[:-1])
