"""HTML from Python: elements whose text is escaped, whatever a results file contains."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_VOID = {"meta", "br", "hr", "wbr"}


class Html(str):
    """Finished markup. All other strings are text and are escaped."""

    __slots__ = ()


def escape(text: str) -> Html:
    """Return text as markup; control characters, which HTML does not allow, are replaced."""
    if isinstance(text, Html):
        return text
    shown = "".join(c if c.isprintable() or c in "\n\t" else "�" for c in text)
    return Html(html.escape(shown, quote=True))


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """Return one element.

    Args:
        name: the name of the element.
        children: markup, or text to be escaped.
        attributes: the attributes. An underscore in a name stands for a hyphen (``aria_label``); one at its end is
            dropped (``class_``).
    """
    written = "".join(
        f' {key.removesuffix("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items()
    )
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{''.join(map(escape, children))}</{name}>")


def concatenate(parts: Iterable[str], between: str = "") -> Html:
    """Return several pieces of markup or text one after the other."""
    return Html(escape(between).join(map(escape, parts)))


@dataclass(frozen=True)
class Column:
    """The head of a column.

    Attributes:
        title: the name of the column.
        number: whether its cells are numbers, which are aligned right.
    """

    title: str
    number: bool = True


def table(caption: str, columns: Sequence[Column], rows: Iterable[Sequence[str]]) -> Html:
    """Return a table in a box that scrolls if the page is too narrow; the first column has the names of the rows.

    Args:
        caption: the title of the table; also the name of the box for screen readers.
        columns: the columns.
        rows: the cells of each row, markup or text, one per column.
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
            element("caption", element("span", caption)),  # the span stays in place while the rest scrolls
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
