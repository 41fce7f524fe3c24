"""TensorBoard: one run per trajectory, in event files that are written without TensorFlow or torch.

A file is open only while events are appended, so thousands of trajectories need one open file. When a run starts, every
file is replaced by one with all epochs committed so far: curves are complete and no epoch is repeated. A TensorBoard
that reads a file meanwhile continues at its position, because the earlier records keep their lengths.
"""

from __future__ import annotations

import io
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpframe.api import EpochsCommitted, History, RunFinished, RunStarted, StudyRecord, TrajectoryRecord
from cpframe_plugins.observers.curves import check_installed, scalars, settings

_FILE = "events.out.tfevents.0.cpframe"


@dataclass(frozen=True)
class TensorBoard:
    """TensorBoard runs with the scalars of every trajectory (float32, TensorBoard's type) and its settings as hparams.

    Attributes:
        folder: the folder for ``tensorboard --logdir``; if empty, ``tensorboard`` in the study's folder. Use a folder
            for one study only, because files of the same name from another study are replaced.
    """

    folder: str = ""

    def __post_init__(self) -> None:
        """Check that the package is installed."""
        check_installed("tensorboard", "tensorboard")

    def __call__(self, run: RunStarted) -> _Watcher:
        """Write the epochs that are committed."""
        return _Watcher(Path(self.folder) if self.folder else run.folder / "tensorboard", run.record)


class _Watcher:
    def __init__(self, folder: Path, record: StudyRecord) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._folder = folder
        self._trajectories = {trajectory.name: trajectory for trajectory in record.trajectories}
        self._last_epoch = {trajectory.name: len(trajectory.history.epoch) for trajectory in record.trajectories}
        code = "".join(f"    {line}\n" for line in record.spec.splitlines())  # a code block in Markdown
        _replace(folder / _FILE, _records([(0, text_pb("title", record.title)), (0, text_pb("spec", code))]))
        for trajectory in record.trajectories:
            file = self._file(trajectory.name)
            if trajectory.history.epoch.size:
                _replace(file, _hparams(trajectory) + _curves(trajectory.history) + _score(trajectory))
            else:
                file.unlink(missing_ok=True)

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        curves = _curves(committed.history)
        for name in committed.trajectories:
            # After a gap nothing is appended: `run_finished` delivers all the missing epochs in order.
            if self._last_epoch[name] + 1 == committed.history.epoch[0]:
                self._append(name, curves, len(committed.history.epoch))

    def run_finished(self, finished: RunFinished) -> None:
        for trajectory in finished.record.trajectories:
            last = self._last_epoch[trajectory.name]
            missing = _curves(trajectory.history, last)
            self._append(trajectory.name, missing, len(trajectory.history.epoch) - last)
            if self._trajectories[trajectory.name].status != "complete":
                self._append(trajectory.name, _score(trajectory), 0)

    def _append(self, name: str, records: bytes, epochs: int) -> None:
        if not records:
            return
        if not self._last_epoch[name]:
            _replace(self._file(name), _hparams(self._trajectories[name]))
        with self._file(name).open("ab") as file:
            file.write(records)
        self._last_epoch[name] += epochs

    def _file(self, trajectory: str) -> Path:
        return self._folder / trajectory / _FILE


def _hparams(trajectory: TrajectoryRecord) -> bytes:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    return _records([(0, hparams_pb(settings(trajectory), trial_id=trajectory.name))])


def _curves(history: History, after: int = 0) -> bytes:
    return _records((epoch, _summary(values)) for epoch, values in scalars(history, after))


def _score(trajectory: TrajectoryRecord) -> bytes:
    """Return the record of a complete trajectory's score; nothing for any other trajectory."""
    complete = trajectory.status == "complete"
    return _records([(trajectory.epochs, _summary({"score": trajectory.score}))]) if complete else b""


def _summary(values: Mapping[str, float]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def _records(summaries: Iterable[tuple[int, Any]]) -> bytes:
    """Encode summaries, each with its step, as the records of an event file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    now = time.time()
    for step, summary in summaries:
        writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
    return buffer.getvalue()


def _replace(path: Path, records: bytes) -> None:
    """Replace an event file by one with the file header and these records."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name("part")
    with temporary.open("wb") as file:
        RecordWriter(file).write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        file.write(records)
    temporary.replace(path)
