"""run_stage: the epochs of one stage, committed as they are done."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Literal

import numpy as np

from cpframe.errors import MetricError
from cpframe.records.histories import concatenate
from cpframe.records.model import CLEAN, History, MetricHistory
from cpframe.spec.model import Variant
from cpframe.store import (
    DamagedError,
    InUseError,
    StoreError,
    commit,
    drop_remake,
    lock_folder,
    read_stage,
    read_state,
    recover,
    remake_folder,
)
from cpframe.training.data import Condition, DeviceData, batches, load, ready, view
from cpframe.training.job import Committed, EpochDone, Event, Job, StageDone, StageWarning
from cpframe.training.learner import (
    Learner,
    drawing,
    new_learner,
    new_model,
    new_tally,
    reestimated_batchnorm,
    restore,
    saved,
    test,
    train_step,
)
from cpframe.training.measurement import measure

COMMIT_SECONDS = 1.0
"""Epochs quicker than this are committed together: writing to disk would cost more than training them again."""


class _GoneError(Exception):
    """The state that a stage goes on from is not there."""


def run_stage(job: Job) -> Iterator[Event]:
    """Train what is left of a stage, from its own last commit or its parent's end.

    Yields:
        A `StageWarning` for what is damaged in its folder, an `EpochDone` for every epoch, a `Committed` after
        each commit on the way, then a `StageDone`. A training
        whose loss is no longer finite, or in which a plugin raises, ends as failed.

    Raises:
        StoreError: when a commit cannot be written, or what was committed cannot be read.
    """
    failure = ""
    returned: Literal["", "in use", "gone"] = ""
    try:
        with lock_folder(job.folder):
            failure = yield from _epochs(job)
    except InUseError:
        returned = "in use"
    except _GoneError:
        returned = "gone"
    except StoreError:
        raise
    except MetricError as error:
        failure = str(error)
    except Exception as error:  # noqa: BLE001 - plugins and devices are strangers: what they raise fails this stage alone
        failure = described(error)
    yield StageDone(job.stage.id, failure, returned)


def described(error: BaseException) -> str:
    """An exception in one line: what, and the file and line that raised it."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split()) or "no message"
    # A file can keep neither half characters nor control characters.
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno})"


def _epochs(job: Job) -> Generator[Event, None, str]:
    """Train and commit the epochs of a stage that are left; returns why the training failed, or an empty text."""
    stage = job.stage
    committed, state, damage = recover(job.folder)
    for message in damage:
        yield StageWarning(stage.id, message)
    if committed is not None and committed.status == "failed":
        return committed.reason
    folder = job.folder
    if committed is not None and committed.status == "complete":
        if state is not None or not job.keep_state:
            return ""
        # Only its state is to be made again. What is complete is not replaced by less on the way.
        folder = remake_folder(job.folder)
        committed, state, _ = recover(folder)
    parent_state = None if state is not None else _parent_state(job)
    data = load(job.variant.dataset.call, job.data_folder, job.numerics.device)
    learner = new_learner(job.variant, new_model(job.variant, data, stage.seed, job.numerics), job.numerics)
    history = None
    if committed is not None and state is not None:
        restore(learner, state, optimizer=True)
        history = committed.history
    elif parent_state is not None:
        restore(learner, parent_state, optimizer=not stage.restart_state)
    rows = [] if history is None else [history]
    done = stage.start if history is None else int(history.epoch[-1])
    last_commit = time.monotonic()
    for epoch in range(done, stage.stop):
        with drawing(job.numerics.device, stage.seed, "torch", epoch):
            row, failure = _epoch(job, learner, data, epoch)
        rows.append(row)
        yield EpochDone(stage.id, epoch + 1, float(row.test_accuracy[-1]))
        if failure:
            commit(job.folder, "failed", failure, concatenate(rows), None)
            return failure
        if epoch + 1 == stage.stop:
            last = saved(learner) if job.keep_state else None
            commit(job.folder, "complete", "", concatenate(rows), last, kept=job.for_good)
            drop_remake(job.folder)
        elif time.monotonic() - last_commit >= COMMIT_SECONDS:
            rows = [concatenate(rows)]
            commit(folder, "unfinished", "", rows[0], saved(learner))
            last_commit = time.monotonic()
            yield Committed(stage.id)
    return ""


def _parent_state(job: Job) -> bytes | None:
    """The state at the end of the stage that this one goes on from; None where it starts afresh."""
    if job.parent_folder is None:
        return None
    try:
        parent = read_stage(job.parent_folder)
        if parent is None or parent.status != "complete" or not parent.state:
            raise _GoneError
        return read_state(job.parent_folder, parent)
    except DamagedError:
        raise _GoneError from None


def _epoch(job: Job, learner: Learner, data: DeviceData, epoch: int) -> tuple[History, str]:
    """Train, test and measure the epoch before which `epoch` have passed; returns its row, and why it failed or ""."""
    stage, training = job.stage, job.variant.training
    condition = condition_of(job.variant, stage.condition, job.data_folder)
    rate = stage.rates[epoch - stage.start]
    for group in learner.optimizer.param_groups:
        group["lr"] = rate
    learner.model.train()
    tally = new_tally(learner.numerics.device)
    for inputs, targets in batches(data, condition, training, stage.seed, epoch):
        train_step(learner, inputs, targets, data.task, tally)
    train_loss, train_accuracy = tally.means()
    failure = _divergence(epoch, "training", train_loss) if tally.count else ""
    test_loss = test_accuracy = math.nan
    measured: dict[str, MetricHistory] = {}
    if not failure:
        with _test_statistics(job, learner, data):
            test_loss, test_accuracy = test(learner, data)
            failure = _divergence(epoch, "test", test_loss)
            if not failure:
                measured = measure(job.metrics, learner, data, condition, stage.seed, epoch)
    row = History(
        epoch=np.array([epoch + 1]),
        condition=(stage.condition,),
        learning_rate=np.array([rate]),
        train_loss=np.array([train_loss]),
        train_accuracy=np.array([train_accuracy]),
        test_loss=np.array([test_loss]),
        test_accuracy=np.array([test_accuracy]),
        measured_epoch=np.array([epoch + 1] if measured else [], dtype=np.int64),
        layers=tuple(layer.name for layer in learner.layers),
        metrics=measured,
    )
    return row, failure


def _divergence(epoch: int, which: str, loss: float) -> str:
    return "" if math.isfinite(loss) else f"diverged in epoch {epoch + 1}: the {which} loss is {loss}"


def _test_statistics(job: Job, learner: Learner, data: DeviceData) -> AbstractContextManager[None]:
    """BatchNorm as it is to be while testing and measuring."""
    training = job.variant.training
    clean = view(data, Condition(CLEAN, None), job.stage.seed)
    if not training.reestimate_batchnorm or clean is None:
        return nullcontext()
    return reestimated_batchnorm(learner, clean.inputs, training.batch_size)


def condition_of(variant: Variant, name: str, data_folder: Path) -> Condition:
    """The condition of that name: clean, or the deficit of the variant.

    Raises:
        DataError: when the data that the deficit needs cannot be had.
    """
    return Condition(name, None if name == CLEAN else ready(variant.deficits[name].call, data_folder))
