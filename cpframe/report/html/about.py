"""Sections on the study itself: controls, further metrics, where it was made, and its spec."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import array_metric_names
from cpframe.analysis.representatives import by_variant
from cpframe.records.model import CLEAN, StudyRecord
from cpframe.report.formatting import printable
from cpframe.report.html.labels import Labels
from cpframe.report.html.markup import Column, Html, element, table
from cpframe.report.terminal.controls import idle_words
from cpframe.report.terminal.metrics import course_words, courses
from cpframe.report.variant_names import variant_label


def metrics_section(findings: Findings) -> Iterator[Html]:
    """First and last value of every other metric, without a deficit where that was measured."""
    rows: list[tuple[str, str]] = []
    for metric, curves in courses(findings).items():
        for members in by_variant(curves):
            clean = [curve for curve in members if curve.deficit == CLEAN] or members
            rows.append((printable(metric), course_words(clean[0])))
    arrays = array_metric_names(findings.study)
    rows += [(printable(metric), "an array at each measurement: no curve") for metric in arrays]
    if rows:
        yield table("First and last value", [Column("metric", number=False), Column("course", number=False)], rows)


def controls_section(findings: Findings, labels: Labels) -> Iterator[Html]:
    """What idle explains, and which controls the claims still lack."""
    if findings.confounds:
        yield element("h3", "Does lost training alone explain the removal curve?")
        yield element(
            "ul",
            *(element("li", labels.name(found.deficit), ": ", idle_words(found)) for found in findings.confounds),
        )
    yield element("h3", "Controls missing")
    if not findings.missing_controls:
        yield element("p", "None that this report knows of.")
        return
    yield element(
        "ul",
        *(element("li", element("b", control.what), f": {control.why}") for control in findings.missing_controls),
    )


def about_section(study: StudyRecord) -> Iterator[Html]:
    """How far the study got, what failed, where it was made, and its spec."""
    counts = Counter(trajectory.status for trajectory in study.trajectories)
    seeds = sorted({trajectory.seed for trajectory in study.trajectories})
    variants = [label for label in dict.fromkeys(variant_label(t.variant) for t in study.trajectories) if label]
    facts = {
        "trajectories": ", ".join(f"{counts[s]} {s}" for s in ("complete", "unfinished", "failed") if counts[s])
        or "none",
        "seeds": f"{len(seeds)}: {', '.join(map(str, seeds))}" if seeds else "none",
        **({"variants": f"{len(variants)}: {'; '.join(variants)}"} if variants else {}),
        "final accuracy": f"on clean test data, the mean over the last {study.score_epochs} epochs",
        "deficits": ", ".join(f"{name} = {component}" for name, component in study.deficits.items()) or "none",
        "created": study.created,
        **study.provenance,
    }
    rows = [(printable(name), printable(value)) for name, value in facts.items() if value]
    yield table("Facts", [Column("what", number=False), Column("is", number=False)], rows)
    failed = [trajectory for trajectory in study.trajectories if trajectory.status == "failed"]
    if failed:
        yield element("h3", "Failed trajectories")
        told = [f"{t.name}: {t.reason or 'no reason recorded'}" for t in failed]
        yield element("ul", *(element("li", printable(line)) for line in told))
    if study.spec.strip():
        summary = element("summary", "The spec, as it was written")
        yield element("details", summary, element("div", element("pre", study.spec), class_="scroll", tabindex="0"))
