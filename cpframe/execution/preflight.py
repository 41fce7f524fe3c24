"""The preflight: every part of a study is used once before the run, so that mistakes show early and costs are known."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from cpframe.api import DataError
from cpframe.errors import Problem, SpecError, describe_error
from cpframe.execution.costs import Costs
from cpframe.numerics import Numerics
from cpframe.records.histories import axis_sizes
from cpframe.records.model import CLEAN, MetricHistory
from cpframe.spec.model import VARIANT, Spec, Variant
from cpframe.spec.positions import KeyPath
from cpframe.training.batches import batches
from cpframe.training.conditions import Condition, apply_condition, condition_of
from cpframe.training.data import DeviceData, load
from cpframe.training.learner import (
    TEST_BATCH,
    Learner,
    new_learner,
    new_model,
    new_tally,
    serialise_state,
    test,
    train_step,
)
from cpframe.training.measurement import measure

_EXAMPLES = 32
"""The number of examples on which deficits, tests and metrics are tried."""
_SECONDS = 0.2
"""The time for which a quick action is repeated, for an accurate timing."""


def preflight(spec: Spec, numerics: Numerics, data_folder: Path) -> dict[int, Costs]:
    """Use every part of every variant once, on a few examples, and return the costs by variant index.

    Raises:
        DataError: when a data set is not available.
        SpecError: when a component raises, or the parts of the study do not work together.
    """
    return {index: _try_variant(spec, variant, numerics, data_folder) for index, variant in enumerate(spec.variants)}


@contextmanager
def _report_errors(spec: Spec, variant: Variant, key: str) -> Iterator[None]:
    """Raise any exception from inside as a SpecError at the spec's `key`, where the variant or else the spec has it."""
    try:
        yield
    except DataError:
        raise
    except ValueError as error:
        why = " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001 - a plugin may raise anything
        why = describe_error(error)
    else:
        return
    path: KeyPath = tuple(key.split("."))
    if VARIANT in variant.values:
        name = str(variant.values[VARIANT])
        why += f" (variant {name})"
        if ("variants", name, *path) in spec.document.origins:
            path = ("variants", name, *path)
    raise SpecError([Problem(spec.document.where(path), key, why)])


def _try_variant(spec: Spec, variant: Variant, numerics: Numerics, data_folder: Path) -> Costs:
    seed = spec.seeds[0]
    with _report_errors(spec, variant, "dataset"):
        data = load(variant.dataset.call, data_folder, numerics.device)
    with _report_errors(spec, variant, "architecture"):
        model = new_model(variant, data, seed, numerics)
    with _report_errors(spec, variant, "optimizer"):
        learner = new_learner(variant, model, numerics)
    with _report_errors(spec, variant, "architecture"):
        test_seconds = _time_test(learner, data)
    idle = frozenset(name for name in variant.deficits if _is_idle(spec, variant, name, data, seed, data_folder))
    clean = Condition(CLEAN, None)
    metrics: dict[str, float] = {}
    numbers: dict[str, int] = {}
    measured: dict[str, MetricHistory] = {}
    for metric in spec.metrics:
        inputs = min(metric.schedule.inputs, data.size)
        small = replace(metric, schedule=replace(metric.schedule, inputs=min(inputs, _EXAMPLES)))
        with _report_errors(spec, variant, f"metrics.{metric.name}"):
            seconds = _time(partial(measure, [small], learner, data, clean, seed, 0))
            histories = measure([small], learner, data, clean, seed, 0)
            if repeated := [name for name in histories if name in measured]:
                raise ValueError(
                    f"its result {repeated[0]} has the name of a result of another metric; rename one of them"
                )
            measured |= histories
            axis_sizes(measured)
        metrics[metric.name] = seconds * inputs / small.schedule.inputs
        numbers[metric.name] = sum(map(_count_numbers, histories.values()))
    # Last, because training changes the weights.
    with _report_errors(spec, variant, "training"):
        train_seconds = _time_epoch(learner, data, variant, seed)
    return Costs(train_seconds, test_seconds, metrics, idle, len(serialise_state(learner)), numbers)


def _count_numbers(history: MetricHistory) -> int:
    return history.values.size + (0 if history.stderr is None else history.stderr.size)


def _is_idle(spec: Spec, variant: Variant, name: str, data: DeviceData, seed: int, data_folder: Path) -> bool:
    """Apply a deficit to a few examples, and return whether it leaves nothing to train on."""
    positions = torch.arange(min(_EXAMPLES, data.size), device=data.inputs.device)
    with _report_errors(spec, variant, f"deficits.{name}"):
        return apply_condition(data.batch(positions), condition_of(variant, name, data_folder), seed, 0, 0) is None


def _time_epoch(learner: Learner, data: DeviceData, variant: Variant, seed: int) -> float:
    """Time the first training steps, after a small one to warm up, and extrapolate to an epoch, in seconds."""
    tally = new_tally(learner.numerics.device)
    learner.model.train()
    started, examples = 0.0, 0
    small = replace(variant.training, batch_size=min(8, variant.training.batch_size))
    for training in (small, variant.training):
        started, examples = time.perf_counter(), 0
        for inputs, targets in batches(data, Condition(CLEAN, None), training, seed, 0):
            train_step(learner, inputs, targets, data.task, tally)
            examples += len(inputs)
            if training is small or time.perf_counter() - started > _SECONDS:
                break
        tally.means()  # synchronizes with the device
    return (time.perf_counter() - started) * data.size / examples


def _time_test(learner: Learner, data: DeviceData) -> float:
    """Time a test of a few examples, or of a whole batch if that is quick, and extrapolate to the test set."""
    seconds = 0.0
    for count in (_EXAMPLES, TEST_BATCH):
        few = replace(data, test_inputs=data.test_inputs[:count], test_targets=data.test_targets[:count])
        once = _time(partial(test, learner, few))
        seconds = once * len(data.test_inputs) / len(few.test_inputs)
        if once > _SECONDS / 10:
            break
    return seconds


def _time(action: Callable[[], object]) -> float:
    """Call an action to warm up, then for `_SECONDS` but at least once; return the shortest time in seconds."""
    action()
    times: list[float] = []
    while sum(times) < _SECONDS:
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return min(times)
