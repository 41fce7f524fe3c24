"""The values of the JSON document: findings as dicts, lists and plain values."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import fields

import numpy as np

from cpframe.analysis.comparisons import RemovalGroup, SlidingGroup
from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.statistics import Estimate, Interval

Plain = object
"""A value of JSON: dict, list, str, int, finite float, bool or None."""


def plain(value: object) -> Plain:
    """Convert a value to the types of JSON.

    Mappings, sequences, iterators and numpy arrays become dicts and lists, an `Estimate` or `Interval` a dict of mean,
    low, high and n; a number that is not finite becomes None, and any other object its text.
    """
    if isinstance(value, Estimate | Interval):
        return plain({"mean": value.mean, "low": value.low, "high": value.high, "n": value.n})
    if isinstance(value, Mapping):
        return {str(key): plain(member) for key, member in value.items()}
    if isinstance(value, np.ndarray):
        members: Plain = value.tolist()
        finite = value.dtype.kind in "iuf" and bool(np.isfinite(value).all())
        return members if finite else plain(members)
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, list | tuple | Iterator):
        return [plain(member) for member in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def fields_of(record: object, *without: str) -> dict[str, object]:
    """Return the fields of a dataclass by name, but those named in `without`."""
    return {f.name: getattr(record, f.name) for f in fields(record) if f.name not in without}  # type: ignore[arg-type]


def group_keys(group: RemovalGroup | SlidingGroup) -> dict[str, object]:
    """Return the keys that identify a group of trajectories."""
    if isinstance(group, RemovalGroup):
        return {"protocol": "removal", "variant": group.variant, "recovery": group.recovery}
    return {"protocol": "sliding", "variant": group.variant, "length": group.length, "epochs": group.epochs}


def timeline_keys(curve: MetricCurve) -> dict[str, object]:
    """Return the keys that identify the timeline of a curve."""
    return {name: getattr(curve, name) for name in ("variant", "protocol", "deficit", "onset", "offset", "epochs")}


def measurement_keys(curve: MetricCurve) -> dict[str, object]:
    """Return the keys that describe how a curve was measured."""
    return {"units": curve.units, "estimator": curve.estimator, "source": curve.source, "n": curve.n}


def fisher_curves(findings: Findings) -> Iterator[tuple[dict[str, object], MetricCurve]]:
    """Yield every curve of every Fisher metric, after the keys that identify it."""
    for metric, curves in findings.fisher.items():
        for curve in curves:
            yield {"metric": metric} | timeline_keys(curve), curve


def fisher_curves_by_layer(findings: Findings) -> Iterator[tuple[dict[str, object], MetricCurve]]:
    """Yield the curves of `fisher_curves` that have a value per layer."""
    return ((keys, curve) for keys, curve in fisher_curves(findings) if curve.values.ndim == 2)
