"""Figures as files, and the published points on them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

mpl = pytest.importorskip("matplotlib", reason="matplotlib missing: pip install 'cpframe[plot]'")
from matplotlib.image import imread

from cpframe.analysis.findings import Findings
from cpframe.commands.plot import plot
from cpframe.errors import NothingToDrawError
from cpframe.records.model import StudyRecord
from cpframe.report.figures import FIGURES, Drawing, Format, published
from cpframe.report.figures.gallery import draw
from cpframe.report.figures.missing_glyphs import collect_missing_glyphs
from cpframe.report.figures.style import render
from cpframe.store import StoreError

pytestmark = pytest.mark.needs_extra("plot")

NewStudy = Callable[..., StudyRecord]

SPEC = """
[dataset]
use = "cifar10"
[architecture]
use = "all-cnn"
[optimizer]
use = "sgd"
[deficits.blur]
use = "blur"
size = 8
[deficits.flip]
use = "vertical-flip"
[grid]
"optimizer.momentum" = [0.0, 0.9]
"""


@pytest.mark.parametrize("format_", Format)
def test_the_same_results_give_the_same_bytes(study: StudyRecord, format_: Format) -> None:
    files = []
    for _ in range(2):
        figures, _ = draw(Findings(study), FIGURES)
        files.append([render(d.figure, format_) for drawings in figures.values() for d in drawings])
    assert files[0] == files[1]
    assert len(files[0]) == 5
    for content in files[0]:
        assert b"<dc:date>" not in content
        assert b"CreationDate" not in content


def test_settings_of_the_user_neither_show_nor_change(study: StudyRecord) -> None:
    removal = draw_removal(study)
    plain = render(removal.figure, Format.SVG)
    with mpl.rc_context({"font.size": 20, "axes.grid": True, "svg.fonttype": "path"}):
        removal = draw_removal(study)
        assert render(removal.figure, Format.SVG) == plain
        assert mpl.rcParams["font.size"] == 20


def test_png_is_read_at_300_dots_an_inch(study: StudyRecord) -> None:
    removal = draw_removal(study)
    content = render(removal.figure, Format.PNG)
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert imread(io.BytesIO(content), "png").shape[1] == 1050


def test_svg_has_its_letters_as_letters(study: StudyRecord) -> None:
    removal = draw_removal(study)
    root = ElementTree.fromstring(render(removal.figure, Format.SVG))
    letters = {node.text for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"Epoch of removal", "Final accuracy, %", "no deficit", "blur"} <= letters


def test_pdf_embeds_its_letters(study: StudyRecord) -> None:
    removal = draw_removal(study)
    content = render(removal.figure, Format.PDF)
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert b"/FontFile2" in content  # TrueType, whole glyphs
    assert b"/Type3" not in content


def test_files_are_listed_and_figures_without_data_are_named(study: StudyRecord, tmp_path: Path) -> None:
    lines = list(plot(study, ["all"], ["svg", "png"], tmp_path / "deep" / "figures"))
    made = sorted(path.name for path in (tmp_path / "deep" / "figures").iterdir())
    names = ("fisher", "layers", "link", "removal", "sensitivity")
    assert made == [f"{name}.{form}" for name in names for form in ("png", "svg")]
    assert [Path(line).name for line in lines[:4]] == [
        "removal.png",
        "removal.svg",
        "sensitivity.png",
        "sensitivity.svg",
    ]
    assert [line.split(":")[1].strip() for line in lines[-2:]] == ["gradients", "filters"]


def test_a_figure_asked_for_that_cannot_be_drawn_writes_nothing(study: StudyRecord, tmp_path: Path) -> None:
    with pytest.raises(NothingToDrawError, match=r"gradients: no gradients were measured per layer.*gradient"):
        list(plot(study, ["removal", "gradients"], ["png"], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_study_without_anything_to_draw_says_what_every_figure_lacks(new_study: NewStudy, tmp_path: Path) -> None:
    with pytest.raises(NothingToDrawError) as caught:
        list(plot(new_study(until=(), onsets=(), metrics=False), ["all"], ["png"], tmp_path / "out"))
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == [figure.name for figure in FIGURES]


def test_a_folder_that_cannot_be_created_is_refused(study: StudyRecord, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*cannot be written"):
        list(plot(study, ["removal"], ["png"], tmp_path / "file" / "figures"))


@pytest.mark.parametrize(
    ("figure", "format_", "message"),
    [
        ("removals", "png", "unknown figure 'removals'; known figures: removal, sensitivity, .*, link, all"),
        ("removal", "jpg", "unknown format 'jpg'; known formats: png, svg, pdf"),
    ],
)
def test_unknown_names_are_refused(study: StudyRecord, tmp_path: Path, figure: str, format_: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        list(plot(study, [figure], [format_], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def draw_removal(study: StudyRecord) -> Drawing:
    drawings, _ = draw(Findings(study), FIGURES[:1])
    return drawings["removal"][0]


def published_study(new_study: NewStudy, spec: str = SPEC, **provenance: str) -> StudyRecord:
    made = new_study(until=(0, 20, 140), recovery=160, onsets=(), seeds=(0, 1))
    fisher = tuple(
        replace(
            t,
            history=replace(
                t.history, metrics={"fisher": replace(t.history.metrics["fisher"], estimator="Fisher trace (model)")}
            ),
        )
        for t in made.trajectories
    )
    return replace(made, spec=spec, provenance={"numerics": "fast", **provenance}, trajectories=fisher)


def test_the_published_points_lie_over_the_published_experiment(new_study: NewStudy) -> None:
    made = published_study(new_study)
    figures, _ = draw(Findings(made), [figure for figure in FIGURES if figure.name in ("removal", "fisher")])
    (removal,) = figures["removal"][0].figure.axes
    (line,) = [line for line in removal.lines if line.get_marker() == "x"]
    # Fig. 1 of the paper, as it stands in the project's notes.
    assert dict(zip(line.get_xdata(), line.get_ydata(), strict=True)) == {
        0: 93.5, 20: 92.8, 40: 91.8, 60: 89.5, 80: 86.4, 100: 84.1, 120: 82.7, 140: 81.6,
    }  # fmt: skip
    by_title = {panel.get_title(loc="left").split()[0]: panel for panel in figures["fisher"][0].figure.axes}
    marked = {name: [line for line in panel.lines if line.get_marker() == "x"] for name, panel in by_title.items()}
    assert [name for name, lines in marked.items() if lines] == ["blur"]
    points = set(zip(*(map(float, axis) for axis in (marked["blur"][0].get_data())), strict=True))
    assert {(67.5, 620.0), (70.0, 805.0), (99.0, 1800.0), (200.0, 90.0), (200.0, 460.0)} <= points
    for name in ("removal", "fisher"):
        legend = [text.get_text() for text in figures[name][0].figure.legends[0].get_texts()]
        assert "Achille et al. 2019" in legend


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('use = "all-cnn"', 'use = "all-cnn"\nwidth = 0.5'),
        ('use = "all-cnn"', 'use = "resnet18"'),
        ('use = "all-cnn"', 'use = "others/all-cnn"'),
        ('use = "cifar10"', 'use = "cifar100"'),
        ('use = "cifar10"', 'use = "cifar10"\nsize = 16'),
        ('use = "cifar10"', 'use = "cifar10"\ntrain = 2000'),
        ("size = 8", "size = 4"),
        ('"optimizer.momentum" = [0.0, 0.9]', '"architecture.width" = [0.5, 1.0]'),
        ("[dataset]", "not toml"),
    ],
)
def test_no_published_point_lies_over_another_experiment(new_study: NewStudy, old: str, new: str) -> None:
    assert published.published_deficits(published_study(new_study)) == {"blur"}
    assert not published.published_deficits(published_study(new_study, SPEC.replace(old, new, 1)))


@pytest.mark.parametrize("fact", ["profile", "overrides"])
def test_no_published_point_where_the_spec_was_changed_on_the_way(new_study: NewStudy, fact: str) -> None:
    assert not published.published_deficits(published_study(new_study, **{fact: "cpu"}))


@pytest.mark.parametrize(("formats", "warned"), [(["png", "svg"], True), (["svg"], False)])
def test_letters_without_a_glyph_are_reported_in_one_line(
    new_study: NewStudy, tmp_path: Path, formats: list[str], warned: bool
) -> None:
    name = "\u767d\u5185\U0001f642"
    made = new_study(effects={name: lambda onset, offset: 0.01}, deficits={name: "blur"}, seeds=(0, 1))
    lines = list(plot(made, ["removal", "fisher"], formats, tmp_path))  # a warning would be an error
    assert len(lines) == 2 * len(formats) + warned
    if warned:
        assert lines[-1] == ("the font lacks these letters, which are drawn as empty boxes: \u5185\u767d\U0001f642")


def test_other_warnings_reach_the_user() -> None:
    with pytest.warns(UserWarning, match="something else"), collect_missing_glyphs() as letters:
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert not letters
