"""Sections on Fisher information: tables of phases, of plasticity, and of the link with sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cpframe.analysis.findings import Findings
from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.phases import MULTIPLE, NOTICEABLE, RISEN
from cpframe.analysis.plasticity import plasticity_after_deficit
from cpframe.analysis.representatives import by_variant, representatives
from cpframe.report.formatting import printable
from cpframe.report.html.labels import Labels
from cpframe.report.html.markup import Column, Html, element, table
from cpframe.report.terminal.link import fit_words
from cpframe.report.terminal.phases import phase_cells
from cpframe.report.terminal.plasticity import plasticity_cells

_PHASES = ("rise", "peak", "at", "half", "flat", "end", "n")
_PLASTICITY = ("epochs", "moved, %", "floor, %", "centre", "shift", "n")

Cells = Callable[[MetricCurve], Sequence[str] | None]


def phase_tables(findings: Findings, labels: Labels) -> Iterator[Html]:
    """For every Fisher metric and variant the phases of the most telling timelines; all of them to unfold."""
    tables = list(_tables(findings, labels, "Phases", _PHASES, phase_cells))
    yield from tables
    if not tables:
        return
    yield element(
        "p",
        f"Epochs. rise: {RISEN:.0%} of the way to the peak is done; half: halfway down from the peak to the end; flat: "
        f"from when on it stays within {NOTICEABLE:.0%} of its end, or within the noise. What changes by less than "
        f"{NOTICEABLE:.0%} of the peak, or within the noise ({MULTIPLE:g} standard errors of a difference, by how "
        "seeds differ), is level. The rule is ours.",
        class_="note",
    )


def plasticity_tables(findings: Findings, labels: Labels) -> Iterator[Html]:
    """For every Fisher metric by layer and variant what is redistributed once a deficit has ended."""
    tables = list(_tables(findings, labels, "Information plasticity after the deficit", _PLASTICITY, _plasticity))
    yield from tables
    if not tables:
        return
    yield element(
        "p",
        "moved: of all the information, the part that lies in another layer at the end of the training than at the end "
        "of the deficit, or without one at the first measurement (half the summed changes of the shares; a measure of "
        "ours), ± its 95 % interval over seeds; "
        "floor: what errors of measurement alone make of it. centre: the mean layer, from 1, weighted by its share; "
        "shift: its move, + towards the output.",
        class_="note",
    )


def link_table(findings: Findings, labels: Labels) -> Iterator[Html]:
    """The fits of Fisher information to sensitivity, in words."""
    several = any(labels.names.full.values())
    columns = [Column("deficit", number=False), Column("windows"), Column("fit", number=False)]
    columns[1:1] = [Column("variant", number=False)] * several
    for metric, found in findings.links.items():
        rows = [
            [
                labels.name(link.deficit),
                *[labels.names.label(link.group.variant)] * several,
                f"{link.group.length} of {link.group.epochs}",
                fit_words(link.fit),
            ]
            for link in found
        ]
        if rows:
            yield table(f"F = a exp(c S) + b, S the sensitivity in points: {printable(metric)}", columns, rows)


def _plasticity(curve: MetricCurve) -> Sequence[str] | None:
    found = plasticity_after_deficit(curve)
    return plasticity_cells(curve, found) if found else None


def _tables(findings: Findings, labels: Labels, title: str, heads: Sequence[str], cells: Cells) -> Iterator[Html]:
    columns = [Column("timeline", number=False), *map(Column, heads)]
    for metric, curves in findings.fisher.items():
        for members in by_variant(curves):
            caption = f"{title}: {printable(metric)}{labels.variant(members[0].variant)}"
            few = _rows(representatives(findings.study, findings.groups, members), labels, cells)
            every = _rows(members, labels, cells)
            if few:
                yield table(caption, columns, few)
            if len(every) > len(few):
                summary = element("summary", f"All {len(every)} timelines")
                yield element("details", summary, table(f"{caption}, all timelines", columns, every))


def _rows(curves: Sequence[MetricCurve], labels: Labels, cells: Cells) -> list[list[str]]:
    found = [(curve, cells(curve)) for curve in curves]
    return [[labels.timeline(curve), *told] for curve, told in found if told is not None]
