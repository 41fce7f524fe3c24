"""Facts about this machine: its processor cores, and the folders for data and caches."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def data_folder(chosen: Path | None) -> Path:
    """The folder of the data sets: as chosen, else CPFRAME_DATA, else the platform's cache folder."""
    if chosen is not None:
        return chosen
    if from_environment := os.environ.get("CPFRAME_DATA"):
        return Path(from_environment)
    return cache_folder()


def cache_folder() -> Path:
    """The platform's folder for what can be had again."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home())) / "cpframe" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "cpframe"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cpframe"


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
