"""Tables on Fisher information: its phases, its redistribution among layers, and its relation to sensitivity."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from cpframe.analysis.metric_curves import MetricCurve
from cpframe.analysis.plasticity import plasticity_after_deficit
from cpframe.analysis.representatives import by_variant, representatives
from cpframe.report.formatting import printable
from cpframe.report.html.layout import Page
from cpframe.report.html.markup import Column, Html, element, table
from cpframe.report.wording.fisher import (
    PHASE_COLUMNS,
    PHASE_NOTE,
    PLASTICITY_COLUMNS,
    PLASTICITY_NOTE,
    fit_words,
    link_note,
    phase_cells,
    plasticity_cells,
)

Cells = Callable[[MetricCurve], Sequence[str] | None]


def phase_tables(page: Page) -> Iterator[Html]:
    """Yield, for every Fisher metric and variant, the phases of a few timelines, and of all in a folded table."""
    yield from _tables(page, "Phases", PHASE_COLUMNS, phase_cells, PHASE_NOTE)


def plasticity_tables(page: Page) -> Iterator[Html]:
    """Yield, for every Fisher metric by layer and variant, the information redistributed after a deficit."""
    yield from _tables(
        page, "Information plasticity after the deficit", PLASTICITY_COLUMNS, _plasticity, PLASTICITY_NOTE
    )


def link_tables(page: Page) -> Iterator[Html]:
    """Yield, for every Fisher metric, the fits of Fisher information to sensitivity in words."""
    names = page.labels.names
    several = any(names.full.values())
    columns = [Column("deficit", number=False), Column("windows"), Column("fit", number=False)]
    columns[1:1] = [Column("variant", number=False)] * several
    for metric, links in page.findings.links.items():
        rows = [
            [
                page.labels.name(link.deficit),
                *[names.label(link.group.variant)] * several,
                f"{link.group.length} of {link.group.epochs}",
                fit_words(link.fit),
            ]
            for link in links
        ]
        if rows:
            yield table(f"Fit to sensitivity: {printable(metric)}", columns, rows)
            yield element("p", link_note(printable(links[0].units)), class_="note")


def _plasticity(curve: MetricCurve) -> Sequence[str] | None:
    plasticity = plasticity_after_deficit(curve)
    return plasticity_cells(curve, plasticity) if plasticity else None


def _tables(page: Page, title: str, heads: Sequence[str], cells: Cells, note: str) -> Iterator[Html]:
    columns = [Column("timeline", number=False), *map(Column, heads)]
    empty = True
    for metric, curves in page.findings.fisher.items():
        for members in by_variant(curves):
            caption = f"{title}: {printable(metric)}{page.labels.variant(members[0].variant)}"
            few = _rows(page, representatives(page.findings.study, page.findings.groups, members), cells)
            every = _rows(page, members, cells)
            if few:
                yield table(caption, columns, few)
            if len(every) > len(few):
                summary = element("summary", f"All {len(every)} timelines")
                yield element("details", summary, table(f"{caption}, all timelines", columns, every))
            empty = empty and not every
    if not empty:
        yield element("p", note, class_="note")


def _rows(page: Page, curves: Sequence[MetricCurve], cells: Cells) -> list[list[str]]:
    rows = [(curve, cells(curve)) for curve in curves]
    return [[page.labels.timeline(curve), *row] for curve, row in rows if row is not None]
