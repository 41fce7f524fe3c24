"""results.h5: the whole study in one file, which xarray and h5netcdf read as well."""

from __future__ import annotations

import json
from pathlib import Path

import h5py

from cpframe.records import StudyRecord, TrajectoryRecord
from cpframe.store.files import StoreError, built_in_memory, opened, write_atomically
from cpframe.store.histories import read_history, write_history

FORMAT = 1
_WHAT = "a results file of cpframe"
_OWN = {"format", "title", "spec", "score_epochs", "deficits", "created"}


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
        file.attrs["created"] = study.created
        for name, fact in study.provenance.items():
            file.attrs[name] = fact
        trajectories = file.create_group("trajectories", track_order=True)
        for trajectory in study.trajectories:
            group = trajectories.create_group(trajectory.name)
            for name in ("protocol", "deficit", "onset", "offset", "epochs", "seed", "status", "reason", "score"):
                group.attrs[name] = getattr(trajectory, name)
            group.attrs["variant"] = json.dumps(dict(trajectory.variant))
            write_history(group, trajectory.history)

    write_atomically(path, built_in_memory(fill))


def read_results(path: Path) -> StudyRecord:
    """Read a results file.

    Raises:
        StoreError: when it is no results file, is damaged, or is of another format version.
    """
    with opened(path, _WHAT) as file:
        if "trajectories" not in file or "format" not in file.attrs:
            raise StoreError(f"{path}: is not {_WHAT}")
        if file.attrs["format"] != FORMAT:
            raise StoreError(
                f"{path}: is of format {file.attrs['format']}; this cpframe reads format {FORMAT}: "
                "use the version of cpframe that wrote it"
            )
        return StudyRecord(
            title=str(file.attrs["title"]),
            spec=str(file.attrs["spec"]),
            score_epochs=int(file.attrs["score_epochs"]),
            deficits=json.loads(file.attrs["deficits"]),
            created=str(file.attrs["created"]),
            provenance={name: str(fact) for name, fact in file.attrs.items() if name not in _OWN},
            trajectories=tuple(_trajectory(name, group) for name, group in file["trajectories"].items()),
        )


def _trajectory(name: str, group: h5py.Group) -> TrajectoryRecord:
    attributes = group.attrs
    return TrajectoryRecord(
        name=name,
        protocol=str(attributes["protocol"]),
        deficit=str(attributes["deficit"]),
        onset=int(attributes["onset"]),
        offset=int(attributes["offset"]),
        epochs=int(attributes["epochs"]),
        seed=int(attributes["seed"]),
        variant=json.loads(attributes["variant"]),
        status=attributes["status"],
        reason=str(attributes["reason"]),
        score=float(attributes["score"]),
        history=read_history(group),
    )
