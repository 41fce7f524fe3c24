"""The head of a report, and the summary of the metrics that have no section of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich import box
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cpframe.analysis.comparisons import variant_key
from cpframe.analysis.curves import MetricCurve, is_fisher, metric_curves, metric_names
from cpframe.records import CLEAN
from cpframe.report.page import Page, heading
from cpframe.report.words import number, plural, printable, shorten, variant_label, window

_TOLD_FAILURES = 5
_TOLD_VARIANTS = 8
_FACTS = ("profile", "hardware", "numerics", "torch", "cpframe")


def head_section(page: Page) -> Iterator[RenderableType]:
    """What the study is, where it ran, how far it got, and what a final accuracy is."""
    study = page.study
    facts = " · ".join(
        printable(study.provenance[name] if name == "hardware" else f"{name} {study.provenance[name]}")
        for name in _FACTS
        if name in study.provenance
    )
    lines = [
        Text(printable(study.title) or "untitled study", "bold"),
        Text(printable(study.created).replace("T", " "), "dim"),
    ]
    if facts:
        lines.append(Text(facts, "dim"))
    yield Panel(Group(*lines), box=box.ROUNDED, border_style="cyan")

    counts = Counter(trajectory.status for trajectory in study.trajectories)
    told = [Text(f"{counts['complete']} complete")]
    if counts["unfinished"]:
        told.append(Text(f"{counts['unfinished']} unfinished", "yellow"))
    if counts["failed"]:
        told.append(Text(f"{counts['failed']} FAILED", "bold red"))
    seeds = sorted({trajectory.seed for trajectory in study.trajectories})
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("trajectories", Text(" · ").join(told))
    table.add_row("seeds", f"{len(seeds)}: {', '.join(map(str, seeds))}" if seeds else "none")
    labels = list(dict.fromkeys(variant_label(t.variant) for t in study.trajectories))
    if any(labels):
        more = f" and {len(labels) - _TOLD_VARIANTS} more" if len(labels) > _TOLD_VARIANTS else ""
        table.add_row("variants", f"{len(labels)}: {'; '.join(labels[:_TOLD_VARIANTS])}{more}")
    last = "last epoch" if study.score_epochs == 1 else f"last {study.score_epochs} epochs"
    table.add_row("final accuracy", f"on clean test data, the mean over the {last}")
    yield table
    failed = [trajectory for trajectory in study.trajectories if trajectory.status == "failed"]
    for trajectory in failed[:_TOLD_FAILURES]:
        reason = shorten(trajectory.reason, 200) or "no reason recorded"
        yield Text.assemble(("✗ ", "bold red"), (printable(trajectory.name), "bold"), f": {reason}")
    if len(failed) > _TOLD_FAILURES:
        yield Text(f"✗ and {len(failed) - _TOLD_FAILURES} more", "bold red")


def metrics_section(page: Page) -> Iterator[RenderableType]:
    """One line for every metric and variant, other than Fisher information: its first and last value."""
    rows = []
    for metric in metric_names(page.study):
        if not is_fisher(page.study, metric):
            variants: dict[str, list[MetricCurve]] = {}
            for curve in metric_curves(page.study, metric):
                variants.setdefault(variant_key(curve.variant), []).append(curve)
            rows += [_summary(metric, curves) for curves in variants.values()]
    if rows:
        yield heading(page, "Other metrics", {})
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column()
        for metric, summary in rows:
            table.add_row(Text(shorten(metric, 24), "bold"), summary)
        yield table


def _summary(metric: str, curves: list[MetricCurve]) -> tuple[str, str]:
    """Without a deficit if that was measured, else of the first curve there is; layers are averaged."""
    curve = next((c for c in curves if c.deficit == CLEAN), curves[0])
    series = curve.values if curve.values.ndim == 1 else curve.values.mean(axis=1)
    label = variant_label(curve.variant)
    whom = "no deficit" if curve.deficit == CLEAN else f"{curve.deficit} {window(curve.onset, curve.offset)}"
    about = [f"{label + ', ' if label else ''}{whom}", plural(curve.n, "seed")]
    if curve.values.ndim > 1:
        about.append(f"mean of {plural(curve.values.shape[1], 'layer')}")
    course = f"{number(float(series[0]))} → {number(float(series[-1]))}"
    units = f" {curve.units}" if curve.units else ""
    return metric, printable(f"{course}{units}  epochs {curve.epoch[0]}-{curve.epoch[-1]}: {', '.join(about)}")
