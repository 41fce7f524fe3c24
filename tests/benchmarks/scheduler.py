"""The overhead of the scheduler and the store: python tests/benchmarks/scheduler.py [SPEC]

It prints:

1. the milliseconds per commit, and the share of commits in the wall time of an inline run of the spec;
2. the time outside epochs, relative to the time in which epochs are trained, tested and measured;
3. for a study of 10,200 trajectories, the seconds to plan, write, read and report it, and the peak memory.
"""

from __future__ import annotations

import argparse
import io
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def read(spec: Path, *overrides: str) -> Any:
    from cpframe.plugins.discovery import discover
    from cpframe.spec.reader import read_spec

    return read_spec(spec, discover(), None, overrides)


def time_run(path: Path) -> None:
    """Run the study with one seed inline, and time the commits and the epochs."""
    from cpframe.environment import data_folder
    from cpframe.execution.executors.inline import Inline
    from cpframe.execution.progress import read_progress
    from cpframe.execution.scheduler import run_study
    from cpframe.execution.workspace import Workspace
    from cpframe.numerics import Numerics
    from cpframe.plan.stages import plan
    from cpframe.training import stage as training

    seconds = {"commits": 0.0, "epochs": 0.0}
    commits: list[float] = []

    def add_timer(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **keywords: Any) -> Any:
            started = time.perf_counter()
            result = function(*arguments, **keywords)
            seconds[name] += time.perf_counter() - started
            if name == "commits":
                commits.append(time.perf_counter() - started)
            return result

        return call

    training.commit = add_timer("commits", training.commit)
    # An epoch sets the learning rate, trains, tests and measures, as any training loop does.
    training._run_epoch = add_timer("epochs", training._run_epoch)
    numerics = Numerics("cpu", "exact", "float32")
    study = plan(read(path, "seeds=[0]"), {})
    for _ in range(2):  # the first run warms up
        seconds.update(commits=0.0, epochs=0.0)
        commits.clear()
        with tempfile.TemporaryDirectory() as folder:
            workspace = Workspace(Path(folder), Path(folder) / "store", data_folder(None), numerics, {})
            started = time.perf_counter()
            run_study(read_progress(study, workspace), workspace, Inline(numerics), lambda event: None)
            wall = time.perf_counter() - started
    overhead = wall - seconds["epochs"]
    print(f"a commit: {1e3 * sum(commits) / len(commits):.1f} ms mean, {1e3 * max(commits):.1f} ms maximum")
    print(f"commits: {len(commits)} in {study.epochs_to_train} epochs, {seconds['commits'] / wall:.2%} of {wall:.1f} s")
    print(f"the time outside epochs: {overhead / seconds['epochs']:.2%} of the time in epochs")


def time_large_study() -> None:
    """Time a study of 10,200 trajectories: to plan, write, read and report it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.toml"
        text = (ROOT / "specs" / "quickstart.toml").read_text()
        path.write_text(text)
        seeds = f"seeds={list(range(300))}"
        from cpframe.plan.stages import plan

        started = time.perf_counter()
        study = plan(read(path, seeds), {})
        print(f"{len(study.trajectories)} trajectories planned in {time.perf_counter() - started:.2f} s")
        results = Path(folder) / "results.h5"
        write = [sys.executable, __file__, "--write", str(results)]
        print(subprocess.run(write, capture_output=True, text=True, check=True).stdout, end="")
        report = [sys.executable, __file__, "--report", str(results)]
        print(subprocess.run(report, capture_output=True, text=True, check=True).stdout, end="")
        command = [sys.executable, "-m", "cpframe", "report", str(results)]
        started = time.perf_counter()
        subprocess.run(command, capture_output=True, check=True)
        print(f"the command cpframe report: {time.perf_counter() - started:.2f} s")


def peak() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB peak memory"


def write(path: Path) -> None:
    from cpframe.store import write_results
    from cpframe.testing import Design, make_study

    study = make_study(Design(seeds=range(300)))
    memory_before = peak()
    started = time.perf_counter()
    write_results(path, study)
    seconds, size = time.perf_counter() - started, path.stat().st_size / 1e6
    print(
        f"{len(study.trajectories)} written in {seconds:.1f} s: {size:.0f} MB; {memory_before} before, {peak()} after"
    )


def report(path: Path) -> None:
    from rich.console import Console

    from cpframe.report.terminal.render import render
    from cpframe.store import read_results

    started = time.perf_counter()
    study = read_results(path)
    loaded = time.perf_counter()
    render(study, Console(file=io.StringIO(), width=80))
    done = time.perf_counter()
    print(f"read in {loaded - started:.2f} s, rendered in {done - loaded:.2f} s; {peak()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("spec", nargs="?", type=Path, default=ROOT / "specs" / "quickstart.toml")
    parser.add_argument("--write", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--report", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        write(arguments.write)
    elif arguments.report:
        report(arguments.report)
    else:
        time_run(arguments.spec)
        time_large_study()


main()
