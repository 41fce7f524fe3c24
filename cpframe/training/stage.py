"""The epochs of one stage: trained, tested, measured, and committed to the store."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import numpy as np

from cpframe.errors import MetricError, describe_error
from cpframe.records.histories import concatenate
from cpframe.records.model import CLEAN, History, MetricHistory
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
from cpframe.training.batches import batches
from cpframe.training.conditions import Condition, condition_of, training_set
from cpframe.training.data import DeviceData, load
from cpframe.training.job import Committed, EpochDone, Event, Job, StageDone, StageWarning
from cpframe.training.learner import (
    Learner,
    new_learner,
    new_model,
    new_tally,
    reestimate_batchnorm,
    restore,
    seed_torch,
    serialise_state,
    test,
    train_step,
)
from cpframe.training.measurement import measure

COMMIT_SECONDS = 1.0
"""Epochs that take less time are committed together, because a commit takes longer than training them again."""


class _ParentStateMissingError(Exception):
    """The state at the end of the parent stage was removed or is damaged."""


def run_stage(job: Job) -> Iterator[Event]:
    """Train the remaining epochs of a stage, from its own last commit or from the end of its parent.

    Yields:
        A `StageWarning` per damaged file in its folder, an `EpochDone` per epoch, a `Committed` after each commit
        except the last, then a `StageDone`. A stage whose loss is not finite, or in which a plugin raises, fails.

    Raises:
        StoreError: when a commit cannot be written or read.
    """
    failure = ""
    returned: Literal["", "in use", "gone"] = ""
    try:
        with lock_folder(job.folder):
            failure = yield from _run_epochs(job)
    except InUseError:
        returned = "in use"
    except _ParentStateMissingError:
        returned = "gone"
    except StoreError:
        raise
    except MetricError as error:
        failure = str(error)
    except Exception as error:  # noqa: BLE001 - an exception of a plugin or a device fails only this stage
        failure = describe_error(error)
    yield StageDone(job.stage.id, failure, returned)


def _run_epochs(job: Job) -> Generator[Event, None, str]:
    """Run and commit the remaining epochs of a stage; return the reason for a failure, or an empty string."""
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
        # Only the state is missing. Unfinished commits go to another folder, so as not to replace the complete one.
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
        with seed_torch(job.numerics.device, stage.seed, "torch", epoch):
            row, failure = _run_epoch(job, learner, data, epoch)
        rows.append(row)
        yield EpochDone(stage.id, epoch + 1, float(row.test_accuracy[-1]))
        if failure:
            commit(job.folder, "failed", failure, concatenate(rows), None)
            return failure
        if epoch + 1 == stage.stop:
            final = serialise_state(learner) if job.keep_state else None
            commit(job.folder, "complete", "", concatenate(rows), final, kept=job.retain_state)
            drop_remake(job.folder)
        elif time.monotonic() - last_commit >= COMMIT_SECONDS:
            rows = [concatenate(rows)]
            commit(folder, "unfinished", "", rows[0], serialise_state(learner))
            last_commit = time.monotonic()
            yield Committed(stage.id)
    return ""


def _parent_state(job: Job) -> bytes | None:
    """Return the state at the end of the parent stage; None for a stage that starts a training.

    Raises:
        _ParentStateMissingError: when there is no such state.
    """
    if job.parent_folder is None:
        return None
    try:
        parent = read_stage(job.parent_folder)
        if parent is None or parent.status != "complete" or not parent.state:
            raise _ParentStateMissingError
        return read_state(job.parent_folder, parent)
    except DamagedError:
        raise _ParentStateMissingError from None


def _run_epoch(job: Job, learner: Learner, data: DeviceData, epoch: int) -> tuple[History, str]:
    """Train, test and measure the epoch `epoch`, from 0; return its row, and the reason for a failure or ""."""
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
    """Return the context for tests and measurements, which re-estimates BatchNorm if the spec requires it."""
    training = job.variant.training
    clean = training_set(data, Condition(CLEAN, None), job.stage.seed)
    if not training.reestimate_batchnorm or clean is None:
        return nullcontext()
    return reestimate_batchnorm(learner, clean.inputs, training.batch_size)
