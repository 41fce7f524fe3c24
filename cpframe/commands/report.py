"""What a report can be asked for on the command line, checked before anything is read."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from cpframe.errors import Problem, SpecError
from cpframe.records.model import StudyRecord
from cpframe.report.sections import section_names
from cpframe.report.terminal.render import NARROWEST, WIDEST, render, report_console


@dataclass(frozen=True)
class Asked:
    """A report that can be made.

    Attributes:
        sections: the names of the sections; all of them if empty.
        threshold: as a fraction of 1.
        width: in columns; None for the terminal's.
        as_json: whether it is for machines.
    """

    sections: tuple[str, ...]
    threshold: float
    width: int | None
    as_json: bool


def check_page(asked: Asked) -> None:
    """Check the options of a report that is to be a page of HTML, which has all sections and fits all widths.

    Raises:
        SpecError: if an option does nothing there.
    """
    given = {"--section": asked.sections, "--width": asked.width, "--json": asked.as_json}
    if idle := [option for option, value in given.items() if value]:
        raise SpecError([Problem(option, "", "does nothing for --html; leave one of them out") for option in idle])


def check_report(sections: Sequence[str], threshold: float, width: int | None, *, as_json: bool) -> Asked:
    """Check the options of a report.

    Args:
        sections: names.
        threshold: in points.
        width: in columns.
        as_json: whether it is for machines.

    Raises:
        SpecError: if there is no such section, or no such width or threshold.
    """
    known = section_names()
    problems = [Problem(f"--section {name}", "", _unknown(name, known)) for name in sections if name not in known]
    if not (math.isfinite(threshold) and 0 <= threshold < 100):
        problems.append(
            Problem(f"--threshold {threshold:g}", "", "is no loss in points; from 0 to under 100 are right")
        )
    if width is not None and not NARROWEST <= width <= WIDEST:
        problems.append(Problem(f"--width {width}", "", f"does not do; from {NARROWEST} to {WIDEST} columns are right"))
    if width is not None and as_json:
        problems.append(Problem("--width", "", "does nothing for --json; leave one of them out"))
    if problems:
        raise SpecError(problems)
    return Asked(tuple(sections), threshold / 100, width, as_json)


def _unknown(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    suggestion = f"did you mean {close[0]!r}? Known sections: " if close else "known sections: "
    return f"unknown section; {suggestion}{', '.join(known)}"


def print_report(study: StudyRecord, asked: Asked) -> None:
    """Print a report to the standard output: without escape codes where that is no terminal."""
    if asked.as_json:
        from cpframe.report.json_document import study_document

        print(json.dumps(study_document(study, asked.sections, asked.threshold), indent=1, allow_nan=False))  # noqa: T201
    else:
        render(study, report_console(asked.width), asked.sections, asked.threshold)
