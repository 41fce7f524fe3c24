"""The page read as a document: its numbers, its structure, and that it asks for nothing and runs nothing."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

pytest.importorskip("matplotlib", reason="matplotlib missing: pip install 'cpframe[plot]'")
from cpframe.commands.plot import write_page
from cpframe.records.model import CLEAN, StudyRecord, TrajectoryRecord
from cpframe.report.html.markup import Html, element, escape
from cpframe.report.html.page import html_page
from cpframe.store import StoreError

pytestmark = pytest.mark.needs_extra("plot")

NewStudy = Callable[..., StudyRecord]
CutShort = Callable[..., TrajectoryRecord]
Attributes = dict[str, str]

VOID = {"meta", "link", "br", "hr", "wbr"}


class Document(HTMLParser):
    """The elements of a page; every end tag must close the element opened last."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, Attributes]] = []
        self.tables: list[list[list[str]]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data

    def all(self, tag: str) -> list[Attributes]:
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.fixture(scope="module")
def page(study: StudyRecord) -> str:
    return html_page(replace(study, spec='title = "A & B"\n[dataset]\nuse = "digits"\n'))


@pytest.fixture(scope="module")
def document(page: str) -> Document:
    return Document(page)


def words(document: Document) -> str:
    return " ".join(" ".join(document.text).split())


def scores(study: StudyRecord, **wanted: object) -> dict[int, float]:
    found = [t for t in study.trajectories if all(getattr(t, key) == value for key, value in wanted.items())]
    return {t.seed: t.score for t in found if math.isfinite(t.score)}


def test_the_verdict_comes_first_with_its_numbers(document: Document, study: StudyRecord) -> None:
    text = words(document)
    reference = scores(study, protocol="removal", deficit=CLEAN)
    drops = {}
    for until in (5, 10, 20, 40, 80):
        reached = scores(study, protocol="removal", deficit="blur", offset=until)
        drops[until] = [reference[seed] - score for seed, score in reached.items()]
    worst = max(drops, key=lambda until: float(np.mean(drops[until])))
    ends = stats.ttest_1samp(drops[worst], 0.0).confidence_interval(0.99)  # five epochs are compared
    size = f"{100 * np.mean(drops[worst]):.1f}±{50 * (ends.high - ends.low):.1f}"
    assert f"blur SCAR The drop after removal at epoch {worst} is {size} points (n = 5)." in text
    assert text.index("Verdict") < text.index("SCAR") < text.index("Epoch of removal")
    assert "flip no effect found" in text


def test_removal_table_has_the_numbers_of_the_paired_t_test(document: Document, study: StudyRecord) -> None:
    table = document.tables[0]
    assert [" ".join(cell.split()) for cell in table[0]] == ["until epoch", "● blur", "■ noise", "▲ flip", "◇ idle"]
    reference = scores(study, protocol="removal", deficit=CLEAN)
    for row in table[1:]:
        for deficit, cell in zip(("blur", "noise", "flip", "idle"), row[1:], strict=True):
            reached = scores(study, protocol="removal", deficit=deficit, offset=int(row[0]))
            drops = [reference[seed] - reached[seed] for seed in range(5)]
            ends = stats.ttest_1samp(drops, 0.0).confidence_interval(0.95)
            number = f"{100 * np.mean(drops):.1f}".replace("-0.0", "0.0")
            sign = "▼" if ends.low > 0 else "▲" if ends.high < 0 else ""
            end = f"{100 * np.mean(list(reached.values())):.1f}%, n = 5"
            assert cell.split() == [f"{number}±{50 * (ends.high - ends.low):.1f}", *sign, *end.split()]
    assert [row[0] for row in table[1:]] == ["5", "10", "20", "40", "80"]


def test_the_page_has_every_section(document: Document) -> None:
    titles = [attributes["id"] for attributes in document.all("section")]
    assert titles == ["verdict", "curves", "phases", "layers", "plasticity", "link", "metrics", "controls", "about"]
    text = words(document)
    for words_of_a_section in (
        "Phases: fisher",
        "Information plasticity",
        "Missing controls",
        "weight-norm",
        "[dataset]",
        "170 complete",
    ):
        assert words_of_a_section in text
    links = [attributes["href"] for attributes in document.all("a")]
    assert links == [f"#{title}" for title in titles]


def test_the_page_asks_for_nothing_and_runs_nothing(page: str, document: Document) -> None:
    assert not document.all("script")
    for _, attributes in document.elements:
        assert not any(key.startswith("on") for key in attributes)
        for key in ("src", "href", "xlink:href", "action", "data"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    (policy,) = [a["content"] for a in document.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none';")
    assert "script-src" not in policy
    assert not re.findall(r"https?:", page.replace("http-equiv", ""))
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)


def test_headings_are_in_order_and_named_once(document: Document) -> None:
    levels = [int(tag[1]) for tag, _ in document.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    ids = [attributes["id"] for _, attributes in document.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {href[1:] for _, a in document.elements for key, href in a.items() if key == "href" and href.startswith("#")}
    used |= {clip for _, a in document.elements for clip in re.findall(r"url\(#([^)]+)\)", " ".join(a.values()))}
    assert used <= set(ids)


def test_figures_and_tables_can_be_read_without_seeing_them(document: Document) -> None:
    drawings = document.all("svg")
    assert len(drawings) == 5
    for drawing in drawings:
        assert drawing["role"] == "img"
        assert len(drawing["aria-label"]) > 60
        assert re.fullmatch(r"0 0 252 [\d.]+", drawing["viewbox"])
    assert all(head.get("scope") in ("col", "row") for head in document.all("th"))
    assert len(document.all("caption")) == len(document.all("table"))
    assert document.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in document.all("meta")


def test_letters_in_drawings_are_letters_in_the_colours_of_the_page(page: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    for drawing in drawings:
        assert "#000000" not in drawing
        assert "#ffffff" not in drawing
        assert "<style" not in drawing
        assert "<metadata" not in drawing
    assert ">Epoch of removal</text>" in drawings[0]


NASTY = '</title><script>alert("1")</script><img src=x onerror=alert(1)>&amp;\x1b[2J\x00'


def test_what_a_results_file_holds_stays_text(study: StudyRecord, cut_short: CutShort) -> None:
    members = []
    for t in study.trajectories:
        deficit = NASTY if t.deficit == "blur" else t.deficit
        history = replace(t.history, layers=(NASTY, "conv2", "conv3", "head"))
        history = replace(
            history, metrics={NASTY: t.history.metrics["fisher"], f"<b>{NASTY}": t.history.metrics["weight-norm"]}
        )
        members.append(replace(t, deficit=deficit, variant={NASTY: NASTY}, history=history))
    members[3] = replace(cut_short(members[3], 3, "failed", NASTY), name=NASTY)
    made = replace(
        study,
        title=NASTY,
        spec=NASTY,
        created=NASTY,
        deficits={NASTY: NASTY, "noise": "noise", "flip": "vertical-flip", "idle": "idle"},
        provenance={NASTY: NASTY, "hardware": NASTY},
        trajectories=tuple(members),
    )
    text = html_page(made)
    document = Document(text)
    assert not document.all("script")
    assert not document.all("img")
    assert not any("onerror" in attributes for _, attributes in document.elements)
    assert "\x1b" not in text
    assert "\x00" not in text
    assert 'alert("1")' in words(document)  # as letters


def test_a_study_without_anything_complete_is_a_page(study: StudyRecord, cut_short: CutShort) -> None:
    made = replace(study, trajectories=tuple(cut_short(t, 3, "unfinished", "") for t in study.trajectories))
    document = Document(html_page(made))
    text = words(document)
    assert "No verdict" in text
    assert f"{len(made.trajectories)} unfinished" in text
    assert "nan" not in text.split()


def test_two_seeds_are_not_enough_for_a_verdict(new_study: NewStudy) -> None:
    text = words(Document(html_page(new_study(seeds=(0, 1)))))
    assert "blur not enough seeds" in text
    assert "SCAR" not in text


def test_the_threshold_is_used_and_named(study: StudyRecord) -> None:
    assert "A network has recovered if its drop is at most 0.2 points" in words(
        Document(html_page(study, threshold=0.002))
    )


def test_the_page_is_written_whole_and_its_folder_made(study: StudyRecord, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "page.html"
    assert write_page(study, path) == str(path)
    assert path.read_text(encoding="utf-8") == html_page(study)
    assert [file.name for file in path.parent.iterdir()] == ["page.html"]
    with pytest.raises(StoreError, match="cannot be written"):
        write_page(study, tmp_path / "deep")


def test_elements_escape_text_and_keep_markup() -> None:
    assert element("p", "a < b", Html("<b>c</b>"), class_="x", aria_label='"q"') == (
        '<p class="x" aria-label="&quot;q&quot;">a &lt; b<b>c</b></p>'
    )
    assert element("meta", name="x") == '<meta name="x">'
    assert escape("a\x07b\n") == "a�b\n"


def test_tables_are_there_where_a_figure_cannot_be(study: StudyRecord) -> None:
    # Without its no-deficit pairs, there is nothing to draw of the final accuracies; the terminal has their tables.
    made = replace(study, trajectories=tuple(t for t in study.trajectories if t.deficit != CLEAN))
    page = Document(html_page(made))
    captions = words(page)
    assert "Removal: a deficit from the start, then 60 clean epochs. No run without a deficit is complete." in captions
    assert (
        "Sliding: a deficit of 40 epochs in 120 epochs of training. No run without a deficit has reached epoch 120."
        in captions
    )
    for protocol, table in zip(("removal", "sliding"), page.tables[:2], strict=True):
        for row in table[1:]:
            place = {"offset" if protocol == "removal" else "onset": int(row[0])}
            reached = scores(made, protocol=protocol, deficit="blur", **place)
            assert row[1].split() == ["-", f"{100 * np.mean(list(reached.values())):.1f}%,", "n", "=", "5"]


def test_variants_share_a_question_and_have_a_card_each(new_study: NewStudy) -> None:
    variants = [{"optimizer.momentum": m, "optimizer.lr": 0.1} for m in (0.0, 1 / 3, 0.9)]
    text = html_page(new_study(seeds=(0, 1, 2), variants=variants))
    verdict = text[text.index('id="verdict"') : text.index('id="curves"')]
    assert verdict.count("<h3>") == 2
    for label in ("momentum=0.0", "momentum=0.333", "momentum=0.9"):
        assert verdict.count(f'<p class="variant">{label}</p>') == 6  # two questions, three deficits
    link = text[text.index('<section id="link"') :]
    rows = re.findall(r"momentum=([\d.]+)</td>", link[: link.index("</section>")])
    assert rows == [m for m in ("0.0", "0.333", "0.9") for _ in range(3)]
