"""results.h5: the whole study in one file, which xarray and h5netcdf read as well.

Beside the groups of the trajectories it has an ``index`` (see `places`), by which cpframe itself reads them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from cpframe.records.model import StudyRecord, TrajectoryRecord
from cpframe.store.atomic import DamagedError, StoreError, built_in_memory, opened, write_atomically
from cpframe.store.byte_index import history_at, places_of, read_index, write_index
from cpframe.store.h5_low_level import note
from cpframe.store.history_h5 import write_history

FORMAT = 2
_WHAT = "a results file of cpframe"
_OWN = {"format", "title", "spec", "score_epochs", "deficits", "idle", "created"}
_FACTS = ("protocol", "deficit", "onset", "offset", "epochs", "seed", "status", "reason", "score")


def write_results(path: Path, study: StudyRecord) -> None:
    """Write the results file, whole or not at all.

    Raises:
        StoreError: when the disk refuses; the file that was there before is whole.
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
            note(group.id, **{name: getattr(trajectory, name) for name in _FACTS})
            note(group.id, variant=json.dumps(dict(trajectory.variant)))
            places = places_of(trajectory.history, write_history(group, trajectory.history))
            facts = {name: getattr(trajectory, name) for name in _FACTS}
            rows.append({"name": trajectory.name, **facts, "variant": dict(trajectory.variant), **places})
        write_index(file, rows)

    write_atomically(path, built_in_memory(fill))


def read_results(path: Path) -> StudyRecord:
    """Read a results file; the arrays of what is returned are read-only views of its bytes.

    Raises:
        StoreError: when it is no results file, is damaged, or is of another format version.
    """
    with opened(path, _WHAT) as (file, content):
        if "trajectories" not in file or "format" not in file.attrs:
            raise DamagedError(f"{path}: is not {_WHAT}")
        if file.attrs["format"] != FORMAT:
            raise StoreError(
                f"{path}: is of format {file.attrs['format']}; this cpframe reads format {FORMAT}: "
                "use the version of cpframe that wrote it"
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
    """Return the idle controls in a file of cpframe 0.1.0, which told them by the name of the component alone."""
    return [name for name, component in deficits.items() if component.rpartition("/")[2] == "idle"]


def results_file(path: Path) -> Path:
    """The results file that is meant by its own path or by that of its folder."""
    return path / "results.h5" if path.is_dir() else path


def _trajectory(row: Mapping[str, Any], content: bytes, order: str) -> TrajectoryRecord:
    facts = {name: row[name] for name in _FACTS}
    return TrajectoryRecord(name=row["name"], variant=row["variant"], history=history_at(row, content, order), **facts)
