"""All findings of the analysis on one study, each computed once, when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cpframe.analysis.comparisons import Curve, RemovalGroup, SlidingGroup, all_groups
from cpframe.analysis.confounds import Confound, confounds
from cpframe.analysis.critical_periods import (
    THRESHOLD,
    RecoveryLimit,
    SensitiveOnsets,
    recovery_limit,
    sensitive_onsets,
)
from cpframe.analysis.fisher_sensitivity import Link, links
from cpframe.analysis.metric_curves import MetricCurve, is_fisher, metric_curves, metric_names
from cpframe.analysis.missing_controls import MissingControl, missing_controls
from cpframe.analysis.representatives import sort_curves
from cpframe.analysis.verdicts import Claim, claims
from cpframe.records.model import StudyRecord


@dataclass(frozen=True)
class Findings:
    """The findings on one study.

    Attributes:
        study: the study, finished or not.
        threshold: the largest drop that counts as recovered, as a fraction of 1 of the test accuracy.
    """

    study: StudyRecord
    threshold: float = THRESHOLD

    @cached_property
    def groups(self) -> tuple[RemovalGroup | SlidingGroup, ...]:
        """The groups of trajectories compared, see `cpframe.analysis.comparisons.all_groups`."""
        return all_groups(self.study)

    @cached_property
    def removals(self) -> tuple[RemovalGroup, ...]:
        """The groups of the removal protocol."""
        return tuple(group for group in self.groups if isinstance(group, RemovalGroup))

    @cached_property
    def slidings(self) -> tuple[SlidingGroup, ...]:
        """The groups of the sliding protocol."""
        return tuple(group for group in self.groups if isinstance(group, SlidingGroup))

    @cached_property
    def claims(self) -> tuple[Claim, ...]:
        """The verdicts, see `cpframe.analysis.verdicts.claims`."""
        return claims(self.study, self.groups)

    @cached_property
    def missing_controls(self) -> tuple[MissingControl, ...]:
        """The missing controls, see `cpframe.analysis.missing_controls.missing_controls`."""
        return missing_controls(self.study, self.groups, self.claims)

    @cached_property
    def confounds(self) -> tuple[Confound, ...]:
        """The comparisons with idle controls, see `cpframe.analysis.confounds.confounds`."""
        return confounds(self.study, self.groups)

    @cached_property
    def fisher(self) -> Mapping[str, tuple[MetricCurve, ...]]:
        """The curves of every Fisher metric by its name, see `cpframe.analysis.metric_curves.metric_curves`."""
        return {name: self._curves(name) for name in metric_names(self.study) if is_fisher(self.study, name)}

    @cached_property
    def other_metrics(self) -> Mapping[str, tuple[MetricCurve, ...]]:
        """The curves of every other metric that is one number, or one per layer, by its name."""
        return {name: self._curves(name) for name in metric_names(self.study) if not is_fisher(self.study, name)}

    @cached_property
    def links(self) -> Mapping[str, tuple[Link, ...]]:
        """The links with sensitivity of every Fisher metric, see `cpframe.analysis.fisher_sensitivity.links`."""
        return {name: links(self.study, self.groups, curves) for name, curves in self.fisher.items()}

    def period(self, claim: Claim) -> RecoveryLimit | SensitiveOnsets:
        """Return the critical period of one of `claims`: its recovery limit (removal) or sensitive onsets (sliding)."""
        return self._periods[id(claim)]

    @cached_property
    def _periods(self) -> Mapping[int, RecoveryLimit | SensitiveOnsets]:
        return {id(claim): self._find_period(claim) for claim in self.claims}

    def _find_period(self, claim: Claim) -> RecoveryLimit | SensitiveOnsets:
        curve: Curve = next(curve for curve in claim.group.curves if curve.deficit == claim.deficit)
        if isinstance(claim.group, RemovalGroup):
            return recovery_limit(curve, self.threshold)
        return sensitive_onsets(curve, self.threshold)

    def _curves(self, metric: str) -> tuple[MetricCurve, ...]:
        return sort_curves(self.study, metric_curves(self.study, metric))
