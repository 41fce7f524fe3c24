"""How much quicker two workers are than one, on the quickstart: whole commands, by the clock.

    python tests/benchmarks/workers.py [REPEATS [cpframe's options for the spec ...]]

Prints a line a run with what it is made of, then the ratio of the medians, the ratio that two commands which know
nothing of one another reach on this machine (two at once against one; what the machine allows), and how busy it was.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

SPEC = Path(__file__).parents[2] / "specs" / "quickstart.toml"


@dataclass(frozen=True)
class Taken:
    """Seconds of a command: to its first epoch, from there to its last, and to its end."""

    before: float
    training: float
    after: float

    @property
    def whole(self) -> float:
        return self.before + self.training + self.after

    def __str__(self) -> str:
        parts = f"{self.before:.1f} before the first epoch, {self.training:.1f} training, {self.after:.1f} after"
        return f"{self.whole:6.1f} s: {parts}"


def started(workers: int, folder: Path, options: list[str]) -> tuple[subprocess.Popen[str], float]:
    command = [sys.executable, "-m", "cpframe", "run", str(SPEC), "--out", str(folder), "--workers", str(workers)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return process, time.perf_counter()


def finished(process: subprocess.Popen[str], start: float) -> Taken:
    assert process.stderr is not None
    first = last = start
    for line in process.stderr:
        if "test accuracy" in line:
            last = time.perf_counter()
            first = last if first == start else first
    assert process.wait() == 0
    end = time.perf_counter()
    return Taken(first - start, last - first, end - last)


def main() -> None:
    repeats, options = int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:]
    found: dict[str, list[float]] = {"1 worker": [], "2 workers": [], "2 commands at once": []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            for workers in (1, 2):
                name = "1 worker" if workers == 1 else "2 workers"
                taken = finished(*started(workers, Path(folder, name, str(repeat)), options))
                found[name].append(taken.whole)
                print(f"{name:20}{taken}", flush=True)
            both = [started(1, Path(folder, f"{which} of two", str(repeat)), options) for which in (1, 2)]
            with ThreadPoolExecutor() as threads:  # each command must be read, or it waits
                taken = max(threads.map(lambda one: finished(*one), both), key=lambda one: one.whole)
            found["2 commands at once"].append(taken.whole)
            print(f"{'2 commands at once':20}{taken}", flush=True)
    one, two, pair = (statistics.median(seconds) for seconds in found.values())
    busy = ", ".join(f"{load:.1f}" for load in os.getloadavg())
    print(f"n = {repeats}; {os.cpu_count()} cores, load over the last 1, 5, 15 minutes {busy}")
    print(f"two workers are {one / two:.2f} times as quick as one; two commands at once do {2 * one / pair:.2f} times")


if __name__ == "__main__":
    main()
