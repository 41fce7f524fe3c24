"""The hook specifications, one per component kind; a plugin implements some of them with `cpframe.api.hookimpl`.

A hook returns a mapping of component names to frozen dataclasses. A name is written after ``use =`` in a spec; it
consists of lower-case words joined by hyphens.
"""

import pluggy

from cpframe.api import Architectures, Datasets, Deficits, Metrics, Observers, Optimizers

hookspec = pluggy.HookspecMarker("cpframe")


@hookspec
def cpframe_architectures() -> Architectures:  # type: ignore[empty-body]
    """Offer architectures: called with input shape and number of outputs, they return an ``nn.Module``."""


@hookspec
def cpframe_datasets() -> Datasets:  # type: ignore[empty-body]
    """Offer data sets: called with the data folder, they return `cpframe.api.Splits`."""


@hookspec
def cpframe_deficits() -> Deficits:  # type: ignore[empty-body]
    """Offer deficits: called with a `cpframe.api.Batch` and a generator, they return the degraded batch or None.

    A deficit that needs the data folder is a `cpframe.api.DeficitWithData`.
    """


@hookspec
def cpframe_optimizers() -> Optimizers:  # type: ignore[empty-body]
    """Offer optimizers: called with the parameters, they return a ``torch.optim.Optimizer``."""


@hookspec
def cpframe_metrics() -> Metrics:  # type: ignore[empty-body]
    """Offer metrics: called with a `cpframe.api.Probe`, they return a `cpframe.api.Measurement` or several by name."""


@hookspec
def cpframe_observers() -> Observers:  # type: ignore[empty-body]
    """Offer observers: called with a `cpframe.api.RunStarted`, they return a `cpframe.api.Watcher`."""
