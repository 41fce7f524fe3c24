"""A rehearsal before the run: every part is used once, on little, so that mistakes show now; it also gives the time."""

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
"""Examples on which deficits, tests and metrics are tried."""
_SECONDS = 0.2
"""Steps are repeated for this long, so that the quick ones are timed well."""


def preflight(spec: Spec, numerics: Numerics, data_folder: Path) -> dict[int, Costs]:
    """Use every part of every variant once; returns the costs by the index of the variant.

    Raises:
        DataError: when a data set cannot be had.
        SpecError: when an architecture does not take the data, a deficit or metric raises, and the like.
    """
    return {number: _costs(spec, variant, numerics, data_folder) for number, variant in enumerate(spec.variants)}


@contextmanager
def _part(spec: Spec, variant: Variant, key: str) -> Iterator[None]:
    """Tell whatever is raised inside as a problem of the spec's `key`, where the variant or else the spec has it."""
    try:
        yield
    except DataError:
        raise
    except ValueError as error:
        why = " ".join(str(error).split())
    except Exception as error:  # noqa: BLE001 - a plugin is a stranger's code: whatever it raises is told
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


def _costs(spec: Spec, variant: Variant, numerics: Numerics, data_folder: Path) -> Costs:
    seed = spec.seeds[0]
    with _part(spec, variant, "dataset"):
        data = load(variant.dataset.call, data_folder, numerics.device)
    with _part(spec, variant, "architecture"):
        model = new_model(variant, data, seed, numerics)
    with _part(spec, variant, "optimizer"):
        learner = new_learner(variant, model, numerics)
    with _part(spec, variant, "architecture"):
        tested = _test_seconds(learner, data)
    idle = frozenset(name for name in variant.deficits if not _seen(spec, variant, name, data, seed, data_folder))
    clean = Condition(CLEAN, None)
    metrics = {}
    numbers = {}
    measured: dict[str, MetricHistory] = {}
    for metric in spec.metrics:
        inputs = min(metric.schedule.inputs, data.size)
        small = replace(metric, schedule=replace(metric.schedule, inputs=min(inputs, _EXAMPLES)))
        with _part(spec, variant, f"metrics.{metric.name}"):
            seconds = _seconds(partial(measure, [small], learner, data, clean, seed, 0))
            found = measure([small], learner, data, clean, seed, 0)
            if again := [name for name in found if name in measured]:
                raise ValueError(f"gives {again[0]}, which another metric gives as well: one needs another name")
            measured |= found
            axis_sizes(measured)
        of = found.values()
        numbers[metric.name] = sum(one.values.size + (0 if one.stderr is None else one.stderr.size) for one in of)
        metrics[metric.name] = seconds * inputs / small.schedule.inputs
    # Last, since it changes the weights.
    with _part(spec, variant, "training"):
        train = _training_seconds(learner, data, variant, seed)
    return Costs(train, tested, metrics, idle, len(serialise_state(learner)), numbers)


def _seen(spec: Spec, variant: Variant, name: str, data: DeviceData, seed: int, data_folder: Path) -> bool:
    """Let a deficit act on a few examples; whether the learner sees anything."""
    positions = torch.arange(min(_EXAMPLES, data.size), device=data.inputs.device)
    with _part(spec, variant, f"deficits.{name}"):
        return apply_condition(data.batch(positions), condition_of(variant, name, data_folder), seed, 0, 0) is not None


def _training_seconds(learner: Learner, data: DeviceData, variant: Variant, seed: int) -> float:
    """Time the first steps of an epoch, after a small one to warm up, and extrapolate to the whole of it."""
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
        tally.means()  # waits for the device
    return (time.perf_counter() - started) * data.size / examples


def _test_seconds(learner: Learner, data: DeviceData) -> float:
    """Time a test of a few examples, and where that is quick of a whole batch, and extrapolate to all."""
    seconds = 0.0
    for count in (_EXAMPLES, TEST_BATCH):
        few = replace(data, test_inputs=data.test_inputs[:count], test_targets=data.test_targets[:count])
        once = _seconds(partial(test, learner, few))
        seconds = once * len(data.test_inputs) / len(few.test_inputs)
        if once > _SECONDS / 10:
            break
    return seconds


def _seconds(action: Callable[[], object]) -> float:
    """The shortest of a few runs, after one to warm up; only one where that takes long."""
    action()
    taken: list[float] = []
    while sum(taken) < _SECONDS:
        started = time.perf_counter()
        action()
        taken.append(time.perf_counter() - started)
    return min(taken)
