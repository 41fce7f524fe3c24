"""HTML from Python: elements whose text is escaped, whatever a results file holds."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_VOID = {"meta", "br", "hr", "wbr"}


class Html(str):
    """Markup that is finished; all other strings are text, and escaped."""

    __slots__ = ()


def escaped(text: str) -> Html:
    """The text as HTML shows it; control characters, which HTML does not allow, are replaced."""
    if isinstance(text, Html):
        return text
    shown = "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
    return Html(html.escape(shown, quote=True))


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """One element.

    Args:
        name: of it.
        children: markup, or text to be escaped.
        attributes: an underscore stands for a hyphen, but at the end of a name for nothing: ``class_``, ``aria_label``.
    """
    told = "".join(
        f' {key.removesuffix("_").replace("_", "-")}="{escaped(value)}"' for key, value in attributes.items()
    )
    if name in _VOID:
        return Html(f"<{name}{told}>")
    return Html(f"<{name}{told}>{''.join(map(escaped, children))}</{name}>")


def joined(parts: Iterable[str], between: str = "") -> Html:
    """Several pieces one after the other."""
    return Html(escaped(between).join(map(escaped, parts)))


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes:
        title: in a word or two.
        number: whether its cells are numbers, which are set flush right.
    """

    title: str
    number: bool = True


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Html:
    """A table in a box of its own, which scrolls where the page is too narrow; its first column names the rows.

    Args:
        caption: says what it has; also the name of the box for those who cannot see it.
        columns: with their titles.
        rows: cells, markup or text, as many as there are columns.
    """
    heads = [element("th", column.title, scope="col", class_=_kind(column)) for column in columns]
    body = []
    for first, *others in rows:
        cells = [element("td", cell, class_=_kind(column)) for column, cell in zip(columns[1:], others, strict=True)]
        body.append(element("tr", element("th", first, scope="row", class_=_kind(columns[0])), *cells))
    return element(
        "div",
        element(
            "table",
            element("caption", element("span", caption)),  # which stays while the rest scrolls
            element("thead", element("tr", *heads)),
            element("tbody", *body),
        ),
        class_="scroll",
        role="region",
        aria_label=caption,
        tabindex="0",
    )


def _kind(column: Column) -> str:
    return "number" if column.number else "text"
