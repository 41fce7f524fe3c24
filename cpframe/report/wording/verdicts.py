"""A critical period in a few words."""

from __future__ import annotations

import math

from cpframe.analysis.comparisons import RemovalGroup
from cpframe.analysis.critical_periods import RecoveryLimit, SensitiveOnsets
from cpframe.analysis.findings import Findings
from cpframe.analysis.verdicts import Claim
from cpframe.report.formatting import NONE, percent


def when_words(findings: Findings, claim: Claim) -> str:
    """Until when what is claimed of a deficit heals or hurts; nothing where lost training may be its cause."""
    if claim.verdict.kind in ("not beyond idle", "confounded"):
        return NONE
    return period_words(findings.period(claim.group, claim.deficit))


def healing_notes(findings: Findings) -> tuple[str, ...]:
    """What the words on healing mean, as far as the study's claims need them."""
    removals = [claim for claim in findings.claims if isinstance(claim.group, RemovalGroup)]
    limit = percent(findings.threshold)
    notes = [f"Heals until a to b: removed at epoch a, at most {limit} points stay lost, at b more."]
    if any(when_words(findings, claim).startswith("under") for claim in removals):
        notes.append("Under a: even when removed at a, the earliest that was tried.")
    if any(claim.verdict.kind == "supported" for claim in removals):
        notes.append("SCAR: any loss, however small, that is surely above 0.")
    return tuple(notes)


def period_words(period: RecoveryLimit | SensitiveOnsets) -> str:
    """Until when a deficit heals, as in ``10 to 20``; or until which onset it hurts, as in ``40 (20-40)``.

    Of healing these are epochs of removal that were tried: healed at the first, not at the second; ``under 10`` where
    it is not even at the earliest. In brackets stands the interval, where it says more. A plus stands where the period
    may go on beyond the last epoch that was tried.
    """
    if period.kind == "not enough seeds":
        return NONE
    return _healing(period) if isinstance(period, RecoveryLimit) else _onsets(period)


def _healing(period: RecoveryLimit) -> str:
    """The removals between which the loss passes the threshold, and those between which it surely does."""
    if period.kind == "not monotone":
        return "not monotone"
    if period.kind == "after the last":
        best = f"{period.last}+"
    elif period.kind == "before the first":
        best = f"under {period.persists_from:.0f}"
    else:
        best = f"{period.recovers_until:.0f} to {period.persists_from:.0f}"
    # An infinite end of the interval is that of a loss that never comes.
    came = period.persists_from if math.isfinite(period.persists_from) else math.inf
    if (period.earliest, period.latest) == (period.recovers_until, came):
        return best
    latest = f"{period.latest:.0f}" if math.isfinite(period.latest) else f"{period.last}+"
    return f"{best} ({period.earliest:.0f}-{latest})"


def _onsets(period: SensitiveOnsets) -> str:
    """The last onset that hurts, with its interval."""
    if period.kind == "none":
        return f"never (or to {period.latest:.0f})" if math.isfinite(period.latest) else "never"
    best = f"{period.last:.0f}" + ("+" if period.kind == "up to the last onset" else "")
    ends = [f"{end:.0f}" if math.isfinite(end) else "none" for end in (period.earliest, period.latest)]
    return best if ends[0] == ends[1] else f"{best} ({ends[0]}-{ends[1]})"
