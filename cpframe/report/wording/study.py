"""Facts about a study, its other metrics and its controls in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from cpframe.analysis.confounds import Confound, ConfoundKind
from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import MetricCurve, are_shares, array_shapes
from cpframe.analysis.statistics import ENOUGH_SEEDS
from cpframe.records.model import CLEAN, StudyRecord
from cpframe.report.formatting import number, percent, plural, printable, window

UNTITLED = "untitled study"
IDLE_QUESTION = "Does lost training alone (idle, at the same learning rates) explain the removal curve?"
IDLE_NOTE = (
    "The percentage is the drop of idle relative to that of the deficit, each averaged over the epochs of removal, "
    "with its 95% interval (Fieller)."
)
NOTHING_MISSING = "No missing control was found."

_FACTS = "profile", "hardware", "numerics", "torch", "cpframe"
_IDLE: dict[ConfoundKind, str] = {
    "idle reproduces the curve": "YES, idle has the same drop",
    "partly": "in part",
    "not": "no",
    "undecided": "undecided, the interval is too wide",
    "no drop": "nothing to explain: no drop over the curve",
    "no idle": "unknown, the learning rate changes and there is no idle control",
    "rates match": "no, the clean epochs have the learning rates of the no-deficit run",
    "unknown yet": "unknown yet, no clean epoch after the deficit is recorded",
    "not enough seeds": f"unknown, fewer than {ENOUGH_SEEDS} seeds have both curves",
}


def count_statuses(study: StudyRecord) -> Mapping[str, int]:
    """Return the number of complete, unfinished and failed trajectories."""
    counts = Counter(trajectory.status for trajectory in study.trajectories)
    return {status: counts[status] for status in ("complete", "unfinished", "failed")}


def seed_words(study: StudyRecord) -> str:
    """Return the number of seeds and the seeds."""
    seeds = sorted({trajectory.seed for trajectory in study.trajectories})
    return f"{len(seeds)}: {', '.join(map(str, seeds))}" if seeds else "none"


def score_words(study: StudyRecord) -> str:
    """Return the definition of the final accuracy."""
    last = "of the last epoch" if study.score_epochs == 1 else f"averaged over the last {study.score_epochs} epochs"
    return f"on clean test data, {last}"


def origin_facts(study: StudyRecord) -> list[str]:
    """Return when, where and with which versions a study was made."""
    facts = [study.created.replace("T", " ")]
    for name in _FACTS:
        value = study.provenance.get(name)
        if value:
            facts.append(value if name == "hardware" else f"{name} {value}")
    return [fact for fact in map(printable, facts) if fact]


def changing_metrics(findings: Findings) -> Mapping[str, tuple[MetricCurve, ...]]:
    """Return the other metrics by name, but those whose layers add up to 1: the mean over layers is then constant."""
    return {name: curves for name, curves in findings.other_metrics.items() if not all(map(are_shares, curves))}


def change_words(curve: MetricCurve, label: str) -> str:
    """Return the first and the last value of a curve, as a mean over layers; `label` is the name of the variant."""
    series = curve.values if curve.values.ndim == 1 else curve.values.mean(axis=1)
    deficit = "no deficit" if curve.deficit == CLEAN else f"{curve.deficit} {window(curve.onset, curve.offset)}"
    about = [label] if label else []
    about += [deficit, plural(curve.n, "seed")]
    if curve.values.ndim > 1:
        about.append(f"mean of {plural(curve.values.shape[1], 'layer')}")
    change = f"{number(float(series[0]))} → {number(float(series[-1]))}"
    units = f" {curve.units}" if curve.units else ""
    return printable(f"{change}{units}, epochs {curve.epoch[0]}-{curve.epoch[-1]} ({', '.join(about)})")


def array_words(study: StudyRecord) -> Mapping[str, str]:
    """Return the shape of every metric that is an array larger than one number per layer, by name."""
    shapes = {name: " x ".join(map(str, shape)) for name, shape in array_shapes(study).items()}
    return {name: f"an array of {shape} per measurement, without a curve" for name, shape in shapes.items()}


def idle_words(confound: Confound, label: str) -> str:
    """Return whether idle explains a removal curve; `label` is the name of the variant."""
    larger = confound.kind == "idle reproduces the curve" and confound.fraction.low > 1
    text = "YES, idle has a larger drop" if larger else _IDLE[confound.kind]
    if confound.at and confound.kind != "no drop":
        fraction = confound.fraction
        text += f": {fraction.mean:.0%} ({fraction.low:.0%} to {fraction.high:.0%}), "
        text += f"{percent(confound.idle.mean)} of {percent(confound.drop.mean)} points"
    return f"{text} ({label})" if label else text
