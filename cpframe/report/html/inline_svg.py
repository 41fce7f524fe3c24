"""Figures inside the page, as SVG with text as text and with the colours of the page."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from cpframe.report.figures import Drawing, Format
from cpframe.report.figures.missing_glyphs import collect_missing_glyphs
from cpframe.report.figures.style import INK, PAPER, QUIET, render
from cpframe.report.html.markup import Html, element

_DROPPED = {"metadata", "style", "title"}  # a style would apply to the whole page
COLOURS = {INK: "currentColor", PAPER: "var(--paper)", QUIET: "var(--quiet)"}
"""The neutral colours of figures and their replacements on the page, which differ on a dark page."""

_LINK = re.compile(r"(url\(#|^#)")


def picture(drawing: Drawing) -> Html:
    """Return a figure with a caption that describes it."""
    caption = element("figcaption", element("b", f"{drawing.title}. "), drawing.description)
    return element("figure", inline_svg(drawing), caption)


def inline_svg(drawing: Drawing) -> Html:
    """Return the drawing as an ``svg`` element for an HTML page.

    Identifiers are prefixed with the stem of the drawing, because other drawings may have the same ones. Black, white
    and grey become colours of the page, so that the drawing can be read on a dark page as well.
    """
    with collect_missing_glyphs():  # the browser has fonts of its own
        content = render(drawing.figure, Format.SVG)
    root = ElementTree.fromstring(content)  # noqa: S314 - made by ourselves just now
    for parent in list(root.iter()):
        for child in list(parent):
            if _local(child.tag) in _DROPPED:
                parent.remove(child)
    for node in root.iter():
        node.tag = _local(node.tag)
        node.attrib = {_local(key): _rewrite(_local(key), value, drawing.stem) for key, value in node.attrib.items()}
    for key in ("width", "height", "version"):
        root.attrib.pop(key, None)
    root.attrib |= {"role": "img", "aria-label": f"{drawing.title}. {drawing.description}", "class": "drawing"}
    return Html(ElementTree.tostring(root, encoding="unicode"))


def _local(name: str) -> str:
    """Return a name without its namespace, which HTML does not need."""
    return name.rpartition("}")[2]


def _rewrite(key: str, value: str, stem: str) -> str:
    if key == "id":
        return f"{stem}-{value}"
    value = _LINK.sub(rf"\g<1>{stem}-", value)
    if key in ("style", "fill", "stroke"):
        for colour, name in COLOURS.items():
            value = value.replace(colour, name)
    return value
