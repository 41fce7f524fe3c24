"""The histories of a study as one xarray dataset with named dimensions. xarray is imported inside."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cpframe.errors import require_extra
from cpframe.export.dataframes import FACTS
from cpframe.records.histories import CURVES
from cpframe.records.model import MetricHistory, StudyRecord, TrajectoryRecord

if TYPE_CHECKING:
    import xarray

_Variable = tuple[tuple[str, ...], Any, dict[str, str]]


def stacked(study: StudyRecord, facts: Mapping[str, Sequence[object]], places: Sequence[int]) -> xarray.Dataset:
    """Lay the histories of some trajectories of a study side by side.

    Dimensions: `trajectory`, `epoch`, `measured_epoch`, `layer`, and those that a metric has of its own. What a
    trajectory has not got to, a metric that was not measured at an epoch, and a layer that a variant's network does
    not have are nan (and an empty condition). Layers of several networks are those of all, each in its forward order.
    What is known of a trajectory (see `cpframe.export.dataframes.facts_of`) are coordinates along `trajectory`. What a
    metric calls itself or a dimension has ``metric-`` before it where a coordinate or dimension is called so; where
    two networks give it different dimensions, those of the second are in its name.

    Args:
        study: that they are of.
        facts: of the study, see `cpframe.export.dataframes.facts_of`.
        places: of the trajectories in the study, 0, 1, ...

    Raises:
        NotInstalledError: without xarray.
    """
    with require_extra("a dataset", "notebook"):
        import xarray

    chosen = [study.trajectories[place] for place in places]
    epochs = _union(one.history.epoch for one in chosen)
    measured = _union(one.history.measured_epoch for one in chosen)
    layers = merged([one.history.layers for one in chosen])
    coordinates: dict[str, _Variable] = {
        "trajectory": (
            ("trajectory",),
            _column([facts["name"][place] for place in places]),
            _about("name in the study"),
        ),
        "epoch": (("epoch",), epochs, _about("epochs completed")),
        "measured_epoch": (("measured_epoch",), measured, _about("epochs completed when metrics were measured")),
        "layer": (("layer",), _column(layers), _about("layers of the network, in forward order")),
        "variant": (
            ("trajectory",),
            _column([json.dumps(dict(one.variant), ensure_ascii=False, default=str) for one in chosen]),
            _about("values of the spec's grid, JSON"),
        ),
    }
    for name, values in facts.items():
        if name != "name" and not name.startswith("final_"):
            column = _column([values[place] for place in places])
            coordinates[name] = ("trajectory",), column, _about(FACTS.get(name, "of the variant"), name)
    variables = _curves(chosen, epochs)
    sizes = _sizes(chosen, set(coordinates))
    taken = {*coordinates, *variables, *sizes}
    kinds = dict.fromkeys((name, one.dimensions) for t in chosen for name, one in t.history.metrics.items())
    for name, dimensions in kinds:
        first = next(own for other, own in kinds if other == name) == dimensions
        called = name if first else "-".join([name, *(dimensions or ["number"])])
        while called in taken:
            called = f"metric-{called}"
        taken.add(called)
        where = tuple(_axis(dimension, set(coordinates)) for dimension in dimensions)
        shape = [len(layers) if dimension == "layer" else sizes[dimension] for dimension in where]
        metrics = {
            place: one.history.metrics[name]
            for place, one in enumerate(chosen)
            if name in one.history.metrics and one.history.metrics[name].dimensions == dimensions
        }
        variables |= _metric(name, called, where, shape, metrics, chosen, measured, layers)
    about = {
        **study.provenance,
        "title": study.title,
        "spec": study.spec,
        "score_epochs": study.score_epochs,
        "deficits": json.dumps(dict(study.deficits), ensure_ascii=False),
        "created": study.created,
    }
    return xarray.Dataset(variables, coordinates, about)


def merged(orders: Iterable[Sequence[str]]) -> list[str]:
    """Every name once, so that what follows one another in an order does so here, as far as the orders agree."""
    found: list[str] = []
    for order in dict.fromkeys(map(tuple, orders)):
        place = 0
        for name in order:
            if name in found:
                place = found.index(name) + 1
            else:
                found.insert(place, name)
                place += 1
    return found


def _curves(chosen: Sequence[TrajectoryRecord], epochs: np.ndarray) -> dict[str, _Variable]:
    where = "trajectory", "epoch"
    condition = np.full((len(chosen), len(epochs)), "", dtype=object)
    curves = {name: np.full((len(chosen), len(epochs)), np.nan) for name in CURVES}
    for number, one in enumerate(chosen):
        rows = np.searchsorted(epochs, one.history.epoch)
        condition[number, rows] = one.history.condition
        for name, curve in curves.items():
            curve[number, rows] = getattr(one.history, name)
    about = _about("what the learner experienced: clean, or a deficit's name in the spec; empty where not trained")
    return {
        "condition": (where, condition, about),
        **{name: (where, curve, _about(CURVES[name], name)) for name, curve in curves.items()},
    }


def _axis(dimension: str, coordinates: Collection[str]) -> str:
    """What a dimension of a metric is called beside these coordinates."""
    return f"metric-{dimension}" if dimension in coordinates and dimension != "layer" else dimension


def _sizes(chosen: Sequence[TrajectoryRecord], coordinates: Collection[str]) -> dict[str, int]:
    """The dimensions that metrics have of their own, each as long as the longest."""
    found: dict[str, int] = {}
    for metric in (metric for one in chosen for metric in one.history.metrics.values()):
        for dimension, size in zip(metric.dimensions, metric.values.shape[1:], strict=True):
            if dimension != "layer":
                name = _axis(dimension, coordinates)
                found[name] = max(size, found.get(name, 0))
    return found


def _metric(
    name: str,
    called: str,
    dimensions: tuple[str, ...],
    shape: Sequence[int],
    metrics: Mapping[int, MetricHistory],
    chosen: Sequence[TrajectoryRecord],
    measured: np.ndarray,
    layers: Sequence[str],
) -> dict[str, _Variable]:
    """A metric, by the places of the trajectories that have it, and its standard errors where any has them."""
    first = next(iter(metrics.values()))
    found = {called: np.full((len(chosen), len(measured), *shape), np.nan)}
    if any(metric.stderr is not None for metric in metrics.values()):
        found[f"{called}_stderr"] = found[called].copy()
    for place, metric in metrics.items():
        history = chosen[place].history
        rows = np.searchsorted(measured, history.measured_epoch)
        own = [
            np.array([layers.index(layer) for layer in history.layers]) if dimension == "layer" else np.arange(size)
            for dimension, size in zip(dimensions, metric.values.shape[1:], strict=True)
        ]
        for part, values in zip(found.values(), (metric.values, metric.stderr), strict=False):
            if values is not None:
                part[place][np.ix_(rows, *own)] = values
    where = "trajectory", "measured_epoch", *dimensions
    units = {"units": first.units or "1"}
    notes = {"long_name": name, **units, "estimator": first.estimator, "source": first.source}
    if len(found) > 1:
        notes["ancillary_variables"] = f"{called}_stderr"
    about = {called: notes, f"{called}_stderr": {"long_name": f"standard error of {name}", **units}}
    return {one: (where, values, about[one]) for one, values in found.items()}


def _union(axes: Iterable[np.ndarray]) -> np.ndarray:
    return np.unique(np.concatenate([np.zeros(0, np.int64), *axes]))


def _column(values: Sequence[object]) -> np.ndarray:
    return np.array(values, dtype=object if all(isinstance(value, str) for value in values) else None)


def _about(meaning: str, name: str = "") -> dict[str, str]:
    """Attributes of a variable: what it is, and its units where it is a number that can have some."""
    if name.endswith("_loss"):
        return {"long_name": meaning, "units": "nat"}
    if name.endswith(("_accuracy", "_rate")) or name in ("score", "drop"):
        return {"long_name": meaning, "units": "1"}
    return {"long_name": meaning}
