"""What Achille, Rovere and Soatto published, to be laid over a study of the same network, data and deficit.

Source: "Critical Learning Periods in Deep Networks", ICLR 2019, arXiv 1711.08856, read off copies of its figures: the
removal curve (fig. 1) to about +-0.1 points, Fisher information (fig. 5, the trace) to about +-5 %.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from cpframe.records.model import StudyRecord

NAME = "Achille et al. 2019"

RECOVERY = 160
"""Clean epochs after the deficit in the removal curve."""

REMOVAL: Mapping[int, float] = {0: 93.5, 20: 92.8, 40: 91.8, 60: 89.5, 80: 86.4, 100: 84.1, 120: 82.7, 140: 81.6}
"""Fig. 1: final accuracy in percent of an All-CNN on CIFAR-10, by the epoch until which images were blurred."""


@dataclass(frozen=True)
class FisherCourse:
    """The course of one curve of fig. 5.

    Attributes:
        until: epoch of removal; 0 for the network that never had the deficit.
        peak: largest trace.
        first: first epoch of the peak, which the figure leaves open ...
        last: ... up to this one.
        end: trace at about `END_EPOCH`.
    """

    until: int
    peak: float
    first: int
    last: int
    end: float


END_EPOCH = 200
FISHER = (
    FisherCourse(0, 620, 63, 72, 90),
    FisherCourse(30, 805, 70, 70, 165),
    FisherCourse(50, 1030, 70, 70, 215),
    FisherCourse(70, 1330, 69, 69, 240),
    FisherCourse(100, 1800, 99, 99, 300),
    FisherCourse(220, 1700, 84, 94, 460),
)


def published_blurs(study: StudyRecord) -> frozenset[str]:
    """The deficits of a study that are the published one, blur to 8 x 8 pixels; empty unless all else is as published.

    That is: the All-CNN at its full width, all of CIFAR-10 at 32 x 32 pixels, and no profile, no ``--set`` and no grid
    that might have changed one of these. The learning rate and the like may be others: to compare them is the point.
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
    blurs = {name for name in deficits if _is_blur(_table(deficits, name))}
    return frozenset(blurs) if same else frozenset()


def _is_blur(deficit: Mapping[str, object]) -> bool:
    return _component(deficit) == "blur" and deficit.get("size", 8) == 8


def _component(table: Mapping[str, object]) -> str:
    """Which bundled component a table names; empty where it is somebody else's."""
    package, slash, name = str(table.get("use", "")).rpartition("/")
    return name if not slash or package == "cpframe" else ""


def _table(table: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = table.get(key)
    return found if isinstance(found, dict) else {}
