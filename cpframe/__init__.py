"""cpframe finds, measures and explains critical learning periods in neural networks."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cpframe.export.results import Results

__all__ = ["open_results"]


def open_results(path: str | PathLike[str]) -> Results:
    """Read the results of a study: tables for pandas, histories for xarray; see `cpframe.export.results.Results`.

    Args:
        path: a ``results.h5``, or the folder that contains it.

    Raises:
        StoreError: if the file does not exist, is not a results file, is damaged, or has another format version.
    """
    from cpframe.export import results  # imported here so that `import cpframe` is quick

    return results.open_results(path)
