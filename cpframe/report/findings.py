"""Sections that say what the numbers amount to: a verdict on each deficit, and the controls that are missing."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.analysis.comparisons import Removal, Sliding
from cpframe.analysis.statistics import ENOUGH_SEEDS
from cpframe.analysis.verdicts import Claim, Kind, claims, missing_controls
from cpframe.report.page import Page, heading, name_with_look, note
from cpframe.report.words import percent, plural, points, shorten, variant_label

_SHORT: dict[Kind, tuple[str, str]] = {
    "supported": ("", "bold"),
    "not beyond idle": ("not beyond idle", ""),
    "confounded": ("unresolved", ""),
    "hint": ("a hint", ""),
    "none": ("none found", "dim"),
    "not enough seeds": ("not enough seeds", "dim"),
}


def verdict_section(page: Page) -> Iterator[RenderableType]:
    """A few words for each deficit of each group: what may be claimed, by how much, and what idle does."""
    made = claims(page.study)
    if not made:
        return
    yield heading(page, "Verdicts", {})
    if any(claim.verdict.compared > 1 for claim in made):
        yield note("± here is wider than in the tables: it holds at 95% for all the epochs compared, at once.")
    width = max(len(shorten(claim.deficit, 16)) for claim in made) + 2
    for group, members in groupby(made, key=lambda claim: claim.group):
        yield Text(f"\n{_question(group)}", "italic")
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=width)
        table.add_column(no_wrap=True, min_width=16)
        table.add_column()
        for claim in members:
            short, style = _SHORT[claim.verdict.kind]
            yes = "SCAR" if isinstance(group, Removal) else "CRITICAL PERIOD"
            name = name_with_look(page, claim.deficit, shorten(claim.deficit, 16))
            table.add_row(name, Text(short or yes, style), _because(claim))
        yield table


def _question(group: Removal | Sliding) -> str:
    label = variant_label(group.variant)
    after = f" ({label})" if label else ""
    if isinstance(group, Removal):
        return f"Is there a scar after {plural(group.recovery, 'clean epoch')}?{after}"
    return f"Does it matter when a deficit of {plural(group.length, 'epoch')} begins, in {group.epochs}?{after}"


def _because(claim: Claim) -> str:
    """The numbers behind a verdict, in words."""
    verdict = claim.verdict
    n = f"n={verdict.loss.n}"
    if isinstance(claim.group, Removal):
        where = f"below no deficit when removed at {verdict.at}"
    else:
        last = next(curve for curve in claim.group.curves if curve.deficit == claim.deficit).points[-1].at
        where = f"more lost from onset {verdict.at} than from {last}"
    loss = f"{points(verdict.loss)} pts {where}"
    if verdict.kind == "none":
        return f"largest: {loss} ({n}); {_bound(claim)}"
    if verdict.kind == "not enough seeds":
        return f"{n} of {ENOUGH_SEEDS}; {loss}"
    parts = [f"{loss} ({n})"]
    if verdict.excess is not None:
        parts.append(f"{points(verdict.excess)} pts beyond idle")
    if verdict.rate_matched:
        parts.append("learning rates as without a deficit")
    if verdict.kind == "confounded":
        parts.append("the learning rate has changed and may explain it, with no idle control to tell")
    if verdict.kind == "hint":
        parts.append(f"it does not hold for {plural(verdict.compared, 'epoch')} compared at once")
    return "; ".join(parts)


def _bound(claim: Claim) -> str:
    """How large a loss can still be where none was found."""
    verdict, timing = claim.verdict, isinstance(claim.group, Sliding)
    if verdict.loss.positive:
        return "but nothing is lost from that onset itself"
    if verdict.at_most > 0:
        return f"any {'difference' if timing else 'loss'} is under {percent(verdict.at_most)} pts"
    return "no earlier onset costs more" if timing else "nothing is lost"


def controls_section(page: Page) -> Iterator[RenderableType]:
    """The controls that the claims of the study still lack."""
    yield heading(page, "Controls missing", {})
    missing = missing_controls(page.study)
    if not missing:
        yield Text("none that this report knows of")
        return
    table = Table.grid(padding=(0, 1))
    for control in missing:
        what, _, why = control.partition(": ")
        table.add_row("▸", Text.assemble((what, "bold"), ": ", why))
    yield table
