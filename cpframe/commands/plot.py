"""`cpframe plot` and `cpframe report --html`: figures and pages of a study, written as files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from cpframe.analysis.critical_periods import THRESHOLD
from cpframe.analysis.findings import Findings
from cpframe.errors import NothingToDrawError, Problem, SpecError, require_extra
from cpframe.records.model import StudyRecord
from cpframe.report.figures import FIGURES, FORMATS
from cpframe.report.formatting import printable
from cpframe.store import StoreError, write_atomically

_DRAWN_LETTERS = "png", "pdf"  # in the others they stay text, for which the reader's program has its fonts


def check_choices(figures: Sequence[str], formats: Sequence[str]) -> None:
    """See whether there are such figures and formats.

    Raises:
        SpecError: when not.
    """
    asked = (("--figure", figures, (*FIGURES, "all"), "figure"), ("--format", formats, FORMATS, "format"))
    problems = [
        Problem(f"{option} {name}", "", f"is not a {kind}; there are {', '.join(known)}")
        for option, names, known, kind in asked
        for name in names
        if name not in known
    ]
    if problems:
        raise SpecError(problems)


def plot(study: StudyRecord, figures: Sequence[str], formats: Sequence[str], folder: Path) -> Iterator[str]:
    """Draw figures and write them into a folder, which is made.

    Args:
        study: finished or not.
        figures: names as in `FIGURES`, or ``all``: all that there is data for.
        formats: as in `FORMATS`.
        folder: for the files, ``NAME.FORMAT``; files of that name are replaced.

    Yields:
        A line for each file written, one if there are letters that they show as empty boxes, and one for each figure of
        ``all`` that there is no data for.

    Raises:
        NotInstalledError: without matplotlib.
        NothingToDrawError: when a figure asked for by name has no data, before anything is written; or no figure has.
        StoreError: when a file cannot be written.
    """
    with require_extra("a figure", "plot"):
        from cpframe.report.figures.gallery import draw
        from cpframe.report.figures.missing_glyphs import letters_noted
        from cpframe.report.figures.style import rendered

    names = FIGURES if "all" in figures else tuple(dict.fromkeys(figures))
    drawn, missing = draw(Findings(study), names)
    wanted = [name for name in missing if name in figures] or ([] if drawn else list(missing))
    if wanted:
        raise NothingToDrawError("\n".join(f"{name}: {missing[name]}" for name in wanted))
    _make(folder)
    boxes: set[str] = set()
    for drawings in drawn.values():
        for drawing in drawings:
            for form in (form for form in FORMATS if form in formats):
                path = folder / f"{drawing.stem}.{form}"
                with letters_noted() as lacking:
                    content = rendered(drawing.figure, form)
                write_atomically(path, content)
                boxes |= lacking if form in _DRAWN_LETTERS else set()
                yield str(path)
    if boxes:
        yield f"figures lack the letters {printable(''.join(sorted(boxes)))}: their font has none"
    yield from (f"left out: {name}: {why}" for name, why in missing.items())


def write_page(study: StudyRecord, path: Path, threshold: float = THRESHOLD) -> str:
    """Write the report on a study as one self-contained page of HTML.

    Args:
        study: finished or not.
        path: of the file, which is replaced if it is there; its folder is made.
        threshold: see `cpframe.analysis.findings.Findings`.

    Returns:
        The path.

    Raises:
        NotInstalledError: without matplotlib, which draws the figures in it.
        StoreError: when it cannot be written.
    """
    with require_extra("a page with figures", "plot"):
        from cpframe.report.html.page import html_page

    content = html_page(study, threshold).encode()
    _make(path.parent)
    write_atomically(path, content)
    return str(path)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written: {error.strerror}") from None
