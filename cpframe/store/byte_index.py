"""The index of a file: JSON with the offset of every array in the file, by which arrays are read without HDF5.

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
from cpframe.store.h5_low_level import set_attributes

_INDEX = "index"


def write_index(file: h5py.File, content: object) -> None:
    """Write the index of a file; `content` consists of rows by `index_row`."""
    text = json.dumps({"byteorder": sys.byteorder, "content": content}, separators=(",", ":"))
    index = file.create_dataset(_INDEX, data=np.bytes_(text))
    set_attributes(index.id, long_name="JSON: what is here, with the offset in this file and the shape of its data")


def read_index(file: h5py.File) -> tuple[Any, str]:
    """Return the content of the index, and the byte order in numpy's notation."""
    index = json.loads(file[_INDEX][()])
    return index["content"], {"little": "<", "big": ">"}[index["byteorder"]]


def index_row(history: History, written: Mapping[str, h5d.DatasetID]) -> dict[str, Any]:
    """Return the entry of a history in the index.

    Args:
        history: the history that was written.
        written: its datasets by name.
    """

    def location(name: str) -> list[object]:
        return [written[name].get_offset() or 0, list(written[name].shape)]

    metrics = {
        name: {
            "values": location(name),
            "stderr": None if metric.stderr is None else location(f"{name}_stderr"),
            "about": [metric.units, metric.estimator, metric.source],
            "own": list(metric.axes),
            "quantity": metric.quantity,
        }
        for name, metric in history.metrics.items()
    }
    return {
        "condition": [[name, len(list(run))] for name, run in groupby(history.condition)],
        "layers": list(history.layers),
        "places": {name: location(name) for name in ("epoch", "measured_epoch", *CURVES)},
        "metrics": metrics,
    }


def read_row(row: Mapping[str, Any], content: bytes, order: str) -> History:
    """Return the history of an entry of the index; its arrays are read-only views of the bytes.

    Args:
        row: the entry.
        content: the bytes of the file.
        order: the byte order in numpy's notation.

    Raises:
        ValueError: when the arrays do not fit together, or are not inside the bytes.
    """

    def array(location: Sequence[Any], kind: str) -> np.ndarray:
        offset, shape = location
        count = math.prod(shape)
        dtype = np.dtype(order + kind)
        if not count:
            return np.zeros(shape, dtype)
        flat = np.frombuffer(content, dtype, count, offset)
        return flat if len(shape) == 1 else flat.reshape(shape)

    def floats(location: Sequence[Any]) -> Floats:
        return array(location, "f8")

    def metric(name: str, row: Mapping[str, Any]) -> MetricHistory:
        stderr = None if row["stderr"] is None else floats(row["stderr"])
        units, estimator, source = row["about"]
        axes = tuple(row.get("own", ()))  # missing in files from before metrics could name their axes
        quantity = row["quantity"] if "quantity" in row else _unnamed_quantity(name, estimator)
        return MetricHistory(floats(row["values"]), stderr, units, estimator, source, axes, quantity)

    locations = row["places"]
    history = History(
        epoch=array(locations["epoch"], "i8"),
        condition=tuple(chain.from_iterable(repeat(name, count) for name, count in row["condition"])),
        measured_epoch=array(locations["measured_epoch"], "i8"),
        layers=tuple(row["layers"]),
        metrics={name: metric(name, inner) for name, inner in row["metrics"].items()},
        **{name: floats(locations[name]) for name in CURVES},
    )
    return validate(history)


def _unnamed_quantity(name: str, estimator: str) -> str:
    """Return the quantity of a metric in a file of cpframe 0.1.0, in which only estimator and name imply it."""
    if estimator.lower().startswith("fisher"):
        return FISHER_TRACE if estimator.startswith("Fisher trace") else FISHER_VARIATIONAL
    if estimator == "" and name.endswith(("-mean", "-std")):
        return GRADIENT_MEAN if name.endswith("-mean") else GRADIENT_STD
    return ""
