"""The filters of the first layer as tiles, with and without a deficit, at the first and the last measurement."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from cpframe.analysis.comparisons import variant_key
from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import array_metric_names
from cpframe.analysis.representatives import preferred_windows
from cpframe.errors import NothingToDrawError
from cpframe.records.model import CLEAN, Floats, TrajectoryRecord
from cpframe.report.figures import Plot
from cpframe.report.figures.labels import prefix_variant, sentences, timeline_label
from cpframe.report.figures.style import WIDTH, add_note
from cpframe.report.formatting import number
from cpframe.report.variant_names import study_variants

MAX_FILTERS = 96
"""The largest number of filters drawn of one network: the first ones."""
_DIMENSIONS = ("filter", "channel", "height", "width")

IN_RANGE = 0.99
"""The fraction of a network's weights inside the range of the colours; larger weights are clipped."""


@dataclass(frozen=True)
class Filters:
    """The first layer's filters of one trajectory.

    Attributes:
        trajectory: the trajectory.
        epochs: the epochs completed at the first and at the last measurement.
        weights: the weights at these measurements, (2, filter, channel, height, width).
    """

    trajectory: TrajectoryRecord
    epochs: tuple[int, int]
    weights: Floats

    @property
    def label(self) -> str:
        """The deficit and its window."""
        return timeline_label(self.trajectory.deficit, self.trajectory.onset, self.trajectory.offset)


def draw(findings: Findings) -> list[Plot]:
    """Draw one plot per filter metric, variant and deficit: the tiles of one seed in the representative window.

    Raises:
        NothingToDrawError: if no metric of the study stores filters.
    """
    found = [filters for name in array_metric_names(findings.study) for filters in _choose_filters(findings, name)]
    if not found:
        raise NothingToDrawError(
            'no first-layer filters were measured; add [metrics.filters] use = "first-layer-filters" to the spec'
        )
    names = study_variants(findings.study)
    return [_draw_filters(filters, names.label(filters[0].trajectory.variant)) for filters in found]


def tile_filters(weights: Floats, columns: int) -> Floats:
    """Arrange filters in a grid with a gap of one pixel.

    Args:
        weights: the weights, (filter, channel, height, width). Three channels are shown as red, green and blue; for
            any other number the mean over channels is shown in grey.
        columns: the number of filters in a row.

    Returns:
        An image, (H, W, 4): red, green, blue and opacity from 0 to 1. A weight of 0 is mid-grey, all filters share one
        scale, which `IN_RANGE` of the weights do not exceed, and the gaps are transparent.
    """
    count, channels, height, width = weights.shape
    colours = weights if channels == 3 else np.repeat(weights.mean(axis=1, keepdims=True), 3, axis=1)
    largest = float(np.quantile(np.abs(colours), IN_RANGE)) or 1.0
    rows = math.ceil(count / columns)
    image = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 4))
    for i, colour in enumerate(np.clip(0.5 + 0.5 * colours / largest, 0, 1)):
        top, left = (i // columns) * (height + 1), (i % columns) * (width + 1)
        image[top : top + height, left : left + width, :3] = colour.transpose(1, 2, 0)
        image[top : top + height, left : left + width, 3] = 1
    return image


def _choose_filters(findings: Findings, metric: str) -> Iterator[list[Filters]]:
    """Yield, per variant and deficit, the filters without and with the deficit; or one of them if there is no other."""
    study = findings.study
    for variant in {variant_key(t.variant): t.variant for t in study.trajectories}.values():
        rank_window = preferred_windows(study, findings.groups, variant)
        best: dict[str, tuple[tuple[int, str, int, int], Filters]] = {}
        for trajectory in study.trajectories:
            filters = _read_filters(trajectory, metric)
            if filters is not None and variant_key(trajectory.variant) == variant_key(variant):
                window = rank_window(trajectory.deficit, (trajectory.onset, trajectory.offset))
                rank = window, trajectory.protocol, trajectory.seed, -filters.epochs[1]
                if trajectory.deficit not in best or rank < best[trajectory.deficit][0]:
                    best[trajectory.deficit] = rank, filters
        clean = [best[CLEAN][1]] if CLEAN in best else []
        deficits = [deficit for deficit in study.deficits if deficit in best and deficit not in study.idle]
        yield from [[*clean, best[deficit][1]] for deficit in deficits] or ([clean] if clean else [])


def _read_filters(trajectory: TrajectoryRecord, metric: str) -> Filters | None:
    history = trajectory.history
    if metric not in history.metrics or history.metrics[metric].dimensions != _DIMENSIONS:
        return None
    values = history.metrics[metric].values
    measured = np.flatnonzero(np.isfinite(values).reshape(len(values), -1).all(axis=1))
    if not measured.size:
        return None
    ends = measured[[0, -1]]
    first, last = history.measured_epoch[ends].tolist()
    return Filters(trajectory, (first, last), values[ends])


def _draw_filters(rows: Sequence[Filters], label: str) -> Plot:
    count, _, height, width = rows[0].weights.shape[1:]
    shown = min(count, MAX_FILTERS)
    columns = math.ceil(math.sqrt(shown * height / width))
    side = 1.6 * math.ceil(shown / columns) * (height + 1) / (columns * (width + 1))
    figure = Figure(figsize=(WIDTH, len(rows) * (side + 0.3) + 0.6), layout="constrained")
    grid = figure.subplots(len(rows), 2, squeeze=False)
    for row, filters in zip(grid, rows, strict=True):
        for panel, epoch, weights in zip(row, filters.epochs, filters.weights, strict=True):
            panel.imshow(tile_filters(weights[:shown], columns), interpolation="none")
            panel.set_axis_off()
            panel.set_title(f"{filters.label}, epoch {epoch}", fontsize=7.5)
    first = f"the first {shown} of " if shown < count else ""
    add_note(
        figure,
        sentences(
            label,
            f"One seed ({rows[0].trajectory.seed})",
            f"Drawn: {first}{count} filters of {width} x {height} weights",
            f"Mid-grey: 0. One colour scale per panel; {IN_RANGE:.0%} of the weights are inside it",
        ),
    )
    return figure, _describe(rows, label)


def _describe(rows: Sequence[Filters], label: str) -> str:
    """Describe the typical size of the weights at both measurements."""
    parts = []
    for filters in rows:
        sizes = [number(float(np.sqrt(np.mean(weights**2)))) for weights in filters.weights]
        first, last = filters.epochs
        parts.append(f"{sizes[0]} at epoch {first} and {sizes[1]} at epoch {last} ({filters.label})")
    return sentences(prefix_variant(label, f"the root mean square of the weights is {'; '.join(parts)}"))
