"""The page's first section: what may be claimed of every deficit, in one card each."""

from __future__ import annotations

from collections.abc import Iterator

from cpframe.analysis.comparisons import RemovalGroup
from cpframe.analysis.findings import Findings
from cpframe.analysis.verdicts import Claim
from cpframe.report.formatting import NONE
from cpframe.report.html.labels import Labels
from cpframe.report.html.markup import Html, element
from cpframe.report.terminal.verdicts import because, outcome, question
from cpframe.report.wording.verdicts import healing_notes, when_words

_NOTHING = "No verdict: no deficit has a complete trajectory and its no-deficit pair."


def verdict_section(findings: Findings, labels: Labels) -> Iterator[Html]:
    """A list of cards under every question, of all variants: a card a deficit and variant."""
    if not findings.claims:
        yield element("p", _NOTHING)
        return
    by_question: dict[str, list[Claim]] = {}
    for claim in findings.claims:
        by_question.setdefault(question(claim.group, ""), []).append(claim)
    for asked, members in by_question.items():
        yield element("h3", asked)
        yield element("ul", *(_card(findings, labels, claim) for claim in members), class_="cards")
    yield element(
        "p",
        "Points (pts) of final accuracy on clean test data, paired by seed; ± and ranges hold at 95 % for all epochs "
        "compared, at once; +: or later, which was not tried.",
        *(f" {text}" for text in healing_notes(findings)),
        class_="note",
    )


def _card(findings: Findings, labels: Labels, claim: Claim) -> Html:
    word, variant = outcome(claim).plain, labels.names.label(claim.group.variant)
    period = _period(findings, claim)
    strong = "claimed" if claim.verdict.kind == "supported" else "open"
    return element(
        "li",
        element(
            "p",
            element("span", labels.name(claim.deficit)),
            " ",
            element("strong", word, class_=strong),
            class_="verdict",
        ),
        *([element("p", variant, class_="variant")] if variant else []),
        element("p", because(claim)),
        *([element("p", period, class_="when")] if period else []),
        style=f"--look: {labels.colour(claim.deficit)}",
    )


def _period(findings: Findings, claim: Claim) -> str:
    """The critical period in words; empty where there are not enough seeds."""
    words = when_words(findings, claim)
    if words == NONE:
        return ""
    if isinstance(claim.group, RemovalGroup):
        return words if words == "not monotone" else f"heals until {words}"
    return (
        f"hurts at no onset{words.removeprefix('never')}" if words.startswith("never") else f"hurts until onset {words}"
    )
