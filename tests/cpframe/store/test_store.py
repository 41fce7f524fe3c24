"""The store: files are read as they were written, whatever happens to disks, processes and files in between."""

from __future__ import annotations

import errno
import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from cpframe.records.histories import concatenate
from cpframe.records.model import History, MetricHistory, StudyRecord, TrajectoryRecord
from cpframe.store import (
    InUseError,
    StageRecord,
    StoreError,
    commit,
    drop_state,
    lock_folder,
    other_formats,
    read_results,
    read_stage,
    read_state,
    results,
    stage_folder,
    stages,
    write_results,
)
from cpframe.store import atomic as files
from cpframe.store import history_h5 as histories

LAYERS = ("Faltung 1", "畳み込み", "выход")
CURVES = ("learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy")


def make_history(epochs: int = 6, every: int = 2, start: int = 0, seed: int = 0) -> History:
    """Random curves, a metric with one value per layer and standard errors, and one with a single value."""
    rng = np.random.default_rng([seed, start])
    epoch = np.arange(start + 1, start + epochs + 1)
    measured = epoch[epoch % every == 0]
    shape = (len(measured), len(LAYERS))
    return History(
        epoch=epoch,
        condition=tuple("blur" if one % 3 == 0 else "clean" for one in epoch.tolist()),
        **{name: rng.random(epochs) for name in CURVES},
        measured_epoch=measured,
        layers=LAYERS,
        metrics={
            "fisher": MetricHistory(rng.random(shape), rng.random(shape), "nat²", "Monte-Carlo, θ", "clean"),
            "loss": MetricHistory(rng.random(len(measured)), None, "", "", "condition"),
        },
    )


NOTHING = replace(make_history(0), layers=(), metrics={})


def make_trajectory(name: str, history: History, **changes: Any) -> TrajectoryRecord:
    standard = TrajectoryRecord(
        name=name,
        protocol="removal",
        deficit="blur",
        onset=0,
        offset=2,
        epochs=6,
        seed=3,
        variant={"optimizer.lr": 0.1, "architecture.sizes": [4, 5], "training.order": "deficit-first"},
        status="complete",
        reason="",
        score=0.75,
        history=history,
    )
    return replace(standard, **changes)


def make_study(*trajectories: TrajectoryRecord) -> StudyRecord:
    return StudyRecord(
        title="Schärfe: 視力",
        spec="# ünïcode\ntitle = 'x'\n" + "# a long line of comment\n" * 10_000,
        score_epochs=5,
        deficits={"blur": "cpframe/blur", "nichts": "cpframe/idle"},
        created="2026-03-01T12:00:00+00:00",
        provenance={"device": "cpu", "versions": "torch 2.15.0, µ 1"},
        trajectories=trajectories,
    )


def assert_same_history(one: History, other: History) -> None:
    """All fields, bit for bit; nan is equal to nan."""
    assert (one.condition, one.layers) == (other.condition, other.layers)
    for name in ("epoch", "measured_epoch", *CURVES):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), strict=True)
    assert one.metrics.keys() == other.metrics.keys()
    for name, metric in one.metrics.items():
        found = other.metrics[name]
        np.testing.assert_array_equal(metric.values, found.values, strict=True)
        assert (metric.stderr is None) == (found.stderr is None)
        if metric.stderr is not None and found.stderr is not None:
            np.testing.assert_array_equal(metric.stderr, found.stderr, strict=True)
        assert (metric.units, metric.estimator, metric.source) == (found.units, found.estimator, found.source)


def assert_same_study(one: StudyRecord, other: StudyRecord) -> None:
    def bare(study: StudyRecord) -> StudyRecord:
        return replace(study, trajectories=())

    assert bare(one) == bare(other)
    for mine, its in zip(one.trajectories, other.trajectories, strict=True):
        assert_same_history(mine.history, its.history)
        # nan is not equal to itself, but its text is
        assert replace(mine, history=NOTHING, score=repr(mine.score)) == replace(  # type: ignore[arg-type]
            its,
            history=NOTHING,
            score=repr(its.score),  # type: ignore[arg-type]
        )


def committed(folder: Path) -> StageRecord:
    record = read_stage(folder)
    assert record is not None
    return record


@pytest.fixture
def results_file(tmp_path: Path) -> Path:
    path = tmp_path / "results.h5"
    write_results(path, make_study(make_trajectory("one", make_history())))
    return path


@pytest.fixture
def history_file(tmp_path: Path) -> Path:
    commit(tmp_path / "stage", "complete", "", make_history(), None)
    return tmp_path / "stage" / "history.h5"


# --- round trips ------------------------------------------------------------------------------------------------------


def test_a_study_is_read_as_it_was_written(tmp_path: Path) -> None:
    odd = replace(make_history(), train_loss=np.array([math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7e308]))
    # in an order that is not alphabetical, and longer than what HDF5 keeps in a compact group
    names = [f"trajectory-{number}" for number in range(30, 0, -1)]
    study = make_study(
        *(make_trajectory(name, make_history(seed=place)) for place, name in enumerate(names)),
        make_trajectory("odd", odd, variant={}, deficit="clean", offset=0, seed=2**62),
        make_trajectory("none yet", NOTHING, status="unfinished", score=math.nan),
        make_trajectory(
            "failed", make_history(2), status="failed", reason="ValueError: «nein» (x.py:3)", score=math.nan
        ),
        make_trajectory("bare", replace(make_history(), metrics={}, measured_epoch=np.zeros(0, dtype=np.int64))),
    )
    write_results(tmp_path / "results.h5", study)
    assert_same_study(read_results(tmp_path / "results.h5"), study)


@pytest.mark.parametrize("state", [None, b"\x00weights\xff" * 1000])
def test_a_stage_is_read_as_it_was_committed(tmp_path: Path, state: bytes | None) -> None:
    folder = tmp_path / "not" / "yet" / "there"
    assert read_stage(folder) is None
    commit(folder, "unfinished", "", make_history(), state)
    record = committed(folder)
    assert (record.status, record.reason) == ("unfinished", "")
    assert_same_history(record.history, make_history())
    if state is None:
        assert record.state == record.digest == ""
    else:
        assert read_state(folder, record) == state


def test_a_commit_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    commit(tmp_path, "unfinished", "", make_history(2), b"two")
    commit(tmp_path, "unfinished", "", make_history(4), b"four")
    assert read_state(tmp_path, committed(tmp_path)) == b"four"
    commit(tmp_path, "failed", "diverged, völlig", make_history(6), None)
    assert (committed(tmp_path).status, committed(tmp_path).reason) == ("failed", "diverged, völlig")
    assert [path.name for path in tmp_path.iterdir()] == ["history.h5"]


def test_a_dropped_state_leaves_the_history(tmp_path: Path) -> None:
    drop_state(tmp_path)
    assert list(tmp_path.iterdir()) == []
    commit(tmp_path, "complete", "", make_history(), b"weights")
    drop_state(tmp_path)
    assert committed(tmp_path).status == "complete"
    assert committed(tmp_path).state == ""
    assert_same_history(committed(tmp_path).history, make_history())
    assert [path.name for path in tmp_path.iterdir()] == ["history.h5"]


# --- concatenated histories -------------------------------------------------------------------------------------------


def test_histories_join_with_nan_where_a_metric_was_not_measured() -> None:
    both = make_history(4, every=2)
    fisher_only = replace(
        make_history(3, every=1, start=4), metrics={"fisher": make_history(3, 1, 4).metrics["fisher"]}
    )
    neither = replace(make_history(2, start=7), metrics={}, measured_epoch=np.zeros(0, dtype=np.int64))
    whole = concatenate([both, fisher_only, neither])
    assert whole.epoch.tolist() == list(range(1, 10))
    assert whole.condition == both.condition + fisher_only.condition + neither.condition
    np.testing.assert_array_equal(
        whole.test_loss, [*both.test_loss, *fisher_only.test_loss, *neither.test_loss], strict=True
    )
    assert whole.measured_epoch.tolist() == [2, 4, 5, 6, 7]
    loss, fisher = whole.metrics["loss"], whole.metrics["fisher"]
    np.testing.assert_array_equal(loss.values, [*both.metrics["loss"].values, np.nan, np.nan, np.nan])
    assert loss.stderr is None
    parts = [both.metrics["fisher"], fisher_only.metrics["fisher"]]
    np.testing.assert_array_equal(fisher.values, np.concatenate([part.values for part in parts]))
    assert fisher.stderr is not None
    np.testing.assert_array_equal(
        fisher.stderr, np.concatenate([part.stderr for part in parts if part.stderr is not None])
    )


@pytest.mark.parametrize("first", [True, False])
def test_standard_errors_that_only_a_part_has_are_kept(first: bool) -> None:
    with_them, without = make_history(2, every=1), make_history(2, every=1, start=2)
    bare = {"fisher": replace(without.metrics["fisher"], stderr=None)}
    parts = [with_them, replace(without, metrics=bare)]
    stderr = concatenate(parts if first else parts[::-1]).metrics["fisher"].stderr
    assert stderr is not None
    own = with_them.metrics["fisher"].stderr
    assert own is not None
    missing = np.full_like(own, np.nan)
    np.testing.assert_array_equal(stderr, np.concatenate([own, missing] if first else [missing, own]))


# --- other programs ---------------------------------------------------------------------------------------------------


@pytest.mark.needs_extra("notebook")
def test_xarray_opens_a_trajectory_with_named_dimensions(tmp_path: Path) -> None:
    import xarray

    history = make_history()
    path = tmp_path / "results.h5"
    write_results(path, make_study(make_trajectory("one", history), make_trajectory("none yet", NOTHING)))
    with xarray.open_dataset(path, engine="h5netcdf", group="trajectories/one") as found:
        assert dict(found.sizes) == {"epoch": 6, "measured_epoch": 3, "layer": 3}
        assert set(found.coords) == {"epoch", "measured_epoch", "layer"}
        assert found.attrs["deficit"] == "blur"
        assert found.attrs["offset"] == 2
        assert found.attrs["score"] == 0.75
        for name in CURVES:
            assert found[name].dims == ("epoch",)
            np.testing.assert_array_equal(found[name], getattr(history, name))
        assert found["condition"].values.tolist() == list(history.condition)
        assert found["layer"].values.tolist() == list(LAYERS)
        assert found["fisher"].dims == found["fisher_stderr"].dims == ("measured_epoch", "layer")
        assert found["loss"].dims == ("measured_epoch",)
        assert found["fisher"].attrs["units"] == "nat²"
        assert float(found["fisher"].sel(measured_epoch=4, layer="выход")) == history.metrics["fisher"].values[1, 2]
        np.testing.assert_array_equal(found["fisher_stderr"], history.metrics["fisher"].stderr)
    with xarray.open_dataset(path, engine="h5netcdf", group="trajectories/none yet") as empty:
        assert dict(empty.sizes) == {"epoch": 0, "measured_epoch": 0, "layer": 0}


@pytest.mark.needs_extra("notebook")
def test_the_whole_results_file_is_valid_netcdf4(results_file: Path) -> None:
    import h5netcdf  # type: ignore[import-untyped]

    with h5netcdf.File(results_file, "r") as file:
        assert file.attrs["title"] == "Schärfe: 視力"
        group = file["trajectories"]["one"]
        assert set(group.dimensions) == {"epoch", "measured_epoch", "layer"}
        assert {name: variable.dimensions for name, variable in group.variables.items() if name.startswith("f")} == {
            "fisher": ("measured_epoch", "layer"),
            "fisher_stderr": ("measured_epoch", "layer"),
        }


def test_h5py_reads_the_layout_of_the_design(results_file: Path) -> None:
    with h5py.File(results_file) as file:
        assert file.attrs["format"] == results.FORMAT
        assert file.attrs["spec"].startswith("# ünïcode")
        group = file["trajectories/one"]
        assert group.attrs["variant"].startswith('{"optimizer.lr": 0.1')
        assert group["fisher"].attrs["source"] == "clean"
        assert group["fisher"].attrs["estimator"] == "Monte-Carlo, θ"


# --- disks that refuse ------------------------------------------------------------------------------------------------


def refuse(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


class HalfWritten:
    """A file on a disk that is full in the middle of what is written."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def __enter__(self) -> HalfWritten:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def write(self, content: bytes) -> None:
        self.file.write(content[: len(content) // 2])
        refuse()


def break_disk(monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Let one step of writing a file fail."""
    open_as_usual = Path.open

    def opening(path: Path, mode: str = "r", *rest: Any) -> Any:
        if "w" not in mode:
            return open_as_usual(path, mode, *rest)
        return refuse() if operation == "open" else HalfWritten(open_as_usual(path, mode, 0))

    if operation in ("open", "write"):
        monkeypatch.setattr(Path, "open", opening)
    elif operation == "fsync":
        monkeypatch.setattr(os, "fsync", refuse)
    else:
        monkeypatch.setattr(Path, "replace", refuse)


@pytest.mark.parametrize("operation", ["open", "write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    path = tmp_path / "file"
    files.write_atomically(path, b"old" * 100)
    with monkeypatch.context() as patches:
        break_disk(patches, operation)
        with pytest.raises(StoreError) as caught:
            files.write_atomically(path, b"new" * 100)
    assert str(caught.value) == (f"{path}: cannot be written: No space left on device; the previous file is unchanged")
    assert path.read_bytes() == b"old" * 100
    assert [one.name for one in tmp_path.iterdir()] == ["file"]
    files.write_atomically(path, b"new" * 100)
    assert path.read_bytes() == b"new" * 100


@pytest.mark.parametrize("operation", ["open", "write", "fsync", "replace"])
def test_a_commit_that_fails_leaves_the_commit_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    commit(tmp_path, "unfinished", "", make_history(2), b"two")
    with monkeypatch.context() as patches:
        break_disk(patches, operation)
        with pytest.raises(StoreError, match="No space left on device"):
            commit(tmp_path, "unfinished", "", make_history(4), b"four")
    record = committed(tmp_path)
    assert_same_history(record.history, make_history(2))
    assert read_state(tmp_path, record) == b"two"


def test_a_folder_that_cannot_be_synced_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync, calls = os.fsync, []

    def only_files(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(errno.EINVAL, "Invalid argument")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", only_files)
    files.write_atomically(tmp_path / "file", b"new")
    assert len(calls) == 2
    assert (tmp_path / "file").read_bytes() == b"new"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB, where this process may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount a small file system here: {error}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full_loses_nothing(small_disk: Path) -> None:
    folder, results_path, taken = small_disk / "stage", small_disk / "results.h5", small_disk / "taken"
    state = np.random.default_rng(0).bytes(60_000)

    def short(name: str) -> StudyRecord:
        return replace(make_study(make_trajectory(name, make_history())), spec="title = 'x'")

    commit(folder, "unfinished", "", make_history(2), state)
    write_results(results_path, short("old"))
    refused = set()
    # More and more room, so that first the state, then the history, finds none; and the same for the results.
    for room in range(0, 160, 8):
        taken.write_bytes(b"")
        free = os.statvfs(small_disk)
        taken.write_bytes(b"x" * (free.f_bavail * free.f_frsize - 1024 * room))
        for path, attempt in (
            (folder, partial(commit, folder, "unfinished", "", make_history(4), state[::-1])),
            (results_path, partial(write_results, results_path, short("new"))),
        ):
            try:
                attempt()
            except StoreError as error:
                name, _, why = str(error).partition(": ")
                assert Path(name).is_relative_to(path)
                assert why == "cannot be written: No space left on device; the previous file is unchanged"
                refused.add(Path(name).name)
            record = committed(folder)
            epochs = len(record.history.epoch)
            assert_same_history(record.history, make_history(epochs))
            assert read_state(folder, record) == (state if epochs == 2 else state[::-1])
            assert read_results(results_path).trajectories[0].name in ("old", "new")
            assert not list(small_disk.rglob("*.part"))
    assert refused == {"state-000004.pt", "history.h5", "results.h5"}
    assert len(committed(folder).history.epoch) == 4
    assert read_results(results_path).trajectories[0].name == "new"


# --- damaged files, and files from elsewhere --------------------------------------------------------------------------


def test_no_bit_of_a_file_can_change_unnoticed(tmp_path: Path) -> None:
    commit(tmp_path, "unfinished", "", make_history(2), b"weights")
    write_results(tmp_path / "results.h5", make_study(make_trajectory("one", make_history(2))))
    rng = np.random.default_rng(0)
    read: dict[str, Callable[[], object]] = {
        "history.h5": lambda: read_stage(tmp_path),
        "results.h5": lambda: read_results(tmp_path / "results.h5"),
    }
    for name, reading in read.items():
        path = tmp_path / name
        whole = path.read_bytes()
        # Bits anywhere, and all of the seal's; on some of them HDF5 itself would hang or crash.
        bits = [*rng.integers(8 * len(whole), size=150).tolist(), *range(8 * (len(whole) - 32), 8 * len(whole))]
        for bit in bits:
            damaged = bytearray(whole)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            with pytest.raises(StoreError, match=f"{name}: is "):
                reading()
        for length in [0, 1, 31, 32, 33, len(whole) - 1, *rng.integers(len(whole), size=30).tolist()]:
            path.write_bytes(whole[:length])
            with pytest.raises(StoreError, match="cut short"):
                reading()
        path.write_bytes(whole + b"x")
        with pytest.raises(StoreError, match="changed by another program"):
            reading()
        path.write_bytes(whole)
        reading()


def test_a_damaged_state_is_noticed(tmp_path: Path) -> None:
    commit(tmp_path, "unfinished", "", make_history(), b"weights")
    record = committed(tmp_path)
    for content in (b"weightz", b"weight", b"", b"weights!"):
        (tmp_path / record.state).write_bytes(content)
        with pytest.raises(StoreError, match="is damaged"):
            read_state(tmp_path, record)
    (tmp_path / record.state).unlink()
    with pytest.raises(StoreError, match=r"state-000006\.pt: is missing"):
        read_state(tmp_path, record)


def test_another_sort_of_file_is_reported_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "results.h5"
    with pytest.raises(StoreError, match=r"results\.h5: no such file"):
        read_results(path)
    for content in (b"", b"Just text.\n" * 10, np.random.default_rng(0).bytes(5000)):
        path.write_bytes(content)
        with pytest.raises(StoreError, match=r"results\.h5: is not a results file of cpframe"):
            read_results(path)
    with h5py.File(path, "w") as file:
        file["anything"] = [1, 2, 3]
    with pytest.raises(StoreError, match="is not a results file of cpframe"):
        read_results(path)
    with pytest.raises(StoreError, match="is a folder, not a results file of cpframe"):
        read_results(tmp_path)
    (tmp_path / "history.h5").mkdir()
    with pytest.raises(StoreError, match="is a folder, not a stage's history"):
        read_stage(tmp_path)


def test_one_kind_of_file_is_not_taken_for_the_other(tmp_path: Path, results_file: Path) -> None:
    commit(tmp_path / "stage", "complete", "", make_history(), None)
    with pytest.raises(StoreError, match="is not a results file"):
        read_results(tmp_path / "stage" / "history.h5")
    results_file.rename(tmp_path / "history.h5")
    with pytest.raises(StoreError, match="is not a stage's history"):
        read_stage(tmp_path)


def test_another_version_of_the_format_is_reported(
    tmp_path: Path, results_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit(tmp_path, "complete", "", make_history(), None)
    monkeypatch.setattr(results, "FORMAT", 7)
    monkeypatch.setattr(stages, "FORMAT", 8)
    with pytest.raises(StoreError, match="has format 2; this version of cpframe reads format 7; use the version"):
        read_results(results_file)
    with pytest.raises(StoreError, match="has format 3; this version of cpframe reads format 8"):
        read_stage(tmp_path)


def test_stages_of_other_versions_are_named_and_not_used(tmp_path: Path) -> None:
    assert other_formats(tmp_path / "nowhere") == []
    folder = stage_folder(tmp_path, "abc")
    commit(folder, "complete", "", make_history(), None)
    assert other_formats(tmp_path) == []
    (tmp_path / "format-1" / "abc").mkdir(parents=True)
    (tmp_path / "format-10").mkdir()
    assert other_formats(tmp_path) == ["format-1", "format-10"]
    assert stage_folder(tmp_path, "abc") == folder == tmp_path / "format-3" / "abc"


def changed(path: Path, change: Callable[[h5py.File], None]) -> None:
    """Change a file as another program could that knows the seal."""
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 32)
    with h5py.File(path, "r+") as file:
        change(file)
    path.write_bytes(files.seal(path.read_bytes()))


def elsewhere(tmp_path: Path) -> str:
    with h5py.File(tmp_path / "elsewhere.h5", "w") as file:
        file["secret"] = np.arange(6.0)
    return str(tmp_path / "elsewhere.h5")


def add_virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((6,), dtype="f8")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "secret", (6,))
    file["history"].create_virtual_dataset("secret", layout)


def add_doubled_groups(file: h5py.File) -> None:
    """30 groups one inside the other, each under two names: 2^30 ways through a small file."""
    group = file["history"]
    for _ in range(30):
        inner = group.create_group("left")
        group["right"] = inner
        group = inner


@pytest.mark.parametrize(
    "change",
    [
        lambda file: file.__setitem__("history/x", h5py.ExternalLink("elsewhere.h5", "/")),
        lambda file: file.__setitem__("history/x", h5py.SoftLink("/history/epoch")),
        lambda file: file.__setitem__("history/x", h5py.SoftLink("/nowhere")),
        lambda file: file["history"].create_dataset("x", (6,), "f8", external=[("elsewhere.h5", 0, 48)]),
        add_virtual,
        lambda file: file.__setitem__("history/again", file["history"]),
        lambda file: file.__setitem__("history/root", file["/"]),
        add_doubled_groups,
        lambda file: file.__setitem__("history/type", np.dtype("f8")),
        lambda file: file["history"].create_dataset("x", (2**50,), "u1", chunks=(2**20,)),
    ],
)
def test_what_another_program_adds_to_a_history_is_never_read(
    history_file: Path, change: Callable[[h5py.File], None]
) -> None:
    """Links that lead elsewhere or in circles, and data that would fill the memory."""
    before = read_stage(history_file.parent)
    elsewhere(history_file.parent)
    changed(history_file, change)
    after = read_stage(history_file.parent)
    assert before is not None
    assert after is not None
    assert_same_history(after.history, before.history)


NO_DATA = "its data are missing or in another file"
TOO_LARGE = "it has 1125899906842624 bytes; at most 1073741824 are allowed"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda file: file.__setitem__("index", h5py.ExternalLink("elsewhere.h5", "secret")), "it is a link"),
        (lambda file: file.__setitem__("index", h5py.SoftLink("/trajectories/one/epoch")), "it is a link"),
        (
            lambda file: file.create_dataset("index", (6,), "u1", external=[("elsewhere.h5", 0, 6)]),
            "its data are missing or in another file",
        ),
        (lambda file: file.create_dataset("index", data=h5py.Empty("u1")), NO_DATA),
        (
            lambda file: file.create_dataset("index", (2**50,), "u1", chunks=(2**20,)),
            "it has 1125899906842624 bytes; at most 1073741824 are allowed",
        ),
    ],
)
def test_an_index_from_another_program_is_refused(
    tmp_path: Path, results_file: Path, history_file: Path, change: Callable[[h5py.File], None], why: str
) -> None:
    elsewhere(tmp_path)

    def put_in_its_place(file: h5py.File) -> None:
        del file["index"]
        change(file)

    changed(results_file, put_in_its_place)
    with pytest.raises(StoreError, match=rf"results\.h5: /index cannot be read: {why}$"):
        read_results(results_file)
    changed(history_file, put_in_its_place)
    with pytest.raises(StoreError, match=rf"history\.h5: /index cannot be read: {why}$"):
        read_stage(history_file.parent)


def mark(name: str, value: Any, group: str = "/") -> Callable[[h5py.File], None]:
    return lambda file: file[group].attrs.__setitem__(name, value)


def indexed(change: Callable[[dict[str, Any]], object]) -> Callable[[h5py.File], None]:
    """Change what the index says of the history, or of the first trajectory."""

    def changing(file: h5py.File) -> None:
        index = json.loads(file["index"][()])
        rows = index["content"]
        change(rows[0] if isinstance(rows, list) else rows)
        del file["index"]
        file["index"] = np.bytes_(json.dumps(index))

    return changing


def place(name: str, where: object) -> Callable[[h5py.File], None]:
    return indexed(lambda row: row["places"].__setitem__(name, where))


WRONG_HISTORIES = [
    indexed(lambda row: row.pop("condition")),
    indexed(lambda row: row.__setitem__("condition", [["clean", 7]])),
    indexed(lambda row: row.__setitem__("layers", ["only one"])),
    indexed(lambda row: row["metrics"]["fisher"].pop("about")),
    place("epoch", [-8, [6]]),
    place("epoch", [2**40, [6]]),
    place("epoch", [0, [2**60]]),
    place("epoch", [0, [-6]]),
    place("train_loss", [0, [5]]),
    place("train_loss", [0, [6, 2]]),
    place("measured_epoch", [0, [2]]),
    place("train_loss", "nowhere"),
]
"""Changes that make the index entry of a history wrong, in either sort of file."""


@pytest.mark.parametrize(
    "change",
    [
        lambda file: None,  # a change of nothing must be read: see the test
        *WRONG_HISTORIES,
        lambda file: file.__delitem__("index"),
        lambda file: (file.__delitem__("index"), file.__setitem__("index", np.arange(6))),
        lambda file: file.__delitem__("history"),
        lambda file: file.attrs.__delitem__("status"),
        lambda file: file.attrs.__delitem__("stage"),
        mark("format", [1, 1]),
        mark("format", "1"),
        mark("kept", [1, 2]),
    ],
)
def test_a_history_with_wrong_content_is_reported_in_a_sentence(
    history_file: Path, change: Callable[[h5py.File], None], request: pytest.FixtureRequest
) -> None:
    changed(history_file, change)
    if request.node.callspec.indices["change"] == 0:
        assert committed(history_file.parent).status == "complete"
        return
    with pytest.raises(StoreError, match=r"history\.h5: (is not|has format)"):
        read_stage(history_file.parent)


@pytest.mark.parametrize(
    "change",
    [
        indexed(lambda row: None),  # a change of nothing must be read: see the test
        lambda file: file.__delitem__("index"),
        lambda file: (file.__delitem__("index"), file.__setitem__("index", np.arange(6))),
        lambda file: file.__delitem__("trajectories"),
        lambda file: file.attrs.__delitem__("title"),
        mark("format", [1, 1]),
        mark("format", "1"),
        mark("deficits", "{"),
        mark("deficits", 3),
        mark("score_epochs", "five"),
        mark("score_epochs", [1, 2]),
        indexed(lambda row: row.pop("score")),
        *WRONG_HISTORIES,
    ],
)
def test_results_with_wrong_content_are_reported_in_a_sentence(
    results_file: Path, change: Callable[[h5py.File], None], request: pytest.FixtureRequest
) -> None:
    changed(results_file, change)
    if request.node.callspec.indices["change"] == 0:
        assert read_results(results_file).trajectories[0].name == "one"
        return
    with pytest.raises(StoreError, match=r"results\.h5: (is not|has format)"):
        read_results(results_file)


def read_history(group: h5py.Group) -> History:
    """Read a group of a file through h5py, without the index."""
    metrics = {
        name: MetricHistory(
            values=dataset[...],
            stderr=group[f"{name}_stderr"][...] if f"{name}_stderr" in group else None,
            units="" if dataset.attrs["units"] == "1" else str(dataset.attrs["units"]),
            estimator=str(dataset.attrs["estimator"]),
            source=str(dataset.attrs["source"]),
        )
        for name, dataset in group.items()
        if "estimator" in dataset.attrs
    }
    return History(
        epoch=group["epoch"][...],
        condition=tuple(group["condition"].asstr()[...].tolist()),
        measured_epoch=group["measured_epoch"][...],
        layers=tuple(group["layer"].asstr()[...].tolist()),
        metrics=metrics,
        **{name: group[name][...] for name in histories.CURVES},
    )


def test_the_index_says_what_the_groups_say(tmp_path: Path) -> None:
    path = tmp_path / "results.h5"
    write_results(path, make_study(make_trajectory("one", make_history()), make_trajectory("none yet", NOTHING)))
    with h5py.File(path) as file:
        for trajectory in read_results(path).trajectories:
            group = file["trajectories"][trajectory.name]
            assert_same_history(read_history(group), trajectory.history)
            for name in ("protocol", "deficit", "onset", "offset", "epochs", "seed", "status", "reason", "score"):
                assert group.attrs[name] == getattr(trajectory, name)
            assert json.loads(group.attrs["variant"]) == trajectory.variant


# --- permissions and the lock -----------------------------------------------------------------------------------------


@pytest.fixture
def unprivileged() -> Iterator[None]:
    """Run without the rights of root, who may read and write everything."""
    if not hasattr(os, "seteuid"):
        pytest.skip("this system has no users to change to")
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_missing_permission_is_reported_in_a_sentence(
    tmp_path: Path, results_file: Path, request: pytest.FixtureRequest
) -> None:
    commit(tmp_path / "stage", "complete", "", make_history(), b"weights")
    record = committed(tmp_path / "stage")
    for path in (results_file, tmp_path / "stage" / "history.h5", tmp_path / "stage" / record.state):
        path.chmod(0)
    (tmp_path / "stage").chmod(0o500)
    tmp_path.chmod(0o500)
    request.getfixturevalue("unprivileged")
    stage, state = tmp_path / "stage", make_history()
    attempts: list[Callable[[], object]] = [
        lambda: read_results(results_file),
        lambda: read_stage(stage),
        lambda: read_state(stage, record),
        lambda: commit(stage, "complete", "", state, b"more"),
        lambda: commit(tmp_path / "another", "complete", "", state, None),
        lambda: write_results(tmp_path / "other.h5", make_study()),
        lambda: lock_folder(tmp_path / "new").__enter__(),
        lambda: lock_folder(stage).__enter__(),
    ]
    for attempt in attempts:
        with pytest.raises(StoreError, match=r"cannot be (read|created|written): Permission denied"):
            attempt()


HOLD = """
import sys, time
from pathlib import Path
from cpframe.store import InUseError, lock_folder
try:
    with lock_folder(Path(sys.argv[1])):
        print("held", flush=True)
        time.sleep(60 if sys.argv[2] == "wait" else 0)
except InUseError as error:
    print(error, flush=True)
"""


def holder(folder: Path, wait: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", HOLD, str(folder), wait]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_folder_has_one_holder_at_a_time_and_none_once_it_is_killed(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "by it"
    with holder(folder, "wait") as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with pytest.raises(InUseError, match="in use by another run"), lock_folder(folder):
            pytest.fail("two holders")
        other.send_signal(signal.SIGKILL)
        other.wait()
    with lock_folder(folder):
        with pytest.raises(InUseError), lock_folder(folder):
            pytest.fail("two holders in one process")
        with holder(folder, "go on") as other:
            assert other.stdout is not None
            assert "in use by another run; wait for it, or choose another folder" in other.stdout.read()
    with holder(folder, "go on") as other:
        assert other.stdout is not None
        assert other.stdout.read() == "held\n"


def test_the_lock_is_let_go_when_its_holder_fails(tmp_path: Path) -> None:
    with pytest.raises(KeyError), lock_folder(tmp_path):
        raise KeyError("in the test")
    with lock_folder(tmp_path):
        pass


def test_a_folder_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="cannot be written: "), lock_folder(tmp_path / "file" / "folder"):
        pytest.fail("a folder inside a file")
    with pytest.raises(StoreError, match="cannot be created: Not a directory"):
        commit(tmp_path / "file" / "stage", "complete", "", make_history(), None)
