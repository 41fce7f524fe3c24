"""Problems of a spec or of its run, for people: where, which key, why, and what would be right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a spec.

    Attributes:
        where: ``file:line``, or the command-line option at fault.
        key: the dotted key; empty where the whole file is meant.
        why: what is wrong and what would be right.
    """

    where: str
    key: str
    why: str

    def __str__(self) -> str:
        """Write it as ``file:line: key: why``."""
        return ": ".join(part for part in (self.where, self.key, self.why) if part)


class SpecError(Exception):
    """A spec that cannot be run, with all its problems at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Keep each problem once, in the order found."""
        self.problems: Sequence[Problem] = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


class MetricError(ValueError):
    """A metric that gives what cannot be kept; its message is shown to the user as it stands."""


class ExecutorError(Exception):
    """Workers that cannot be had; its message is shown to the user as it stands."""


class NotInstalledError(ImportError):
    """A package of an extra that is not installed; its message is shown to the user as it stands."""


class NothingToDrawError(Exception):
    """A study without the data for a figure; its message says what is missing and what would give it."""


@contextmanager
def needed(what: str, extra: str) -> Iterator[None]:
    """Import inside what only an extra brings.

    Args:
        what: needs it, for the message: "a table".
        extra: of cpframe, which brings it.

    Raises:
        NotInstalledError: when it is not there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "another package").partition(".")[0]
        raise NotInstalledError(f"{what} needs {package}: pip install 'cpframe[{extra}]'") from None


_MAX_NAMES = 20
"""The most names that a message lists."""


def nearest(name: str, known: Iterable[str], plural: str = "names") -> str:
    """Suggest the known name nearest to `name`, and list all known names; the text follows an error after "; ".

    Args:
        name: the unknown name.
        known: the known names.
        plural: the plural noun for the names, such as "keys".
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    listed = list_names(names, plural)
    return f"did you mean {close[0]!r}? {listed[0].upper()}{listed[1:]}" if close else listed


def list_names(known: Iterable[str], plural: str = "names") -> str:
    """List the known names, at most 20: "known keys: 'lr', 'momentum'"."""
    names = sorted(known)
    more = f", and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"known {plural}: {', '.join(map(repr, names[:_MAX_NAMES]))}{more}" if names else f"there are no {plural}"
