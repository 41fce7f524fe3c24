"""The protocol of each component kind: what a component is called with, and what it returns.

Components match a protocol by their methods; they inherit nothing. Attributes that a component may have in addition are
in `cpframe.api.optional`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from numpy.random import Generator

from cpframe.api.data import Batch, Measurement, Probe, Splits
from cpframe.api.events import EpochsCommitted, RunFinished, RunStarted

if TYPE_CHECKING:
    import torch
    from torch import nn


class Architecture(Protocol):
    """Builds a network, whose weights are drawn from torch's global generator; the engine has seeded it."""

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build a network.

        The module may have a method ``layers()``, see `HasLayers`. Otherwise a layer is a convolution or linear module
        with the normalisation that follows it.

        Args:
            shape: the shape of one input, (C, H, W) for images.
            outputs: the number of outputs.
        """
        ...


class Dataset(Protocol):
    """Loads a data set. A data set whose files can change may have a method ``fingerprint``, see `HasFingerprint`."""

    def __call__(self, folder: Path) -> Splits:
        """Load the data set from the data folder, after a download if necessary.

        Raises:
            DataError: when the data cannot be obtained or read.
        """
        ...


class Deficit(Protocol):
    """Degrades the examples of the learner.

    Two optional attributes change how it is used: ``idle`` (see `HasIdle`) and ``deterministic`` (see
    `HasDeterministic`).
    """

    def __call__(self, batch: Batch, rng: Generator) -> Batch | None:
        """Return the degraded batch, or None if the learner sees nothing and no update is made."""
        ...


@runtime_checkable
class DeficitWithData(Protocol):
    """A deficit that shows examples from the data folder. It may have a method ``fingerprint``, as a `Dataset` may."""

    def loaded(self, folder: Path) -> Deficit:
        """Return the deficit with its data, which is then called in its place; asked once per process.

        Raises:
            DataError: when the data cannot be obtained or read.
        """
        ...


class Optimizer(Protocol):
    """Builds an optimizer; its learning rate is a pure function of the absolute epoch."""

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer for `parameters`; the engine sets the learning rate before every epoch."""
        ...

    def learning_rate(self, epoch: int) -> float:
        """Return the learning rate of the epoch that starts after `epoch` completed epochs (0, 1, ...)."""
        ...


class Metric(Protocol):
    """Measures the network on the probe."""

    def __call__(self, probe: Probe) -> Measurement | Mapping[str, Measurement]:
        """Measure one quantity, or several by name, each of which is stored as ``<metric>-<name>``."""
        ...


class Watcher(Protocol):
    """Follows one run. Its methods are called one after the other, in a thread of the observer's own."""

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        """Receive epochs that are in the store."""
        ...

    def run_finished(self, finished: RunFinished) -> None:
        """Receive the end of the run; this is the last call."""
        ...


class Observer(Protocol):
    """Watches runs, in the process that drives them; training happens in other processes.

    An observer that raises is reported and left out of the rest of the run. One that never returns is abandoned after
    the run. One that is too slow misses epochs, which is reported. Two things are not prevented: ``os._exit`` or a
    crash inside a C library ends the run (committed epochs are safe, and the next run continues from them), and an
    observer may change the working directory or write into the files of the study.

    An observer that cannot work, because of a parameter or a missing package, raises ValueError in ``__post_init__``:
    it is then reported before any training. A spec may have several observers of one class with different parameters,
    so what an observer stores between runs should be kept apart per destination.
    """

    def __call__(self, run: RunStarted) -> Watcher:
        """Begin to watch a run; the epochs in its record are not sent again."""
        ...


Architectures = Mapping[str, type[Architecture]]
Datasets = Mapping[str, type[Dataset]]
Deficits = Mapping[str, type[Deficit] | type[DeficitWithData]]
Optimizers = Mapping[str, type[Optimizer]]
Metrics = Mapping[str, type[Metric]]
Observers = Mapping[str, type[Observer]]
