"""results.h5: the whole study in one file, which xarray and h5netcdf read as well.

Beside the groups of the trajectories it has an ``index``: where in the file the numbers of each lie. A study of
10,000 trajectories has 120,000 datasets, which HDF5 takes a minute to open; the index tells in a second what is there.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from itertools import chain, groupby, repeat
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cpframe.records import Floats, History, MetricHistory, StudyRecord, TrajectoryRecord
from cpframe.store.files import DamagedError, StoreError, built_in_memory, opened_lazily, write_atomically
from cpframe.store.histories import CURVES, checked, write_history
from cpframe.store.quickly import note

FORMAT = 2
_WHAT = "a results file of cpframe"
_OWN = {"format", "title", "spec", "score_epochs", "deficits", "created"}
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
        file.attrs["created"] = study.created
        for name, fact in study.provenance.items():
            file.attrs[name] = fact
        trajectories = file.create_group("trajectories", track_order=True)
        rows = []
        for trajectory in study.trajectories:
            group = trajectories.create_group(trajectory.name)
            note(group.id, **{name: getattr(trajectory, name) for name in _FACTS})
            note(group.id, variant=json.dumps(dict(trajectory.variant)))
            write_history(group, trajectory.history)
            rows.append(_row(group, trajectory))
        text = json.dumps({"byteorder": sys.byteorder, "trajectories": rows}, separators=(",", ":"))
        index = file.create_dataset("index", data=np.bytes_(text))
        index.attrs["long_name"] = "JSON: the trajectories, with the offset in this file and the shape of their data"

    write_atomically(path, built_in_memory(fill))


def read_results(path: Path) -> StudyRecord:
    """Read a results file; the arrays of what is returned are read-only views of its bytes.

    Raises:
        StoreError: when it is no results file, is damaged, or is of another format version.
    """
    with opened_lazily(path, _WHAT) as (file, content):
        if "trajectories" not in file or "format" not in file.attrs:
            raise DamagedError(f"{path}: is not {_WHAT}")
        if file.attrs["format"] != FORMAT:
            raise StoreError(
                f"{path}: is of format {file.attrs['format']}; this cpframe reads format {FORMAT}: "
                "use the version of cpframe that wrote it"
            )
        index = json.loads(file["index"][()])
        order = {"little": "<", "big": ">"}[index["byteorder"]]
        return StudyRecord(
            title=str(file.attrs["title"]),
            spec=str(file.attrs["spec"]),
            score_epochs=int(file.attrs["score_epochs"]),
            deficits=json.loads(file.attrs["deficits"]),
            created=str(file.attrs["created"]),
            provenance={name: str(fact) for name, fact in file.attrs.items() if name not in _OWN},
            trajectories=tuple(_trajectory(row, content, order) for row in index["trajectories"]),
        )


def _row(group: h5py.Group, trajectory: TrajectoryRecord) -> dict[str, Any]:
    """What the index says of a trajectory."""
    history = trajectory.history

    def place(name: str) -> list[object]:
        data = group[name]
        return [data.id.get_offset() or 0, list(data.shape)]

    metrics = {
        name: {
            "values": place(name),
            "stderr": None if metric.stderr is None else place(f"{name}_stderr"),
            "about": [metric.units, metric.estimator, metric.source],
        }
        for name, metric in history.metrics.items()
    }
    return {
        "name": trajectory.name,
        **{name: getattr(trajectory, name) for name in _FACTS},
        "variant": dict(trajectory.variant),
        "condition": [[name, len(list(run))] for name, run in groupby(history.condition)],
        "layers": list(history.layers),
        "places": {name: place(name) for name in ("epoch", "measured_epoch", *CURVES)},
        "metrics": metrics,
    }


def _trajectory(row: Mapping[str, Any], content: bytes, order: str) -> TrajectoryRecord:
    def array(place: Sequence[Any], kind: str) -> np.ndarray:
        offset, shape = place
        count = math.prod(shape)
        dtype = np.dtype(order + kind)
        if not count:
            return np.zeros(shape, dtype)
        flat = np.frombuffer(content, dtype, count, offset)
        return flat if len(shape) == 1 else flat.reshape(shape)

    def floats(place: Sequence[Any]) -> Floats:
        return array(place, "f8")

    places = row["places"]
    metrics = {
        name: MetricHistory(
            floats(metric["values"]), None if metric["stderr"] is None else floats(metric["stderr"]), *metric["about"]
        )
        for name, metric in row["metrics"].items()
    }
    history = History(
        epoch=array(places["epoch"], "i8"),
        condition=tuple(chain.from_iterable(repeat(name, count) for name, count in row["condition"])),
        measured_epoch=array(places["measured_epoch"], "i8"),
        layers=tuple(row["layers"]),
        metrics=metrics,
        **{name: floats(places[name]) for name in CURVES},
    )
    facts = {name: row[name] for name in _FACTS}
    return TrajectoryRecord(name=row["name"], variant=row["variant"], history=checked(history), **facts)
