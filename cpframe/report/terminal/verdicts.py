"""The verdict on each deficit: what may be claimed, how large it is, how sure, and until when it heals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, pairwise

from rich import box
from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from cpframe.analysis.comparisons import RemovalGroup, SlidingGroup, variant_key
from cpframe.analysis.statistics import ENOUGH_SEEDS
from cpframe.analysis.verdicts import Claim, Kind
from cpframe.report.formatting import NONE, percent, plural, points, shorten
from cpframe.report.terminal.layout import Page, heading, name_with_look, note
from cpframe.report.wording.verdicts import healing_notes, when_words

_MOST = 16  # rows of the panel, unless all is told
_NAME = 12  # cells of a deficit's name
_FRAME = 6  # cells of the panel's frame and padding
_SLIDING_HEADS = "lost more", "beyond idle", "hurts until"
_BESIDE_IDLE = 3  # the column that is left out where there is no room
_NOTHING = "No verdict: no deficit has a complete trajectory and its no-deficit pair."

_WORDS: dict[Kind, tuple[str, str]] = {
    "supported": ("", "bold #d55e00"),
    "not beyond idle": ("not beyond idle", "#e69f00"),
    "confounded": ("unresolved", "#e69f00"),
    "hint": ("a hint", ""),
    "none": ("none found", "dim"),
    "not enough seeds": ("not enough seeds", "dim"),
}


def verdict_panel(page: Page) -> Iterator[RenderableType]:
    """The verdicts in a frame: one line a deficit, of every group that was judged."""
    made = page.findings.claims
    told = made if page.full or len(made) <= _MOST else _strongest(made)
    parts: list[RenderableType] = []
    by_question: dict[str, list[Claim]] = {}
    for claim in told:
        by_question.setdefault(question(claim.group, ""), []).append(claim)
    tables = {
        asked: [_heads(members[0]), *(_row(page, claim) for claim in members)] for asked, members in by_question.items()
    }
    columns = zip(*(row for rows in tables.values() for row in rows), strict=True)
    widths = [max(cell.cell_len for cell in column) for column in columns]
    kept, beside = _fitted(page, told, widths)
    for asked, members in by_question.items():
        rows = [[row[i] for i in kept] for row in tables[asked]]
        parts += [Text(asked, "italic"), *_by_variant(page, members, rows, [widths[i] for i in kept], beside), Text()]
    parts.append(note(_explained(page, made)) if made else Text(_NOTHING))
    if len(told) < len(made):
        parts.append(note(f"The strongest {len(told)} of {len(made)} verdicts; all of them: --section verdict."))
    yield Panel(
        Group(*parts),
        title=Text(shorten(page.study.title, page.width - _FRAME - 2) or "untitled study", "bold"),
        title_align="left",
        box=box.ROUNDED,
        border_style="cyan",
        padding=(0, 2),
        width=page.width,
    )


def verdict_details(page: Page) -> Iterator[RenderableType]:
    """The numbers behind every verdict, in words; where all is told."""
    made = page.findings.claims
    if not page.full or not made:
        return
    yield heading(page, "Verdicts in words", {})
    width = max(len(shorten(claim.deficit, 16)) for claim in made) + 2
    for group, members in groupby(made, key=lambda claim: claim.group):
        yield Text(f"\n{question(group, page.names.label(group.variant))}", "italic")
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True, min_width=width)
        table.add_column(no_wrap=True, min_width=16)
        table.add_column()
        for claim in members:
            name = name_with_look(page, claim.deficit, shorten(claim.deficit, 16))
            table.add_row(name, outcome(claim), because(claim))
        yield table


def _strongest(made: Sequence[Claim]) -> list[Claim]:
    """The first few, by the kind of the verdict and the size of the loss, in the order of the study."""
    order = list(_WORDS)
    by_strength = sorted(made, key=lambda claim: (order.index(claim.verdict.kind), -claim.verdict.drop.mean))
    kept = {id(claim) for claim in by_strength[:_MOST]}
    return [claim for claim in made if id(claim) in kept]


def _fitted(page: Page, told: Sequence[Claim], widths: Sequence[int]) -> tuple[Sequence[int], Mapping[str, str] | None]:
    """The columns there is room for, and the names of the variants beside them, if any spelling of these fits."""
    room = page.width - _FRAME
    every = range(len(widths))
    fewer = [i for i in every if i != _BESIDE_IDLE]
    keys = {variant_key(claim.group.variant) for claim in told}
    for names in (page.names.full, page.names.brief):
        label = max((cell_len(names[key]) for key in keys), default=0)
        for kept in (every, fewer):
            if _needed([label, *(widths[i] for i in kept)]) <= room:
                return kept, {key: names[key] for key in keys}
    return (every if _needed(widths) <= room else fewer), None


def _needed(widths: Sequence[int]) -> int:
    """Cells of a table with columns so wide."""
    return sum(widths) + 2 * (sum(map(bool, widths)) - 1)


def _by_variant(
    page: Page,
    members: Sequence[Claim],
    rows: Sequence[Sequence[Text]],
    widths: Sequence[int],
    beside: Mapping[str, str] | None,
) -> list[RenderableType]:
    """A table of a header and a row a claim: each variant's name is in its first row, or in a line above its rows."""
    heads, *others = rows
    keys = [variant_key(claim.group.variant) for claim in members]
    if beside is not None:
        width = max(map(cell_len, beside.values()))
        labels = [Text("" if key == before else beside[key], "cyan") for before, key in pairwise(["", *keys])]
        if not width:
            return [_grid(rows, widths)]
        return [_grid([[label, *row] for label, row in zip([Text(), *labels], rows, strict=True)], [width, *widths])]
    parts: list[RenderableType] = [_grid([heads], widths)]
    for key, pairs in groupby(zip(keys, others, strict=True), key=lambda pair: pair[0]):
        parts += [Text(page.names.full[key], "cyan"), _grid([row for _, row in pairs], widths)]
    return parts


def _grid(rows: Sequence[Sequence[Text]], widths: Sequence[int]) -> Table:
    table = Table.grid(padding=(0, 2))
    for width in widths[:-1]:
        table.add_column(no_wrap=True, min_width=width)
    table.add_column()  # broken where there is no room: "10 to 20 (10-40)"
    for row in rows:
        table.add_row(*row)
    return table


def _heads(claim: Claim) -> tuple[Text, ...]:
    removal = isinstance(claim.group, RemovalGroup)
    heads = "", "verdict", *(("points lost", "beyond idle", "heals until") if removal else _SLIDING_HEADS)
    return tuple(Text(head, "dim") for head in heads)


def _row(page: Page, claim: Claim) -> tuple[Text, ...]:
    excess = claim.verdict.excess
    return (
        name_with_look(page, claim.deficit, shorten(claim.deficit, _NAME)),
        outcome(claim),
        Text(size_words(claim)),
        Text(points(excess) if excess else NONE),
        Text(when_words(page.findings, claim)),
    )


def outcome(claim: Claim) -> Text:
    """The verdict in a word or two, SCAR and CRITICAL PERIOD in capitals."""
    short, style = _WORDS[claim.verdict.kind]
    yes = "SCAR" if isinstance(claim.group, RemovalGroup) else "CRITICAL PERIOD"
    return Text(short or yes, style)


def size_words(claim: Claim) -> str:
    """How much is lost, or how much could be at most."""
    verdict = claim.verdict
    if verdict.kind == "none" and not verdict.drop.positive and verdict.at_most > 0:
        return f"under {percent(verdict.at_most)}"
    return f"{points(verdict.drop)} at {verdict.at}"


def _explained(page: Page, made: Sequence[Claim]) -> str:
    seeds = {claim.verdict.drop.n for claim in made}
    n = str(min(seeds)) if len(seeds) == 1 else f"{min(seeds)} to {max(seeds)}"
    limit = percent(page.findings.threshold)
    texts = [
        f"Points of accuracy, paired by seed (n = {n}). ± and brackets: 95% intervals that hold for all epochs "
        "compared at once; +: or later, which was not tried."
    ]
    if any(isinstance(claim.group, RemovalGroup) for claim in made):
        texts += healing_notes(page.findings)
    if any(isinstance(claim.group, SlidingGroup) for claim in made):
        texts.append(f"Lost more: than from the last onset. Hurts until: the last onset that costs over {limit}.")
    return " ".join(texts)


def question(group: RemovalGroup | SlidingGroup, label: str) -> str:
    """What a group of trajectories asks, and its variant, if that has a label."""
    after = f" ({label})" if label else ""
    if isinstance(group, RemovalGroup):
        return f"Is there a scar after {plural(group.recovery, 'clean epoch')}?{after}"
    return f"Does it matter when a deficit of {plural(group.length, 'epoch')} begins, in {group.epochs}?{after}"


def because(claim: Claim) -> str:
    """The numbers behind a verdict, in words."""
    verdict = claim.verdict
    n = f"n={verdict.drop.n}"
    if isinstance(claim.group, RemovalGroup):
        where = f"below no deficit when removed at {verdict.at}"
    else:
        last = next(curve for curve in claim.group.curves if curve.deficit == claim.deficit).points[-1].at
        where = f"more lost from onset {verdict.at} than from {last}"
    loss = f"{points(verdict.drop)} pts {where}"
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
    verdict, timing = claim.verdict, isinstance(claim.group, SlidingGroup)
    if verdict.drop.positive:
        return "but nothing is lost from that onset itself"
    if verdict.at_most > 0:
        return f"any {'difference' if timing else 'loss'} is under {percent(verdict.at_most)} pts"
    return "no earlier onset costs more" if timing else "nothing is lost"
