"""Protocols: the rules that make timelines, and what each checks of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from cpframe.records.model import CLEAN
from cpframe.spec.positions import KeyPath

MOST_EPOCHS = 1_000_000
"""No training is as long; a slip of the keyboard should not fill the memory with epochs."""

Epoch = Annotated[int, Field(ge=0, le=MOST_EPOCHS)]
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]


@dataclass(frozen=True)
class Segment:
    """A run of epochs under one condition.

    Attributes:
        condition: ``clean``, or a deficit's name in the spec.
        epochs: how many, at least 1.
    """

    condition: str
    epochs: int


@dataclass(frozen=True)
class Timeline:
    """One timeline that a protocol asks for.

    Attributes:
        protocol: the protocol's name.
        deficit: a deficit's name, or ``clean``.
        onset: first epoch under the deficit; 0 where there is none.
        offset: first epoch after it; equal to `onset` where there is none.
        epochs: length of the whole training.
    """

    protocol: str
    deficit: str
    onset: int
    offset: int
    epochs: int

    @property
    def segments(self) -> tuple[Segment, ...]:
        """The conditions, epoch by epoch, as runs."""
        runs = (
            Segment(CLEAN, self.onset),
            Segment(self.deficit, self.offset - self.onset),
            Segment(CLEAN, self.epochs - self.offset),
        )
        return tuple(run for run in runs if run.epochs)


@dataclass(frozen=True)
class Removal:
    """Deficit in [0, until), then `recovery` clean epochs; the run without deficit (until 0) always comes with it.

    Attributes:
        until: the epochs at which the deficit is removed.
        recovery: clean epochs afterwards.
        deficits: by their names in the spec; all of them when empty.
    """

    until: tuple[Epoch, ...]
    recovery: Epochs
    deficits: tuple[str, ...] = ()

    def flaws(self, score_epochs: int) -> Iterator[tuple[KeyPath, str]]:
        """What is wrong with the fields taken together, each with the key at fault."""
        if not self.until:
            yield ("until",), "is empty: name at least one epoch of removal"
        if self.recovery < score_epochs:
            yield ("recovery",), _too_short(self.recovery, score_epochs)

    def timelines(self, deficits: tuple[str, ...]) -> Iterator[Timeline]:
        """Every timeline of this protocol for these deficits, the no-deficit one first."""
        yield Timeline("removal", CLEAN, 0, 0, self.recovery)
        for deficit in deficits:
            for until in sorted(set(self.until) - {0}):
                yield Timeline("removal", deficit, 0, until, until + self.recovery)


@dataclass(frozen=True)
class Sliding:
    """Deficit in [onset, onset + length) of a training of `epochs` epochs in all.

    Attributes:
        onsets: where the window starts.
        length: of the window.
        epochs: of the whole training.
        deficits: by their names in the spec; all of them when empty.
    """

    onsets: tuple[Epoch, ...]
    length: Epochs
    epochs: Epochs
    deficits: tuple[str, ...] = ()

    def flaws(self, score_epochs: int) -> Iterator[tuple[KeyPath, str]]:
        """What is wrong with the fields taken together, each with the key at fault."""
        if not self.onsets:
            yield ("onsets",), "is empty: name at least one onset"
        if self.epochs < score_epochs:
            yield ("epochs",), _too_short(self.epochs, score_epochs)
        for place, onset in enumerate(self.onsets):
            end = onset + self.length
            if end > self.epochs:
                yield (
                    ("onsets", place),
                    f"a window of length {self.length} from epoch {onset} ends at epoch {end}, "
                    f"beyond the {self.epochs} epochs of the training",
                )

    def timelines(self, deficits: tuple[str, ...]) -> Iterator[Timeline]:
        """Every timeline of this protocol for these deficits."""
        for deficit in deficits:
            for onset in sorted(set(self.onsets)):
                yield Timeline("sliding", deficit, onset, onset + self.length, self.epochs)


def _too_short(epochs: int, score_epochs: int) -> str:
    return f"trains {epochs} epochs only, and a score is the mean over the last {score_epochs} (`score_epochs`)"


Protocol = Removal | Sliding
PROTOCOLS: dict[str, type[Removal] | type[Sliding]] = {"removal": Removal, "sliding": Sliding}
