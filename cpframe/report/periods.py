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
    beyond = f"{period.last}+"
    best = beyond if period.kind == "none up to the last" else f"{period.epoch:.0f}"
    latest = f"{period.latest:.0f}" if math.isfinite(period.latest) else beyond
    sure = period.earliest == period.last  # even of the last removal: there is nothing between
    return best if sure else f"{best} ({period.earliest:.0f}-{latest})"


def _onsets(period: Onsets) -> str:
    """The last onset that hurts, with its interval."""
    if period.kind == "none":
        return f"never (or to {period.latest:.0f})" if math.isfinite(period.latest) else "never"
    best = f"{period.last:.0f}" + ("+" if period.kind == "up to the last onset" else "")
    ends = [f"{end:.0f}" if math.isfinite(end) else "none" for end in (period.earliest, period.latest)]
    return best if ends[0] == ends[1] else f"{best} ({ends[0]}-{ends[1]})"
