"""results.h5: the whole study in one file, which xarray and h5netcdf can read; README.md describes its layout.

Besides the groups of the trajectories it has an ``index`` (see `byte_index`), by which cpframe itself reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from cpframe.errors import StoreError
from cpframe.records.model import StudyRecord, TrajectoryRecord
from cpframe.store.atomic import DamagedError, build_h5, open_h5, write_atomically
from cpframe.store.byte_index import index_row, read_index, read_row, write_index
from cpframe.store.h5_low_level import set_attributes
from cpframe.store.history_h5 import write_history

FORMAT = 2
"""The version of the format of results files."""
_WHAT = "a results file of cpframe"
_OWN = {"format", "title", "spec", "score_epochs", "deficits", "idle", "created"}
_FACTS = ("protocol", "deficit", "onset", "offset", "epochs", "seed", "status", "reason", "score")


def write_results(path: Path, study: StudyRecord) -> None:
    """Write the results file, whole or not at all.

    Raises:
        StoreError: when the file cannot be written; the previous file is unchanged.
    """

    def fill(file: h5py.File) -> None:
        file.attrs["format"] = FORMAT
        file.attrs["title"] = study.title
        file.attrs["spec"] = study.spec
        file.attrs["score_epochs"] = study.score_epochs
        file.attrs["deficits"] = json.dumps(dict(study.deficits))
        file.attrs["idle"] = json.dumps(sorted(study.idle))
        file.attrs["created"] = study.created
        for name, fact in study.provenance.items():
            file.attrs[name] = fact
        trajectories = file.create_group("trajectories", track_order=True)
        rows = []
        for trajectory in study.trajectories:
            group = trajectories.create_group(trajectory.name)
            set_attributes(group.id, **{name: getattr(trajectory, name) for name in _FACTS})
            set_attributes(group.id, variant=json.dumps(dict(trajectory.variant)))
            row = index_row(trajectory.history, write_history(group, trajectory.history))
            facts = {name: getattr(trajectory, name) for name in _FACTS}
            rows.append({"name": trajectory.name, **facts, "variant": dict(trajectory.variant), **row})
        write_index(file, rows)

    write_atomically(path, build_h5(fill))


def read_results(path: Path) -> StudyRecord:
    """Read a results file; all arrays are read-only views of its bytes.

    Raises:
        StoreError: when the file is not a results file, is damaged, or has another format version.
    """
    with open_h5(path, _WHAT) as (file, content):
        if "trajectories" not in file or "format" not in file.attrs:
            raise DamagedError(f"{path}: is not {_WHAT}")
        if file.attrs["format"] != FORMAT:
            raise StoreError(
                f"{path}: has format {file.attrs['format']}; this version of cpframe reads format {FORMAT}; "
                "use the version that wrote the file"
            )
        rows, order = read_index(file)
        deficits = json.loads(file.attrs["deficits"])
        return StudyRecord(
            title=str(file.attrs["title"]),
            spec=str(file.attrs["spec"]),
            score_epochs=int(file.attrs["score_epochs"]),
            deficits=deficits,
            created=str(file.attrs["created"]),
            provenance={name: str(fact) for name, fact in file.attrs.items() if name not in _OWN},
            trajectories=tuple(_trajectory(row, content, order) for row in rows),
            idle=frozenset(json.loads(file.attrs["idle"]) if "idle" in file.attrs else _idle_by_name(deficits)),
        )


def _idle_by_name(deficits: Mapping[str, str]) -> list[str]:
    """Return the idle controls in a file of cpframe 0.1.0, in which only the name of the component implies them."""
    return [name for name, component in deficits.items() if component.rpartition("/")[2] == "idle"]


def results_file(path: Path) -> Path:
    """Return the path of the results file for its own path or that of its folder."""
    return path / "results.h5" if path.is_dir() else path


def _trajectory(row: Mapping[str, Any], content: bytes, order: str) -> TrajectoryRecord:
    facts = {name: row[name] for name in _FACTS}
    return TrajectoryRecord(name=row["name"], variant=row["variant"], history=read_row(row, content, order), **facts)
