"""`cpframe plot` and `cpframe report --html`: the figures and the HTML page of a study, written to files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from cpframe.analysis.critical_periods import THRESHOLD
from cpframe.analysis.findings import Findings
from cpframe.errors import NothingToDrawError, require_extra
from cpframe.records.model import StudyRecord
from cpframe.report.figures import FIGURES, Format
from cpframe.report.formatting import printable
from cpframe.store import StoreError, write_atomically

ALL = "all"
"""The name that stands for all figures for which the study has data."""

_WITH_GLYPHS = Format.PNG, Format.PDF  # an SVG holds text, for which its viewer chooses a font


def plot(study: StudyRecord, figures: Sequence[str], formats: Sequence[str], folder: Path) -> Iterator[str]:
    """Draw figures and write them to files.

    Args:
        study: the study, which need not be complete.
        figures: names of figures in `FIGURES`, or `ALL`.
        formats: file formats, values of `Format`.
        folder: the folder for the files ``NAME.FORMAT``; it is created, and existing files are replaced.

    Yields:
        The path of each file written, then a line about letters that the font lacks, if there are any, and with `ALL`
        a line for each figure that lacks data.

    Raises:
        ValueError: if a figure or a format is unknown.
        NotInstalledError: if matplotlib is not installed.
        NothingToDrawError: if a figure that was named lacks data, or all figures do; nothing is written then.
        StoreError: if a file cannot be written.
    """
    by_name = {figure.name: figure for figure in FIGURES}
    _check_names("figure", figures, [*by_name, ALL])
    _check_names("format", formats, list(Format))
    chosen = FIGURES if ALL in figures else [by_name[name] for name in dict.fromkeys(figures)]
    with require_extra("a figure", "plot"):
        from cpframe.report.figures.gallery import draw
        from cpframe.report.figures.missing_glyphs import collect_missing_glyphs
        from cpframe.report.figures.style import render

    drawn, missing = draw(Findings(study), chosen)
    failed = [name for name in missing if name in figures] or ([] if drawn else list(missing))
    if failed:
        raise NothingToDrawError("\n".join(f"{name}: {missing[name]}" for name in failed))
    _make_folder(folder)
    boxes: set[str] = set()
    for drawing in (drawing for drawings in drawn.values() for drawing in drawings):
        for format_ in (format_ for format_ in Format if format_ in formats):
            path = folder / f"{drawing.stem}.{format_}"
            with collect_missing_glyphs() as letters:
                content = render(drawing.figure, format_)
            write_atomically(path, content)
            boxes |= letters if format_ in _WITH_GLYPHS else set()
            yield str(path)
    if boxes:
        yield f"the font lacks these letters, which are drawn as empty boxes: {printable(''.join(sorted(boxes)))}"
    yield from (f"left out: {name}: {reason}" for name, reason in missing.items())


def _check_names(kind: str, names: Iterable[str], known: Sequence[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"unknown {kind} {name!r}; known {kind}s: {', '.join(known)}")


def write_page(study: StudyRecord, path: Path, threshold: float = THRESHOLD) -> str:
    """Write the report on a study as one self-contained HTML page.

    Args:
        study: the study, which need not be complete.
        path: the file, which is replaced if it exists; its folder is created.
        threshold: the drop below which a deficit counts as recovered, see `cpframe.analysis.findings.Findings`.

    Returns:
        The path.

    Raises:
        NotInstalledError: if matplotlib, which draws the figures in the page, is not installed.
        StoreError: if the file cannot be written.
    """
    content = page_text(study, threshold).encode()
    _make_folder(path.parent)
    write_atomically(path, content)
    return str(path)


def page_text(study: StudyRecord, threshold: float = THRESHOLD) -> str:
    """Return the page of `write_page` as text.

    Raises:
        NotInstalledError: if matplotlib, which draws the figures in the page, is not installed.
    """
    with require_extra("a page with figures", "plot"):
        from cpframe.report.html.page import html_page

    return html_page(study, threshold)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from None
