"""`Results`, the results of a study for a notebook or a script."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from cpframe.analysis.comparisons import deficits_of
from cpframe.errors import nearest
from cpframe.export.dataframes import epoch_table, metric_table, trajectory_columns, trajectory_table
from cpframe.export.xarray_dataset import to_xarray
from cpframe.records.model import StudyRecord
from cpframe.store import read_results, results_file

if TYPE_CHECKING:
    import xarray
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Results:
    """The results of a study, as tables and datasets that are computed when they are first used.

    The tables need pandas and the datasets xarray, ``pip install 'cpframe[notebook]'``; without them they raise
    `NotInstalledError`, an `ImportError`.

    Attributes:
        path: the results file.
        study: the record of the study, which the functions of `cpframe.analysis` take.
    """

    path: Path
    study: StudyRecord

    @property
    def spec(self) -> str:
        """The text of the spec file; a profile and ``--set`` options are in ``study.provenance``."""
        return self.study.spec

    @cached_property
    def trajectories(self) -> DataFrame:
        """The table with one row per trajectory: name, protocol, window, seed, variant, status, score, drop.

        `cpframe.export.dataframes.TRAJECTORY_COLUMNS` has the meaning of each column. The drop is the score of the
        matching no-deficit trajectory of the same seed minus the score; it is nan without such a trajectory, and for
        the no-deficit trajectories themselves.
        """
        return trajectory_table(self._columns)

    @cached_property
    def epochs(self) -> DataFrame:
        """The table with one row per epoch of a trajectory: condition, learning rate, losses (nats), accuracies."""
        return epoch_table(self.study)

    @cached_property
    def metrics(self) -> DataFrame:
        """The table with one row per measured value: trajectory, metric, epoch, layer, value, stderr.

        The layer is missing for a metric that is one number. Metrics that define dimensions, such as filters, are in
        `histories` only.
        """
        return metric_table(self.study)

    @cached_property
    def histories(self) -> xarray.Dataset:
        """The histories of all trajectories, (trajectory, epoch) and (trajectory, measured_epoch, layer).

        See `cpframe.export.xarray_dataset.to_xarray`.
        """
        return to_xarray(self.study, self._columns, range(len(self.study.trajectories)))

    def history(self, name: str) -> xarray.Dataset:
        """Return the history of one trajectory, (epoch,) and (measured_epoch, layer).

        Args:
            name: the name of the trajectory, see `trajectories`.

        Raises:
            KeyError: if no trajectory has this name; the message suggests a similar one.
        """
        names = self._columns["name"]
        if name not in names:
            raise KeyError(f"unknown trajectory {name!r}; {nearest(name, map(str, names))}")
        return to_xarray(self.study, self._columns, [names.index(name)]).isel(trajectory=0)

    @cached_property
    def _columns(self) -> dict[str, list[object]]:
        return trajectory_columns(self.study)

    def _overview(self) -> dict[str, str]:
        study, trajectories = self.study, self.study.trajectories
        statuses = Counter(t.status for t in trajectories)
        metrics = {
            name: ", ".join(metric.dimensions) or "a number"
            for t in trajectories
            for name, metric in t.history.metrics.items()
        }
        lines = {
            "file": str(self.path),
            "written": study.created,
            "trajectories": ", ".join(f"{count} {status}" for status, count in statuses.items()),
            "seeds": ", ".join(dict.fromkeys(str(t.seed) for t in trajectories)),
            "protocols": ", ".join(dict.fromkeys(t.protocol for t in trajectories)),
            "deficits": ", ".join(deficits_of(study)),
            "grid": ", ".join(dict.fromkeys(key for t in trajectories for key in t.variant)),
            "metrics": ", ".join(f"{name} ({dimensions})" for name, dimensions in metrics.items()),
            "tables": ".trajectories, .epochs, .metrics",
            "datasets": ".histories, .history(name)",
            "other": ".study, .spec, .path",
        }
        return {name: line for name, line in lines.items() if line}

    def __repr__(self) -> str:
        """Return a summary of the study and of the attributes that hold its data."""
        lines = [f"  {name:<13} {line}" for name, line in self._overview().items()]
        return "\n".join([f"cpframe results: {self.study.title}", *lines])

    def _repr_html_(self) -> str:
        """Return the same summary as an HTML table, for notebooks."""
        rows = (
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(line)}</td></tr>"
            for name, line in self._overview().items()
        )
        return f"<strong>{escape(self.study.title)}</strong><table>{''.join(rows)}</table>"


def open_results(path: str | PathLike[str]) -> Results:
    """Read a results file.

    Args:
        path: a ``results.h5``, or the folder that contains it.

    Raises:
        StoreError: if the file does not exist, is not a results file, is damaged, or has another format version.
    """
    file = results_file(Path(path))
    return Results(file, read_results(file))
