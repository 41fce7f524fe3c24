"""Line breaks for matplotlib texts, by the width of the letters and not by their number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from matplotlib.text import Text
from rich.cells import cell_len

from cpframe.report.formatting import shorten

_WORD = re.compile(r"\[\d+, \d+\)[^ ]*|[^ ]+")  # a window is one word, as is a text with no-break spaces
_SHORTEST = 12  # letters of a shortened word


def wrap_text(text: Text, width: float, max_lines: int | None = None) -> str:
    """Return the string of a text with line breaks; the text itself is not changed.

    Args:
        text: the text, in its figure and with its font.
        width: the largest width of a line, in pixels.
        max_lines: the largest number of lines, which long words are shortened to reach; short words may exceed it.
    """
    whole = text.get_text()

    def fits(line: str) -> bool:
        text.set_text(line)
        return text.get_window_extent().width <= width

    words = _WORD.findall(whole)
    lines = _lines(words, fits)
    while max_lines and len(lines) > max_lines and len(longest := max(words, key=len)) > _SHORTEST:
        words[words.index(longest)] = shorten(longest, max(_SHORTEST, cell_len(longest) * 9 // 10))
        lines = _lines(words, fits)
    text.set_text(whole)
    return "\n".join(lines)


def _lines(words: Iterable[str], fits: Callable[[str], bool]) -> list[str]:
    lines = [""]
    for word in words:
        longer = f"{lines[-1]} {word}".lstrip()
        if fits(longer):
            lines[-1] = longer
            continue
        lines += [""] * bool(lines[-1])
        for letter in word:  # a word wider than a line is split, with at least one letter per line
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return lines
