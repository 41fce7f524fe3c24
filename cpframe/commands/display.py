"""Renderables of rich as plain text and as HTML, for objects that show themselves in Python and in notebooks."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

_WIDTH = 100
_BLOCK = '<pre style="font-family:monospace;line-height:1.2;white-space:pre;overflow-x:auto">{code}</pre>'


def plain_text(renderable: RenderableType, width: int = _WIDTH) -> str:
    """Return the printed text of a renderable, without escape codes."""
    console = Console(file=io.StringIO(), width=width, color_system=None, force_jupyter=False, highlight=False)
    with console.capture() as captured:
        console.print(renderable)
    return captured.get()


def html_block(renderable: RenderableType, width: int = _WIDTH) -> str:
    """Return the printed text of a renderable as one HTML element, with its colours."""
    console = Console(
        file=io.StringIO(), width=width, record=True, force_terminal=True, force_jupyter=False, highlight=False
    )
    console.print(renderable)
    return console.export_html(inline_styles=True, code_format=_BLOCK)
