"""A history as an HDF5 group with dimension scales: a valid netCDF4 group, which xarray opens without cpframe."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np
from h5py import h5d, h5ds

from cpframe.records.histories import CURVES, axis_sizes
from cpframe.records.model import Floats, History
from cpframe.store.h5_low_level import set_attributes, write_array, write_texts


def write_history(group: h5py.Group, history: History) -> dict[str, h5d.DatasetID]:
    """Write a history into an empty group; return its datasets by name."""
    written = {name: write_array(group, name, getattr(history, name)) for name in ("epoch", *CURVES, "measured_epoch")}
    epoch = _make_scale(written["epoch"], "epoch", "epochs completed")
    h5ds.attach_scale(write_texts(group, "condition", history.condition), epoch, 0)
    for name, meaning in CURVES.items():
        set_attributes(written[name], long_name=meaning, units="nat" if name.endswith("loss") else "1")
        h5ds.attach_scale(written[name], epoch, 0)
    measured = _make_scale(written["measured_epoch"], "measured_epoch", "epochs completed when metrics were measured")
    layer = _make_scale(write_texts(group, "layer", history.layers), "layer", "layers of the network")
    scales = {"layer": layer}
    for name, size in axis_sizes(history.metrics).items():
        scales[name] = _make_scale(write_array(group, name, np.arange(size)), name, f"{name}, counted from 0")
    for name, metric in history.metrics.items():
        along = [measured, *(scales[dimension] for dimension in metric.dimensions)]
        written[name] = values = _write_metric(group, name, metric.values, along)
        set_attributes(values, units=metric.units or "1", estimator=metric.estimator, source=metric.source)
        set_attributes(values, quantity=metric.quantity)
        if metric.stderr is not None:
            written[f"{name}_stderr"] = stderr = _write_metric(group, f"{name}_stderr", metric.stderr, along)
            set_attributes(stderr, units=metric.units or "1", long_name=f"standard error of {name}")
            set_attributes(values, ancillary_variables=f"{name}_stderr")
    return written


def _make_scale(dataset: h5d.DatasetID, name: str, meaning: str) -> h5d.DatasetID:
    set_attributes(dataset, long_name=meaning)
    h5ds.set_scale(dataset, name.encode())
    return dataset


def _write_metric(group: h5py.Group, name: str, data: Floats, along: Sequence[h5d.DatasetID]) -> h5d.DatasetID:
    dataset = write_array(group, name, data)
    for axis, scale in enumerate(along):
        h5ds.attach_scale(dataset, scale, axis)
    return dataset
