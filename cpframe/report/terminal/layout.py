"""What every section of a terminal report shares: the page it is written on, headings, tables, legends."""

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
"""Shown, unless all is told."""


@dataclass(frozen=True)
class Page:
    """A study and the space there is to show it.

    Attributes:
        findings: what is to be reported.
        width: cells in a line.
        coloured: whether fine shades of colour can be shown (256 colours or more).
        full: whether all is told, and not what is most telling alone.
        variants: keys of those that are shown.
        looks: of the deficits and of ``clean``.
        names: of the variants.
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
        """That the findings are of."""
        return self.findings.study

    def shows(self, variant: Mapping[str, object]) -> bool:
        """Whether a variant is shown."""
        return variant_key(variant) in self.variants

    def by_variant(self, curves: Iterable[MetricCurve]) -> Iterator[tuple[MetricCurve, ...]]:
        """The curves of each variant that is shown."""
        return (members for members in by_variant(curves) if self.shows(members[0].variant))


def page_for(findings: Findings, console: Console, *, full: bool) -> Page:
    """The page that a console offers."""
    coloured = console.color_system in ("256", "truecolor") and not console.no_color
    variants = shown_variants(findings, full=full)
    return Page(
        findings, console.width, coloured, full, variants, looks(findings.study), study_variants(findings.study)
    )


def shown_variants(findings: Findings, *, full: bool) -> frozenset[str]:
    """Keys of the variants that are shown: all, or where there are many those that lost most."""
    keys = dict.fromkeys(variant_key(t.variant) for t in findings.study.trajectories)
    if full or len(keys) <= MOST_VARIANTS:
        return frozenset(keys)
    lost = dict.fromkeys(keys, -math.inf)
    for claim in findings.claims:
        key = variant_key(claim.group.variant)
        lost[key] = max(lost[key], claim.verdict.drop.mean)
    return frozenset(sorted(keys, key=lambda key: -lost[key])[:MOST_VARIANTS])


def shown_curves(page: Page, curves: Sequence[MetricCurve]) -> tuple[MetricCurve, ...]:
    """Of a metric's curves of one variant all, or those that stand for the others."""
    return tuple(curves) if page.full else representatives(page.study, page.findings.groups, curves)


def deficit_label(deficit: str) -> str:
    """A deficit's name in a few cells."""
    return "no deficit" if deficit == CLEAN else shorten(deficit, 16)


def curve_label(page: Page, curve: MetricCurve) -> Text:
    """A curve's glyph, deficit and window."""
    name = f"{deficit_label(curve.deficit)} {window(curve.onset, curve.offset)}".rstrip()
    return name_with_look(page, curve.deficit, name)


def heading(page: Page, title: str, variant: Mapping[str, object]) -> Group:
    """A rule with a title and the variant, which goes below where it is long."""
    text, label = Text(title, "bold"), Text(page.names.label(variant) if variant else "", "bold cyan")
    if not label:
        return Group("", Rule(text, align="left", style="dim"))
    if text.cell_len + label.cell_len + 8 > page.width:
        return Group("", Rule(text, align="left", style="dim"), label)
    return Group("", Rule(Text.assemble(text, "  ", label), align="left", style="dim"))


def note(text: str) -> Text:
    """A remark in small print."""
    return Text(text, "dim")


def plain_table() -> Table:
    """A table whose only line is the one below its header."""
    return Table(
        box=box.SIMPLE_HEAD, border_style="dim", header_style="", show_edge=False, pad_edge=False, padding=(0, 1, 0, 0)
    )


def name_with_look(page: Page, deficit: str, name: str) -> Text:
    """A deficit's glyph and, as it is to be shown, its name."""
    look = page.looks[deficit]
    return Text.assemble((look.glyph, f"bold {look.style}"), f" {name}")


def legend(page: Page, deficits: Iterable[str]) -> Text:
    """The glyphs of several deficits and their names, in one line or as many as it takes."""
    names = {deficit: "no deficit" if deficit == CLEAN else shorten(deficit, 24) for deficit in deficits}
    return in_lines([name_with_look(page, deficit, name) for deficit, name in names.items()], page.width)


def in_lines(items: Iterable[Text], width: int) -> Text:
    """Put items one after the other, and into a new line where the next one would not fit."""
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
