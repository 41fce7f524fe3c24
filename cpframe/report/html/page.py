"""The whole page: its head, which forbids the browser to fetch anything, and its sections, the verdict first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import resources

from cpframe.analysis.critical_periods import THRESHOLD
from cpframe.analysis.findings import Findings
from cpframe.records.model import StudyRecord
from cpframe.report.figures import FIGURES, Drawing
from cpframe.report.figures.gallery import draw
from cpframe.report.formatting import printable
from cpframe.report.html.about import about_section, controls_section, metrics_section
from cpframe.report.html.accuracy import removal_tables, sliding_tables
from cpframe.report.html.fisher import link_table, phase_tables, plasticity_tables
from cpframe.report.html.inline_svg import picture
from cpframe.report.html.labels import Labels
from cpframe.report.html.markup import Html, element, joined
from cpframe.report.html.verdicts import verdict_section

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
_FACTS = ("profile", "hardware", "numerics", "torch", "cpframe")

Drawn = Mapping[str, Sequence[Drawing]]


def html_page(study: StudyRecord, threshold: float = THRESHOLD) -> str:
    """The report on a study as one HTML document.

    Args:
        study: finished or not; sections that there is no data for are left out.
        threshold: see `cpframe.analysis.findings.Findings`.

    Returns:
        The document. It asks the browser for nothing else: no script, and styles and pictures are inside.
    """
    findings = Findings(study, threshold)
    drawn, _ = draw(findings, FIGURES)
    title = printable(study.title) or "untitled study"
    sections = [(name, key, body) for name, key, parts in _sections(findings, drawn) if (body := joined(parts))]
    links = (element("li", element("a", name, href=f"#{key}")) for name, key, _ in sections)
    body = element(
        "body",
        element("header", element("p", "cpframe report", class_="note"), element("h1", title), _made(study)),
        element("nav", element("ul", *links), aria_label="Sections"),
        element(
            "main",
            *(
                element("section", element("h2", name, id=f"{key}-title"), body, id=key, aria_labelledby=f"{key}-title")
                for name, key, body in sections
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
        Html('<link rel="icon" href="data:,">'),  # or the browser asks for one
        element("title", f"{title} - cpframe"),
        Html(f"<style>\n{style}</style>"),
    )


def _made(study: StudyRecord) -> Html:
    facts = [study.created.replace("T", " ")]
    facts += [
        study.provenance[name] if name == "hardware" else f"{name} {study.provenance[name]}"
        for name in _FACTS
        if study.provenance.get(name)
    ]
    return element("p", " · ".join(map(printable, facts)), class_="note")


def _sections(findings: Findings, drawn: Drawn) -> list[tuple[str, str, Iterable[Html]]]:
    """Title, identifier and contents of every section; those that stay empty are not shown."""
    labels = Labels(findings.study)

    def with_figures(name: str, tables: Iterable[Html]) -> Iterable[Html]:
        """The figures and the tables, whichever there are."""
        told = joined(tables)
        if name in drawn:
            figures = element("div", *map(picture, drawn[name]), class_="figures")
            several = len(drawn[name]) > 1
            yield element("div", figures, element("div", told), class_="under" if several else "beside")
        else:
            yield told

    return [
        ("Verdict", "verdict", verdict_section(findings, labels)),
        ("Removal", "removal", with_figures("removal", removal_tables(findings, labels))),
        ("Sensitivity", "sensitivity", with_figures("sensitivity", sliding_tables(findings, labels))),
        ("Fisher information", "fisher", with_figures("fisher", phase_tables(findings, labels))),
        ("Layers and plasticity", "layers", with_figures("layers", plasticity_tables(findings, labels))),
        ("Fisher information and sensitivity", "link", with_figures("link", link_table(findings, labels))),
        ("Gradients", "gradients", with_figures("gradients", ())),
        ("First-layer filters", "filters", with_figures("filters", ())),
        ("Other metrics", "metrics", metrics_section(findings)),
        ("Controls", "controls", controls_section(findings, labels)),
        ("About this study", "about", about_section(findings.study)),
    ]
