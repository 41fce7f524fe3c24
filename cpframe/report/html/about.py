"""The study itself: its other metrics, its controls, where it was run, and its spec."""

from __future__ import annotations

from collections.abc import Iterator

from cpframe.analysis.representatives import by_variant
from cpframe.records.model import CLEAN
from cpframe.report.formatting import printable
from cpframe.report.html.layout import Page
from cpframe.report.html.markup import Column, Html, element, table
from cpframe.report.wording.study import (
    IDLE_NOTE,
    IDLE_QUESTION,
    NOTHING_MISSING,
    array_words,
    change_words,
    changing_metrics,
    count_statuses,
    idle_words,
    score_words,
    seed_words,
)


def metric_table(page: Page) -> Iterator[Html]:
    """Yield the first and last value of every other metric, without a deficit if that was measured."""
    rows: list[tuple[str, str]] = []
    for metric, curves in changing_metrics(page.findings).items():
        for members in by_variant(curves):
            curve = next((curve for curve in members if curve.deficit == CLEAN), members[0])
            rows.append((printable(metric), change_words(curve, page.labels.names.label(curve.variant))))
    rows += [(printable(metric), words) for metric, words in array_words(page.findings.study).items()]
    if rows:
        columns = [Column("metric", number=False), Column("first → last value", number=False)]
        yield table("First and last value", columns, rows)


def control_lists(page: Page) -> Iterator[Html]:
    """Yield what the idle control explains, and the controls that the study lacks."""
    confounds, missing = page.findings.confounds, page.findings.missing_controls
    if confounds:
        yield element("h3", IDLE_QUESTION)
        answers = (
            (page.labels.name(found.deficit), idle_words(found, page.labels.names.label(found.group.variant)))
            for found in confounds
        )
        yield element("ul", *(element("li", name, ": ", words) for name, words in answers))
        if any(found.at for found in confounds):
            yield element("p", IDLE_NOTE, class_="note")
    yield element("h3", "Missing controls")
    if not missing:
        yield element("p", NOTHING_MISSING)
        return
    yield element("ul", *(element("li", element("b", control.what), f": {control.why}") for control in missing))


def study_facts(page: Page) -> Iterator[Html]:
    """Yield how far the study got, where it was run, the failed trajectories, and the spec."""
    study = page.findings.study
    statuses = [f"{count} {status}" for status, count in count_statuses(study).items() if count]
    variants = [label for label in page.labels.names.full.values() if label]
    facts = {
        "trajectories": ", ".join(statuses) or "none",
        "seeds": seed_words(study),
        **({"variants": f"{len(variants)}: {'; '.join(variants)}"} if variants else {}),
        "final accuracy": score_words(study),
        "deficits": ", ".join(f"{name} = {component}" for name, component in study.deficits.items()) or "none",
        "created": study.created,
        **study.provenance,
    }
    rows = [(printable(name), printable(value)) for name, value in facts.items() if value]
    yield table("Facts", [Column("fact", number=False), Column("value", number=False)], rows)
    failed = [trajectory for trajectory in study.trajectories if trajectory.status == "failed"]
    if failed:
        yield element("h3", "Failed trajectories")
        reasons = [f"{t.name}: {t.reason or 'no reason recorded'}" for t in failed]
        yield element("ul", *(element("li", printable(reason)) for reason in reasons))
    if study.spec.strip():
        summary = element("summary", "The spec, as it was written")
        yield element("details", summary, element("div", element("pre", study.spec), class_="scroll", tabindex="0"))
