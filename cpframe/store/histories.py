"""A history as an HDF5 group, with dimension scales: a valid netCDF4 group, which xarray opens without cpframe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import h5py
import numpy as np
from h5py import h5d, h5ds

from cpframe.records import Floats, History, MetricHistory
from cpframe.store.quickly import note, put, put_texts

CURVES = {
    "learning_rate": "learning rate of the epoch",
    "train_loss": "mean loss over the epoch's examples as the learner saw them; nan where it was idle",
    "train_accuracy": "mean accuracy over the epoch's examples as the learner saw them; nan where it was idle",
    "test_loss": "mean loss on the clean test set after the epoch",
    "test_accuracy": "accuracy on the clean test set after the epoch",
}


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
    for name, metric in history.metrics.items():
        made[name] = values = _quantity(group, name, metric.values, measured, layer)
        note(values, units=metric.units or "1", estimator=metric.estimator, source=metric.source)
        if metric.stderr is not None:
            made[f"{name}_stderr"] = stderr = _quantity(group, f"{name}_stderr", metric.stderr, measured, layer)
            note(stderr, units=metric.units or "1", long_name=f"standard error of {name}")
            note(values, ancillary_variables=f"{name}_stderr")
    return made


def joined(parts: Sequence[History]) -> History:
    """Put the histories of consecutive epochs behind one another; a metric is nan where a part did not measure it."""
    names = dict.fromkeys(name for part in parts for name in part.metrics)
    return History(
        epoch=np.concatenate([part.epoch for part in parts]),
        condition=tuple(condition for part in parts for condition in part.condition),
        measured_epoch=np.concatenate([part.measured_epoch for part in parts]),
        layers=parts[0].layers,
        metrics={name: _joined_metric(name, parts) for name in names},
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in CURVES},
    )


def _joined_metric(name: str, parts: Sequence[History]) -> MetricHistory:
    known = next(part.metrics[name] for part in parts if name in part.metrics)
    has_stderr = any(part.metrics[name].stderr is not None for part in parts if name in part.metrics)

    def rows(part: History, of: Callable[[MetricHistory], Floats | None]) -> Floats:
        found = of(part.metrics[name]) if name in part.metrics else None
        return np.full((len(part.measured_epoch), *known.values.shape[1:]), np.nan) if found is None else found

    values = np.concatenate([rows(part, lambda metric: metric.values) for part in parts])
    stderr = np.concatenate([rows(part, lambda metric: metric.stderr) for part in parts]) if has_stderr else None
    return replace(known, values=values, stderr=stderr)


def _scale(dataset: h5d.DatasetID, name: str, meaning: str) -> h5d.DatasetID:
    note(dataset, long_name=meaning)
    h5ds.set_scale(dataset, name.encode())
    return dataset


def _quantity(
    group: h5py.Group, name: str, data: Floats, measured: h5d.DatasetID, layer: h5d.DatasetID
) -> h5d.DatasetID:
    dataset = put(group, name, data)
    h5ds.attach_scale(dataset, measured, 0)
    if data.ndim == 2:
        h5ds.attach_scale(dataset, layer, 1)
    return dataset


def checked(history: History) -> History:
    """The history; raises ValueError unless all its parts are of one length."""
    epochs, measured = history.epoch.shape, history.measured_epoch.shape
    curves = [getattr(history, name).shape for name in CURVES]
    if len(epochs) != 1 or any(shape != epochs for shape in [*curves, (len(history.condition),)]):
        raise ValueError("its curves are not of one length")
    for name, metric in history.metrics.items():
        allowed = (measured, (*measured, len(history.layers)))
        if metric.values.shape not in allowed or (
            metric.stderr is not None and metric.stderr.shape != metric.values.shape
        ):
            raise ValueError(f"the metric {name} has the wrong shape")
    return history
