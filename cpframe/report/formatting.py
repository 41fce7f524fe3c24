"""The notation of numbers, names and deficits, the same in every part of a report."""

from __future__ import annotations

import math
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from cpframe.analysis.comparisons import deficits_of
from cpframe.analysis.statistics import Estimate
from cpframe.records.model import CLEAN, StudyRecord

NONE = "-"
"""The text of a missing value."""


@dataclass(frozen=True)
class Look:
    """The glyph and colour of a deficit. The glyph identifies it without colour.

    Attributes:
        glyph: a character one cell wide.
        style: the colour, as a style of rich.
    """

    glyph: str
    style: str


_GLYPHS = "●■▲◆▼★✚"
# Okabe and Ito's palette for colour-blind readers, without black.
_COLOURS = ("#d55e00", "#56b4e9", "#009e73", "#f0e442", "#cc79a7", "#e69f00", "#0072b2")
_CLEAN_LOOK = Look("○", "bright_white")
_IDLE_LOOK = Look("◇", "grey62")


def looks(study: StudyRecord) -> dict[str, Look]:
    """Return the look of every deficit of a study and of ``clean``; glyphs repeat after seven deficits."""
    found = {CLEAN: _CLEAN_LOOK}
    real = [name for name in deficits_of(study) if name not in study.idle]
    for i, name in enumerate(real):
        found[name] = Look(_GLYPHS[i % len(_GLYPHS)], _COLOURS[i % len(_COLOURS)])
    return found | {name: _IDLE_LOOK for name in deficits_of(study) if name in study.idle}


def printable(text: str) -> str:
    """Return the text on one line, without the control characters that a results file may contain."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def shorten(text: str, width: int) -> str:
    """Return the printable text in at most `width` cells, with an ellipsis in the middle if it is longer."""
    text = printable(text)
    if cell_len(text) <= width:
        return text
    head = (width - 1) // 2
    tail = text
    while cell_len(tail) > width - 1 - head:
        tail = tail[1:]
    return set_cell_size(text, head).rstrip() + "…" + tail


def number(value: float) -> str:
    """Return a number with three significant digits, without an exponent from 0.001 to 99999."""
    if not math.isfinite(value):
        return NONE
    size = abs(float(f"{value:.3g}"))
    if size == 0:
        return "0"
    if size < 1e-3 or size >= 1e5:
        return f"{value:.2e}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(size)))}f}"


def percent(fraction: float) -> str:
    """Return a fraction of 1 as a percentage with one decimal, without the percent sign."""
    return _one_decimal(100 * fraction)


def _one_decimal(value: float) -> str:
    if not math.isfinite(value):
        return NONE
    text = f"{value:.1f}"
    return "0.0" if text == "-0.0" else text


def points(difference: Estimate) -> str:
    """Return a difference of fractions of 1 with its interval in percentage points: ``2.1±0.8``.

    The text has no blanks, so that no line is broken inside it.
    """
    mean = percent(difference.mean)
    return mean if math.isnan(difference.half_width) else f"{mean}±{percent(difference.half_width)}"


def mark(drop: Estimate) -> str:
    """Return ``▼`` for a drop whose interval excludes 0, ``▲`` for such a gain, else a blank."""
    return "▼" if drop.positive else "▲" if drop.negative else " "


def window(onset: int, offset: int) -> str:
    """Return the epochs under a deficit, as in ``[0, 40)``; empty if there are none."""
    return f"[{onset}, {offset})" if offset > onset else ""


def plural(count: int, noun: str) -> str:
    """Return a count and its noun: ``1 seed``, ``2 seeds``."""
    return f"1 {noun}" if count == 1 else f"{count} {noun}s"
