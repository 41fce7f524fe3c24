"""The tables of the removal and sliding protocols in words."""

from __future__ import annotations

from cpframe.analysis.comparisons import RemovalGroup, SlidingGroup
from cpframe.analysis.statistics import estimate
from cpframe.report.formatting import percent, plural

_SIGNS = "▼ marks a drop and ▲ a gain whose interval excludes 0; n is the number of seeds."

REMOVAL_NOTE = (
    "Accuracy is the final accuracy in %. A drop is in points below the no-deficit run, paired by seed, ± its 95% "
    f"interval. {_SIGNS}"
)
SLIDING_NOTE = (
    "Sensitivity is the drop in points below the no-deficit run at the same epoch, paired by seed, ± its 95% interval. "
    f"{_SIGNS}"
)
REMOVAL_CHART = "Final accuracy (%) against the epoch of removal (no deficit minus paired drop)"


def removal_title(group: RemovalGroup) -> str:
    """Return the title of a removal group."""
    return f"a deficit from the start, then {plural(group.recovery, 'clean epoch')}"


def sliding_title(group: SlidingGroup) -> str:
    """Return the title of a sliding group."""
    return f"a deficit of {plural(group.length, 'epoch')} in {group.epochs} epochs of training"


def reference_words(group: RemovalGroup | SlidingGroup) -> str:
    """Return the accuracy of the no-deficit trajectories in a sentence."""
    reference = estimate(group.reference.values())
    accuracy = f"{percent(reference.mean)}% (n = {reference.n})"
    if isinstance(group, RemovalGroup):
        return f"Accuracy without a deficit: {accuracy}." if reference.n else "No run without a deficit is complete."
    if reference.n:
        return f"Accuracy at epoch {group.epochs} without a deficit: {accuracy}."
    return f"No run without a deficit has reached epoch {group.epochs}."
