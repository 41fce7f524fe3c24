"""The report for machines: one document of plain dicts, lists, texts, numbers and None, ready for JSON.

Accuracies, drops and shares are fractions of 1. What is not known, not finite or open is None, never nan. Epochs of
metrics are epochs completed. An *estimate* is ``{mean, low, high, n}``: a mean over seeds with its 95 % interval. A
*timeline* is ``{variant, protocol, deficit, onset, offset, epochs}``.

Beside ``schema_version`` (3; it changes when a key changes its meaning or is removed). Version 3 renamed ``loss`` to
``drop`` (verdicts, confounds), ``healed_until``, ``lost_from`` and ``hurting`` to ``recovers_until``, ``persists_from``
and ``sensitive`` (periods), ``centre`` to ``mean_layer`` (layers), ``moved``, ``floor`` and ``shift`` to
``redistributed``, ``measurement_error`` and ``mean_layer_change`` (plasticity); and the kinds ``no loss`` to ``no
drop`` (confounds), ``already at the first`` and ``none up to the last`` to ``before the first`` and ``after the last``
(periods).

study: title, created, provenance, score_epochs, threshold, deficits (component by name), seeds, variants,
    trajectories (how many are complete, unfinished, failed), failures (name and reason of each).
verdict: one a group and deficit: protocol, variant, recovery (removal) or length and epochs (sliding), deficit; kind,
    at, compared, drop, excess (over idle), rate_matched, at_most, see `cpframe.analysis.verdicts.Verdict`, whose
    intervals hold for all epochs compared at once; period, see `cpframe.analysis.critical_periods`.
curves: removal and sliding, each one a group: its reference (an estimate) and, for every deficit, points: at, onset,
    offset, score and drop (estimates), bootstrap (low and high of the drop), drops by seed, rate_matched.
phases: one a Fisher metric and timeline: metric, units, estimator, source, n; epoch, total, low and high, by
    measurement; phases, see `cpframe.analysis.phases.Phases`, or None.
layers: one a Fisher metric by layer and timeline: metric, n, layers; epoch, shares (by layer) and mean_layer, by
    measurement.
plasticity: one a Fisher metric by layer and timeline: metric and see `cpframe.analysis.plasticity.Plasticity`.
link: one a Fisher metric, sliding group and deficit: metric, units, group, deficit, points (onset, sensitivity,
    fisher), fit, see `cpframe.analysis.fisher_sensitivity.ExponentialFit`, c per unit of a sensitivity as a fraction.
metrics: curves, one an other metric and timeline: metric, units, estimator, source, n, layers; epoch and mean (by
    layer, where it is), by measurement; arrays: shapes, by name, of the metrics that are larger.
controls: confounds, one a removal group and deficit, see `cpframe.analysis.confounds.Confound`; missing: what, why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields

import numpy as np

from cpframe.analysis.comparisons import Point, RemovalGroup, SlidingGroup, variant_key
from cpframe.analysis.critical_periods import THRESHOLD
from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import MetricCurve, array_metric_names, layer_shares
from cpframe.analysis.phases import phases_of
from cpframe.analysis.plasticity import mean_layers, plasticity_after_deficit
from cpframe.analysis.statistics import Estimate, Interval, bootstrap_interval, estimate
from cpframe.records.model import StudyRecord

SCHEMA_VERSION = 3

Plain = object
"""What JSON has: dict, list, str, int, float (finite), bool, None."""


def summary(study: StudyRecord, sections: Sequence[str] = (), threshold: float = THRESHOLD) -> dict[str, Plain]:
    """All that is found in a study.

    Args:
        study: finished or not.
        sections: which keys beside ``schema_version`` and ``study`` are wanted, as
            `cpframe.report.terminal.render.SECTIONS` names them; without any, all.
        threshold: see `cpframe.analysis.findings.Findings`.

    Raises:
        KeyError: if there is no such section.
    """
    chosen = [name for name in _PARTS if name in sections] if sections else list(_PARTS)
    if unknown := set(sections).difference(_PARTS):
        raise KeyError(*unknown)
    findings = Findings(study, threshold)
    return {"schema_version": SCHEMA_VERSION, "study": _study(findings)} | {
        name: _plain(_PARTS[name](findings)) for name in chosen
    }


def _plain(value: object) -> Plain:
    """The value in JSON's types; what is not finite is None."""
    if isinstance(value, Estimate | Interval):
        return _plain({"mean": value.mean, "low": value.low, "high": value.high, "n": value.n})
    if isinstance(value, Mapping):
        return {str(key): _plain(held) for key, held in value.items()}
    if isinstance(value, np.ndarray):
        plain: Plain = value.tolist()
        finite = value.dtype.kind in "iuf" and bool(np.isfinite(value).all())
        return plain if finite else _plain(plain)
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, list | tuple | Iterator):
        return [_plain(held) for held in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def _fields(record: object, *without: str) -> dict[str, object]:
    """The fields of a dataclass by name."""
    return {f.name: getattr(record, f.name) for f in fields(record) if f.name not in without}  # type: ignore[arg-type]


def _study(findings: Findings) -> Plain:
    study = findings.study
    counts = Counter(t.status for t in study.trajectories)
    return _plain(
        {
            "title": study.title,
            "created": study.created,
            "provenance": study.provenance,
            "score_epochs": study.score_epochs,
            "threshold": findings.threshold,
            "deficits": study.deficits,
            "seeds": sorted({t.seed for t in study.trajectories}),
            "variants": list({variant_key(t.variant): t.variant for t in study.trajectories}.values()),
            "trajectories": {status: counts[status] for status in ("complete", "unfinished", "failed")},
            "failures": [{"name": t.name, "reason": t.reason} for t in study.trajectories if t.status == "failed"],
        }
    )


def _group(group: RemovalGroup | SlidingGroup) -> dict[str, object]:
    if isinstance(group, RemovalGroup):
        return {"protocol": "removal", "variant": group.variant, "recovery": group.recovery}
    return {"protocol": "sliding", "variant": group.variant, "length": group.length, "epochs": group.epochs}


def _verdicts(findings: Findings) -> Iterator[object]:
    for claim in findings.claims:
        period = findings.period(claim.group, claim.deficit)
        yield _group(claim.group) | {"deficit": claim.deficit} | _fields(claim.verdict) | {"period": _fields(period)}


def _curves(findings: Findings) -> object:
    def told(group: RemovalGroup | SlidingGroup) -> object:
        curves = ({"deficit": c.deficit, "points": [_point(p) for p in c.points]} for c in group.curves)
        return _group(group) | {"reference": estimate(group.reference.values()), "deficits": list(curves)}

    return {"removal": map(told, findings.removals), "sliding": map(told, findings.slidings)}


def _point(point: Point) -> object:
    resampled = bootstrap_interval(point.drops.values())
    return {
        "at": point.at,
        "onset": point.onset,
        "offset": point.offset,
        "score": estimate(point.scores.values()),
        "drop": estimate(point.drops.values()),
        "bootstrap": {"low": resampled.low, "high": resampled.high},
        "drops": point.drops,
        "rate_matched": point.rate_matched,
    }


def _timeline(curve: MetricCurve) -> dict[str, object]:
    names = "variant", "protocol", "deficit", "onset", "offset", "epochs"
    return {name: getattr(curve, name) for name in names}


def _about(curve: MetricCurve) -> dict[str, object]:
    return {"units": curve.units, "estimator": curve.estimator, "source": curve.source, "n": curve.n}


def _fisher(findings: Findings) -> Iterator[tuple[dict[str, object], MetricCurve]]:
    for metric, curves in findings.fisher.items():
        for curve in curves:
            yield {"metric": metric} | _timeline(curve), curve


def _by_layer(findings: Findings) -> Iterator[tuple[dict[str, object], MetricCurve]]:
    return ((timeline, curve) for timeline, curve in _fisher(findings) if curve.values.ndim == 2)


def _phases(findings: Findings) -> Iterator[object]:
    for timeline, curve in _fisher(findings):
        totals = [estimate(column) for column in curve.total_by_seed.T]
        found = phases_of(curve)
        yield (
            timeline
            | _about(curve)
            | {
                "epoch": curve.epoch,
                "total": curve.total,
                "low": [total.low for total in totals],
                "high": [total.high for total in totals],
                "phases": _fields(found) if found else None,
            }
        )


def _layers(findings: Findings) -> Iterator[object]:
    for timeline, curve in _by_layer(findings):
        yield timeline | {
            "n": curve.n,
            "layers": curve.layers,
            "epoch": curve.epoch,
            "shares": layer_shares(curve),
            "mean_layer": mean_layers(curve),
        }


def _plasticity(findings: Findings) -> Iterator[object]:
    for timeline, curve in _by_layer(findings):
        if found := plasticity_after_deficit(curve):
            yield timeline | _fields(found)


def _links(findings: Findings) -> Iterator[object]:
    for metric, found in findings.links.items():
        for link in found:
            yield (
                {"metric": metric, "units": link.units}
                | _group(link.group)
                | {
                    "deficit": link.deficit,
                    "points": [_fields(point) for point in link.points],
                    "fit": _fields(link.fit),
                }
            )


def _metrics(findings: Findings) -> object:
    curves = (
        {"metric": metric} | _timeline(c) | _about(c) | {"layers": c.layers, "epoch": c.epoch, "mean": c.values}
        for metric, found in findings.other_metrics.items()
        for c in found
    )
    study = findings.study
    shapes = {
        name: next(t.history.metrics[name].values.shape[1:] for t in study.trajectories if name in t.history.metrics)
        for name in array_metric_names(study)
    }
    return {"curves": curves, "arrays": shapes}


def _controls(findings: Findings) -> object:
    return {
        "confounds": [_group(c.group) | _fields(c, "group") for c in findings.confounds],
        "missing": [_fields(control) for control in findings.missing_controls],
    }


_PARTS: dict[str, Callable[[Findings], object]] = {
    "verdict": _verdicts,
    "curves": _curves,
    "phases": _phases,
    "layers": _layers,
    "plasticity": _plasticity,
    "link": _links,
    "metrics": _metrics,
    "controls": _controls,
}
