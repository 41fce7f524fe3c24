"""The section on the share of each layer in the Fisher information."""

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
    from cpframe.report.terminal.layers import layer_maps

    return layer_maps(view)


def _html(page: Page) -> Iterator[Html]:
    del page
    return iter(())  # the figures of the section are all that there is


def _document(findings: Findings) -> Iterator[object]:
    from cpframe.analysis.metric_curves import layer_shares
    from cpframe.analysis.plasticity import mean_layers
    from cpframe.report.json_values import fisher_curves_by_layer

    for keys, curve in fisher_curves_by_layer(findings):
        yield keys | {
            "n": curve.n,
            "layers": curve.layers,
            "epoch": curve.epoch,
            "shares": layer_shares(curve),
            "mean_layer": mean_layers(curve),
        }


SECTION = Section(
    "layers", "Fisher information by layer", "the share of each layer through training", _terminal, _html, _document
)
