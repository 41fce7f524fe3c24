"""The verdict on each deficit: a frame with one line per verdict, and the reasons in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cpframe.analysis.comparisons import RemovalGroup, variant_key
from cpframe.analysis.verdicts import Claim, Kind
from cpframe.report.formatting import shorten
from cpframe.report.terminal.layout import View, heading, name_with_glyph, note
from cpframe.report.wording.study import UNTITLED
from cpframe.report.wording.verdicts import (
    NO_VERDICT,
    REMOVAL_COLUMNS,
    SLIDING_COLUMNS,
    claim_period,
    drop_words,
    excess_words,
    outcome,
    question,
    reasons,
    verdict_notes,
)

_MOST = 16  # rows of the frame in a report that is not full
_NAME = 12  # cells of a deficit's name
_FRAME = 6  # cells of the frame and its padding
_IDLE_COLUMN = 3  # left out in a narrow console
_HEAD_LINE = 14  # cells after which a line of a column name is broken

_STYLES: dict[Kind, str] = {  # from the strongest verdict to the weakest
    "supported": "bold #d55e00",
    "not beyond idle": "#e69f00",
    "confounded": "#e69f00",
    "hint": "",
    "none": "dim",
    "not enough seeds": "dim",
}


def verdict_panel(view: View) -> Iterator[RenderableType]:
    """Yield the verdicts in a frame, with one line per deficit under the question that its group answers."""
    claims = view.findings.claims
    shown = claims if view.full or len(claims) <= _MOST else _strongest(claims)
    parts: list[RenderableType] = []
    by_question: dict[str, list[Claim]] = {}
    for claim in shown:
        by_question.setdefault(question(claim.group), []).append(claim)
    tables = {
        text: [_heads(members[0]), *(_row(view, claim) for claim in members)] for text, members in by_question.items()
    }
    columns = zip(*(row for rows in tables.values() for row in rows), strict=True)
    widths = [max(_width(cell) for cell in column) for column in columns]
    kept, labels = _fit_columns(view, shown, widths)
    for text, members in by_question.items():
        rows = [[row[i] for i in kept] for row in tables[text]]
        grids = _by_variant(view, members, rows, [widths[i] for i in kept], labels)
        parts += [Text(text, "italic"), *grids, Text()]
    parts.append(note(verdict_notes(view.findings)) if claims else Text(NO_VERDICT))
    if len(shown) < len(claims):
        text = f"The strongest {len(shown)} of {len(claims)} verdicts are shown; --section verdict shows all."
        parts.append(note(text))
    yield Panel(
        Group(*parts),
        title=Text(shorten(view.study.title, view.width - _FRAME - 2) or UNTITLED, "bold"),
        title_align="left",
        box=box.ROUNDED,
        border_style="cyan",
        padding=(0, 2),
        width=view.width,
    )


def verdict_details(view: View) -> Iterator[RenderableType]:
    """Yield the reasons of every verdict in sentences, if the view is full."""
    claims = view.findings.claims
    if not view.full or not claims:
        return
    yield heading(view, "Verdicts in words", {})
    width = max(len(shorten(claim.deficit, 16)) for claim in claims) + 2
    for group, members in groupby(claims, key=lambda claim: claim.group):
        label = view.names.label(group.variant)
        yield Text(f"\n{question(group)}{f' ({label})' if label else ''}", "italic")
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=width)
        table.add_column(no_wrap=True, min_width=16)
        table.add_column()
        for claim in members:
            name = name_with_glyph(view, claim.deficit, shorten(claim.deficit, 16))
            table.add_row(name, _outcome(claim), reasons(claim))
        yield table


def _strongest(claims: Sequence[Claim]) -> list[Claim]:
    """Return the first few claims by the kind of the verdict and the size of the drop, in the order of the study."""
    order = list(_STYLES)
    by_strength = sorted(claims, key=lambda claim: (order.index(claim.verdict.kind), -claim.verdict.drop.mean))
    kept = {id(claim) for claim in by_strength[:_MOST]}
    return [claim for claim in claims if id(claim) in kept]


def _fit_columns(
    view: View, claims: Sequence[Claim], widths: Sequence[int]
) -> tuple[Sequence[int], Mapping[str, str] | None]:
    """Return the columns that fit, and the names of the variants for a column of their own, or None if none fits."""
    available = view.width - _FRAME
    every = range(len(widths))
    fewer = [i for i in every if i != _IDLE_COLUMN]
    keys = {variant_key(claim.group.variant) for claim in claims}
    for names in (view.names.full, view.names.brief):
        label = max((cell_len(names[key]) for key in keys), default=0)
        for kept in (every, fewer):
            if _table_width([label, *(widths[i] for i in kept)]) <= available:
                return kept, {key: names[key] for key in keys}
    return (every if _table_width(widths) <= available else fewer), None


def _table_width(widths: Sequence[int]) -> int:
    """Return the cells of a table with columns of these widths."""
    return sum(widths) + 2 * (sum(map(bool, widths)) - 1)


def _width(cell: Text) -> int:
    """Return the cells of the longest line of a cell."""
    return max(cell_len(line) for line in cell.plain.split("\n"))


def _by_variant(
    view: View,
    members: Sequence[Claim],
    rows: Sequence[Sequence[Text]],
    widths: Sequence[int],
    labels: Mapping[str, str] | None,
) -> list[RenderableType]:
    """Return a table with a header and a row per claim; a variant's name is in its first row, or above its rows."""
    heads, *others = rows
    keys = [variant_key(claim.group.variant) for claim in members]
    if labels is not None:
        width = max(map(cell_len, labels.values()))
        if not width:
            return [_grid(rows, widths)]
        names = [Text("" if key == before else labels[key], "cyan") for before, key in pairwise(["", *keys])]
        return [_grid([[name, *row] for name, row in zip([Text(), *names], rows, strict=True)], [width, *widths])]
    parts: list[RenderableType] = [_grid([heads], widths)]
    for key, pairs in groupby(zip(keys, others, strict=True), key=lambda pair: pair[0]):
        name = view.names.full[key]
        parts += [*([Text(name, "cyan")] if name else []), _grid([row for _, row in pairs], widths)]
    return parts


def _grid(rows: Sequence[Sequence[Text]], widths: Sequence[int]) -> Table:
    table = Table.grid(padding=(0, 2))
    for width in widths[:-1]:
        table.add_column(no_wrap=True, min_width=width)
    table.add_column()  # broken in a narrow console: "10 to 20 (10-40)"
    for row in rows:
        table.add_row(*row)
    return table


def _heads(claim: Claim) -> tuple[Text, ...]:
    """Return the column names, broken into lines at the bottom of the header."""
    names = REMOVAL_COLUMNS if isinstance(claim.group, RemovalGroup) else SLIDING_COLUMNS
    broken = [_break(name) for name in ("", *names)]
    height = max(name.count("\n") for name in broken)
    return tuple(Text("\n" * (height - name.count("\n")) + name, "dim") for name in broken)


def _break(name: str) -> str:
    """Break a column name into lines of at most a few cells."""
    lines: list[str] = []
    for word in name.split(" "):
        if lines and len(lines[-1]) + 1 + len(word) <= _HEAD_LINE:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return "\n".join(lines)


def _row(view: View, claim: Claim) -> tuple[Text, ...]:
    return (
        name_with_glyph(view, claim.deficit, shorten(claim.deficit, _NAME)),
        _outcome(claim),
        Text(drop_words(claim)),
        Text(excess_words(claim)),
        Text(claim_period(view.findings, claim)),
    )


def _outcome(claim: Claim) -> Text:
    return Text(outcome(claim), _STYLES[claim.verdict.kind])
