"""Every hook specification. A plugin implements those it has something for, each marked with `cpframe.api.hookimpl`.

A hook returns a mapping from a component's name, as it is written after ``use =`` in a spec, to its frozen
dataclass. Names are lower case, words joined by hyphens.
"""

import pluggy

from cpframe.api import Architectures, Datasets, Deficits, Metrics, Observers, Optimizers

hookspec = pluggy.HookspecMarker("cpframe")


@hookspec
def cpframe_architectures() -> Architectures:  # type: ignore[empty-body]
    """Offer networks: called with input shape and number of outputs, returns an ``nn.Module``."""


@hookspec
def cpframe_datasets() -> Datasets:  # type: ignore[empty-body]
    """Offer data sets: called with the data folder, returns `cpframe.api.Splits`."""


@hookspec
def cpframe_deficits() -> Deficits:  # type: ignore[empty-body]
    """Offer deficits: called with a `cpframe.api.Batch` and a generator, returns the degraded batch or None.

    Those that show something out of the data folder are `cpframe.api.DeficitWithData`.
    """


@hookspec
def cpframe_optimizers() -> Optimizers:  # type: ignore[empty-body]
    """Offer optimizers: called with the parameters, returns a ``torch.optim.Optimizer``."""


@hookspec
def cpframe_metrics() -> Metrics:  # type: ignore[empty-body]
    """Offer metrics: called with a `cpframe.api.Probe`, returns a `cpframe.api.Measurement` or a mapping of them."""


@hookspec
def cpframe_observers() -> Observers:  # type: ignore[empty-body]
    """Offer observers: called with a `cpframe.api.RunStarted`, returns a `cpframe.api.Watcher`."""
