"""MLflow: a parent run for the study and a nested run for each trajectory.

Running a study again continues the same MLflow runs after their last epoch, so curves are complete and no epoch is
repeated. The id of the parent run is kept in the study's folder, in one file per `tracking` and `experiment`. A nested
run whose curve differs from that of the trajectory (because the spec was changed, for example) is left unchanged, and a
new one is started.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import warnings
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpframe.api import EpochsCommitted, History, RunFinished, RunStarted, StudyRecord, TrajectoryRecord
from cpframe_plugins.observers.curves import check_installed, scalars, settings
from cpframe_plugins.observers.notes import digest, read_note, write_note

_BATCH = 1000
"""The largest number of metrics that MLflow accepts in one call."""
_CLIENT_LOCK = threading.Lock()
"""Held while a client starts: MLflow creates its database on first use, and two observers may share a database."""
_FINAL_STATUS = {"complete": "FINISHED", "failed": "FAILED", "unfinished": "KILLED"}


@dataclass(frozen=True)
class MLflow:
    """MLflow runs with the parameters, metrics per epoch, score and status of every trajectory.

    Attributes:
        tracking: the URI of the tracking server or database; if empty, ``mlflow.db`` (SQLite) in the study's folder.
        experiment: the name of the experiment.
    """

    tracking: str = ""
    experiment: str = "cpframe"

    def __post_init__(self) -> None:
        """Check that the packages are installed and that `experiment` has a name."""
        check_installed("mlflow", "mlflow")
        if not self.tracking:
            check_installed("sqlalchemy", "mlflow")
        if not self.experiment:
            raise ValueError("`experiment` must not be empty")

    def __call__(self, run: RunStarted) -> _Watcher:
        """Find or create the study's runs, and log the epochs that are committed."""
        warnings.filterwarnings("ignore", module=r"mlflow\.")  # users cannot act on MLflow's internal warnings
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        folder = run.folder.resolve()
        artifacts = None if self.tracking else (folder / "mlflow-artifacts").as_uri()
        with _CLIENT_LOCK:
            client = MlflowClient(tracking_uri=self.tracking or f"sqlite:///{folder / 'mlflow.db'}")
            experiment = client.get_experiment_by_name(self.experiment)
            id_ = experiment.experiment_id if experiment else client.create_experiment(self.experiment, artifacts)
        path = folder / f"mlflow-{digest(self.tracking, self.experiment)}.txt"
        watcher = _Watcher(client, id_, _parent_run(client, id_, path, run.record))
        watcher.log_record(run.record)
        return watcher


@dataclass(frozen=True)
class _Watcher:
    client: Any
    experiment: str
    parent: str
    runs: dict[str, str] = field(default_factory=dict)
    """The ids of the nested runs, by trajectory name."""
    last_epoch: dict[str, int] = field(default_factory=dict)
    """The last epoch that is logged, by trajectory name."""
    scored: set[str] = field(default_factory=set)
    """The names of the trajectories whose score is logged."""
    trajectories: dict[str, TrajectoryRecord] = field(default_factory=dict)

    def log_record(self, record: StudyRecord) -> None:
        self.trajectories.update({trajectory.name: trajectory for trajectory in record.trajectories})
        for run in _search_runs(self.client, self.experiment, f"tags.`mlflow.parentRunId` = '{self.parent}'"):
            name = run.data.tags.get("cpframe.trajectory", "")
            if name in self.trajectories and name not in self.runs:
                logged = self.client.get_metric_history(run.info.run_id, "accuracy/test")
                history = self.trajectories[name].history
                curve = dict(zip(history.epoch.tolist(), history.test_accuracy.tolist(), strict=True))
                if all(curve.get(point.step) == point.value for point in logged):
                    rates = self.client.get_metric_history(run.info.run_id, "learning_rate")
                    self.runs[name] = run.info.run_id
                    self.last_epoch[name] = max((point.step for point in rates), default=0)
                    if "score" in run.data.metrics:
                        self.scored.add(name)
        for name, trajectory in self.trajectories.items():
            self.log([name], trajectory.history)

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        first = committed.history.epoch[0]
        # After a gap nothing is logged: `run_finished` delivers all the missing epochs in order.
        names = [name for name in committed.trajectories if self.last_epoch.get(name, 0) + 1 >= first]
        self.log(names, committed.history)

    def run_finished(self, finished: RunFinished) -> None:
        for trajectory in finished.record.trajectories:
            self.log([trajectory.name], trajectory.history)
            if trajectory.name in self.runs or trajectory.status == "failed":
                self.finish(trajectory)
        states = {trajectory.status for trajectory in finished.record.trajectories}
        worst = next((state for state in ("failed", "unfinished") if state in states), "complete")
        self.client.set_terminated(self.parent, _FINAL_STATUS[worst])

    def finish(self, trajectory: TrajectoryRecord) -> None:
        run = self.run(trajectory.name)
        if trajectory.status == "complete" and trajectory.name not in self.scored:
            self.client.log_metric(run, "score", trajectory.score, int(time.time() * 1000), trajectory.epochs)
        if trajectory.reason:
            self.client.set_tag(run, "cpframe.reason", trajectory.reason[:5000])
        self.client.set_terminated(run, _FINAL_STATUS[trajectory.status])

    def log(self, names: Iterable[str], history: History) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [
            Metric(re.sub(r"[^/\w.\- ]", "_", name), value, now, epoch)
            for epoch, values in scalars(history)
            for name, value in values.items()
        ]
        for name in names:
            last = self.last_epoch.get(name, 0)
            new = [row for row in rows if row.step > last]
            for start in range(0, len(new), _BATCH):
                self.client.log_batch(self.run(name), metrics=new[start : start + _BATCH])
            if new:
                self.last_epoch[name] = new[-1].step

    def run(self, name: str) -> str:
        """Return the id of a trajectory's nested run, which is created if there is none."""
        from mlflow.entities import Param

        if name not in self.runs:
            tags = {"mlflow.parentRunId": self.parent, "cpframe.trajectory": name}
            run = self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id
            parameters = [Param(key, str(value)) for key, value in settings(self.trajectories[name]).items()]
            self.client.log_batch(run, params=parameters)
            self.runs[name] = run
        return self.runs[name]


def _parent_run(client: Any, experiment: str, path: Path, record: StudyRecord) -> str:
    """Return the id of the study's run: the one in the note at `path`, or a new one."""
    from mlflow.exceptions import MlflowException

    for id_ in read_note(path):
        with suppress(MlflowException):
            run = client.get_run(id_)
            if run.info.lifecycle_stage == "active" and run.info.experiment_id == experiment:
                client.update_run(id_, status="RUNNING")
                return id_
    new = str(client.create_run(experiment, run_name=record.title).info.run_id)
    client.log_text(new, record.spec, "spec.toml")
    for name, fact in record.provenance.items():
        client.set_tag(new, f"cpframe.{name}", fact)
    write_note(path, [new])
    return new


def _search_runs(client: Any, experiment: str, condition: str) -> Iterable[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], condition, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
