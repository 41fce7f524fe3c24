"""Protocols: the rules that make timelines, and the checks of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from cpframe.records.model import CLEAN
from cpframe.spec.positions import KeyPath

MOST_EPOCHS = 1_000_000
"""The most epochs of a training: a typing error must not fill the memory with epochs."""

Epoch = Annotated[int, Field(ge=0, le=MOST_EPOCHS)]
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]


@dataclass(frozen=True)
class Segment:
    """Consecutive epochs under one condition.

    Attributes:
        condition: ``clean``, or a deficit's name in the spec.
        epochs: the number of epochs, at least 1.
    """

    condition: str
    epochs: int


@dataclass(frozen=True)
class Timeline:
    """One timeline that a protocol asks for.

    Attributes:
        protocol: the name of the protocol.
        deficit: a deficit's name in the spec, or ``clean``.
        onset: the first epoch under the deficit (0, 1, ...); 0 without a deficit.
        offset: the first epoch after the deficit; equal to `onset` without a deficit.
        epochs: the length of the whole training, in epochs.
    """

    protocol: str
    deficit: str
    onset: int
    offset: int
    epochs: int

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The conditions in order, without empty segments."""
        segments = (
            Segment(CLEAN, self.onset),
            Segment(self.deficit, self.offset - self.onset),
            Segment(CLEAN, self.epochs - self.offset),
        )
        return tuple(segment for segment in segments if segment.epochs)


@dataclass(frozen=True)
class Removal:
    """The deficit acts in epochs [0, until), then come `recovery` clean epochs; the no-deficit run is always included.

    Attributes:
        until: the epochs at which the deficit is removed.
        recovery: the number of clean epochs after the removal.
        deficits: the names of the deficits in the spec; empty for all.
    """

    until: tuple[Epoch, ...]
    recovery: Epochs
    deficits: tuple[str, ...] = ()

    def problems(self, score_epochs: int) -> Iterator[tuple[KeyPath, str]]:
        """Yield the problems of the fields taken together, each with its key."""
        if not self.until:
            yield ("until",), "must have at least one epoch of removal"
        if self.recovery < score_epochs:
            yield ("recovery",), _too_short(self.recovery, score_epochs)

    def timelines(self, deficits: tuple[str, ...]) -> Iterator[Timeline]:
        """Yield the timelines for these deficits, the no-deficit one first."""
        yield Timeline("removal", CLEAN, 0, 0, self.recovery)
        for deficit in deficits:
            for until in sorted(set(self.until) - {0}):
                yield Timeline("removal", deficit, 0, until, until + self.recovery)


@dataclass(frozen=True)
class Sliding:
    """The deficit acts in epochs [onset, onset + length) of a training of `epochs` epochs.

    Attributes:
        onsets: the first epochs of the windows.
        length: the length of a window, in epochs.
        epochs: the length of the whole training, in epochs.
        deficits: the names of the deficits in the spec; empty for all.
    """

    onsets: tuple[Epoch, ...]
    length: Epochs
    epochs: Epochs
    deficits: tuple[str, ...] = ()

    def problems(self, score_epochs: int) -> Iterator[tuple[KeyPath, str]]:
        """Yield the problems of the fields taken together, each with its key."""
        if not self.onsets:
            yield ("onsets",), "must have at least one onset"
        if self.epochs < score_epochs:
            yield ("epochs",), _too_short(self.epochs, score_epochs)
        for index, onset in enumerate(self.onsets):
            end = onset + self.length
            if end > self.epochs:
                yield (
                    ("onsets", index),
                    f"a window of length {self.length} from epoch {onset} ends at epoch {end}, "
                    f"beyond the {self.epochs} epochs of the training",
                )

    def timelines(self, deficits: tuple[str, ...]) -> Iterator[Timeline]:
        """Yield the timelines for these deficits."""
        for deficit in deficits:
            for onset in sorted(set(self.onsets)):
                yield Timeline("sliding", deficit, onset, onset + self.length, self.epochs)


def _too_short(epochs: int, score_epochs: int) -> str:
    return f"must be at least {score_epochs}, the number of epochs in a score (`score_epochs`), not {epochs}"


Protocol = Removal | Sliding
PROTOCOLS: dict[str, type[Removal] | type[Sliding]] = {"removal": Removal, "sliding": Sliding}
