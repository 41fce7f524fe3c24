"""Optional attributes of components and networks: a protocol for each, and the functions that look for them.

A class need not inherit from these protocols: an attribute or method of that name is enough. Nowhere else does cpframe
look for an attribute that may be missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import ismethod
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import nn

    from cpframe.api.components import Dataset, Deficit, DeficitWithData


@runtime_checkable
class HasIdle(Protocol):
    """A deficit that declares whether it is an idle control: no training while the learning-rate schedule runs on."""

    @property
    def idle(self) -> bool:
        """Whether every call returns None. The analysis compares the other deficits with an idle control."""
        ...


@runtime_checkable
class HasDeterministic(Protocol):
    """A deficit that declares whether it degrades an image in the same way in every call."""

    @property
    def deterministic(self) -> bool:
        """Whether the deficit is applied to the training set once, with one generator, instead of in every step."""
        ...


@runtime_checkable
class HasFingerprint(Protocol):
    """A data set or deficit whose files can change while its parameters stay the same."""

    def fingerprint(self, folder: Path) -> str:
        """Return a text that changes with the files, computed quickly; stages trained on other files are not reused.

        Args:
            folder: the data folder.
        """
        ...


@runtime_checkable
class HasLayers(Protocol):
    """A network that declares its layers."""

    def layers(self) -> Mapping[str, nn.Module | Sequence[nn.Module]]:
        """Return the modules of every layer by the name of the layer, in forward order."""
        ...


def is_idle(deficit: Deficit | DeficitWithData) -> bool:
    """Return whether a deficit is an idle control."""
    return isinstance(deficit, HasIdle) and bool(deficit.idle)


def is_deterministic(deficit: Deficit) -> bool:
    """Return whether a deficit degrades an image in the same way in every call."""
    return isinstance(deficit, HasDeterministic) and bool(deficit.deterministic)


def data_fingerprint(component: Dataset | Deficit | DeficitWithData, folder: Path) -> str:
    """Return the fingerprint of a component's files in the data folder; empty for a component without one."""
    return component.fingerprint(folder) if isinstance(component, HasFingerprint) else ""


def declares_layers(model: object) -> bool:
    """Return whether a network has a method ``layers``; a submodule of that name does not count."""
    return isinstance(model, HasLayers) and ismethod(model.layers)
