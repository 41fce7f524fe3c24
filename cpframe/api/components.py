"""What a component of each kind is called with, and what it returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from numpy.random import Generator

from cpframe.api.data import Batch, Measurement, Probe, Splits
from cpframe.api.events import EpochsCommitted, RunFinished, RunStarted

if TYPE_CHECKING:
    import torch
    from torch import nn


class Architecture(Protocol):
    """Builds a network; weights are drawn from torch's global generator, which the engine has seeded."""

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        """Build a network for inputs of `shape`, (C, H, W) for images, with that many outputs.

        The module may have a method ``layers()`` that returns a mapping of layer name to its modules, in forward
        order; otherwise a layer is a convolution or linear module with the normalisation that follows it.
        """
        ...


class Dataset(Protocol):
    """Loads a data set.

    One whose files can change under the same parameters has a method ``fingerprint(folder: Path) -> str`` as well: a
    text that changes with them, found quickly. Stages trained on other data are then not used again.
    """

    def __call__(self, folder: Path) -> Splits:
        """Load from, and if need be download into, the data folder; raise `DataError` when that cannot be done."""
        ...


class Deficit(Protocol):
    """Degrades what the learner sees.

    A deficit with a true attribute ``idle`` is an idle control: it always returns None, so that no training happens
    while the learning-rate schedule runs on. The analysis compares the other deficits with it.
    A deficit with a true attribute ``deterministic`` gives the same image the same degraded image whenever it is
    asked (its generator is then the same in every call): the engine applies it once, to the whole training set.
    """

    def __call__(self, batch: Batch, rng: Generator) -> Batch | None:
        """Return the degraded batch, or None: the learner sees nothing and no update is made."""
        ...


class DeficitWithData(Protocol):
    """A deficit that shows something out of the data folder.

    One whose files can change under the same parameters has a method ``fingerprint`` as a `Dataset` has.
    """

    def loaded(self, folder: Path) -> Deficit:
        """Return the deficit with its data in hand, which is called in its place; asked once a process.

        Load from, or if need be download into, the data folder; raise `DataError` when that cannot be done.
        """
        ...


class Optimizer(Protocol):
    """Builds an optimizer; its learning rate is a pure function of the absolute epoch."""

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        """Build the optimizer over `parameters`; the engine sets its learning rate at every epoch."""
        ...

    def learning_rate(self, epoch: int) -> float:
        """Learning rate of the epoch that starts when `epoch` epochs (0, 1, ...) have passed."""
        ...


class Metric(Protocol):
    """Measures the network on the probe."""

    def __call__(self, probe: Probe) -> Measurement | Mapping[str, Measurement]:
        """Measure; a mapping gives several quantities, stored as ``<metric>-<key>``."""
        ...


class Watcher(Protocol):
    """Follows one run. Its methods are called one after the other, in a thread of its own."""

    def epochs_committed(self, committed: EpochsCommitted) -> None:
        """Take in epochs that are in the store."""
        ...

    def run_finished(self, finished: RunFinished) -> None:
        """Take in the end of the run; the last call."""
        ...


class Observer(Protocol):
    """Watches runs, in the process that drives them. Training is in other processes, which it cannot disturb.

    What any of its calls raises is told, and the observer left out of the rest of the run; one that never returns is
    left behind. One that is slow loses what it has no time for, and is told so; see `cpframe.execution.observers`.
    What is the process's own is out of our hands: ``os._exit``, or a crash inside a C library, ends the run, and
    another working directory, or files of the study that it writes in, are its author's to answer for. Even then every
    epoch that was committed is safe, and the next run goes on from there.

    A parameter, or a package, that would make it useless it refuses in ``__post_init__``, by a ValueError, which is
    told before anything is trained. What it keeps between runs should be noted for each place that it sends to: a spec
    may have several of its kind, with other parameters.
    """

    def __call__(self, run: RunStarted) -> Watcher:
        """Begin to watch a run; the epochs in its record are not told again."""
        ...


Architectures = Mapping[str, type[Architecture]]
Datasets = Mapping[str, type[Dataset]]
Deficits = Mapping[str, type[Deficit] | type[DeficitWithData]]
Optimizers = Mapping[str, type[Optimizer]]
Metrics = Mapping[str, type[Metric]]
Observers = Mapping[str, type[Observer]]
