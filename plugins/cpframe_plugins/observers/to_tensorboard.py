"""TensorBoard: one run a trajectory, as event files that are written without TensorFlow or torch.

A file is open only while something is appended to it, so thousands of trajectories need no more than one. When a run
starts, every file is written anew, as far as the study has come, and put in the place of the old one: curves are
whole and nothing is in them twice. A TensorBoard that looks on reads on where it was, since the bytes before are of
the same lengths.
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
    """Scalars of every trajectory (float32, as TensorBoard has them), its deficit, window and seed as hparams.

    Attributes:
        folder: that ``tensorboard --logdir`` is to be given; empty for ``tensorboard`` in the study's folder. Of
            one study alone: files of another one that are called alike are replaced.
    """

    folder: str = ""

    def __post_init__(self) -> None:
        """Refuse when the package is not there."""
        check_installed("tensorboard", "tensorboard")

    def __call__(self, run: RunStarted) -> _Watcher:
        """Write what is there already."""
        return _Watcher(Path(self.folder) if self.folder else run.folder / "tensorboard", run.record)


class _Watcher:
    def __init__(self, folder: Path, record: StudyRecord) -> None:
        from tensorboard.plugins.text.summary_v2 import text_pb

        self._folder = folder
        self._before = {one.name: one for one in record.trajectories}
        self._reached = {one.name: len(one.history.epoch) for one in record.trajectories}
        code = "".join(f"    {line}\n" for line in record.spec.splitlines())  # as Markdown has it
        _replace(folder / _FILE, _framed([(0, text_pb("title", record.title)), (0, text_pb("spec", code))]))
        for one in record.trajectories:
            if one.history.epoch.size:
                _replace(self._file(one.name), _head(one) + _rows(one.history) + _end(one))
            else:
                self._file(one.name).unlink(missing_ok=True)

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        rows = _rows(committed.history)
        for name in committed.trajectories:
            if self._reached[name] + 1 == committed.history.epoch[0]:  # else some were lost: they come at the end
                self._append(name, rows, len(committed.history.epoch))

    def run_finished(self, finished: RunFinished) -> None:
        for one in finished.record.trajectories:
            reached = self._reached[one.name]
            self._append(one.name, _rows(one.history, reached), len(one.history.epoch) - reached)
            if self._before[one.name].status != "complete":
                self._append(one.name, _end(one), 0)

    def _append(self, name: str, rows: bytes, epochs: int) -> None:
        if not rows:
            return
        if not self._reached[name]:
            _replace(self._file(name), _head(self._before[name]))
        with self._file(name).open("ab") as file:
            file.write(rows)
        self._reached[name] += epochs

    def _file(self, trajectory: str) -> Path:
        return self._folder / trajectory / _FILE


def _head(trajectory: TrajectoryRecord) -> bytes:
    from tensorboard.plugins.hparams.summary_v2 import hparams_pb

    return _framed([(0, hparams_pb(settings(trajectory), trial_id=trajectory.name))])


def _rows(history: History, after: int = 0) -> bytes:
    return _framed((epoch, _summary(values)) for epoch, values in scalars(history, after))


def _end(trajectory: TrajectoryRecord) -> bytes:
    """The score of a trajectory that has one."""
    complete = trajectory.status == "complete"
    return _framed([(trajectory.epochs, _summary({"score": trajectory.score}))]) if complete else b""


def _summary(values: Mapping[str, float]) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary

    return Summary(value=[Summary.Value(tag=name, simple_value=value) for name, value in values.items()])


def _framed(summaries: Iterable[tuple[int, Any]]) -> bytes:
    """Events of these summaries, each with its step, as they lie in an event file."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    buffer = io.BytesIO()
    writer = RecordWriter(buffer)
    now = time.time()
    for step, summary in summaries:
        writer.write(Event(wall_time=now, step=step, summary=summary).SerializeToString())
    return buffer.getvalue()


def _replace(path: Path, content: bytes) -> None:
    """Put an event file, with its head, in the place of the one before."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name("part")
    with aside.open("wb") as file:
        RecordWriter(file).write(Event(wall_time=time.time(), file_version="brain.Event:2").SerializeToString())
        file.write(content)
    aside.replace(path)
