"""MLflow: a parent run for the study, a nested run for each trajectory.

The next run of a study goes on in the same runs, after the last epoch that they have, so curves are whole and nothing
is in them twice. The id of the parent is noted in the study's folder, for each tracking and experiment. A nested run
whose curve is not that of the trajectory (the spec was changed, say) is left alone, and another one begun.
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
from cpframe_plugins.observers.notes import digest, note, noted

_BATCH = 1000
"""The most metrics that MLflow takes at a time."""
_BEGINNING = threading.Lock()
"""Held while a client begins: MLflow makes its database on first use, and two observers may share one."""
_ENDED = {"complete": "FINISHED", "failed": "FAILED", "unfinished": "KILLED"}


@dataclass(frozen=True)
class MLflow:
    """Parameters, metrics by epoch, score and status of every trajectory.

    Attributes:
        tracking: URI of the tracking server or database; empty for ``mlflow.db`` (SQLite) in the study's folder.
        experiment: its name.
    """

    tracking: str = ""
    experiment: str = "cpframe"

    def __post_init__(self) -> None:
        """Refuse when the packages are not there."""
        check_installed("mlflow", "mlflow")
        if not self.tracking:
            check_installed("sqlalchemy", "mlflow")
        if not self.experiment:
            raise ValueError("`experiment` should not be empty")

    def __call__(self, run: RunStarted) -> _Watcher:
        """Find the runs that are there, or begin the study's, and log what is there already."""
        warnings.filterwarnings("ignore", module=r"mlflow\.")  # its own affair
        from mlflow.tracking import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        folder = run.folder.resolve()
        artifacts = None if self.tracking else (folder / "mlflow-artifacts").as_uri()
        with _BEGINNING:
            client = MlflowClient(tracking_uri=self.tracking or f"sqlite:///{folder / 'mlflow.db'}")
            experiment = client.get_experiment_by_name(self.experiment)
            id_ = experiment.experiment_id if experiment else client.create_experiment(self.experiment, artifacts)
        place = folder / f"mlflow-{digest(self.tracking, self.experiment)}.txt"
        watcher = _Watcher(client, id_, _parent(client, id_, place, run.record))
        watcher.log_record(run.record)
        return watcher


@dataclass(frozen=True)
class _Watcher:
    client: Any
    experiment: str
    parent: str
    runs: dict[str, str] = field(default_factory=dict)
    """By the trajectory's name."""
    reached: dict[str, int] = field(default_factory=dict)
    """The last epoch that is logged, by the trajectory's name."""
    scored: set[str] = field(default_factory=set)
    """Names of the trajectories whose score is logged."""
    trajectories: dict[str, TrajectoryRecord] = field(default_factory=dict)

    def log_record(self, record: StudyRecord) -> None:
        self.trajectories.update({one.name: one for one in record.trajectories})
        for found in _all(self.client, self.experiment, f"tags.`mlflow.parentRunId` = '{self.parent}'"):
            name = found.data.tags.get("cpframe.trajectory", "")
            if name in self.trajectories and name not in self.runs:
                known = self.client.get_metric_history(found.info.run_id, "accuracy/test")
                history = self.trajectories[name].history
                curve = dict(zip(history.epoch.tolist(), history.test_accuracy.tolist(), strict=True))
                if all(curve.get(one.step) == one.value for one in known):
                    steps = self.client.get_metric_history(found.info.run_id, "learning_rate")
                    self.runs[name] = found.info.run_id
                    self.reached[name] = max((one.step for one in steps), default=0)
                    if "score" in found.data.metrics:
                        self.scored.add(name)
        for name, one in self.trajectories.items():
            self.log([name], one.history)

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        first = committed.history.epoch[0]
        # Of the others some were lost: they come at the end.
        self.log([one for one in committed.trajectories if self.reached.get(one, 0) + 1 >= first], committed.history)

    def run_finished(self, finished: RunFinished) -> None:
        for one in finished.record.trajectories:
            self.log([one.name], one.history)
            if one.name in self.runs or one.status == "failed":
                run = self.run(one.name)
                if one.status == "complete" and one.name not in self.scored:
                    self.client.log_metric(run, "score", one.score, int(time.time() * 1000), one.epochs)
                if one.reason:
                    self.client.set_tag(run, "cpframe.reason", one.reason[:5000])
                self.client.set_terminated(run, _ENDED[one.status])
        states = {one.status for one in finished.record.trajectories}
        worst = next((state for state in ("failed", "unfinished") if state in states), "complete")
        self.client.set_terminated(self.parent, _ENDED[worst])

    def log(self, names: Iterable[str], history: History) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        rows = [
            Metric(re.sub(r"[^/\w.\- ]", "_", name), value, now, epoch)
            for epoch, values in scalars(history)
            for name, value in values.items()
        ]
        for name in names:
            reached = self.reached.get(name, 0)
            new = [row for row in rows if row.step > reached]
            for start in range(0, len(new), _BATCH):
                self.client.log_batch(self.run(name), metrics=new[start : start + _BATCH])
            if new:
                self.reached[name] = new[-1].step

    def run(self, name: str) -> str:
        """The nested run of a trajectory, begun if need be."""
        from mlflow.entities import Param

        if name not in self.runs:
            tags = {"mlflow.parentRunId": self.parent, "cpframe.trajectory": name}
            made = self.client.create_run(self.experiment, tags=tags, run_name=name).info.run_id
            parameters = [Param(key, str(value)) for key, value in settings(self.trajectories[name]).items()]
            self.client.log_batch(made, params=parameters)
            self.runs[name] = made
        return self.runs[name]


def _parent(client: Any, experiment: str, place: Path, record: StudyRecord) -> str:
    """The run of the study: as noted in its folder, or a new one."""
    from mlflow.exceptions import MlflowException

    for id_ in noted(place):
        with suppress(MlflowException):
            found = client.get_run(id_)
            if found.info.lifecycle_stage == "active" and found.info.experiment_id == experiment:
                client.update_run(id_, status="RUNNING")
                return id_
    made = str(client.create_run(experiment, run_name=record.title).info.run_id)
    client.log_text(made, record.spec, "spec.toml")
    for name, fact in record.provenance.items():
        client.set_tag(made, f"cpframe.{name}", fact)
    note(place, [made])
    return made


def _all(client: Any, experiment: str, which: str) -> Iterable[Any]:
    token = None
    while True:
        page = client.search_runs([experiment], which, max_results=1000, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
