"""The conditions of a learner: clean, or a deficit that changes the batches or the whole training set."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from cpframe.api import Batch, Deficit, DeficitWithData
from cpframe.api.optional import is_deterministic
from cpframe.records.model import CLEAN
from cpframe.spec.model import Variant
from cpframe.training.cache import cached
from cpframe.training.data import DeviceData
from cpframe.training.randomness import stream


@dataclass(frozen=True)
class TrainingSet:
    """The whole training set under one condition, normalised, before augmentation."""

    inputs: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Condition:
    """A condition of the learner.

    Attributes:
        name: the name of the condition in the spec.
        deficit: the deficit, with its data; None for the clean condition.
    """

    name: str
    deficit: Deficit | None

    @property
    def deterministic(self) -> bool:
        """Whether the condition always changes an image in the same way."""
        return self.deficit is None or is_deterministic(self.deficit)


def condition_of(variant: Variant, name: str, data_folder: Path) -> Condition:
    """Return the condition named `name`: clean, or a deficit of the variant, loaded with its data.

    Raises:
        DataError: when the data of the deficit cannot be obtained.
    """
    return Condition(name, None if name == CLEAN else load_deficit(variant.deficits[name].call, data_folder))


def load_deficit(deficit: Deficit | DeficitWithData, folder: Path) -> Deficit:
    """Return a deficit that can be called: one that needs data is loaded with it, once per process.

    Raises:
        DataError: when the data cannot be obtained.
    """
    return _load_deficit(deficit, folder) if isinstance(deficit, DeficitWithData) else deficit


@cached(4)
def _load_deficit(deficit: DeficitWithData, folder: Path) -> Deficit:
    return deficit.loaded(folder)


@cached(6)
def training_set(data: DeviceData, condition: Condition, seed: int) -> TrainingSet | None:
    """Return the training set under a deterministic condition; None when the learner sees nothing."""
    examples = data.batch(torch.arange(data.size, device=data.inputs.device))
    seen = apply_condition(examples, condition, seed)
    return None if seen is None else TrainingSet(data.normalise(seen.inputs), seen.targets)


def apply_condition(batch: Batch, condition: Condition, seed: int, *counters: int) -> Batch | None:
    """Apply the deficit of a condition to a batch.

    Args:
        batch: the batch, without a deficit.
        condition: the condition.
        seed: the seed of the training.
        counters: the epoch and the step; a deterministic condition ignores them.

    Returns:
        The changed batch, or None when the learner sees nothing.

    Raises:
        ValueError: when the deficit changes the shape of the batch.
    """
    if condition.deficit is None:
        return batch
    keys = () if condition.deterministic else counters
    seen = condition.deficit(batch, stream(seed, f"deficit {condition.name}", *keys))
    if seen is not None and (seen.inputs.shape != batch.inputs.shape or len(seen.targets) != len(batch.targets)):
        raise ValueError(
            f"the deficit changed the shape of its batch: it must return inputs of shape {tuple(batch.inputs.shape)}"
            f" and {len(batch.targets)} targets, not {tuple(seen.inputs.shape)} and {len(seen.targets)}"
        )
    return seen
