"""The page in a real browser: it fits a phone and a desktop, requests nothing, logs no errors, and is readable."""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from cpframe.analysis.comparisons import removal_groups
from cpframe.analysis.statistics import estimate
from cpframe.commands.plot import write_page
from cpframe.records.model import MetricHistory, StudyRecord


def _load_session() -> ModuleType:
    """Import the module in the same folder."""
    spec = importlib.util.spec_from_file_location("browser_session", Path(__file__).with_name("browser_session.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["browser_session"] = module
    spec.loader.exec_module(module)
    return module


browser_session = _load_session()
NewStudy = Callable[..., StudyRecord]

pytestmark = [
    pytest.mark.long,
    pytest.mark.needs_extra("plot"),
    pytest.mark.skipif(
        bool(browser_session.missing()), reason=f"no browser: {browser_session.missing()} not on the PATH"
    ),
]

SIZES = """
const boxes = [...document.querySelectorAll('svg.drawing')].map(svg => svg.getBoundingClientRect());
return boxes.map(box => [box.left, box.right, box.width, box.height]);
"""
LETTERS = """
return [...document.querySelectorAll('svg.drawing text')].map(text => {
  const scale = text.getScreenCTM();
  return parseFloat(getComputedStyle(text).fontSize) * Math.hypot(scale.b, scale.d);
});
"""
CONTRASTS = """
const luminance = colour => {
  const [r, g, b] = colour.match(/[0-9.]+/g).map(Number).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = element => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if (!colour.startsWith('rgba(0, 0, 0, 0')) return colour;
  }
  return 'rgb(255, 255, 255)';
};
const found = [];
for (const e of document.querySelectorAll('p, td, th, caption, h1, h2, h3, a, li, strong, small, summary, figcaption,'
    + ' svg.drawing text')) {
  const style = getComputedStyle(e);
  const colour = e.ownerSVGElement ? style.fill : style.color;
  const [a, b] = [luminance(colour), luminance(ground(e))].sort((x, y) => y - x);
  found.push([(a + 0.05) / (b + 0.05), e.tagName + ': ' + e.textContent.trim().slice(0, 40)]);
}
return found;
"""


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[object]:
    with browser_session.browser(tmp_path_factory.mktemp("profile")) as started:
        yield started


@pytest.fixture(scope="module")
def full(new_study: NewStudy) -> StudyRecord:
    """A study that has data for every figure."""
    made = new_study(seeds=(0, 1, 2), variants=({"optimizer.momentum": 0.0}, {"optimizer.momentum": 0.9}))
    members = []
    for t in made.trajectories:
        rng = np.random.default_rng([t.seed, t.onset, t.offset])
        rows = t.history.measured_epoch.size
        norms = MetricHistory(rng.uniform(0.1, 1, (rows, 4)), None, "nat", "", "clean")
        own = ("filter", "channel", "height", "width")
        filters = MetricHistory(rng.normal(0, 1, (rows, 12, 3, 3, 3)), None, "", "weights", "clean", own)
        more = {"gradient-mean": norms, "gradient-std": norms, "filters": filters}
        members.append(replace(t, history=replace(t.history, metrics={**t.history.metrics, **more})))
    return replace(made, trajectories=tuple(members), spec="a line that is far too long for a phone " * 8)


@pytest.fixture(scope="module")
def pages(study: StudyRecord, full: StudyRecord, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    long = replace(study, title="an_identifier_without_a_single_blank_" * 6)
    for name, made in (("plain", study), ("full", full), ("long", long)):
        write_page(made, folder / f"{name}.html")
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("name", ["plain", "full", "long"])
def test_the_page_fits_and_requests_nothing(tab: Any, pages: dict[str, Path], name: str, width: int) -> None:
    tab.resize(width)
    tab.open(pages[name])
    assert tab.run("return innerWidth") == width
    assert tab.run("return document.documentElement.scrollWidth") <= width
    assert tab.run("return performance.getEntriesByType('resource').length") == 0
    assert tab.complaints() == []
    boxes = tab.run(SIZES)
    assert len(boxes) >= 5
    for left, right, wide, high in boxes:
        assert min(wide, high) > 50
        assert left >= 0
        assert right <= width
    letters = tab.run(LETTERS)
    assert len(letters) > 100
    assert min(letters) >= 8  # CSS pixels


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrasts_with_its_background(tab: Any, pages: dict[str, Path], scheme: str, width: int) -> None:
    tab.resize(width)
    tab.prefer(scheme)
    tab.open(pages["full"])
    assert tab.run("return matchMedia('(prefers-color-scheme: dark)').matches") is (scheme == "dark")
    found = tab.run(CONTRASTS)
    assert len(found) > 300
    assert [(ratio, what) for ratio, what in found if ratio < 4.5] == []  # WCAG 2.2, 1.4.3


def test_verdict_and_tables_have_the_numbers_of_the_analysis(
    tab: Any, pages: dict[str, Path], study: StudyRecord
) -> None:
    tab.resize(1200)
    tab.open(pages["plain"])
    assert "SCAR" in tab.run("return document.querySelector('#verdict').innerText")
    rows = tab.run(
        "return [...document.querySelector('#curves table').querySelectorAll('tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.innerText))"
    )
    (group,) = removal_groups(study)
    assert len(rows) == 5
    for row in rows:
        for curve, cell in zip(group.curves, row[1:], strict=True):
            (point,) = [point for point in curve.points if point.at == int(row[0])]
            drop = estimate(point.drops.values())
            number, half = (float(part) for part in cell.split()[0].split("±"))
            assert math.isclose(number, 100 * drop.mean, abs_tol=0.0501)  # one decimal is shown
            assert math.isclose(half, 100 * drop.half_width, abs_tol=0.0501)


def test_wide_tables_scroll_in_their_own_box_by_keyboard(tab: Any, pages: dict[str, Path]) -> None:
    tab.resize(360)
    tab.open(pages["plain"])
    inner, outer, reached = tab.run(
        "const box = document.querySelector('#curves .scroll'); box.focus();"
        "return [box.scrollWidth, box.clientWidth, document.activeElement === box]"
    )
    assert inner > outer
    assert reached is True


def test_all_sections_can_be_read_on_paper(tab: Any, pages: dict[str, Path]) -> None:
    tab.resize(1200)
    tab.prefer("dark")
    tab.devtools("Emulation.setEmulatedMedia", media="print")
    tab.open(pages["plain"])
    assert tab.run("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.run("return document.querySelector('#about pre, #about table').getBoundingClientRect().height") > 0
    tab.devtools("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("width", [360, 1200])
def test_cards_hold_long_names_and_fill_the_page(tab: Any, new_study: NewStudy, tmp_path: Path, width: int) -> None:
    name = "a_deficit_without_a_blank_" * 8
    made = new_study(
        effects={name: lambda onset, offset: 0.01}, deficits={name: "blur"}, seeds=(0, 1, 2), onsets=(), metrics=False
    )
    write_page(made, tmp_path / "page.html")
    tab.resize(width)
    tab.open(tmp_path / "page.html")
    inside, card, main = tab.run(
        "const card = document.querySelector('.cards li'), range = document.createRange();"
        "range.selectNodeContents(card);"
        "return [Math.max(...[...range.getClientRects()].map(box => box.right)), card.getBoundingClientRect().right,"
        " document.querySelector('main').getBoundingClientRect().right]"
    )
    assert inside <= card
    assert math.isclose(card, main, abs_tol=1)
    assert tab.run("return document.documentElement.scrollWidth") <= width
