"""Verdicts and critical periods in words."""

from __future__ import annotations

import math

from cpframe.analysis.comparisons import RemovalGroup, SlidingGroup
from cpframe.analysis.critical_periods import RecoveryLimit, SensitiveOnsets
from cpframe.analysis.findings import Findings
from cpframe.analysis.statistics import ENOUGH_SEEDS
from cpframe.analysis.verdicts import Claim, Kind
from cpframe.report.formatting import NONE, percent, plural, points

NO_VERDICT = "No verdict: there is no complete pair of trajectories with and without a deficit."

REMOVAL_COLUMNS = "verdict", "drop (points) at epoch", "vs idle (points)", "recovers if removed by"
SLIDING_COLUMNS = "verdict", "drop vs last onset (points)", "vs idle (points)", "sensitive until onset"

_OUTCOMES: dict[Kind, str] = {
    "not beyond idle": "not beyond idle",
    "confounded": "confounded",
    "hint": "hint",
    "none": "no effect found",
    "not enough seeds": "not enough seeds",
}


def question(group: RemovalGroup | SlidingGroup) -> str:
    """Return the question that a group of trajectories answers."""
    if isinstance(group, RemovalGroup):
        return f"Is there a scar after {plural(group.recovery, 'clean epoch')}?"
    return f"Does the onset of a {group.length}-epoch deficit matter in {group.epochs} epochs of training?"


def outcome(claim: Claim) -> str:
    """Return the verdict in a word or two; a supported claim is SCAR or CRITICAL PERIOD."""
    supported = "SCAR" if isinstance(claim.group, RemovalGroup) else "CRITICAL PERIOD"
    return _OUTCOMES.get(claim.verdict.kind, supported)


def drop_words(claim: Claim) -> str:
    """Return the drop judged and its epoch, or the upper limit of all drops if there is none."""
    verdict = claim.verdict
    if verdict.kind == "none" and not verdict.drop.positive and verdict.at_most > 0:
        return f"under {percent(verdict.at_most)}"
    return f"{points(verdict.drop)} at {verdict.at}"


def excess_words(claim: Claim) -> str:
    """Return the excess of the drop over that of the idle control."""
    excess = claim.verdict.excess
    return points(excess) if excess else NONE


def reasons(claim: Claim) -> str:
    """Return the numbers behind a verdict, in whole sentences."""
    verdict = claim.verdict
    if verdict.kind == "none":
        return f"{_largest(claim)} {_limit(claim)}"
    if verdict.kind == "not enough seeds":
        return f"{_drop(claim)} At least {ENOUGH_SEEDS} seeds are needed."
    sentences = [_drop(claim)]
    if verdict.excess is not None:
        compared = "It" if isinstance(claim.group, RemovalGroup) else "This difference"
        sentences.append(f"{compared} exceeds that of the idle control by {points(verdict.excess)} points.")
    if verdict.rate_matched:
        sentences.append("The learning rates are those of the no-deficit run.")
    if verdict.kind == "confounded":
        sentences.append("The learning rate has changed and may explain it; there is no idle control.")
    if verdict.kind == "hint":
        sentences.append(f"It is not significant when all {plural(verdict.compared, 'epoch')} are compared at once.")
    return " ".join(sentences)


def _drop(claim: Claim) -> str:
    verdict = claim.verdict
    size, n = points(verdict.drop), f"(n = {verdict.drop.n})"
    if isinstance(claim.group, RemovalGroup):
        return f"The drop after removal at epoch {verdict.at} is {size} points {n}."
    return f"The drop at onset {verdict.at} exceeds that at onset {_last_onset(claim)} by {size} points {n}."


def _largest(claim: Claim) -> str:
    verdict = claim.verdict
    size, n = points(verdict.drop), f"(n = {verdict.drop.n})"
    if isinstance(claim.group, RemovalGroup):
        return f"The largest drop is {size} points, after removal at epoch {verdict.at} {n}."
    return f"Relative to onset {_last_onset(claim)} the largest drop is {size} points, at onset {verdict.at} {n}."


def _limit(claim: Claim) -> str:
    """Return how large a drop can still be where none was found."""
    verdict, slides = claim.verdict, isinstance(claim.group, SlidingGroup)
    if verdict.drop.positive:
        return "But there is no significant drop at that onset itself."
    if verdict.at_most > 0:
        return f"Every {'difference' if slides else 'drop'} is under {percent(verdict.at_most)} points."
    return "No earlier onset has a larger drop." if slides else "The accuracy is never below the no-deficit run."


def _last_onset(claim: Claim) -> int:
    return next(curve for curve in claim.group.curves if curve.deficit == claim.deficit).points[-1].at


def verdict_notes(findings: Findings) -> str:
    """Return what the verdicts and their columns mean, in the sentences that the claims of the study need."""
    seeds = {claim.verdict.drop.n for claim in findings.claims}
    n = f"n = {min(seeds)}" if len(seeds) == 1 else f"n = {min(seeds)} to {max(seeds)}"
    removal = [claim for claim in findings.claims if isinstance(claim.group, RemovalGroup)]
    sliding = [claim for claim in findings.claims if isinstance(claim.group, SlidingGroup)]
    limit = f"{percent(findings.threshold)} points"
    notes = [
        f"Drops are points of final accuracy below the no-deficit run, paired by seed ({n}). ± and brackets are 95% "
        "intervals that hold for all epochs compared at once."
    ]
    if any(claim.verdict.kind == "supported" for claim in removal):
        notes.append("SCAR: a significant drop remains after the clean epochs, however small.")
    if any(claim.verdict.kind == "supported" for claim in sliding):
        notes.append("CRITICAL PERIOD: the drop is significantly larger than at the last onset.")
    if removal:
        notes.append(f"A network has recovered if its drop is at most {limit}{_example(findings, removal)}.")
    if sliding:
        notes.append(f"A network is sensitive at an onset if its drop is over {limit}.")
    if any("+" in claim_period(findings, claim) for claim in findings.claims):
        notes.append("+: or later, which was not tried.")
    return " ".join(notes)


def _example(findings: Findings, claims: list[Claim]) -> str:
    """Return what the first recovery limit between two removals means, to be added to a sentence."""
    for claim in claims:
        period = findings.period(claim)
        if isinstance(period, RecoveryLimit) and period.kind == "found" and claim_period(findings, claim) != NONE:
            until, beyond = f"{period.recovers_until:.0f}", f"{period.persists_from:.0f}"
            return f"; {until} to {beyond}: after removal at {until}, but not at {beyond}"
    return ""


def claim_period(findings: Findings, claim: Claim) -> str:
    """Return the critical period of a claim; NONE if lost training may explain the drop."""
    if claim.verdict.kind in ("not beyond idle", "confounded"):
        return NONE
    return period_words(findings.period(claim))


def claim_period_sentence(findings: Findings, claim: Claim) -> str:
    """Return the critical period of a claim as a sentence; empty if it is unknown."""
    words = claim_period(findings, claim)
    if words == NONE:
        return ""
    if words == "not monotone":
        return "The drop does not grow with the length of the deficit, so there is no recovery limit."
    if isinstance(claim.group, RemovalGroup):
        return f"Recovers if removed {'' if words.startswith('before') else 'by epoch '}{words}."
    if words.startswith("none"):
        return f"Sensitive at no onset{words.removeprefix('none')}."
    return f"Sensitive until onset {words}."


def period_words(period: RecoveryLimit | SensitiveOnsets) -> str:
    """Return the epoch up to which a network recovers, as ``10 to 20``, or the last sensitive onset, as ``40 (20-40)``.

    ``10 to 20`` are two epochs of removal that were tried: the network recovers after the first and not after the
    second; ``before 10`` if it does not recover after the earliest. Brackets have the 95 % interval, if it differs. A
    plus means that the period may continue after the last epoch that was tried.
    """
    if period.kind == "not enough seeds":
        return NONE
    return _recovery(period) if isinstance(period, RecoveryLimit) else _onsets(period)


def _recovery(period: RecoveryLimit) -> str:
    if period.kind == "not monotone":
        return "not monotone"
    if period.kind == "after the last":
        best = f"{period.last}+"
    elif period.kind == "before the first":
        best = f"before {period.persists_from:.0f}"
    else:
        best = f"{period.recovers_until:.0f} to {period.persists_from:.0f}"
    # If no drop was beyond the threshold, the interval has no upper end either.
    upper = period.persists_from if math.isfinite(period.persists_from) else math.inf
    if (period.earliest, period.latest) == (period.recovers_until, upper):
        return best
    latest = f"{period.latest:.0f}" if math.isfinite(period.latest) else f"{period.last}+"
    return f"{best} ({period.earliest:.0f}-{latest})"


def _onsets(period: SensitiveOnsets) -> str:
    if period.kind == "none":
        return f"none (at most {period.latest:.0f})" if math.isfinite(period.latest) else "none"
    best = f"{period.last:.0f}" + ("+" if period.kind == "up to the last onset" else "")
    ends = [f"{end:.0f}" if math.isfinite(end) else "none" for end in (period.earliest, period.latest)]
    return best if ends[0] == ends[1] else f"{best} ({ends[0]}-{ends[1]})"
