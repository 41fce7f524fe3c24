"""The facts about the study: how far it got, where it was run, and its failures."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.report.formatting import NONE, printable, shorten
from cpframe.report.terminal.layout import View
from cpframe.report.wording.study import count_statuses, origin_facts, score_words, seed_words

_MOST_FAILURES = 5
_MOST_VARIANTS = 8


def study_facts(view: View) -> Iterator[RenderableType]:
    """Yield a table of facts, and the first failed trajectories with their reasons."""
    study, counts = view.study, count_statuses(view.study)
    statuses = [Text(f"{counts['complete']} complete")]
    if counts["unfinished"]:
        statuses.append(Text(f"{counts['unfinished']} unfinished", "yellow"))
    if counts["failed"]:
        statuses.append(Text(f"{counts['failed']} FAILED", "bold red"))
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("trajectories", Text(" · ").join(statuses))
    table.add_row("seeds", seed_words(study))
    labels = list(view.names.full.values())
    if any(labels):
        more = f" and {len(labels) - _MOST_VARIANTS} more" if len(labels) > _MOST_VARIANTS else ""
        table.add_row("variants", f"{len(labels)}: {'; '.join(labels[:_MOST_VARIANTS])}{more}")
        if len(view.variants) < len(labels):
            shown = f"the {len(view.variants)} with the largest drops are shown; --section NAME shows all"
            table.add_row("", shown)
    table.add_row("final accuracy", score_words(study))
    table.add_row("created", " · ".join(origin_facts(study)) or NONE)
    yield table
    failed = [trajectory for trajectory in study.trajectories if trajectory.status == "failed"]
    for trajectory in failed[:_MOST_FAILURES]:
        reason = shorten(trajectory.reason, 200) or "no reason recorded"
        yield Text.assemble(("✗ ", "bold red"), (printable(trajectory.name), "bold"), f": {reason}")
    if len(failed) > _MOST_FAILURES:
        yield Text(f"✗ and {len(failed) - _MOST_FAILURES} more", "bold red")
