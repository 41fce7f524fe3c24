"""What every worker runs: the training of a stage, with messages about it a few times per second."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from cpframe.numerics import Numerics
from cpframe.store import StoreError
from cpframe.training.job import Event, Job, StageDone
from cpframe.training.stage import run_stage

WorkerMessage = list[Event] | StoreError
"""A message of a worker: the events of its stage, or the error of a commit that failed, which ends the stage."""
_MESSAGE_SECONDS = 0.25
"""The minimum time between messages: one message costs driver and worker more than an epoch of a small network."""


def run_job(job: Job, numerics: Numerics) -> Iterator[WorkerMessage]:
    """Train a stage with the numerics (hence on the device) of this worker.

    Yields:
        Lists of events. The last message has the `StageDone` of the stage, or is a StoreError.
    """
    events: list[Event] = []
    last_sent = time.monotonic()
    try:
        for event in run_stage(replace(job, numerics=numerics)):
            events.append(event)
            if isinstance(event, StageDone) or time.monotonic() - last_sent >= _MESSAGE_SECONDS:
                yield events
                events, last_sent = [], time.monotonic()
    except StoreError as error:
        if events:
            yield events
        yield error
