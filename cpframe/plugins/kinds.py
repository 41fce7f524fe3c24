"""The component kinds, each with the type of its components: by it, wrong uses of a component are type errors."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from cpframe.api import Architecture, Dataset, Deficit, DeficitWithData, Metric, Observer, Optimizer

K_co = TypeVar("K_co", covariant=True)


class Kind(str, Generic[K_co]):
    """The name of a component kind, such as ``"deficit"``; the type parameter is the protocol of its components."""

    __slots__ = ()

    @property
    def hook(self) -> str:
        """The name of the hook that offers components of this kind."""
        return f"cpframe_{self}s"


ARCHITECTURE: Kind[Architecture] = Kind("architecture")
DATASET: Kind[Dataset] = Kind("dataset")
DEFICIT: Kind[Deficit | DeficitWithData] = Kind("deficit")
OPTIMIZER: Kind[Optimizer] = Kind("optimizer")
METRIC: Kind[Metric] = Kind("metric")
OBSERVER: Kind[Observer] = Kind("observer")
KINDS: tuple[Kind[Any], ...] = (ARCHITECTURE, DATASET, DEFICIT, OPTIMIZER, METRIC, OBSERVER)
"""All kinds, in the order of ``cpframe plugins``."""
