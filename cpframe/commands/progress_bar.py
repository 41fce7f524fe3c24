"""Progress of a run: a bar with the time left on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from cpframe.execution.progress import StudyProgress
from cpframe.training.job import EpochDone, Event, StageWarning


@contextmanager
def shown(progress: StudyProgress, console: Console) -> Iterator[Callable[[Event], None]]:
    """Show the epochs of a run as they are done; gives the function that is told every event."""
    if console.is_terminal:
        with _bar(progress, console) as observe:
            yield observe
    else:
        yield _lines(progress, console)


@contextmanager
def _bar(progress: StudyProgress, console: Console) -> Iterator[Callable[[Event], None]]:
    columns = (
        TextColumn("training"),
        # So narrow that a row is short of 80 cells: the ^C a terminal echoes behind a full one starts another line, and
        # what is erased in the end is the last line only.
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task("training", total=progress.epochs)

        def observe(event: Event) -> None:
            if isinstance(event, EpochDone):
                bar.advance(task)
            elif isinstance(event, StageWarning):
                console.print(event.message, style="yellow", soft_wrap=True)

        yield observe


def _lines(progress: StudyProgress, console: Console) -> Callable[[Event], None]:
    total, started, done = progress.epochs, time.monotonic(), 0
    stages = progress.study.stages

    def observe(event: Event) -> None:
        nonlocal done
        if isinstance(event, StageWarning):
            console.file.write(f"{event.message}\n")
        if not isinstance(event, EpochDone):
            return
        done += 1
        left = (time.monotonic() - started) / done * max(0, total - done)
        stage = stages[event.stage]
        # Not console.print, which would cost more than a small network's epoch.
        console.file.write(
            f"{done}/{total} seed {stage.seed} {stage.condition} epoch {event.epoch} "
            f"test accuracy {event.test_accuracy:.2%}, {duration(left)} left\n"
        )
        console.file.flush()

    return observe


def duration(seconds: float) -> str:
    """A length of time for people: ``40 s``, ``12 min``, ``3.5 h``, ``12 days``."""
    for unit, length, limit in (("s", 1.0, 90.0), ("min", 60.0, 90.0), ("h", 3600.0, 48.0)):
        if seconds < limit * length:
            count = seconds / length
            return f"{count:.1f} {unit}" if unit == "h" else f"{count:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
