"""The observers' files, read by the trackers' own readers: curves of a resumed study are complete and not repeated."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cpframe.api import EpochsCommitted, History, RunFinished, RunStarted, StudyRecord, TrajectoryRecord
from cpframe.records.model import MetricHistory
from cpframe_plugins.observers.curves import scalars
from cpframe_plugins.observers.notes import digest, read_note, write_note
from cpframe_plugins.observers.to_mlflow import MLflow
from cpframe_plugins.observers.to_tensorboard import TensorBoard
from cpframe_plugins.observers.to_wandb import WeightsAndBiases

LAYERS = ("conv 1", "頭")
CURVES = ("train_loss", "train_accuracy", "test_loss", "test_accuracy")
SPEC = 'title = "Tiny"\n# a comment\n'


def history(start: int, stop: int, seed: int = 0, condition: str = "clean") -> History:
    """Return the epochs in (start, stop], with numbers that do not depend on the cuts."""
    rng = np.random.default_rng(seed)
    table = rng.random((4, 20))
    fisher = rng.random((20, 2)) * 1e3
    epoch = np.arange(start + 1, stop + 1)
    measured = epoch[epoch % 2 == 0]
    rows = table[:, epoch - 1]
    if condition == "idle":
        rows[:2] = np.nan
    return History(
        epoch=epoch,
        condition=(condition,) * len(epoch),
        learning_rate=0.1 / epoch,
        **dict(zip(CURVES, rows, strict=True)),
        measured_epoch=measured,
        layers=LAYERS,
        metrics={
            "fisher": MetricHistory(fisher[measured - 1], None, "nat^2", "exact", "clean"),
            "sharpness": MetricHistory(fisher[measured - 1, 0], None, "", "", "clean"),
        },
    )


def joined(*parts: History) -> History:
    def whole(of: Any) -> Any:
        return np.concatenate([of(part) for part in parts])

    metrics = {
        name: replace(one, values=whole(lambda part, name=name: part.metrics[name].values))
        for name, one in parts[0].metrics.items()
    }
    names = ("epoch", "learning_rate", "measured_epoch", *CURVES)
    arrays = {name: whole(lambda part, name=name: getattr(part, name)) for name in names}
    condition = tuple(one for part in parts for one in part.condition)
    return replace(parts[0], condition=condition, metrics=metrics, **arrays)


# Two trajectories that share their first 3 epochs, and a third one that fails in its fourth epoch.
TRUNK = [history(0, 2), history(2, 3)]
BLUR = [history(3, 4, 1, "blur"), history(4, 6, 1)]
IDLE = [history(3, 5, 2, "idle"), history(5, 7, 2)]
FAILING = [history(0, 3, 3), history(3, 4, 3)]
WHOLE = {"a": joined(*TRUNK, *BLUR), "b": joined(*TRUNK, *IDLE), "c": joined(*FAILING)}
VARIANT = {"optimizer.lr": 0.1, "architecture.sizes": [4, 5]}


def trajectory(name: str, *parts: History, status: str = "unfinished") -> TrajectoryRecord:
    epochs = 6 if name != "b" else 7
    whole = joined(*parts) if parts else history(0, 0)
    return TrajectoryRecord(
        name=name,
        protocol="removal",
        deficit={"a": "blur", "b": "idle", "c": "clean"}[name],
        onset=0,
        offset=3,
        epochs=epochs,
        seed=7,
        variant=VARIANT,
        status=status,  # type: ignore[arg-type]
        reason='diverged, "badly"' if status == "failed" else "",
        score=float(whole.test_accuracy[-2:].mean()) if status == "complete" else np.nan,
        history=whole,
    )


def study(*trajectories: TrajectoryRecord) -> StudyRecord:
    return StudyRecord("Tiny: 視力", SPEC, 2, {"blur": "x/blur"}, "2026", {"device": "cpu"}, trajectories)


def committed(part: History, *names: str) -> EpochsCommitted:
    return EpochsCommitted("-".join(names), 7, VARIANT, part.condition[0], names, part)


NOTHING = study(trajectory("a"), trajectory("b"), trajectory("c"))
HALF = study(trajectory("a", *TRUNK, *BLUR, status="complete"), trajectory("b", *TRUNK), trajectory("c", FAILING[0]))
ALL = study(
    trajectory("a", *TRUNK, *BLUR, status="complete"),
    trajectory("b", *TRUNK, *IDLE, status="complete"),
    trajectory("c", *FAILING, status="failed"),
)
FIRST = [committed(TRUNK[0], "a", "b"), committed(FAILING[0], "c"), committed(TRUNK[1], "a", "b")]
FIRST += [committed(part, "a") for part in BLUR]
SECOND = [committed(IDLE[0], "b"), committed(FAILING[1], "c"), committed(IDLE[1], "b")]


def drive(observer: Any, folder: Path, before: StudyRecord, notices: list[EpochsCommitted], end: StudyRecord) -> None:
    watcher = observer(RunStarted(folder, before))
    for notice in notices:
        watcher.epochs_committed(notice)
    watcher.run_finished(RunFinished(end, stopped=end is HALF))


def drive_at_once(
    observers: Sequence[Any], folder: Path, before: StudyRecord, notices: list[EpochsCommitted], end: StudyRecord
) -> None:
    """Drive every observer in a thread of its own, as in a run."""
    with ThreadPoolExecutor(len(observers)) as pool:
        for done in [pool.submit(drive, observer, folder, before, notices, end) for observer in observers]:
            done.result()


def expected(name: str) -> dict[int, dict[str, float]]:
    """Return the scalars that a tracker must hold for a trajectory, by epoch, without the use of `scalars`."""
    one = WHOLE[name]
    found: dict[int, dict[str, float]] = {}
    for row, epoch in enumerate(one.epoch.tolist()):
        values = {
            "accuracy/test": one.test_accuracy[row],
            "accuracy/train": one.train_accuracy[row],
            "loss/test": one.test_loss[row],
            "loss/train": one.train_loss[row],
            "learning_rate": one.learning_rate[row],
        }
        if epoch % 2 == 0:
            fisher = one.metrics["fisher"].values[epoch // 2 - 1]
            values |= {"fisher/conv 1": fisher[0], "fisher/頭": fisher[1], "fisher/total": fisher[0] + fisher[1]}
            values["sharpness"] = one.metrics["sharpness"].values[epoch // 2 - 1]
        found[epoch] = {tag: float(value) for tag, value in values.items() if not np.isnan(value)}
    return found


def settings(name: str) -> dict[str, object]:
    one = trajectory(name)
    return {
        "protocol": "removal",
        "deficit": one.deficit,
        "onset": 0,
        "offset": 3,
        "epochs": one.epochs,
        "seed": 7,
        "optimizer.lr": 0.1,
        "architecture.sizes": "[4, 5]",
    }


def score(name: str) -> float | None:
    return None if name == "c" else float(WHOLE[name].test_accuracy[-2:].mean())


def test_the_scalars_of_an_epoch() -> None:
    for name, one in WHOLE.items():
        assert dict(scalars(one)) == expected(name)
        assert dict(scalars(one, after=3)) == {epoch: row for epoch, row in expected(name).items() if epoch > 3}


# TensorBoard


def tensorboard_curves(folder: Path) -> tuple[dict[int, dict[str, float]], dict[str, list[int]]]:
    """Return the scalars that TensorBoard's reader finds, by epoch, and the steps of each tag in their order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    reader.Reload()
    curves: dict[int, dict[str, float]] = {}
    steps = {}
    for tag in reader.Tags()["scalars"]:
        steps[tag] = [event.step for event in reader.Scalars(tag)]
        for event in reader.Scalars(tag):
            curves.setdefault(event.step, {})[tag] = event.value
    return curves, steps


def check_tensorboard(folder: Path, names: str = "abc") -> None:
    for name in names:
        curves, steps = tensorboard_curves(folder / name)
        wanted = expected(name)
        if (final := score(name)) is not None:
            wanted[max(wanted)]["score"] = final
        assert curves.keys() == wanted.keys()
        for epoch, row in wanted.items():
            assert curves[epoch].keys() == row.keys()
            for tag, value in row.items():
                assert curves[epoch][tag] == float(np.float32(value))
        assert all(found == sorted(set(found)) for found in steps.values())


@pytest.mark.needs_extra("tensorboard")
def test_tensorboard_has_complete_curves_texts_and_hparams(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    drive(TensorBoard(), tmp_path, NOTHING, FIRST, HALF)
    folder = tmp_path / "tensorboard"
    check_tensorboard(folder, "a")
    before = (folder / "b" / "events.out.tfevents.0.cpframe").read_bytes()
    drive(TensorBoard(), tmp_path, HALF, SECOND, ALL)
    check_tensorboard(folder)
    # A reader continues at its position.
    assert len(before) < len((folder / "b" / "events.out.tfevents.0.cpframe").read_bytes())
    sizes = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    drive(TensorBoard(), tmp_path, ALL, [], ALL)
    check_tensorboard(folder)
    assert {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()} == sizes
    for name in "abc":
        reader = EventAccumulator(str(folder / name))
        reader.Reload()
        content = reader.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        info = HParamsPluginData.FromString(content).session_start_info
        found = {key: getattr(value, value.WhichOneof("kind")) for key, value in info.hparams.items()}
        assert found == settings(name)
    reader = EventAccumulator(str(folder))
    reader.Reload()
    texts = {tag: reader.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in reader.Tags()["tensors"]}
    assert texts["title"] == "Tiny: 視力"
    assert [line[4:] for line in texts["spec"].splitlines()] == SPEC.splitlines()


@pytest.mark.needs_extra("tensorboard")
def test_tensorboard_holds_no_file_open_and_adds_lost_epochs_at_the_end(tmp_path: Path) -> None:
    descriptors = Path("/proc/self/fd")
    watcher = TensorBoard(str(tmp_path / "elsewhere"))(RunStarted(tmp_path, NOTHING))
    count = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    for notice in [FIRST[0], *FIRST[3:], *SECOND[1:]]:  # the epochs between them were lost
        watcher.epochs_committed(notice)
    assert not descriptors.exists() or len(list(descriptors.iterdir())) == count
    watcher.run_finished(RunFinished(ALL, stopped=False))
    check_tensorboard(tmp_path / "elsewhere")


# MLflow


def mlflow_runs(folder: Path, experiment_name: str = "cpframe") -> tuple[Any, dict[str, list[Any]], list[Any]]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(experiment_name)
    assert experiment is not None
    nested: dict[str, list[Any]] = {}
    parents = []
    for run in client.search_runs([experiment.experiment_id]):
        if "mlflow.parentRunId" in run.data.tags:
            nested.setdefault(run.info.run_name, []).append(run)
        else:
            parents.append(run)
    return client, nested, parents


def mlflow_curves(client: Any, run: Any) -> dict[int, dict[str, float]]:
    curves: dict[int, dict[str, float]] = {}
    for tag in run.data.metrics:
        points = client.get_metric_history(run.info.run_id, tag)
        assert len({point.step for point in points}) == len(points)
        for point in points:
            curves.setdefault(point.step, {})[tag] = point.value
    return curves


@pytest.mark.needs_extra("mlflow")
@pytest.mark.long  # MLflow takes seconds to create its database
@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")
@pytest.mark.filterwarnings("ignore:.*sqlalche.me:DeprecationWarning")  # SQLAlchemy's
def test_mlflow_has_a_parent_and_a_nested_run_for_each_trajectory(tmp_path: Path) -> None:
    drive(MLflow(), tmp_path, NOTHING, FIRST, HALF)
    _, nested, (parent,) = mlflow_runs(tmp_path)
    states = {name: run.info.status for name, (run,) in nested.items()}
    assert states == {"a": "FINISHED", "b": "KILLED", "c": "KILLED"}
    assert parent.info.status == "KILLED"
    # In the second run, lost epochs are logged at the end.
    drive(MLflow(), tmp_path, HALF, SECOND[1:], ALL)
    drive(MLflow(), tmp_path, ALL, [], ALL)
    client, nested, (again,) = mlflow_runs(tmp_path)
    assert again.info.run_id == parent.info.run_id
    assert again.info.run_name == "Tiny: 視力"
    assert again.info.status == "FAILED"
    assert {name: run.info.status for name, (run,) in nested.items()} == {
        "a": "FINISHED",
        "b": "FINISHED",
        "c": "FAILED",
    }
    for name, (run,) in nested.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.params == {key: str(value) for key, value in settings(name).items()}
        curves = mlflow_curves(client, run)
        final = {row.pop("score") for row in curves.values() if "score" in row}
        assert final == ({score(name)} if name != "c" else set())
        assert curves == expected(name)
    assert nested["c"][0].data.tags["cpframe.reason"] == 'diverged, "badly"'
    spec = client.list_artifacts(parent.info.run_id)
    assert [file.path for file in spec] == ["spec.toml"]
    # After a change of the spec, other trainings have the same names; they get new runs.
    other = replace(ALL.trajectories[0], history=replace(WHOLE["a"], test_accuracy=WHOLE["a"].test_accuracy / 2))
    drive(MLflow(), tmp_path, study(other), [], study(other))
    _, nested, parents = mlflow_runs(tmp_path)
    assert len(parents) == 1
    assert {name: len(runs) for name, runs in nested.items()} == {"a": 2, "b": 1, "c": 1}


@pytest.mark.needs_extra("mlflow")
@pytest.mark.long
@pytest.mark.filterwarnings("ignore::DeprecationWarning:mlflow")
@pytest.mark.filterwarnings("ignore:.*sqlalche.me:DeprecationWarning")  # SQLAlchemy's
def test_mlflow_keeps_two_experiments_apart(tmp_path: Path) -> None:
    """Both create one database at the same time, and use it again in the next run."""
    both = (MLflow(), MLflow(experiment="other"))
    drive_at_once(both, tmp_path, NOTHING, FIRST, HALF)
    before = [mlflow_runs(tmp_path, one.experiment)[2][0].info.run_id for one in both]
    drive_at_once(both, tmp_path, HALF, SECOND, ALL)
    for one, id_ in zip(both, before, strict=True):
        client, nested, (parent,) = mlflow_runs(tmp_path, one.experiment)
        assert parent.info.run_id == id_
        assert nested.keys() == set("abc")
        for name, (run,) in nested.items():
            curves = mlflow_curves(client, run)
            assert {epoch: {tag: row[tag] for tag in row if tag != "score"} for epoch, row in curves.items()} == (
                expected(name)
            )


# Weights & Biases


def wandb_records(path: Path) -> Iterator[Any]:
    """Yield the records of an offline run: LevelDB's log format after a header of 7 bytes."""
    from wandb.proto import wandb_internal_pb2

    content = path.read_bytes()
    assert content[:4] == b":W&B"
    place, part = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # the rest of the block is too short for a header
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack("<HB", content[place + 4 : place + 7])
        part += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # a complete record, or its last part
            record = wandb_internal_pb2.Record()
            record.ParseFromString(part)
            part = b""
            yield record


def wandb_run(path: Path) -> tuple[Any, dict[int, dict[str, float]], Mapping[str, Any], int]:
    head: Any = None
    curves: dict[int, dict[str, float]] = {}
    summary: dict[str, Any] = {}
    exit_code = -1
    for record in wandb_records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run" and head is None:
            head = record.run
        elif kind == "history":
            row = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
            curves[int(row["epoch"])] = {key: value for key, value in row.items() if key[0] != "_" and key != "epoch"}
        elif kind == "summary":
            summary |= {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.summary.update}
        elif kind == "exit":
            exit_code = record.exit.exit_code
    return head, curves, summary, exit_code


@pytest.mark.needs_extra("wandb")
@pytest.mark.long  # W&B takes seconds to start
def test_wandb_has_a_run_for_each_trajectory_in_one_group(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    drive(WeightsAndBiases(), folder, NOTHING, FIRST, HALF)
    assert len(list(folder.glob("wandb/offline-run-*/*.wandb"))) == 1  # only trajectory a is complete
    drive(WeightsAndBiases(), folder, HALF, SECOND[1:], ALL)
    drive(WeightsAndBiases(), folder, ALL, [], ALL)
    found = {}
    for path in folder.glob("wandb/offline-run-*/*.wandb"):
        head, curves, summary, exit_code = wandb_run(path)
        name = head.display_name
        assert name not in found
        found[name] = exit_code
        assert (head.project, head.run_group) == ("cpframe", "tiny")
        config = {item.key: json.loads(item.value_json) for item in head.config.update}
        assert settings(name).items() <= config.items()
        assert config["study"] == {"title": "Tiny: 視力", "device": "cpu"}
        assert curves == expected(name)
        assert summary["status"] == ("failed" if name == "c" else "complete")
        assert summary.get("score") == score(name)
    assert found == {"a": 0, "b": 0, "c": 1}


@pytest.mark.needs_extra("wandb")
@pytest.mark.long
def test_wandb_keeps_destinations_apart(tmp_path: Path) -> None:
    """Two projects at once, and a group that is added later and gets the earlier trainings."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    both = (WeightsAndBiases(), WeightsAndBiases(project="other"))
    drive_at_once(both, folder, NOTHING, FIRST, HALF)
    drive_at_once(both, folder, HALF, SECOND, ALL)
    later = WeightsAndBiases(group="later")
    drive(later, folder, ALL, [], ALL)
    drive_at_once((*both, later), folder, ALL, [], ALL)
    runs = []
    ids = set()
    for path in folder.glob("wandb/offline-run-*/*.wandb"):
        head, curves, _, _ = wandb_run(path)
        assert curves == expected(head.display_name)
        runs.append((head.project, head.run_group, head.display_name))
        ids.add(head.run_id)
    destinations = [("cpframe", "tiny"), ("other", "tiny"), ("cpframe", "later")]
    assert sorted(runs) == sorted((*destination, name) for destination in destinations for name in "abc")
    assert len(ids) == 9


def test_a_note_is_replaced_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "note.txt"
    assert read_note(path) == []
    write_note(path, ["one", "two"])
    assert read_note(path) == ["one", "two"]

    def killed(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt):
        write_note(path, ["three"])
    assert read_note(path) == ["one", "two"]
    path.write_bytes(b"\xff\xfe")
    assert read_note(path) == []
    assert digest("ab", "c") != digest("a", "bc")


@pytest.mark.needs_extra("wandb")
def test_wandb_online_without_a_login_is_an_error_and_not_a_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import wandb

    monkeypatch.setattr(type(wandb.api), "api_key", None, raising=False)
    with pytest.raises(RuntimeError, match="wandb login"):
        WeightsAndBiases(mode="online")(RunStarted(tmp_path, NOTHING))
