"""Weights & Biases: one run per trajectory, with all runs of a study in one group.

A trajectory is logged as a whole when it is complete or has failed, so only one W&B run is open at a time; an
unfinished trajectory is logged when a later run of the study completes it. The logged trajectories are noted in the
study's folder, in one file per project, entity, group and mode, and are not logged there again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from cpframe.api import EpochsCommitted, History, RunFinished, RunStarted, TrajectoryRecord
from cpframe_plugins.observers.curves import check_installed, scalars, settings
from cpframe_plugins.observers.notes import digest, read_note, write_note


@dataclass(frozen=True)
class WeightsAndBiases:
    """W&B runs with the settings, curves per epoch and score of every trajectory.

    Attributes:
        project: the W&B project.
        mode: ``offline`` writes to ``wandb`` in the study's folder, for ``wandb sync``; ``online`` needs a login.
        entity: the W&B user or team; if empty, the default entity.
        group: the group of the runs; if empty, the name of the study's folder.
    """

    project: str = "cpframe"
    mode: Literal["offline", "online"] = "offline"
    entity: str = ""
    group: str = ""

    def __post_init__(self) -> None:
        """Check that the package is installed and that `project` has a name."""
        check_installed("wandb", "wandb")
        if not self.project:
            raise ValueError("`project` must not be empty")

    def __call__(self, run: RunStarted) -> _Watcher:
        """Log the trajectories that are complete or have failed."""
        import wandb

        if self.mode == "online" and not wandb.api.api_key:  # W&B would ask for a key during the run
            raise RuntimeError("not logged in to W&B: run `wandb login` or set WANDB_API_KEY")
        return _Watcher(self, run)


class _Watcher:
    def __init__(self, observer: WeightsAndBiases, run: RunStarted) -> None:
        self._observer = observer
        self._folder = run.folder.resolve()
        self._provenance = {"title": run.record.title, **run.record.provenance}
        self._group = observer.group or self._folder.name
        self._destination = digest(observer.project, observer.entity, self._group, observer.mode)
        self._note = self._folder / f"wandb-logged-{self._destination}.txt"
        self._logged = read_note(self._note)
        self._pending = {one.name: one for one in run.record.trajectories if one.status == "unfinished"}
        self._parts: dict[str, list[History]] = defaultdict(list)
        self._score_epochs = run.record.score_epochs
        for trajectory in run.record.trajectories:
            if trajectory.name in self._pending:
                self._parts[trajectory.name].append(trajectory.history)
            else:
                self._log(trajectory, [trajectory.history], trajectory.score, failed=trajectory.status == "failed")

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        for name in self._pending.keys() & set(committed.trajectories):
            trajectory, parts = self._pending[name], self._parts[name]
            parts.append(committed.history)
            curve = np.concatenate([part.test_accuracy for part in parts])
            # A curve that is shorter or not finite has gaps or has failed: `run_finished` has all of it.
            if len(curve) == trajectory.epochs and np.isfinite(curve[-1]):
                self._log(trajectory, parts, float(curve[-self._score_epochs :].mean()), failed=False)

    def run_finished(self, finished: RunFinished) -> None:
        for trajectory in finished.record.trajectories:
            if trajectory.name in self._pending and trajectory.status != "unfinished":
                self._log(trajectory, [trajectory.history], trajectory.score, failed=trajectory.status == "failed")

    def _log(self, trajectory: TrajectoryRecord, parts: Sequence[History], score: float, *, failed: bool) -> None:
        self._pending.pop(trajectory.name, None)
        self._parts.pop(trajectory.name, None)
        # If the spec was changed, another training under the same name is another run.
        curve = "".join(part.test_accuracy.tobytes().hex() for part in parts)
        key = digest(self._destination, str(self._folder), trajectory.name, curve)
        if key in self._logged:
            return
        self._write_run(trajectory, parts, score, key, failed=failed)
        self._logged.append(key)
        write_note(self._note, self._logged)

    def _write_run(
        self, trajectory: TrajectoryRecord, parts: Sequence[History], score: float, key: str, *, failed: bool
    ) -> None:
        import wandb

        observer = self._observer
        run: Any = wandb.init(
            id=key,
            name=trajectory.name,
            project=observer.project,
            entity=observer.entity or None,
            group=self._group,
            mode=observer.mode,
            dir=str(self._folder),
            config={**settings(trajectory), "study": self._provenance},
            reinit="create_new",  # other W&B runs of this process continue
            settings=wandb.Settings(silent=True, console="off", x_disable_stats=True),
        )
        run.define_metric("*", step_metric="epoch")
        for part in parts:
            for epoch, values in scalars(part):
                run.log({"epoch": epoch, **values}, step=epoch)
        run.summary["status"] = "failed" if failed else "complete"
        run.summary["reason" if failed else "score"] = trajectory.reason if failed else score
        run.finish(exit_code=int(failed))
