"""The verdicts, in one card for each deficit and variant."""

from __future__ import annotations

from collections.abc import Iterator

from cpframe.analysis.verdicts import Claim
from cpframe.report.html.layout import Page
from cpframe.report.html.markup import Html, element
from cpframe.report.wording.verdicts import (
    NO_VERDICT,
    claim_period_sentence,
    outcome,
    question,
    reasons,
    verdict_notes,
)


def verdict_cards(page: Page) -> Iterator[Html]:
    """Yield a list of cards under every question."""
    if not page.findings.claims:
        yield element("p", NO_VERDICT)
        return
    by_question: dict[str, list[Claim]] = {}
    for claim in page.findings.claims:
        by_question.setdefault(question(claim.group), []).append(claim)
    for text, members in by_question.items():
        yield element("h3", text)
        yield element("ul", *(_card(page, claim) for claim in members), class_="cards")
    yield element("p", verdict_notes(page.findings), class_="note")


def _card(page: Page, claim: Claim) -> Html:
    variant, period = page.labels.names.label(claim.group.variant), claim_period_sentence(page.findings, claim)
    name = element("span", page.labels.name(claim.deficit))
    verdict = element("strong", outcome(claim), class_="claimed" if claim.verdict.kind == "supported" else "open")
    parts = [element("p", name, " ", verdict, class_="verdict")]
    if variant:
        parts.append(element("p", variant, class_="variant"))
    parts.append(element("p", reasons(claim)))
    if period:
        parts.append(element("p", period, class_="when"))
    return element("li", *parts, style=f"--look: {page.labels.colour(claim.deficit)}")
