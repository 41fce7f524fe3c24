"""Letters that the figures' fonts do not have, of which matplotlib warns in its own words whenever it meets one."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_WARNING = re.compile(r"Glyph (\d+) .*missing from", re.DOTALL)


@contextmanager
def letters_noted() -> Iterator[set[str]]:
    """Keep these warnings, and no others, from the user.

    Yields:
        A set that holds the letters once the context has ended; they are drawn as empty boxes.
    """
    lacking: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield lacking
    for warning in caught:
        if found := _WARNING.match(str(warning.message)):
            lacking.add(chr(int(found[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
