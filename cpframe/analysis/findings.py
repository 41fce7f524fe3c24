"""All that the analysis finds in one study, each thing computed once, when it is first asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from cpframe.analysis.comparisons import Curve, RemovalGroup, SlidingGroup, all_groups
from cpframe.analysis.confounds import Confound, confounds
from cpframe.analysis.critical_periods import THRESHOLD, Healing, Onsets, healing, onsets
from cpframe.analysis.fisher_sensitivity import Link, links
from cpframe.analysis.metric_curves import MetricCurve, is_fisher, metric_curves, metric_names
from cpframe.analysis.missing_controls import MissingControl, missing_controls
from cpframe.analysis.representatives import ordered
from cpframe.analysis.verdicts import Claim, claims
from cpframe.records.model import StudyRecord


@dataclass(frozen=True)
class Findings:
    """What a study shows.

    Attributes:
        study: finished or not.
        threshold: the loss from which on a deficit is not healed, as a fraction of 1 of the test accuracy.
    """

    study: StudyRecord
    threshold: float = THRESHOLD

    @cached_property
    def groups(self) -> tuple[RemovalGroup | SlidingGroup, ...]:
        """See `cpframe.analysis.comparisons.all_groups`."""
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
        """See `cpframe.analysis.verdicts.claims`."""
        return claims(self.study, self.groups)

    @cached_property
    def missing_controls(self) -> tuple[MissingControl, ...]:
        """See `cpframe.analysis.missing_controls.missing_controls`."""
        return missing_controls(self.study, self.groups, self.claims)

    @cached_property
    def confounds(self) -> tuple[Confound, ...]:
        """See `cpframe.analysis.confounds.confounds`."""
        return confounds(self.study, self.groups)

    @cached_property
    def fisher(self) -> Mapping[str, tuple[MetricCurve, ...]]:
        """The curves of every Fisher metric, by its name; see `cpframe.analysis.metric_curves.metric_curves`."""
        return {name: self._curves(name) for name in metric_names(self.study) if is_fisher(self.study, name)}

    @cached_property
    def other_metrics(self) -> Mapping[str, tuple[MetricCurve, ...]]:
        """The curves of every other metric of one number, or one a layer, by its name."""
        return {name: self._curves(name) for name in metric_names(self.study) if not is_fisher(self.study, name)}

    @cached_property
    def links(self) -> Mapping[str, tuple[Link, ...]]:
        """Of every Fisher metric, by its name; see `cpframe.analysis.fisher_sensitivity.links`."""
        return {name: links(self.study, self.groups, curves) for name, curves in self.fisher.items()}

    def period(self, group: RemovalGroup | SlidingGroup, deficit: str) -> Healing | Onsets:
        """Until when a deficit can be healed (removal), or at which onsets it hurts (sliding).

        Raises:
            StopIteration: if the group has no such deficit.
        """
        curve: Curve = next(curve for curve in group.curves if curve.deficit == deficit)
        if isinstance(group, RemovalGroup):
            return healing(curve, self.threshold)
        return onsets(curve, self.threshold)

    def _curves(self, metric: str) -> tuple[MetricCurve, ...]:
        return ordered(self.study, metric_curves(self.study, metric))
