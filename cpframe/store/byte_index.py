"""Where in a file the numbers of a history lie, as JSON: by it they are read from the bytes, without HDF5.

HDF5 takes milliseconds to open the twenty datasets of a history, and a minute for the 120,000 of a large study.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from itertools import chain, groupby, repeat
from typing import Any

import h5py
import numpy as np
from h5py import h5d

from cpframe.records.histories import CURVES, validate
from cpframe.records.model import (
    FISHER_TRACE,
    FISHER_VARIATIONAL,
    GRADIENT_MEAN,
    GRADIENT_STD,
    Floats,
    History,
    MetricHistory,
)
from cpframe.store.h5_low_level import note

_INDEX = "index"


def write_index(file: h5py.File, content: object) -> None:
    """Write the index of a file."""
    text = json.dumps({"byteorder": sys.byteorder, "content": content}, separators=(",", ":"))
    index = file.create_dataset(_INDEX, data=np.bytes_(text))
    note(index.id, long_name="JSON: what is here, with the offset in this file and the shape of its data")


def read_index(file: h5py.File) -> tuple[Any, str]:
    """Read what `write_index` wrote; with the order of bytes as numpy writes it."""
    index = json.loads(file[_INDEX][()])
    return index["content"], {"little": "<", "big": ">"}[index["byteorder"]]


def places_of(history: History, written: Mapping[str, h5d.DatasetID]) -> dict[str, Any]:
    """What the index says of a history.

    Args:
        history: as it was written.
        written: its datasets, by name.
    """

    def place(name: str) -> list[object]:
        return [written[name].get_offset() or 0, list(written[name].shape)]

    metrics = {
        name: {
            "values": place(name),
            "stderr": None if metric.stderr is None else place(f"{name}_stderr"),
            "about": [metric.units, metric.estimator, metric.source],
            "own": list(metric.axes),
            "quantity": metric.quantity,
        }
        for name, metric in history.metrics.items()
    }
    return {
        "condition": [[name, len(list(run))] for name, run in groupby(history.condition)],
        "layers": list(history.layers),
        "places": {name: place(name) for name in ("epoch", "measured_epoch", *CURVES)},
        "metrics": metrics,
    }


def history_at(row: Mapping[str, Any], content: bytes, order: str) -> History:
    """Read a history by its row in the index; its arrays are read-only views of the bytes.

    Raises:
        ValueError: when its parts do not fit one another, or do not lie in the bytes.
    """

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

    def metric(name: str, row: Mapping[str, Any]) -> MetricHistory:
        stderr = None if row["stderr"] is None else floats(row["stderr"])
        units, estimator, source = row["about"]
        own = tuple(row.get("own", ()))  # files written before metrics could have dimensions do not say it
        quantity = row["quantity"] if "quantity" in row else _unnamed_quantity(name, estimator)
        return MetricHistory(floats(row["values"]), stderr, units, estimator, source, own, quantity)

    places = row["places"]
    history = History(
        epoch=array(places["epoch"], "i8"),
        condition=tuple(chain.from_iterable(repeat(name, count) for name, count in row["condition"])),
        measured_epoch=array(places["measured_epoch"], "i8"),
        layers=tuple(row["layers"]),
        metrics={name: metric(name, one) for name, one in row["metrics"].items()},
        **{name: floats(places[name]) for name in CURVES},
    )
    return validate(history)


def _unnamed_quantity(name: str, estimator: str) -> str:
    """Return the quantity of a metric in a file of cpframe 0.1.0, which told it by estimator and name alone."""
    if estimator.lower().startswith("fisher"):
        return FISHER_TRACE if estimator.startswith("Fisher trace") else FISHER_VARIATIONAL
    if estimator == "" and name.endswith(("-mean", "-std")):
        return GRADIENT_MEAN if name.endswith("-mean") else GRADIENT_STD
    return ""
