"""Texts broken into lines by the width that their letters have, not by their number."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from matplotlib.text import Text
from rich.cells import cell_len

from cpframe.report.formatting import shorten

_WORD = re.compile(r"\[\d+, \d+\)[^ ]*|[^ ]+")  # a window is one word; so is what a no-break space holds together
_SHORT = 12  # letters; shorter words stay whole


def broken(text: Text, room: float, most: int) -> str:
    """What a text says, in lines that fit; the text itself stays.

    Args:
        text: in its figure, with its font.
        room: the most that a line can be wide, in pixels.
        most: how many lines there are to be; for that long words are shortened in their middle, as far as it goes.
    """
    whole = text.get_text()

    def fits(line: str) -> bool:
        text.set_text(line)
        return text.get_window_extent().width <= room

    words = _WORD.findall(whole)
    lines = _lines(words, fits)
    while len(lines) > most and len(longest := max(words, key=len)) > _SHORT:
        words[words.index(longest)] = shorten(longest, max(_SHORT, cell_len(longest) * 9 // 10))
        lines = _lines(words, fits)
    text.set_text(whole)
    return "\n".join(lines)


def _lines(words: Iterable[str], fits: Callable[[str], bool]) -> list[str]:
    lines = [""]
    for word in words:
        joined = f"{lines[-1]} {word}".lstrip()
        if fits(joined):
            lines[-1] = joined
            continue
        lines += [""] * bool(lines[-1])
        for letter in word:  # as many to a line as there is room for, one at least
            if lines[-1] and not fits(lines[-1] + letter):
                lines.append("")
            lines[-1] += letter
    return lines
