"""The list of sections: a section that is added to it is in the terminal, the document, the page and the choices."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from rich.console import Console, RenderableType
from rich.text import Text

from cpframe.analysis.findings import Findings
from cpframe.commands.report import Report
from cpframe.records.model import StudyRecord
from cpframe.report import sections
from cpframe.report.figures import FIGURES, Drawing
from cpframe.report.html.markup import Html, element
from cpframe.report.json_document import study_document
from cpframe.report.sections.section import Section
from cpframe.report.terminal.layout import View
from cpframe.report.terminal.render import render

if TYPE_CHECKING:
    from cpframe.report.html.layout import Page


def _terminal(view: View) -> Iterator[RenderableType]:
    yield Text(f"{len(view.study.trajectories)} trajectories, {'all' if view.full else 'some'} shown")


def _html(page: Page) -> Iterator[Html]:
    yield element("p", f"{len(page.findings.study.trajectories)} trajectories on the page")


def _document(findings: Findings) -> object:
    return {"trajectories": len(findings.study.trajectories)}


TOY = Section("census", "Census", "the number of trajectories", _terminal, _html, _document)


@pytest.fixture
def with_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The list of sections, with one more at its end."""
    monkeypatch.setattr(sections, "SECTIONS", (*sections.SECTIONS, TOY))


def printed(study: StudyRecord, *names: str) -> str:
    stream = io.StringIO()
    render(study, Console(file=stream, width=80), names)
    return stream.getvalue()


@pytest.mark.needs_extra("plot")
@pytest.mark.usefixtures("with_toy")
def test_an_added_section_is_in_every_form_of_the_report(study: StudyRecord) -> None:
    from cpframe.report.html.page import html_page

    assert printed(study).endswith("\n170 trajectories, some shown\n")
    assert printed(study, "census") == "170 trajectories, all shown\n"
    document = study_document(study)
    assert (list(document)[-1], document["census"]) == ("census", {"trajectories": 170})
    assert list(study_document(study, ("census",))) == ["schema_version", "study", "census"]
    page = html_page(study)
    assert '<li><a href="#census">Census</a></li>' in page
    assert '<section id="census" aria-labelledby="census-title">' in page
    assert "170 trajectories on the page" in page
    assert page.index('id="controls"') < page.index('id="census"') < page.index('id="about"')


@pytest.mark.usefixtures("with_toy")
def test_an_added_section_is_a_choice_of_a_report(study: StudyRecord) -> None:
    assert Report(study, ("census",)).sections == ("census",)
    assert sections.describe_sections().endswith("\n\ncensus: the number of trajectories")
    with pytest.raises(ValueError, match=r"unknown section 'cens'; did you mean 'census'\? Known sections: 'census', "):
        Report(study, ("cens",))


def test_without_the_toy_it_is_unknown(study: StudyRecord) -> None:
    with pytest.raises(ValueError, match="unknown section 'census'"):
        Report(study, ("census",))


ADDED = """
from cpframe.report import sections
from cpframe.report.sections.section import Section
toy = Section("census", "Census", "the number of trajectories", lambda view: (), None, lambda findings: 0)
sections.SECTIONS = (*sections.SECTIONS, toy)
import sys
from cpframe.cli import app
sys.argv = ["cpframe", "report", "--help"]
app()
"""


def test_an_added_section_is_a_choice_on_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-c", ADDED], capture_output=True, text=True, check=True)
    assert "census: the number of trajectories" in " ".join(done.stdout.replace("│", " ").split())


@pytest.mark.needs_extra("plot")
def test_a_section_without_a_page_is_left_out_there(study: StudyRecord, monkeypatch: pytest.MonkeyPatch) -> None:
    from cpframe.report.html.page import html_page

    monkeypatch.setattr(sections, "SECTIONS", (Section("census", "Census", "", _terminal, None, _document),))
    page = html_page(study)
    assert "census" not in page
    assert 'id="about"' in page


def test_names_are_distinct_and_explained_to_users() -> None:
    names = sections.section_names()
    assert len(set(names)) == len(names)
    guide = (Path(sections.__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    assert [name for name in names if f"\n## `{name}`: " not in guide] == []
    assert all(section.title and section.summary for section in sections.SECTIONS)


@pytest.mark.needs_extra("plot")
def test_every_figure_is_placed_once(study: StudyRecord) -> None:
    from cpframe.report.html.labels import Labels
    from cpframe.report.html.layout import Page

    names = sections.section_names()
    assert all(figure.section in names for figure in FIGURES)
    placed = []

    class Drawings(dict[str, list[Drawing]]):
        def get(self, name: str, default: object = None) -> object:
            placed.append(name)
            return default

    page = Page(Findings(study), Labels(study), Drawings())
    for section in sections.SECTIONS:
        assert section.html is not None
        list(section.html(page))
        assert {figure.name for figure in FIGURES if figure.section == section.name} >= set(section.figures)
    assert sorted(placed) == sorted(name for section in sections.SECTIONS for name in section.figures)


def test_the_list_is_read_without_heavy_packages() -> None:
    heavy = ("torch", "h5py", "matplotlib", "numpy", "scipy", "rich")
    code = f"import sys, cpframe.report.sections; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
