"""A small study that dies at its n-th write, fsync, rename or unlink, for every n; run by test_crashes.py.

Everything is imported once; every death is that of a fork, by SIGKILL. Prints one JSON object.
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

from cpframe.execution.executors.inline import Inline
from cpframe.execution.progress import read_progress
from cpframe.execution.scheduler import run_study
from cpframe.execution.workspace import Workspace
from cpframe.numerics import Numerics
from cpframe.plan.stages import Study, plan
from cpframe.plugins.discovery import discover
from cpframe.spec.reader import read_spec
from cpframe.store import StoreError, read_results, read_stage, read_state
from cpframe.training import stage as training

EXACT = Numerics("cpu", "exact", "float32")


def place_of(folder: Path, keep_states: bool) -> Workspace:
    return Workspace(folder, folder / "store", folder, EXACT, {}, keep_states)


def run(study: Study, workspace: Workspace) -> None:
    workspace.folder.mkdir(exist_ok=True)
    run_study(read_progress(study, workspace), workspace, Inline(EXACT), lambda event: None)


class Watch:
    """Counts what is done to files, dies at the n-th, and notes what was committed before."""

    def __init__(self, deadly: int, log: int) -> None:
        self.count, self.deadly, self.log = 0, deadly, log

    def step(self) -> None:
        self.count += 1
        if self.count == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)

    def patched(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        """The call, with a death before it; a death after it is one before the next."""

        def call(*arguments: Any, **more: Any) -> Any:
            self.step()
            return usual(*arguments, **more)

        return call

    def open(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, mode: str = "r", *rest: Any, **more: Any) -> Any:
            file = usual(path, mode, *rest, **more)
            return Halting(file, self) if "w" in mode else file

        return call

    def replace(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Path, target: Path) -> Any:
            self.step()
            answer = usual(path, target)
            if target.name == "history.h5":
                record = read_stage(target.parent)
                assert record is not None
                line = f"{target.parent.name} {record.history.epoch[-1]} {record.status}\n"
                os.write(self.log, line.encode())
            return answer

        return call


class Halting:
    """A file in which the first half of what is written may be all that ever gets there."""

    def __init__(self, file: Any, watch: Watch) -> None:
        self.file, self.watch = file, watch

    def write(self, content: bytes) -> None:
        self.watch.step()
        half = len(content) // 2
        self.file.write(content[:half])
        self.file.flush()
        self.watch.step()
        self.file.write(content[half:])

    def __enter__(self) -> Halting:
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)


def died(study: Study, workspace: Workspace, deadly: int) -> tuple[bool, dict[str, tuple[int, str]]]:
    """Run in a fork that dies at step `deadly`; whether it did, and the epochs and status it had committed by then."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        watch = Watch(deadly, writing)
        os.fsync = watch.patched(os.fsync)
        os.unlink = watch.patched(os.unlink)
        Path.unlink = watch.patched(Path.unlink)  # type: ignore[method-assign]
        Path.replace = watch.replace(Path.replace)  # type: ignore[method-assign]
        Path.open = watch.open(Path.open)  # type: ignore[method-assign]
        code = 1
        try:
            run(study, workspace)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading) as log:
        lines = log.read().splitlines()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0, "the run failed"
    return os.WIFSIGNALED(status), {
        stage: (int(epoch), ended) for stage, epoch, ended in (line.split() for line in lines)
    }


def contents(study: Study, workspace: Workspace) -> dict[str, str]:
    """Digests of all that the study has come to: every array of results.h5, and every state in the store."""
    found = {}
    for one in read_results(workspace.results).trajectories:
        history = one.history
        parts = [history.epoch, history.learning_rate, history.train_loss, history.train_accuracy, history.test_loss]
        parts += [history.test_accuracy, history.measured_epoch]
        parts += [values for metric in history.metrics.values() for values in (metric.values, metric.stderr)]
        text = repr([None if part is None else part.tobytes() for part in parts])
        text += repr((one.name, one.status, one.score, history.condition, history.layers))
        found[one.name] = hashlib.sha256(text.encode()).hexdigest()
    for stage in study.stages:
        record = read_stage(workspace.of(stage))
        assert record is not None
        assert record.status == "complete"
        if record.state:
            found[stage] = hashlib.sha256(read_state(workspace.of(stage), record)).hexdigest()
    return found


def problems(study: Study, workspace: Workspace, committed: dict[str, tuple[int, str]]) -> list[str]:
    """What is wrong right after a death."""
    wrong = []
    for stage in study.stages:
        try:
            record = read_stage(workspace.of(stage))
        except StoreError as error:
            wrong.append(f"does not open: {error}")
            continue
        epoch, status = committed.get(stage, (0, ""))
        if epoch and (record is None or record.history.epoch[-1] < epoch):
            wrong.append(f"committed epoch {epoch} of {stage} is missing")
        elif status == "unfinished" and record is not None and not record.state:
            wrong.append(f"the state of {stage} is missing")
        if record is not None and record.state:
            try:
                read_state(workspace.of(stage), record)
            except StoreError as error:
                wrong.append(f"does not open: {error}")
    if workspace.results.exists():
        try:
            read_results(workspace.results)
        except StoreError as error:
            wrong.append(f"does not open: {error}")
    return wrong


def every_step(study: Study, folder: Path, keep_states: bool) -> dict[str, Any]:
    whole = place_of(folder / "whole", keep_states)
    run(study, whole)
    expected = contents(study, whole)
    deaths, wrong = 0, []
    while True:
        workspace = place_of(folder / "dying", keep_states)
        workspace.folder.mkdir()
        dead, committed = died(study, workspace, deaths + 1)
        if not dead:
            break
        deaths += 1
        told = problems(study, workspace, committed)
        run(study, workspace)
        if contents(study, workspace) != expected:
            told.append("the resumed result is another")
        if not keep_states and (left := list(workspace.store.rglob("*.part"))):
            told.append(f"left behind: {left}")
        wrong += [f"death {deaths}: {problem}" for problem in told]
        shutil.rmtree(workspace.folder)
    return {"deaths": deaths, "wrong": wrong, "states": len(expected)}


def at_random(study: Study, folder: Path, seed: int) -> dict[str, Any]:
    """Kill at random times, start again, until it is done."""
    run(study, place_of(folder / "to warm up", True))
    whole = place_of(folder / "whole", True)
    started = time.monotonic()
    run(study, whole)
    seconds = time.monotonic() - started
    workspace, rng, deaths, wrong = place_of(folder / "dying", True), random.Random(seed), 0, []
    while True:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                run(study, workspace)
                code = 0
            finally:
                os._exit(code)
        patience = rng.uniform(0, seconds / 3) * (1 + deaths / 20)
        until = time.monotonic() + patience
        ended = (0, 0)
        while ended[0] == 0 and time.monotonic() < until:
            time.sleep(0.001)
            ended = os.waitpid(child, os.WNOHANG)
        if ended[0] == 0:
            os.kill(child, signal.SIGKILL)
            ended = os.waitpid(child, 0)
        if not os.WIFSIGNALED(ended[1]):
            assert os.waitstatus_to_exitcode(ended[1]) == 0
            break
        deaths += 1
        wrong += problems(study, workspace, {})
    if contents(study, workspace) != contents(study, whole):
        wrong.append("the result is another")
    return {"deaths": deaths, "wrong": wrong}


def main(kind: str, folder: Path) -> None:
    training.COMMIT_SECONDS = 0.0
    study = plan(read_spec(folder / "spec.toml", discover(), None, ()), {})
    if kind == "random":
        found = at_random(study, folder, seed=1)
    else:
        found = every_step(study, folder, keep_states=kind == "keep")
    print(json.dumps(found))


main(sys.argv[1], Path(sys.argv[2]))
