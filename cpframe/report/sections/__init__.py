"""The sections of a report, one module each, and the one list of them.

The terminal report, the HTML page, the JSON document and the help of ``--section`` all read `SECTIONS`. A module
defines a `Section`: its name, title and summary, and three functions that show the findings in the terminal, on the
page and in JSON. Parts that several sections share are in `cpframe.report.terminal`, `cpframe.report.html` and
`cpframe.report.json_values`; the words are in `cpframe.report.wording`.

To add a section, write a module here with a `SECTION` and add it to the list. Import heavy packages inside its
functions: the command line reads the list for its help text.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpframe.report.sections import controls, curves, layers, link, metrics, phases, plasticity, verdict
from cpframe.report.sections.section import Section

SECTIONS: tuple[Section, ...] = (
    verdict.SECTION,
    curves.SECTION,
    phases.SECTION,
    layers.SECTION,
    plasticity.SECTION,
    link.SECTION,
    metrics.SECTION,
    controls.SECTION,
)
"""All sections, in the order of the report."""


def section_names() -> tuple[str, ...]:
    """Return the names of all sections, in the order of the report."""
    return tuple(section.name for section in SECTIONS)


def choose_sections(names: Sequence[str] = ()) -> tuple[Section, ...]:
    """Return the sections with these names, in the order of the report and each once; all sections without any name.

    Raises:
        KeyError: if there is no section of that name.
    """
    for name in names:
        if name not in section_names():
            raise KeyError(name)
    return tuple(section for section in SECTIONS if not names or section.name in names)


def describe_sections() -> str:
    """Return the name and the summary of every section, one paragraph each, for a help text."""
    return "\n\n".join(f"{section.name}: {section.summary}" for section in SECTIONS)
