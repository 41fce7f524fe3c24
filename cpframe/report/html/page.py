"""The whole page: its head, which forbids the browser to fetch anything, the sections, and facts about the study."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from cpframe.analysis.critical_periods import THRESHOLD
from cpframe.analysis.findings import Findings
from cpframe.records.model import StudyRecord
from cpframe.report.figures import FIGURES
from cpframe.report.figures.gallery import draw
from cpframe.report.formatting import printable
from cpframe.report.html.about import study_facts
from cpframe.report.html.labels import Labels
from cpframe.report.html.layout import Page
from cpframe.report.html.markup import Html, concatenate, element
from cpframe.report.sections import choose_sections
from cpframe.report.wording.study import UNTITLED, origin_facts

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"


def html_page(study: StudyRecord, threshold: float = THRESHOLD) -> str:
    """Return the report on a study as one HTML document.

    Args:
        study: the study, finished or not; sections without data are left out.
        threshold: the largest drop that counts as recovered, as a fraction of 1.

    Returns:
        The document. It contains its styles and pictures and no script, so the browser fetches nothing.
    """
    findings = Findings(study, threshold)
    drawings, _ = draw(findings, FIGURES)
    title = printable(study.title) or UNTITLED
    sections = list(_sections(Page(findings, Labels(study), drawings)))
    links = (element("li", element("a", name, href=f"#{key}")) for key, name, _ in sections)
    header = element("p", "cpframe report", class_="note"), element("h1", title), _origin(study)
    body = element(
        "body",
        element("header", *header),
        element("nav", element("ul", *links), aria_label="Sections"),
        element(
            "main",
            *(
                element("section", element("h2", name, id=f"{key}-title"), body, id=key, aria_labelledby=f"{key}-title")
                for key, name, body in sections
            ),
        ),
    )
    return f"<!DOCTYPE html>\n{element('html', _head(title), body, lang='en')}\n"


def _head(title: str) -> Html:
    style = resources.files("cpframe.report.html").joinpath("page.css").read_text(encoding="utf-8")
    return element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", name="referrer", content="no-referrer"),
        Html('<link rel="icon" href="data:,">'),  # without it the browser requests an icon
        element("title", f"{title} - cpframe"),
        Html(f"<style>\n{style}</style>"),
    )


def _origin(study: StudyRecord) -> Html:
    return element("p", " · ".join(origin_facts(study)), class_="note")


def _sections(page: Page) -> Iterator[tuple[str, str, Html]]:
    """Yield the anchor, title and contents of every section that has contents, then the facts about the study."""
    for section in choose_sections():
        if section.html is None:
            continue
        others = [one.name for one in FIGURES if one.section == section.name and one.name not in section.figures]
        figures = (part for name in others for part in page.with_figures(name))
        if contents := concatenate((*figures, *section.html(page))):
            yield section.name, section.title, contents
    yield "about", "About this study", concatenate(study_facts(page))
