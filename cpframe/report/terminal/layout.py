"""The parts that all sections of the terminal report share: the view of the study, headings, tables, legends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console, Group
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from cpframe.analysis.comparisons import variant_key
from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.representatives import by_variant, representatives
from cpframe.records.model import CLEAN, StudyRecord
from cpframe.report.formatting import Look, looks, shorten, window
from cpframe.report.variant_names import VariantNames, study_variants

MOST_VARIANTS = 4
"""The number of variants in a report that is not full."""


@dataclass(frozen=True)
class View:
    """The findings on a study and the space in which to show them.

    Attributes:
        findings: the findings.
        width: the number of cells in a line.
        coloured: whether the console shows fine shades of colour (256 colours or more).
        full: whether everything is shown, and not only the most important parts.
        variants: the keys of the variants that are shown.
        looks: the looks of the deficits and of ``clean``.
        names: the names of the variants.
    """

    findings: Findings
    width: int
    coloured: bool
    full: bool
    variants: frozenset[str]
    looks: Mapping[str, Look]
    names: VariantNames

    @property
    def study(self) -> StudyRecord:
        """The study."""
        return self.findings.study

    def shows(self, variant: Mapping[str, object]) -> bool:
        """Return whether a variant is shown."""
        return variant_key(variant) in self.variants

    def by_variant(self, curves: Iterable[MetricCurve]) -> Iterator[tuple[MetricCurve, ...]]:
        """Return the curves of each variant that is shown."""
        return (members for members in by_variant(curves) if self.shows(members[0].variant))

    def choose(self, curves: Sequence[MetricCurve]) -> tuple[MetricCurve, ...]:
        """Return all curves of one variant if the view is full, else those that represent the others."""
        return tuple(curves) if self.full else representatives(self.study, self.findings.groups, curves)


def make_view(findings: Findings, console: Console, *, full: bool) -> View:
    """Return the view of findings that fits a console."""
    coloured = console.color_system in ("256", "truecolor") and not console.no_color
    variants = _shown_variants(findings, full=full)
    return View(
        findings, console.width, coloured, full, variants, looks(findings.study), study_variants(findings.study)
    )


def _shown_variants(findings: Findings, *, full: bool) -> frozenset[str]:
    """Return the keys of all variants, or of those with the largest drops if there are many."""
    keys = dict.fromkeys(variant_key(t.variant) for t in findings.study.trajectories)
    if full or len(keys) <= MOST_VARIANTS:
        return frozenset(keys)
    drops = dict.fromkeys(keys, -math.inf)
    for claim in findings.claims:
        key = variant_key(claim.group.variant)
        drops[key] = max(drops[key], claim.verdict.drop.mean)
    return frozenset(sorted(keys, key=lambda key: -drops[key])[:MOST_VARIANTS])


def label_deficit(deficit: str) -> str:
    """Return the name of a deficit in a few cells."""
    return "no deficit" if deficit == CLEAN else shorten(deficit, 16)


def label_curve(view: View, curve: MetricCurve) -> Text:
    """Return the glyph, deficit and window of a curve."""
    name = f"{label_deficit(curve.deficit)} {window(curve.onset, curve.offset)}".rstrip()
    return name_with_glyph(view, curve.deficit, name)


def heading(view: View, title: str, variant: Mapping[str, object]) -> Group:
    """Return a rule with a title and the variant, which goes below the rule if it is long."""
    text, label = Text(title, "bold"), Text(view.names.label(variant) if variant else "", "bold cyan")
    if not label:
        return Group("", Rule(text, align="left", style="dim"))
    if text.cell_len + label.cell_len + 8 > view.width:
        return Group("", Rule(text, align="left", style="dim"), label)
    return Group("", Rule(Text.assemble(text, "  ", label), align="left", style="dim"))


def note(text: str) -> Text:
    """Return a remark in small print."""
    return Text(text, "dim")


def plain_table() -> Table:
    """Return an empty table whose only line is the one below its header."""
    return Table(
        box=box.SIMPLE_HEAD, border_style="dim", header_style="", show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )


def column_widths(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[int]:
    """Return the cells that each column needs for its head, which may have several lines, and its rows."""
    columns = zip(*rows, strict=True)
    return [max(map(len, [*head.split("\n"), *column])) for head, column in zip(heads, columns, strict=True)]


def name_with_glyph(view: View, deficit: str, name: str) -> Text:
    """Return the glyph of a deficit and a name for it."""
    look = view.looks[deficit]
    return Text.assemble((look.glyph, f"bold {look.style}"), f" {name}")


def legend(view: View, deficits: Iterable[str]) -> Text:
    """Return the glyphs and names of several deficits, in as few lines as possible."""
    names = {deficit: "no deficit" if deficit == CLEAN else shorten(deficit, 24) for deficit in deficits}
    return flow([name_with_glyph(view, deficit, name) for deficit, name in names.items()], view.width)


def flow(items: Iterable[Text], width: int) -> Text:
    """Put items one after the other, with a new line before an item that does not fit."""
    text, used = Text(), 0
    for item in items:
        if used and used + 3 + item.cell_len > width:
            text.append("\n")
            used = 0
        elif used:
            text.append("   ")
            used += 3
        text.append_text(item)
        used += item.cell_len
    return text
