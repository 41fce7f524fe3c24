"""The speed-up of two workers over one on the quickstart spec, in wall time of whole commands.

    python tests/benchmarks/workers.py [REPEATS [OPTIONS of cpframe run ...]]

Prints the times of each run, then the ratio of the median times with one worker and with two. For comparison with what
the machine allows, it also prints the ratio for two independent commands at once, and the load of the machine.
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
class Times:
    """The seconds of a command before its first epoch ends, from there to its last epoch, and after it."""

    before: float
    training: float
    after: float

    @property
    def total(self) -> float:
        return self.before + self.training + self.after

    def __str__(self) -> str:
        parts = f"{self.before:.1f} before the first epoch, {self.training:.1f} training, {self.after:.1f} after"
        return f"{self.total:6.1f} s: {parts}"


def start(workers: int, folder: Path, options: list[str]) -> tuple[subprocess.Popen[str], float]:
    command = [sys.executable, "-m", "cpframe", "run", str(SPEC), "--out", str(folder), "--workers", str(workers)]
    process = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    return process, time.perf_counter()


def finish(process: subprocess.Popen[str], started: float) -> Times:
    assert process.stderr is not None
    first = last = started
    for line in process.stderr:
        if "test accuracy" in line:
            last = time.perf_counter()
            first = last if first == started else first
    assert process.wait() == 0
    end = time.perf_counter()
    return Times(first - started, last - first, end - last)


def main() -> None:
    repeats, options = int(sys.argv[1]) if len(sys.argv) > 1 else 3, sys.argv[2:]
    totals: dict[str, list[float]] = {"1 worker": [], "2 workers": [], "2 commands at once": []}
    with tempfile.TemporaryDirectory() as folder:
        for repeat in range(repeats):
            for workers in (1, 2):
                name = "1 worker" if workers == 1 else "2 workers"
                times = finish(*start(workers, Path(folder, name, str(repeat)), options))
                totals[name].append(times.total)
                print(f"{name:20}{times}", flush=True)
            both = [start(1, Path(folder, f"{which} of two", str(repeat)), options) for which in (1, 2)]
            with ThreadPoolExecutor() as threads:  # a command waits when its output is not read
                times = max(threads.map(lambda command: finish(*command), both), key=lambda times: times.total)
            totals["2 commands at once"].append(times.total)
            print(f"{'2 commands at once':20}{times}", flush=True)
    one, two, pair = (statistics.median(seconds) for seconds in totals.values())
    load = ", ".join(f"{average:.1f}" for average in os.getloadavg())
    print(f"n = {repeats}; {os.cpu_count()} cores, load averages over 1, 5 and 15 minutes {load}")
    print(
        f"two workers are {one / two:.2f} times as fast as one; two commands at once reach {2 * one / pair:.2f} times"
    )


if __name__ == "__main__":
    main()
