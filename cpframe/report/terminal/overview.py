"""What the study is, where it ran and how far it got."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from cpframe.report.formatting import NONE, printable, shorten
from cpframe.report.terminal.layout import Page
from cpframe.report.variant_names import variant_label

_TOLD_FAILURES = 5
_TOLD_VARIANTS = 8
_FACTS = ("profile", "hardware", "numerics", "torch", "cpframe")


def overview_section(page: Page) -> Iterator[RenderableType]:
    """What the study is, where it ran, how far it got, and what a final accuracy is."""
    study = page.study
    facts = [printable(study.created).replace("T", " ")]
    facts += [
        printable(study.provenance[name] if name == "hardware" else f"{name} {study.provenance[name]}")
        for name in _FACTS
        if name in study.provenance
    ]
    counts = Counter(trajectory.status for trajectory in study.trajectories)
    told = [Text(f"{counts['complete']} complete")]
    if counts["unfinished"]:
        told.append(Text(f"{counts['unfinished']} unfinished", "yellow"))
    if counts["failed"]:
        told.append(Text(f"{counts['failed']} FAILED", "bold red"))
    seeds = sorted({trajectory.seed for trajectory in study.trajectories})
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    table.add_row("trajectories", Text(" · ").join(told))
    table.add_row("seeds", f"{len(seeds)}: {', '.join(map(str, seeds))}" if seeds else "none")
    labels = list(dict.fromkeys(variant_label(t.variant) for t in study.trajectories))
    if any(labels):
        more = f" and {len(labels) - _TOLD_VARIANTS} more" if len(labels) > _TOLD_VARIANTS else ""
        table.add_row("variants", f"{len(labels)}: {'; '.join(labels[:_TOLD_VARIANTS])}{more}")
        if len(page.variants) < len(labels):
            table.add_row("", f"the {len(page.variants)} that lost most are shown; all of them: --section NAME")
    last = "last epoch" if study.score_epochs == 1 else f"last {study.score_epochs} epochs"
    table.add_row("final accuracy", f"on clean test data, the mean over the {last}")
    table.add_row("made", " · ".join(filter(None, facts)) or NONE)
    yield table
    failed = [trajectory for trajectory in study.trajectories if trajectory.status == "failed"]
    for trajectory in failed[:_TOLD_FAILURES]:
        reason = shorten(trajectory.reason, 200) or "no reason recorded"
        yield Text.assemble(("✗ ", "bold red"), (printable(trajectory.name), "bold"), f": {reason}")
    if len(failed) > _TOLD_FAILURES:
        yield Text(f"✗ and {len(failed) - _TOLD_FAILURES} more", "bold red")
