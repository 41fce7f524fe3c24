"""Figures as files, and the published points on them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import pytest
from matplotlib.image import imread

from cpframe.analysis.findings import Findings
from cpframe.commands.plot import check_choices, plot
from cpframe.errors import NothingToDrawError, SpecError
from cpframe.records.model import StudyRecord
from cpframe.report.figures import FIGURES, FORMATS, Format, published
from cpframe.report.figures.gallery import draw
from cpframe.report.figures.missing_glyphs import letters_noted
from cpframe.report.figures.style import rendered
from cpframe.store import StoreError

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


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_results_give_the_same_bytes(study: StudyRecord, form: Format) -> None:
    files = []
    for _ in range(2):
        figures, _ = draw(Findings(study), FIGURES)
        files.append([rendered(d.figure, form) for drawings in figures.values() for d in drawings])
    assert files[0] == files[1]
    assert len(files[0]) == 5
    for content in files[0]:
        assert b"<dc:date>" not in content
        assert b"CreationDate" not in content


def test_settings_of_the_user_neither_show_nor_change(study: StudyRecord) -> None:
    figures, _ = draw(Findings(study), ["removal"])
    plain = rendered(figures["removal"][0].figure, "svg")
    with mpl.rc_context({"font.size": 20, "axes.grid": True, "svg.fonttype": "path"}):
        figures, _ = draw(Findings(study), ["removal"])
        assert rendered(figures["removal"][0].figure, "svg") == plain
        assert mpl.rcParams["font.size"] == 20


def test_png_is_read_at_300_dots_an_inch(study: StudyRecord) -> None:
    figures, _ = draw(Findings(study), ["removal"])
    content = rendered(figures["removal"][0].figure, "png")
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert imread(io.BytesIO(content), "png").shape[1] == 1050


def test_svg_has_its_letters_as_letters(study: StudyRecord) -> None:
    figures, _ = draw(Findings(study), ["removal"])
    root = ElementTree.fromstring(rendered(figures["removal"][0].figure, "svg"))
    letters = {node.text for node in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"epoch of removal", "final accuracy, %", "no deficit", "blur"} <= letters


def test_pdf_embeds_its_letters(study: StudyRecord) -> None:
    figures, _ = draw(Findings(study), ["removal"])
    content = rendered(figures["removal"][0].figure, "pdf")
    assert content.startswith(b"%PDF-")
    assert content.rstrip().endswith(b"%%EOF")
    assert b"/FontFile2" in content  # TrueType, whole glyphs
    assert b"/Type3" not in content


def test_files_are_named_and_what_is_missing_is_told(study: StudyRecord, tmp_path: Path) -> None:
    told = list(plot(study, ["all"], ["svg", "png"], tmp_path / "deep" / "figures"))
    made = sorted(path.name for path in (tmp_path / "deep" / "figures").iterdir())
    names = ("fisher", "layers", "link", "removal", "sensitivity")
    assert made == [f"{name}.{form}" for name in names for form in ("png", "svg")]
    assert [Path(line).name for line in told[:4]] == [
        "removal.png",
        "removal.svg",
        "sensitivity.png",
        "sensitivity.svg",
    ]
    assert [line.split(":")[1].strip() for line in told[-2:]] == ["gradients", "filters"]


def test_a_figure_asked_for_that_cannot_be_drawn_writes_nothing(study: StudyRecord, tmp_path: Path) -> None:
    with pytest.raises(NothingToDrawError, match=r"gradients: no gradients by layer.*gradient"):
        list(plot(study, ["removal", "gradients"], ["png"], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_study_without_anything_to_draw_says_what_every_figure_lacks(new_study: NewStudy, tmp_path: Path) -> None:
    with pytest.raises(NothingToDrawError) as caught:
        list(plot(new_study(until=(), onsets=(), metrics=False), ["all"], ["png"], tmp_path / "out"))
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == list(FIGURES)


def test_a_folder_that_cannot_be_made_is_told(study: StudyRecord, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*cannot be written"):
        list(plot(study, ["removal"], ["png"], tmp_path / "file" / "figures"))


def test_choices_are_named() -> None:
    check_choices([*FIGURES, "all"], FORMATS)
    with pytest.raises(SpecError) as caught:
        check_choices(["removals"], ["jpg"])
    assert "--figure removals: is not a figure; there are removal, sensitivity" in str(caught.value)
    assert "--format jpg: is not a format; there are png, svg, pdf" in str(caught.value)


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
    figures, _ = draw(Findings(made), ["removal", "fisher"])
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
    assert published.published_blurs(published_study(new_study)) == {"blur"}
    assert not published.published_blurs(published_study(new_study, SPEC.replace(old, new, 1)))


@pytest.mark.parametrize("fact", ["profile", "overrides"])
def test_no_published_point_where_the_spec_was_changed_on_the_way(new_study: NewStudy, fact: str) -> None:
    assert not published.published_blurs(published_study(new_study, **{fact: "cpu"}))


@pytest.mark.parametrize(("forms", "told"), [(["png", "svg"], True), (["svg"], False)])
def test_letters_without_a_glyph_are_told_in_one_line(
    new_study: NewStudy, tmp_path: Path, forms: list[str], told: bool
) -> None:
    name = "\u767d\u5185\U0001f642"
    made = new_study(effects={name: lambda onset, offset: 0.01}, deficits={name: "blur"}, seeds=(0, 1))
    lines = list(plot(made, ["removal", "fisher"], forms, tmp_path))  # a warning would be an error
    assert len(lines) == 2 * len(forms) + told
    if told:
        assert lines[-1] == "figures lack the letters \u5185\u767d\U0001f642: their font has none"


def test_other_warnings_reach_the_user() -> None:
    with pytest.warns(UserWarning, match="something else"), letters_noted() as lacking:
        warnings.warn("something else", UserWarning, stacklevel=1)
    assert not lacking
