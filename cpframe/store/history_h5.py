"""A history as an HDF5 group, with dimension scales: a valid netCDF4 group, which xarray opens without cpframe."""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np
from h5py import h5d, h5ds

from cpframe.records.histories import CURVES, axis_sizes
from cpframe.records.model import Floats, History
from cpframe.store.h5_low_level import note, put, put_texts


def write_history(group: h5py.Group, history: History) -> dict[str, h5d.DatasetID]:
    """Write a history into an empty group; returns its datasets, by name."""
    made = {name: put(group, name, getattr(history, name)) for name in ("epoch", *CURVES, "measured_epoch")}
    epoch = _scale(made["epoch"], "epoch", "epochs completed")
    h5ds.attach_scale(put_texts(group, "condition", history.condition), epoch, 0)
    for name, meaning in CURVES.items():
        note(made[name], long_name=meaning, units="nat" if name.endswith("loss") else "1")
        h5ds.attach_scale(made[name], epoch, 0)
    measured = _scale(made["measured_epoch"], "measured_epoch", "epochs completed when metrics were measured")
    layer = _scale(put_texts(group, "layer", history.layers), "layer", "layers of the network")
    scales = {"layer": layer}
    for name, size in axis_sizes(history.metrics).items():
        scales[name] = _scale(put(group, name, np.arange(size)), name, f"{name}, counted from 0")
    for name, metric in history.metrics.items():
        along = [measured, *(scales[dimension] for dimension in metric.dimensions)]
        made[name] = values = _quantity(group, name, metric.values, along)
        note(values, units=metric.units or "1", estimator=metric.estimator, source=metric.source)
        note(values, quantity=metric.quantity)
        if metric.stderr is not None:
            made[f"{name}_stderr"] = stderr = _quantity(group, f"{name}_stderr", metric.stderr, along)
            note(stderr, units=metric.units or "1", long_name=f"standard error of {name}")
            note(values, ancillary_variables=f"{name}_stderr")
    return made


def _scale(dataset: h5d.DatasetID, name: str, meaning: str) -> h5d.DatasetID:
    note(dataset, long_name=meaning)
    h5ds.set_scale(dataset, name.encode())
    return dataset


def _quantity(group: h5py.Group, name: str, data: Floats, along: Sequence[h5d.DatasetID]) -> h5d.DatasetID:
    dataset = put(group, name, data)
    for axis, scale in enumerate(along):
        h5ds.attach_scale(dataset, scale, axis)
    return dataset
