"""The results of a study in a notebook: ``cpframe.open_results(path)``."""

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
from cpframe.export.dataframes import epoch_table, facts_of, metric_table, trajectory_table
from cpframe.export.xarray_dataset import stacked
from cpframe.records.model import StudyRecord
from cpframe.store import read_results, results_file

if TYPE_CHECKING:
    import xarray
    from pandas import DataFrame


@dataclass(frozen=True, repr=False)
class Results:
    """What a study has come to, as tables and datasets; each is made when it is first asked for.

    Tables need pandas, datasets xarray: ``pip install 'cpframe[notebook]'``; without them `NotInstalledError`, an
    ImportError, says so.

    Attributes:
        path: of the file.
        study: the records, as `cpframe.analysis` takes them.
    """

    path: Path
    study: StudyRecord

    @property
    def spec(self) -> str:
        """The text of the spec's file. What ``--profile`` and ``--set`` laid over it is in ``study.provenance``."""
        return self.study.spec

    @cached_property
    def trajectories(self) -> DataFrame:
        """One row a trajectory: name, protocol, window, seed, a column for each key of the grid, status, score, drop.

        Columns are those of `cpframe.export.dataframes.FACTS`. `drop` is the score of the matching no-deficit training
        of the same seed minus the score; nan where there is none, as for the no-deficit trainings themselves.
        """
        return trajectory_table(self._facts)

    @cached_property
    def epochs(self) -> DataFrame:
        """One row an epoch of a trajectory: condition, learning rate, loss (nats) and accuracy (0 to 1)."""
        return epoch_table(self.study)

    @cached_property
    def metrics(self) -> DataFrame:
        """One row a value measured: trajectory, metric, epoch, layer (missing for a number), value, stderr.

        Metrics with dimensions of their own, as filters have, are in `histories` only.
        """
        return metric_table(self.study)

    @cached_property
    def histories(self) -> xarray.Dataset:
        """All histories in one dataset: (trajectory, epoch), (trajectory, measured_epoch, layer); see `stacking`."""
        return stacked(self.study, self._facts, range(len(self.study.trajectories)))

    def history(self, name: str) -> xarray.Dataset:
        """The history of the trajectory of that name: (epoch,), (measured_epoch, layer).

        Raises:
            KeyError: when there is none; the message names the nearest.
        """
        names = self._facts["name"]
        if name not in names:
            raise KeyError(f"{name!r} is not a trajectory of this study; {nearest(name, map(str, names))}")
        return stacked(self.study, self._facts, [names.index(name)]).isel(trajectory=0)

    @cached_property
    def _facts(self) -> dict[str, list[object]]:
        return facts_of(self.study)

    def _overview(self) -> dict[str, str]:
        study = self.study
        states = Counter(one.status for one in study.trajectories)
        seeds = dict.fromkeys(one.seed for one in study.trajectories)
        metrics = {
            name: ", ".join(metric.dimensions) or "a number"
            for one in study.trajectories
            for name, metric in one.history.metrics.items()
        }
        lines = {
            "file": str(self.path),
            "written": study.created,
            "trajectories": ", ".join(f"{count} {status}" for status, count in states.items()),
            "seeds": ", ".join(map(str, seeds)),
            "protocols": ", ".join(dict.fromkeys(one.protocol for one in study.trajectories)),
            "deficits": ", ".join(deficits_of(study)),
            "grid": ", ".join(dict.fromkeys(key for one in study.trajectories for key in one.variant)),
            "metrics": ", ".join(f"{name} ({dimensions})" for name, dimensions in metrics.items()),
            "tables": ".trajectories, .epochs, .metrics",
            "datasets": ".histories, .history(name)",
            "records": ".study, .spec",
        }
        return {name: line for name, line in lines.items() if line}

    def __repr__(self) -> str:
        """What is in here, and how to get at it."""
        lines = [f"  {name:<13} {line}" for name, line in self._overview().items()]
        return "\n".join([f"cpframe results: {self.study.title}", *lines])

    def _repr_html_(self) -> str:
        """The same for notebooks."""
        rows = (
            f"<tr><th style='text-align:left'>{escape(name)}</th><td style='text-align:left'>{escape(line)}</td></tr>"
            for name, line in self._overview().items()
        )
        return f"<strong>{escape(self.study.title)}</strong><table>{''.join(rows)}</table>"


def opened(path: str | PathLike[str]) -> Results:
    """Open a ``results.h5``, or the one in a folder.

    Raises:
        StoreError: when it is no results file, is damaged, or is of another format version.
    """
    file = results_file(Path(path))
    return Results(file, read_results(file))
