"""The command line in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def command_environment(**variables: str) -> dict[str, str]:
    """Return the environment of a command: this process's, 100 columns, one thread per worker, and `variables`."""
    return {**os.environ, "COLUMNS": "100", "OMP_NUM_THREADS": "1", **variables}


def run_command(*words: str | Path, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``cpframe`` with arguments and wait for its end, for at most two minutes.

    Args:
        words: the arguments of the command.
        cwd: the working directory.
        variables: environment variables to set.

    Returns:
        The finished process: ``returncode``, ``stdout`` and ``stderr``.
    """
    command = [sys.executable, "-m", "cpframe", *map(str, words)]
    return subprocess.run(  # noqa: S603
        command, cwd=cwd, env=command_environment(**variables), capture_output=True, text=True, timeout=120, check=False
    )
