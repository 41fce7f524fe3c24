"""cpframe finds, measures and explains critical learning periods in neural networks."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpframe.export.results import Results

__all__ = ["open_results"]


def open_results(path: str | PathLike[str]) -> Results:
    """Open the results of a study, for a notebook: tables in pandas, histories in xarray; see `cpframe.export.results`.

    Args:
        path: of a ``results.h5``, or of the folder it is in.

    Raises:
        StoreError: when it is no results file, is damaged, or is of another format version.
    """
    from cpframe.export.results import opened  # nothing heavy is imported before somebody asks for it

    return opened(path)
