"""The section on metrics that have no section of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import MetricCurve, are_shares, array_metric_names
from cpframe.records.model import CLEAN
from cpframe.report.formatting import number, plural, printable, shorten, window
from cpframe.report.terminal.layout import Page, heading
from cpframe.report.variant_names import variant_label


def courses(findings: Findings) -> Mapping[str, tuple[MetricCurve, ...]]:
    """The metrics that have a course worth a line: not those whose layers add up to 1, for their mean is constant."""
    return {name: curves for name, curves in findings.other_metrics.items() if not all(map(are_shares, curves))}


def metrics_section(page: Page) -> Iterator[RenderableType]:
    """One line for every metric and variant, other than Fisher information: its first and last value.

    Without a deficit if that was measured, else of the first curve there is; of all curves where all is told.
    """
    rows: list[tuple[str, str]] = []
    for metric, curves in courses(page.findings).items():
        for members in page.by_variant(curves):
            clean = [curve for curve in members if curve.deficit == CLEAN] or members
            rows += [(metric, course_words(curve)) for curve in (members if page.full else clean[:1])]
    for metric in array_metric_names(page.study):
        history = next(t.history.metrics[metric] for t in page.study.trajectories if metric in t.history.metrics)
        shape = " x ".join(map(str, history.values.shape[1:]))
        rows.append((metric, f"an array of {shape} at each measurement: no curve"))
    if not rows:
        return
    yield heading(page, "Other metrics", {})
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column()
    for metric, summary in rows:
        table.add_row(Text(shorten(metric, 24), "bold"), summary)
    yield table


def course_words(curve: MetricCurve) -> str:
    """A curve's course in words; layers are averaged."""
    series = curve.values if curve.values.ndim == 1 else curve.values.mean(axis=1)
    label = variant_label(curve.variant)
    whom = "no deficit" if curve.deficit == CLEAN else f"{curve.deficit} {window(curve.onset, curve.offset)}"
    about = [f"{label + ', ' if label else ''}{whom}", plural(curve.n, "seed")]
    if curve.values.ndim > 1:
        about.append(f"mean of {plural(curve.values.shape[1], 'layer')}")
    course = f"{number(float(series[0]))} → {number(float(series[-1]))}"
    units = f" {curve.units}" if curve.units else ""
    return printable(f"{course}{units}  epochs {curve.epoch[0]}-{curve.epoch[-1]}: {', '.join(about)}")
