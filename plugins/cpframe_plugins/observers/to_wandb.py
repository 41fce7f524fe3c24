"""Weights & Biases: one run a trajectory, all of a study in one group.

A trajectory is logged whole, once it is complete or has failed, so only one run of W&B is open at a time; one that is
unfinished is logged by the run of the study that completes it. What was logged is noted in the study's folder, for
each project, entity, group and mode, and not logged there again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cpframe.api import EpochsCommitted, History, RunFinished, RunStarted, TrajectoryRecord
from cpframe_plugins.observers.curves import check_installed, scalars, settings
from cpframe_plugins.observers.notes import digest, note, noted


@dataclass(frozen=True)
class WeightsAndBiases:
    """Settings, curves by epoch and score of every trajectory.

    Attributes:
        project: at W&B.
        mode: ``offline`` writes to ``wandb`` in the study's folder, for ``wandb sync``; ``online`` needs a login.
        entity: user or team; empty for the default one.
        group: of the runs; empty for the name of the study's folder.
    """

    project: str = "cpframe"
    mode: Literal["offline", "online"] = "offline"
    entity: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        """Refuse when the package is not there."""
        check_installed("wandb", "wandb")
        if not self.project:
            raise ValueError("`project` should not be empty")

    def __call__(self, run: RunStarted) -> _Watcher:
        """Log the trajectories that are complete."""
        import wandb

        if self.mode == "online" and not wandb.api.api_key:  # else it would ask for one, in the midst of a run
            raise RuntimeError("not logged in to W&B: `wandb login`, or WANDB_API_KEY")
        return _Watcher(self, run)


class _Watcher:
    def __init__(self, observer: WeightsAndBiases, run: RunStarted) -> None:
        self._observer = observer
        self._folder = run.folder.resolve()
        self._about = {"title": run.record.title, **run.record.provenance}
        self._group = observer.group or self._folder.name
        self._place = digest(observer.project, observer.entity, self._group, observer.mode)
        self._log = self._folder / f"wandb-logged-{self._place}.txt"
        self._logged = noted(self._log)
        self._waiting = {one.name: one for one in run.record.trajectories if one.status == "unfinished"}
        self._parts: dict[str, list[History]] = defaultdict(list)
        self._score_epochs = run.record.score_epochs
        for one in run.record.trajectories:
            if one.name in self._waiting:
                self._parts[one.name].append(one.history)
            else:
                self._write(one, [one.history], one.score, failed=one.status == "failed")

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        for name in self._waiting.keys() & set(committed.trajectories):
            one, parts = self._waiting[name], self._parts[name]
            parts.append(committed.history)
            curve = np.concatenate([part.test_accuracy for part in parts])
            if len(curve) == one.epochs and np.isfinite(curve[-1]):  # else it has failed, or some were lost
                self._write(one, parts, float(curve[-self._score_epochs :].mean()), failed=False)

    def run_finished(self, finished: RunFinished) -> None:
        for one in finished.record.trajectories:
            if one.name in self._waiting and one.status != "unfinished":
                self._write(one, [one.history], one.score, failed=one.status == "failed")

    def _write(self, one: TrajectoryRecord, parts: Sequence[History], score: float, *, failed: bool) -> None:
        self._waiting.pop(one.name, None)
        self._parts.pop(one.name, None)
        # Another training under the same name, after the spec was changed, is another run.
        curve = "".join(part.test_accuracy.tobytes().hex() for part in parts)
        key = digest(self._place, str(self._folder), one.name, curve)
        if key in self._logged:
            return
        self._log_run(one, parts, score, key, failed=failed)
        self._logged.append(key)
        note(self._log, self._logged)

    def _log_run(
        self, one: TrajectoryRecord, parts: Sequence[History], score: float, key: str, *, failed: bool
    ) -> None:
        import wandb

        observer = self._observer
        run: Any = wandb.init(
            id=key,
            name=one.name,
            project=observer.project,
            entity=observer.entity or None,
            group=self._group,
            mode=observer.mode,
            dir=str(self._folder),
            config={**settings(one), "study": self._about},
            reinit="create_new",  # whatever else this process does with W&B is left alone
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        run.define_metric("*", step_metric="epoch")
        for part in parts:
            for epoch, values in scalars(part):
                run.log({"epoch": epoch, **values}, step=epoch)
        run.summary["status"] = "failed" if failed else "complete"
        run.summary["reason" if failed else "score"] = one.reason if failed else score
        run.finish(exit_code=int(failed))
