"""The progress of a run: a bar with the time left in a terminal or a notebook, one line per epoch elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cpframe.execution.progress import StudyProgress
from cpframe.training.job import EpochDone, Event, StageWarning


@contextmanager
def show_progress(progress: StudyProgress, console: Console) -> Iterator[Callable[[Event], None]]:
    """Show the epochs of a run as they are completed; yields the function to call with every event."""
    if console.quiet:
        yield lambda _: None
    elif console.is_terminal or (console.is_jupyter and find_spec("ipywidgets") is not None):
        with _bar(progress, console) as observe:
            yield observe
    else:
        yield _lines(progress, console)


@contextmanager
def _bar(progress: StudyProgress, console: Console) -> Iterator[Callable[[Event], None]]:
    columns = (
        TextColumn("training"),
        # The bar is so narrow that a row stays below 80 cells: a terminal echoes ^C behind a full row on a new line,
        # and only the last line is erased at the end.
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("epochs"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
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
        # console.print would cost more than an epoch of a small network.
        console.file.write(
            f"{done}/{total} seed {stage.seed} {stage.condition} epoch {event.epoch} "
            f"test accuracy {event.test_accuracy:.2%}, {duration(left)} left\n"
        )
        console.file.flush()

    return observe


def duration(seconds: float) -> str:
    """Return a length of time in words: ``40 s``, ``12 min``, ``3.5 h``, ``12 days``."""
    for unit, length, limit in (("s", 1.0, 90.0), ("min", 60.0, 90.0), ("h", 3600.0, 48.0)):
        if seconds < limit * length:
            count = seconds / length
            return f"{count:.1f} {unit}" if unit == "h" else f"{count:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"
