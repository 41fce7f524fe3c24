"""First-layer filters as tiles, with and without a deficit, at the first and the last measurement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cpframe.analysis.comparisons import variant_key
from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import array_metric_names
from cpframe.analysis.representatives import preferred_windows
from cpframe.errors import NothingToDrawError
from cpframe.records.model import CLEAN, Floats, TrajectoryRecord
from cpframe.report.figures.labels import listed, numbered, timeline_of
from cpframe.report.figures.style import WIDTH, Drawing, note_below
from cpframe.report.formatting import number
from cpframe.report.variant_names import study_variants

MOST = 96
"""Tiles of one network at most: the first ones."""
_DIMENSIONS = ("filter", "channel", "height", "width")

WHITEST = 0.99
"""Of all weights of a network, the part that lies within the range of colours; the rest is cut off."""


@dataclass(frozen=True)
class Filters:
    """The first layer's filters of one training.

    Attributes:
        trajectory: the training.
        epochs: (2,) the first and the last measurement, epochs completed.
        weights: (2, filter, channel, height, width) at these.
    """

    trajectory: TrajectoryRecord
    epochs: tuple[int, int]
    weights: Floats


def filters_drawings(findings: Findings) -> list[Drawing]:
    """For every metric that stores filters, variant and deficit: tiles of one seed, in the costliest window.

    Raises:
        NothingToDrawError: without such a metric.
    """
    drawn = [pair for name in array_metric_names(findings.study) for pair in _pairs(findings, name)]
    if not drawn:
        raise NothingToDrawError(
            'no filters of a first layer; [metrics.filters] use = "first-layer-filters" gives them'
        )
    names = study_variants(findings.study)
    return [
        _drawing(numbered("filters", place), pair, names.label(pair[0].trajectory.variant))
        for place, pair in enumerate(drawn)
    ]


def tiles(weights: Floats, columns: int) -> Floats:
    """Lay filters side by side, a pixel apart.

    Args:
        weights: (filter, channel, height, width). Three channels are red, green and blue; of any other number the mean
            is drawn, in grey.
        columns: filters in a row.

    Returns:
        (H, W, 4), red, green, blue and opacity from 0 to 1: a weight of 0 is mid-grey, and all filters share one scale,
        by which 99 % of the weights are told apart; transparent between the filters.
    """
    count, channels, height, width = weights.shape
    colours = weights if channels == 3 else np.repeat(weights.mean(axis=1, keepdims=True), 3, axis=1)
    reach = float(np.quantile(np.abs(colours), WHITEST)) or 1.0
    rows = math.ceil(count / columns)
    page = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 4))
    for i, colour in enumerate(np.clip(0.5 + 0.5 * colours / reach, 0, 1)):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        page[top : top + height, left : left + width, :3] = colour.transpose(1, 2, 0)
        page[top : top + height, left : left + width, 3] = 1
    return page


def _pairs(findings: Findings, name: str) -> Iterator[list[Filters]]:
    """For each variant and deficit, without and with it; without alone where no deficit was measured."""
    study = findings.study
    for variant in {variant_key(t.variant): t.variant for t in study.trajectories}.values():
        best = preferred_windows(study, findings.groups, variant)
        found: dict[str, tuple[tuple[int, str, int, int], Filters]] = {}
        for trajectory in study.trajectories:
            filters = _filters(trajectory, name)
            if filters is not None and variant_key(trajectory.variant) == variant_key(variant):
                window = trajectory.onset, trajectory.offset
                rank = best(trajectory.deficit, window), trajectory.protocol, trajectory.seed, -filters.epochs[1]
                if trajectory.deficit not in found or rank < found[trajectory.deficit][0]:
                    found[trajectory.deficit] = rank, filters
        without = [found[CLEAN][1]] if CLEAN in found else []
        deficits = [deficit for deficit in study.deficits if deficit in found and deficit not in study.idle]
        yield from [[*without, found[deficit][1]] for deficit in deficits] or ([without] if without else [])


def _filters(trajectory: TrajectoryRecord, name: str) -> Filters | None:
    history = trajectory.history
    if name not in history.metrics or history.metrics[name].dimensions != _DIMENSIONS:
        return None
    values = history.metrics[name].values
    measured = np.flatnonzero(np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if not measured.size:
        return None
    ends = measured[[0, -1]]
    first, last = history.measured_epoch[ends].tolist()
    return Filters(trajectory, (first, last), values[ends])


def _drawing(stem: str, pair: Sequence[Filters], label: str) -> Drawing:
    count, _, height, width = pair[0].weights.shape[1:]
    shown = min(count, MOST)
    columns = math.ceil(math.sqrt(shown * height / width))
    rows = math.ceil(shown / columns)
    side = 1.6 * rows * (height + 1) / (columns * (width + 1))
    figure = Figure(figsize=(WIDTH, len(pair) * (side + 0.3) + 0.6), layout="constrained")
    grid = figure.subplots(len(pair), 2, squeeze=False)
    for row, filters in zip(grid, pair, strict=True):
        for panel, epoch, weights in zip(row, filters.epochs, filters.weights, strict=True):
            _draw(panel, weights[:shown], columns)
            trajectory = filters.trajectory
            who = timeline_of(trajectory.deficit, trajectory.onset, trajectory.offset)
            panel.set_title(f"{who}, epoch {epoch}", fontsize=7.5)
    about = pair[0].trajectory
    note_below(
        figure,
        f"{label + '; ' if label else ''}one seed ({about.seed}); {f'the first {shown} of ' if shown < count else ''}"
        f"{count} filters of {width} x {height} weights; mid-grey is 0; one scale a panel, which {WHITEST:.0%} of the "
        "weights do not exceed.",
    )
    whom = [timeline_of(f.trajectory.deficit, f.trajectory.onset, f.trajectory.offset) for f in pair]
    return Drawing(stem, f"First-layer filters: {' and '.join(whom)}", _seen(pair, whom), figure)


def _draw(panel: Axes, weights: Floats, columns: int) -> None:
    panel.imshow(tiles(weights, columns), interpolation="none")
    panel.set_axis_off()


def _seen(pair: Sequence[Filters], whom: Sequence[str]) -> str:
    """Typical size of the weights, first and last."""
    told = []
    for filters, who in zip(pair, whom, strict=True):
        sizes = [number(float(np.sqrt(np.mean(weights**2)))) for weights in filters.weights]
        first, last = filters.epochs
        told.append(f"{who}: {sizes[0]} in epoch {first}, {sizes[1]} in epoch {last}")
    return f"Filters as coloured tiles. Root mean square of the weights; {listed(told)}."
