"""The exceptions that cpframe shows to its user, and the helpers that word them.

A `Problem` is one line of the form ``file:line: key: message``; a `SpecError` carries all problems of a spec at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Problem:
    """One mistake in a spec or on the command line.

    Attributes:
        where: ``file:line``, or the command-line option with the mistake.
        key: the dotted key; empty where the problem concerns the whole file.
        why: what is wrong, and what is expected instead.
    """

    where: str
    key: str
    why: str

    def __str__(self) -> str:
        """Return ``file:line: key: why``, without the parts that are empty."""
        return ": ".join(part for part in (self.where, self.key, self.why) if part)


class SpecError(Exception):
    """A spec that cannot be run, with all its problems at once."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        """Store each problem once, in the given order."""
        self.problems: Sequence[Problem] = tuple(dict.fromkeys(problems))
        super().__init__("\n".join(map(str, self.problems)))


class DataError(Exception):
    """A data set that cannot be obtained or read; the message is shown to the user unchanged."""


class StoreError(Exception):
    """A file or folder of the store that cannot be used; the user sees the message unchanged."""


class MetricError(ValueError):
    """A metric whose result cannot be stored; the user sees the message unchanged."""


class ExecutorError(Exception):
    """Workers that cannot be started; the user sees the message unchanged."""


class NotInstalledError(ImportError):
    """An optional package that is not installed; the user sees the message unchanged."""


class NothingToDrawError(Exception):
    """A study without the data for a figure; the message says what is missing and how to obtain it."""


@contextmanager
def require_extra(feature: str, extra: str) -> Iterator[None]:
    """Report a failed import inside the context as a missing extra of cpframe.

    Args:
        feature: the feature that needs the import, as the message names it: "a table".
        extra: the extra of cpframe that installs the package.

    Raises:
        NotInstalledError: when the package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "another package").partition(".")[0]
        raise NotInstalledError(f"{feature} needs {package}: pip install 'cpframe[{extra}]'") from None


_MAX_NAMES = 20
"""The most names that a message lists."""


def nearest(name: str, known: Iterable[str], plural: str = "names") -> str:
    """Suggest the known name nearest to `name`, and list all known names; the text follows an error after "; ".

    Args:
        name: the unknown name.
        known: the known names.
        plural: the plural noun for the names, such as "keys".
    """
    import difflib  # only where a name is unknown: the import takes milliseconds of every command

    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    listed = list_names(names, plural)
    return f"did you mean {close[0]!r}? {listed[0].upper()}{listed[1:]}" if close else listed


def list_names(known: Iterable[str], plural: str = "names") -> str:
    """List the known names, at most 20: "known keys: 'lr', 'momentum'"."""
    names = sorted(known)
    more = f", and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return f"known {plural}: {', '.join(map(repr, names[:_MAX_NAMES]))}{more}" if names else f"known {plural}: none"


def describe_error(error: BaseException) -> str:
    """Return an exception as one line: its type, its message, and the file and line that raised it."""
    import traceback

    last = traceback.extract_tb(error.__traceback__)[-1]
    text = " ".join(str(error).split()) or "no message"
    # A results file cannot store control characters or unpaired surrogates.
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return f"{type(error).__name__}: {text} ({Path(last.filename).name}:{last.lineno})"
