"""Published measurements of Achille, Rovere and Soatto, drawn over a study of the same network, data and deficit.

Source: "Critical Learning Periods in Deep Networks", ICLR 2019, arXiv 1711.08856. The values were read off the figures:
the removal curve (figure 1) to about 0.1 percentage points, the Fisher trace (figure 5) to about 5%.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from cpframe.records.model import StudyRecord

NAME = "Achille et al. 2019"

RECOVERY = 160
"""The number of clean epochs after removal in the published removal curve."""

REMOVAL: Mapping[int, float] = {0: 93.5, 20: 92.8, 40: 91.8, 60: 89.5, 80: 86.4, 100: 84.1, 120: 82.7, 140: 81.6}
"""Figure 1: final accuracy in percent of an All-CNN on CIFAR-10, by the epoch at which the blur was removed."""


@dataclass(frozen=True)
class FisherCurve:
    """One curve of figure 5.

    Attributes:
        removal: the epoch at which the deficit was removed; 0 for the network without a deficit.
        peak: the largest trace.
        first_epoch: the first epoch at which the peak may lie; the figure does not determine it exactly.
        last_epoch: the last such epoch.
        end: the trace at about `END_EPOCH`.
    """

    removal: int
    peak: float
    first_epoch: int
    last_epoch: int
    end: float


END_EPOCH = 200
FISHER = (
    FisherCurve(0, 620, 63, 72, 90),
    FisherCurve(30, 805, 70, 70, 165),
    FisherCurve(50, 1030, 70, 70, 215),
    FisherCurve(70, 1330, 69, 69, 240),
    FisherCurve(100, 1800, 99, 99, 300),
    FisherCurve(220, 1700, 84, 94, 460),
)


def published_deficits(study: StudyRecord) -> frozenset[str]:
    """Return the names of the deficits that are the published one, blur to 8 x 8 pixels, in the published setting.

    The setting is the All-CNN at full width on all of CIFAR-10 at 32 x 32 pixels, with no profile, ``--set`` option or
    grid that might change one of these; in any other setting the result is empty. Optimizer and schedule may differ:
    comparing them with the paper is the purpose.
    """
    if study.provenance.get("profile") or study.provenance.get("overrides"):
        return frozenset()
    try:
        spec = tomllib.loads(study.spec)
    except tomllib.TOMLDecodeError:
        return frozenset()
    if any(str(key).split(".")[0] in ("architecture", "dataset", "deficits") for key in _table(spec, "grid")):
        return frozenset()
    architecture, dataset = _table(spec, "architecture"), _table(spec, "dataset")
    same = (
        _component(architecture) == "all-cnn"
        and architecture.get("width", 1) == 1
        and _component(dataset) == "cifar10"
        and dataset.get("size", 32) == 32
        and not dataset.keys() & {"train", "test"}
    )
    deficits = _table(spec, "deficits")
    blurs = {name for name in deficits if _is_published_blur(_table(deficits, name))}
    return frozenset(blurs) if same else frozenset()


def _is_published_blur(deficit: Mapping[str, object]) -> bool:
    return _component(deficit) == "blur" and deficit.get("size", 8) == 8


def _component(table: Mapping[str, object]) -> str:
    """Return the name of the bundled component that a table uses, or an empty string for another package's."""
    package, slash, name = str(table.get("use", "")).rpartition("/")
    return name if not slash or package == "cpframe" else ""


def _table(table: Mapping[str, object], key: str) -> Mapping[str, object]:
    value = table.get(key)
    return value if isinstance(value, dict) else {}
