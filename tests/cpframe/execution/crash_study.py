"""A small study that is killed at its n-th write, fsync, rename or unlink, for every n; run by test_crashes.py.

Everything is imported once; each killed process is a fork, and the signal is SIGKILL. Prints one JSON object.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cpframe.execution.workspace import Workspace
from cpframe.plan.stages import Study, plan
from cpframe.plugins.discovery import discover
from cpframe.spec.reader import read_spec
from cpframe.store import StoreError, read_results, read_stage, read_state
from cpframe.testing.training import make_workspace, train_study
from cpframe.training import stage as training


def run(study: Study, workspace: Workspace) -> None:
    workspace.folder.mkdir(exist_ok=True)
    train_study(study, workspace)


class FileSteps:
    """Counts the steps on files, kills the process at a given one, and logs every commit before it."""

    def __init__(self, fatal: int, log: int) -> None:
        self.count, self.fatal, self.log = 0, fatal, log

    def step(self) -> None:
        self.count += 1
        if self.count == self.fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def count_calls(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with a step before each call; a step after it would be the one before the next call."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            self.step()
            return function(*arguments, **keywords)

        return call

    def count_writes(self, open_: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, mode: str = "r", *arguments: Any, **keywords: Any) -> Any:
            file = open_(path, mode, *arguments, **keywords)
            return HalvedFile(file, self) if "w" in mode else file

        return call

    def count_renames(self, replace: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, target: Path) -> Any:
            self.step()
            result = replace(path, target)
            if target.name == "history.h5":
                record = read_stage(target.parent)
                assert record is not None
                line = f"{target.parent.name} {record.history.epoch[-1]} {record.status}\n"
                os.write(self.log, line.encode())
            return result

        return call


class HalvedFile:
    """A file with a step before and a step in the middle of every write."""

    def __init__(self, file: Any, steps: FileSteps) -> None:
        self.file, self.steps = file, steps

    def write(self, content: bytes) -> None:
        self.steps.step()
        half = len(content) // 2
        self.file.write(content[:half])
        self.file.flush()
        self.steps.step()
        self.file.write(content[half:])

    def __enter__(self) -> HalvedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def run_until(study: Study, workspace: Workspace, fatal: int) -> tuple[bool, dict[str, tuple[int, str]]]:
    """Run in a fork that is killed at step `fatal`.

    Returns:
        Whether the run got that far, and the epoch and status of the last commit of each stage.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        steps = FileSteps(fatal, writing)
        os.fsync = steps.count_calls(os.fsync)
        os.unlink = steps.count_calls(os.unlink)
        Path.unlink = steps.count_calls(Path.unlink)  # type: ignore[method-assign]
        Path.replace = steps.count_renames(Path.replace)  # type: ignore[method-assign]
        Path.open = steps.count_writes(Path.open)  # type: ignore[method-assign]
        code = 1
        try:
            run(study, workspace)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as log:
        lines = log.read().splitlines()
    _, end = os.waitpid(child, 0)
    assert os.WIFSIGNALED(end) or os.waitstatus_to_exitcode(end) == 0, "the run failed"
    return os.WIFSIGNALED(end), {
        stage: (int(epoch), status) for stage, epoch, status in (line.split() for line in lines)
    }


def contents(study: Study, workspace: Workspace) -> dict[str, str]:
    """Return digests of the results: of every trajectory in results.h5, and of every state in the store."""
    digests = {}
    for trajectory in read_results(workspace.results).trajectories:
        history = trajectory.history
        parts = [history.epoch, history.learning_rate, history.train_loss, history.train_accuracy, history.test_loss]
        parts += [history.test_accuracy, history.measured_epoch]
        parts += [values for metric in history.metrics.values() for values in (metric.values, metric.stderr)]
        text = repr([None if part is None else part.tobytes() for part in parts])
        text += repr((trajectory.name, trajectory.status, trajectory.score, history.condition, history.layers))
        digests[trajectory.name] = hashlib.sha256(text.encode()).hexdigest()
    for stage in study.stages:
        record = read_stage(workspace.of(stage))
        assert record is not None
        assert record.status == "complete"
        if record.state:
            digests[stage] = hashlib.sha256(read_state(workspace.of(stage), record)).hexdigest()
    return digests


def problems(study: Study, workspace: Workspace, committed: dict[str, tuple[int, str]]) -> list[str]:
    """Return what is faults with the files right after the process was killed."""
    faults = []
    for stage in study.stages:
        try:
            record = read_stage(workspace.of(stage))
        except StoreError as error:
            faults.append(f"does not open: {error}")
            continue
        epoch, status = committed.get(stage, (0, ""))
        if epoch and (record is None or record.history.epoch[-1] < epoch):
            faults.append(f"committed epoch {epoch} of {stage} is missing")
        elif status == "unfinished" and record is not None and not record.state:
            faults.append(f"the state of {stage} is missing")
        if record is not None and record.state:
            try:
                read_state(workspace.of(stage), record)
            except StoreError as error:
                faults.append(f"does not open: {error}")
    if workspace.results.exists():
        try:
            read_results(workspace.results)
        except StoreError as error:
            faults.append(f"does not open: {error}")
    return faults


def kill_at_every_step(study: Study, folder: Path, keep_states: bool) -> dict[str, Any]:
    whole = make_workspace(folder / "whole", keep_states=keep_states)
    run(study, whole)
    expected = contents(study, whole)
    kills, faults = 0, []
    while True:
        workspace = make_workspace(folder / "killed", keep_states=keep_states)
        workspace.folder.mkdir()
        killed, committed = run_until(study, workspace, kills + 1)
        if not killed:
            break
        kills += 1
        found = problems(study, workspace, committed)
        run(study, workspace)
        if contents(study, workspace) != expected:
            found.append("the resumed run has different results")
        if not keep_states and (parts := list(workspace.store.rglob("*.part"))):
            found.append(f"not removed: {parts}")
        faults += [f"kill {kills}: {problem}" for problem in found]
        shutil.rmtree(workspace.folder)
    return {"kills": kills, "faults": faults, "digests": len(expected)}


def kill_at_random(study: Study, folder: Path, seed: int) -> dict[str, Any]:
    """Kill the run at random times and start it again, until it is complete."""
    run(study, make_workspace(folder / "warm-up", keep_states=True))
    whole = make_workspace(folder / "whole", keep_states=True)
    started = time.monotonic()
    run(study, whole)
    seconds = time.monotonic() - started
    workspace, rng, kills, faults = make_workspace(folder / "killed", keep_states=True), random.Random(seed), 0, []
    while True:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(study, workspace)
                code = 0
            finally:
                os._exit(code)
        deadline = time.monotonic() + rng.uniform(0, seconds / 3) * (1 + kills / 20)
        pid, end = 0, 0
        while pid == 0 and time.monotonic() < deadline:
            time.sleep(0.001)
            pid, end = os.waitpid(child, os.WNOHANG)
        if pid == 0:
            os.kill(child, signal.SIGKILL)
            _, end = os.waitpid(child, 0)
        if not os.WIFSIGNALED(end):
            assert os.waitstatus_to_exitcode(end) == 0
            break
        kills += 1
        faults += problems(study, workspace, {})
    if contents(study, workspace) != contents(study, whole):
        faults.append("the results are different")
    return {"kills": kills, "faults": faults}


def main(kind: str, folder: Path) -> None:
    training.COMMIT_SECONDS = 0.0
    study = plan(read_spec(folder / "spec.toml", discover(), None, ()), {})
    if kind == "random":
        outcome = kill_at_random(study, folder, seed=1)
    else:
        outcome = kill_at_every_step(study, folder, keep_states=kind == "keep")
    print(json.dumps(outcome))


main(sys.argv[1], Path(sys.argv[2]))
