"""Facts about this machine: its processor cores, and the folders for data sets and caches."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def data_folder(chosen: Path | None) -> Path:
    """Return the folder of the data sets: `chosen`, else the variable CPFRAME_DATA, else the cache folder."""
    if chosen is not None:
        return chosen
    if from_environment := os.environ.get("CPFRAME_DATA"):
        return Path(from_environment)
    return cache_folder()


def cache_folder() -> Path:
    """Return the user's cache folder for cpframe, for files that can be downloaded or measured again."""
    return user_cache_path("cpframe", appauthor=False)


def cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
