"""A critical period in a few words."""

from __future__ import annotations

import math

from cpframe.analysis.periods import Healing, Onsets
from cpframe.report.words import NONE


def period_words(period: Healing | Onsets) -> str:
    """Until when a deficit heals, as in ``20 (10-40)``; or until which onset it hurts, as in ``40 (20-40)``.

    A plus stands where the period may go on beyond the last epoch that was tried.
    """
    if period.kind == "not enough seeds":
        return NONE
    return _healing(period) if isinstance(period, Healing) else _onsets(period)


def _healing(period: Healing) -> str:
    """The epoch at which the loss passes the threshold, with its interval."""
    latest = f"{period.latest:.0f}" if math.isfinite(period.latest) else f"{period.last}+"
    if period.kind == "none up to the last":
        sure = "" if period.earliest == period.last else f" (from {period.earliest:.0f})"
        return f"{period.last}+{sure}"
    return f"{period.epoch:.0f} ({period.earliest:.0f}-{latest})"


def _onsets(period: Onsets) -> str:
    """The last onset that hurts, with its interval."""
    ends = [f"{end:.0f}" if math.isfinite(end) else "none" for end in (period.earliest, period.latest)]
    interval = "" if ends[0] == ends[1] else f" ({ends[0]}-{ends[1]})"
    if period.kind == "none":
        return f"never{interval}"
    more = "+" if period.kind == "up to the last onset" else ""
    return f"{period.last:.0f}{more}{interval}"
