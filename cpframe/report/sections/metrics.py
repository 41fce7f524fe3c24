"""The section on the metrics other than Fisher information."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cpframe.report.sections.section import Section

if TYPE_CHECKING:
    from rich.console import RenderableType

    from cpframe.analysis.findings import Findings
    from cpframe.report.html.layout import Page
    from cpframe.report.html.markup import Html
    from cpframe.report.terminal.layout import View


def _terminal(view: View) -> Iterator[RenderableType]:
    from cpframe.report.terminal.metrics import metric_lines

    return metric_lines(view)


def _html(page: Page) -> Iterator[Html]:
    from cpframe.report.html.about import metric_table

    return metric_table(page)


def _document(findings: Findings) -> object:
    from cpframe.analysis.metric_curves import array_shapes
    from cpframe.report.json_values import measurement_keys, timeline_keys

    curves = [
        {"metric": metric}
        | timeline_keys(curve)
        | measurement_keys(curve)
        | {"layers": curve.layers, "epoch": curve.epoch, "mean": curve.values}
        for metric, members in findings.other_metrics.items()
        for curve in members
    ]
    return {"curves": curves, "arrays": array_shapes(findings.study)}


SECTION = Section(
    "metrics", "Other metrics", "the first and last value of every other metric", _terminal, _html, _document
)
