"""What every worker does, wherever it is: train a stage, and tell what happens a few times a second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from cpframe.numerics import Numerics
from cpframe.store import StoreError
from cpframe.training.job import Event, Job, StageDone
from cpframe.training.stage import run_stage

WorkerMessage = list[Event] | StoreError
"""What a worker tells: what has happened to its stage, or that a commit could not be written, which ends it."""
_TELLING_SECONDS = 0.25
"""Events are gathered for this long: a message costs a driver and a worker more than a small network's epoch."""


def run_job(job: Job, numerics: Numerics) -> Iterator[WorkerMessage]:
    """Train a stage on the device of this worker, and tell what happens; the last is its end, or a StoreError."""
    events: list[Event] = []
    told = time.monotonic()
    try:
        for event in run_stage(replace(job, numerics=numerics)):
            events.append(event)
            if isinstance(event, StageDone) or time.monotonic() - told >= _TELLING_SECONDS:
                yield events
                events, told = [], time.monotonic()
    except StoreError as error:
        if events:
            yield events
        yield error
