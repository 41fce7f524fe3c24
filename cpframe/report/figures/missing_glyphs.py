"""Letters that the figures' font lacks, collected from matplotlib's warnings."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_WARNING = re.compile(r"Glyph (\d+) .*missing from", re.DOTALL)


@contextmanager
def collect_missing_glyphs() -> Iterator[set[str]]:
    """Collect the letters without a glyph, which are drawn as empty boxes, and suppress the warnings about them.

    Yields:
        A set that holds these letters after the context has ended.
    """
    letters: set[str] = set()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield letters
    for warning in caught:
        if match := _WARNING.match(str(warning.message)):
            letters.add(chr(int(match[1])))
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)
