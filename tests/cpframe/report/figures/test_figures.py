"""The data in figures against scipy and brute force; pixels are never compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations, pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

pytest.importorskip("matplotlib", reason="matplotlib missing: pip install 'cpframe[plot]'")
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.lines import Line2D
from matplotlib.text import Text

from cpframe.analysis.findings import Findings
from cpframe.records.model import (
    CLEAN,
    FISHER_TRACE,
    GRADIENT_MEAN,
    GRADIENT_STD,
    Floats,
    MetricHistory,
    StudyRecord,
    TrajectoryRecord,
)
from cpframe.report.figures import FIGURES, Drawing, Figure, published
from cpframe.report.figures.filters import tile_filters
from cpframe.report.figures.gallery import draw
from cpframe.report.figures.missing_glyphs import collect_missing_glyphs
from cpframe.report.figures.style import INK, QUIET, figure_style, line_styles
from cpframe.report.formatting import looks

pytestmark = pytest.mark.needs_extra("plot")

NewStudy = Callable[..., StudyRecord]
Values = Callable[[TrajectoryRecord], Floats]


def drawn(name: str, study: StudyRecord) -> list[Drawing]:
    (figure,) = [figure for figure in FIGURES if figure.name == name]
    with figure_style(), collect_missing_glyphs():
        return figure.draw(Findings(study))


def panels(drawing: Drawing) -> list[Axes]:
    return list(drawing.figure.axes)


def line_in(panel: Axes, colour: str) -> Line2D:
    """The line with marks in a colour."""
    (line,) = [
        line for line in panel.lines if to_hex(line.get_color()) == colour and line.get_marker() not in ("None", None)
    ]
    return line


def band_in(panel: Axes, colour: str) -> dict[float, tuple[float, float]]:
    """Lower and upper edge of the band in a colour, by x."""
    (band,) = [c for c in panel.collections if isinstance(c, PolyCollection) and to_hex(c.get_facecolor()[0]) == colour]
    edges: dict[float, tuple[float, float]] = {}
    for x, y in band.get_paths()[0].vertices:
        low, high = edges.get(float(x), (math.inf, -math.inf))
        edges[float(x)] = min(low, float(y)), max(high, float(y))
    return edges


def scores(study: StudyRecord, **wanted: object) -> dict[int, float]:
    found = [t for t in study.trajectories if all(getattr(t, key) == value for key, value in wanted.items())]
    return {t.seed: t.score for t in found if math.isfinite(t.score)}


def interval(sample: list[float] | Floats) -> tuple[float, float]:
    ends = stats.ttest_1samp(sample, 0.0).confidence_interval(0.95)
    return float(ends.low), float(ends.high)


GRADIENTS = {GRADIENT_MEAN, GRADIENT_STD}


def with_metrics(
    study: StudyRecord, metrics: Mapping[str, Values], units: str = "", axes: tuple[str, ...] = ()
) -> StudyRecord:
    """The study with these metrics instead of its own."""
    made = []
    for t in study.trajectories:
        histories = {
            name: MetricHistory(make(t), None, units, "", "clean", axes, name if name in GRADIENTS else "")
            for name, make in metrics.items()
        }
        made.append(replace(t, history=replace(t.history, metrics=histories)))
    return replace(study, trajectories=tuple(made))


def texts(drawing: Drawing) -> str:
    return "\n".join(text.get_text() for text in drawing.figure.findobj(Text) if isinstance(text, Text))


def test_removal_has_the_means_and_intervals_of_the_paired_t_test(study: StudyRecord) -> None:
    (drawing,) = drawn("removal", study)
    (panel,) = panels(drawing)
    reference = scores(study, protocol="removal", deficit=CLEAN)
    start = 100 * float(np.mean(list(reference.values())))
    for deficit in ("blur", "noise", "flip", "idle"):
        line, edges = (
            line_in(panel, line_styles(study)[deficit].colour),
            band_in(panel, line_styles(study)[deficit].colour),
        )
        assert list(line.get_xdata()) == [0, 5, 10, 20, 40, 80]
        assert line.get_ydata()[0] == pytest.approx(start)
        assert edges[0.0] == pytest.approx((start, start))
        for until, y in list(zip(line.get_xdata(), line.get_ydata(), strict=True))[1:]:
            reached = scores(study, protocol="removal", deficit=deficit, offset=until)
            drops = [100 * (reference[seed] - reached[seed]) for seed in range(5)]
            low, high = interval(drops)
            assert y == pytest.approx(start - float(np.mean(drops)))
            assert edges[float(until)] == pytest.approx((start - high, start - low))
    assert panel.get_xlabel() == "Epoch of removal"
    assert panel.get_ylabel() == "Final accuracy, %"
    assert "n = 5 seeds" in texts(drawing)
    assert published.NAME not in texts(drawing)


def test_sensitivity_has_the_means_and_intervals_of_the_paired_t_test(study: StudyRecord) -> None:
    (drawing,) = drawn("sensitivity", study)
    (panel,) = panels(drawing)
    reference = {
        t.seed: float(t.history.test_accuracy[115:120].mean()) for t in study.trajectories if t.protocol == "clean"
    }
    for deficit in ("blur", "noise", "flip", "idle"):
        line, edges = (
            line_in(panel, line_styles(study)[deficit].colour),
            band_in(panel, line_styles(study)[deficit].colour),
        )
        assert list(line.get_xdata()) == [0, 20, 40]
        for onset, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            reached = scores(study, protocol="sliding", deficit=deficit, onset=onset)
            drops = [100 * (reference[seed] - reached[seed]) for seed in range(5)]
            assert y == pytest.approx(float(np.mean(drops)))
            assert edges[float(onset)] == pytest.approx(interval(drops))
    assert panel.get_ylabel() == "Sensitivity,\npercentage points"
    assert panel.get_xlabel() == "Deficit onset, epoch"


def test_a_missing_seed_is_left_out_of_its_point_only_and_counted(study: StudyRecord) -> None:
    (lost,) = [
        t
        for t in study.trajectories
        if (t.protocol, t.deficit, t.offset, t.seed) == ("removal", "blur", 40, 3)
    ]  # fmt: skip
    made = tuple(replace(t, status="failed", score=math.nan) if t is lost else t for t in study.trajectories)
    (drawing,) = drawn("removal", replace(study, trajectories=made))
    line = line_in(panels(drawing)[0], line_styles(study)["blur"].colour)
    reference = scores(study, protocol="removal", deficit=CLEAN)
    reached = scores(study, protocol="removal", deficit="blur", offset=40)
    drops = [reference[seed] - reached[seed] for seed in (0, 1, 2, 4)]
    assert line.get_ydata()[4] == pytest.approx(100 * (np.mean(list(reference.values())) - np.mean(drops)))
    assert "n = 4 to 5 seeds" in texts(drawing)


def test_one_seed_is_drawn_without_a_band(new_study: NewStudy) -> None:
    made = new_study(seeds=(0,))
    (drawing,) = drawn("removal", made)
    edges = band_in(panels(drawing)[0], line_styles(made)["blur"].colour)
    assert edges.keys() <= {0.0}
    assert len(line_in(panels(drawing)[0], line_styles(made)["blur"].colour).get_xdata()) == 6
    assert "n = 1 seed." in texts(drawing)


def test_fisher_is_the_mean_of_the_totals_with_their_interval(study: StudyRecord) -> None:
    (drawing,) = drawn("fisher", study)
    by_title = {panel.get_title(loc="left"): panel for panel in panels(drawing)}
    # The largest drop is that of blur removed at epoch 40: all deficits are shown in this window.
    assert set(by_title) == {f"{deficit} [0, 40)" for deficit in ("blur", "noise", "flip", "idle")}
    for deficit, panel in [(title.split()[0], panel) for title, panel in by_title.items()]:
        for name, wanted in (
            (CLEAN, {"protocol": "clean"}),
            (deficit, {"deficit": deficit, "offset": 40, "protocol": "removal"}),
        ):
            members = [t for t in study.trajectories if all(getattr(t, k) == v for k, v in wanted.items())]
            members = [t for t in members if t.onset == 0]
            totals = np.array([t.history.metrics["fisher"].values.sum(axis=1) for t in members])
            line, edges = (
                line_in(panel, line_styles(study)[name].colour),
                band_in(panel, line_styles(study)[name].colour),
            )
            np.testing.assert_allclose(line.get_ydata(), totals.mean(axis=0))
            for epoch, sample in zip(members[0].history.measured_epoch, totals.T, strict=True):
                assert edges[float(epoch)] == pytest.approx(interval(sample))
        (shade,) = panel.patches
        assert (shade.get_x(), shade.get_x() + shade.get_width()) == (0, 40)
    assert panels(drawing)[0].get_ylabel() == "Fisher trace, nats"
    assert panels(drawing)[0].get_yscale() == "linear"


def test_fisher_turns_to_powers_of_ten_where_a_curve_would_lie_on_the_axis(study: StudyRecord) -> None:
    def constant(t: TrajectoryRecord) -> Floats:
        return np.full((t.history.measured_epoch.size, 4), 1000.0 if t.deficit == "blur" else 1.0)

    made = with_metrics(study, {"fisher": constant})
    made = replace(
        made,
        trajectories=tuple(
            replace(
                t,
                history=replace(t.history, metrics={"f": replace(t.history.metrics["fisher"], quantity=FISHER_TRACE)}),
            )
            for t in made.trajectories
        ),
    )
    (drawing,) = drawn("fisher", made)
    assert {panel.get_yscale() for panel in panels(drawing)} == {"log"}


def test_layer_maps_show_the_share_at_the_nearest_measurement(study: StudyRecord) -> None:
    (drawing,) = drawn("layers", study)
    maps = [panel for panel in panels(drawing) if panel.images]
    titles = [panel.get_title(loc="left") for panel in maps]
    assert titles == ["no deficit", "blur [0, 40)", "noise [0, 40)", "flip [0, 40)", "idle [0, 40)"]
    for panel, wanted in zip(
        maps[:2], ({"protocol": "clean"}, {"deficit": "blur", "offset": 40, "protocol": "removal"}), strict=True
    ):
        members = [t for t in study.trajectories if all(getattr(t, k) == v for k, v in wanted.items()) and t.onset == 0]
        mean = np.mean([t.history.metrics["fisher"].values for t in members], axis=0)
        shown = np.asarray(panel.images[0].get_array())
        left, right, bottom, top = panel.images[0].get_extent()
        assert (left, right) == (4.5, members[0].epochs + 0.5)
        assert bottom > top  # the input's layer lies on top
        epochs = members[0].history.measured_epoch
        for epoch in (5, 7, 8, 61, 64, 100):
            nearest = int(np.abs(epochs - epoch).argmin())
            np.testing.assert_allclose(shown[:, epoch - 5], mean[nearest] / mean[nearest].sum())
    assert [label.get_text() for label in maps[0].get_yticklabels()] == ["conv1", "conv2", "conv3", "head"]


def test_many_layers_are_all_shown_and_some_named(new_study: NewStudy) -> None:
    made = new_study(seeds=(0,), layers=[f"layer{i}" for i in range(60)], onsets=())
    (drawing,) = drawn("layers", made)
    panel = next(panel for panel in panels(drawing) if panel.images)
    assert np.asarray(panel.images[0].get_array()).shape[0] == 60
    names = [label.get_text() for label in panel.get_yticklabels()]
    assert len(names) == 12
    assert names[0] == "layer0"
    assert names[-1] == "layer59"


def test_gradients_are_means_of_logarithms(study: StudyRecord) -> None:
    def norms(scale: float) -> Values:
        def of(t: TrajectoryRecord) -> Floats:
            rng = np.random.default_rng([t.seed, t.offset, t.onset])
            return scale * 10.0 ** rng.normal(0, 1, (t.history.measured_epoch.size, 4))

        return of

    made = with_metrics(study, {"gradient-mean": norms(1.0), "gradient-std": norms(50.0)}, "nat")
    drawings = drawn("gradients", made)
    assert [[panel.get_title(loc="left") for panel in panels(d)[:2]] for d in drawings] == [
        ["no deficit", f"{name} [0, 40)"] for name in ("blur", "noise", "flip")
    ]
    upper_left, upper_right, lower_left, lower_right = panels(drawings[0])
    clean = [t for t in made.trajectories if t.protocol == "clean"]
    blurred = [
        t for t in made.trajectories if t.deficit == "blur" and (t.protocol, t.onset, t.offset) == ("removal", 0, 40)
    ]
    for panel, members, name in (
        (upper_left, clean, "gradient-mean"),
        (upper_right, blurred, "gradient-mean"),
        (lower_left, clean, "gradient-std"),
        (lower_right, blurred, "gradient-std"),
    ):
        assert len(panel.lines) == 4
        for layer, line in enumerate(panel.lines):
            logarithms = [np.log10(t.history.metrics[name].values[:, layer]) for t in members]
            np.testing.assert_allclose(line.get_ydata(), np.mean(logarithms, axis=0), atol=1e-12)
    assert upper_left.get_ylabel() == "log₁₀ norm of the mean"
    assert lower_left.get_ylabel() == "log₁₀ norm of the std"
    assert "nat per unit of weight" in texts(drawings[0]).replace("\n", " ")


def brute_tiles(weights: Floats, columns: int) -> NDArray[np.float64]:
    """Pixel by pixel."""
    count, channels, height, width = weights.shape
    shown = weights if channels == 3 else np.stack([weights.mean(axis=1)] * 3, axis=1)
    reach = np.quantile(np.abs(shown), 0.99)
    rows = -(-count // columns)
    page = np.zeros((rows * (height + 1) - 1, columns * (width + 1) - 1, 4))
    for i in range(count):
        for y in range(height):
            for x in range(width):
                at = (i // columns) * (height + 1) + y, (i % columns) * (width + 1) + x
                page[at] = [*(min(max(0.5 + shown[i, c, y, x] / reach / 2, 0), 1) for c in range(3)), 1]
    return page


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiles_are_arranged_row_by_row(channels: int) -> None:
    weights = np.random.default_rng(0).normal(0, 1, (7, channels, 3, 2))
    np.testing.assert_allclose(tile_filters(weights, 3), brute_tiles(weights, 3))


def test_filters_are_shown_first_and_last_with_and_without(study: StudyRecord) -> None:
    def weights(t: TrajectoryRecord) -> Floats:
        rng = np.random.default_rng([t.seed, t.onset, t.offset])
        values = rng.normal(0, 1, (t.history.measured_epoch.size, 100, 3, 5, 5))
        values[0] = np.nan  # not measured then
        return values

    made = with_metrics(study, {"filters": weights}, axes=("filter", "channel", "height", "width"))
    drawings = drawn("filters", made)
    assert [drawing.stem for drawing in drawings] == ["filters", "filters-2", "filters-3"]
    shown = panels(drawings[0])
    assert [panel.get_title(loc="left") for panel in shown] == [
        "no deficit, epoch 10",
        "no deficit, epoch 140",
        "blur [0, 40), epoch 10",
        "blur [0, 40), epoch 100",
    ]
    (blurred,) = [
        t for t in made.trajectories if (t.protocol, t.deficit, t.offset, t.seed) == ("removal", "blur", 40, 0)
    ]
    values = blurred.history.metrics["filters"].values
    for panel, row in zip(shown[2:], (1, -1), strict=True):
        np.testing.assert_allclose(np.asarray(panel.images[0].get_array()), brute_tiles(values[row, :96], 10))
    assert "the first 96 of 100 filters" in texts(drawings[0]).replace("\n", " ")


def test_link_shows_a_point_an_onset_and_the_fit(new_study: NewStudy) -> None:
    made = new_study(onsets=(0, 10, 20, 30, 40), until=(), noise=0.0)
    (drawing,) = drawn("link", made)
    panel = panels(drawing)[0]
    clean = [t for t in made.trajectories if t.protocol == "clean"]
    totals = np.mean([t.history.metrics["fisher"].values.sum(axis=1) for t in clean], axis=0)
    epochs = clean[0].history.measured_epoch
    reference = {t.seed: float(t.history.test_accuracy[115:120].mean()) for t in clean}
    line = line_in(panel, line_styles(made)["blur"].colour)
    for onset, x, y in zip((0, 10, 20, 30, 40), line.get_xdata(), line.get_ydata(), strict=True):
        reached = scores(made, protocol="sliding", deficit="blur", onset=onset)
        assert x == pytest.approx(100 * np.mean([reference[seed] - reached[seed] for seed in range(5)]))
        assert y == pytest.approx(totals[(epochs > onset) & (epochs <= onset + 40)].mean())
    (fitted,) = [line for line in panel.lines if line.get_linestyle() == "--"]
    x, y = np.asarray(fitted.get_xdata()), np.asarray(fitted.get_ydata())
    slopes = np.diff(y) / np.diff(x)
    ratios = slopes[1:] / slopes[:-1]
    np.testing.assert_allclose(ratios, ratios[0], rtol=1e-6)  # of an exponential, at equal steps
    assert [text.get_text() for text in panel.texts] == ["onset 0", "onset 40"]


def test_variants_are_panels_on_one_scale(new_study: NewStudy) -> None:
    variants = tuple({"architecture.depth": depth} for depth in range(1, 9))
    made = new_study(seeds=(0, 1, 2), variants=variants)
    first, second = drawn("removal", made)
    assert [first.stem, second.stem] == ["removal", "removal-2"]
    titles = [panel.get_title(loc="left") for d in (first, second) for panel in panels(d)]
    assert titles == [f"depth={depth}" for depth in range(1, 9)]
    assert len({panel.get_ylim() for panel in panels(first)}) == 1


def test_looks_are_those_of_the_terminal_report(study: StudyRecord) -> None:
    markers = {"●": "o", "■": "s", "▲": "^", "○": "o", "◇": "D"}
    for name, look in looks(study).items():
        assert line_styles(study)[name].marker == markers[look.glyph]
        assert line_styles(study)[name].hollow is (look.glyph in "○◇")
        if look.style.startswith("#"):
            assert line_styles(study)[name].colour == look.style


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_a_figure_without_data_names_what_the_spec_lacks(new_study: NewStudy, figure: Figure) -> None:
    made = new_study(until=(), onsets=(), metrics=False)
    figures, missing = draw(Findings(made), [figure])
    assert not figures
    assert 'use = "' in missing[figure.name]
    assert "\n" not in missing[figure.name]


def read_texts(drawing: Drawing) -> list[Text]:
    """The texts that are there to be read: ticks out of view have labels as well, which are not drawn."""
    found = [*drawing.figure.texts, *(text for legend in drawing.figure.legends for text in legend.get_texts())]
    for panel in panels(drawing):
        found += [panel.title, panel._left_title, panel.xaxis.label, panel.yaxis.label, *panel.texts]
        for axis in (panel.xaxis, panel.yaxis):
            low, high = sorted(axis.get_view_interval())
            found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    return [text for text in found if text.get_visible() and text.get_text().strip()]


def assert_readable(drawing: Drawing) -> None:
    """Nothing is cut at the edge, and no two texts touch."""
    with figure_style():
        drawing.figure.draw_without_rendering()
        boxes = [(text.get_text(), text.get_window_extent()) for text in read_texts(drawing)]
    width, height = drawing.figure.get_size_inches() * drawing.figure.dpi
    for label, box in boxes:
        assert box.x0 >= -1, label
        assert box.x1 <= width + 1, label
        assert box.y0 >= -1, label
        assert box.y1 <= height + 1, label
    for (one, first), (other, second) in combinations(boxes, 2):
        across = min(first.x1, second.x1) - max(first.x0, second.x0)
        up = min(first.y1, second.y1) - max(first.y0, second.y0)
        assert across < 2 or up < 2, (drawing.stem, one, other)  # pixels, a hundred an inch


@pytest.mark.parametrize("count", [2, 9])
def test_labels_stay_on_the_figure_and_do_not_touch(new_study: NewStudy, count: int) -> None:
    names = [f"deficit number {i}" for i in range(count)]
    made = new_study(
        effects=dict.fromkeys(names, lambda onset, offset: 0.01 if onset < 20 else 0.0),
        deficits=dict.fromkeys(names, "blur"),
        variants=({"optimizer.momentum": 0.0}, {"optimizer.momentum": 0.9}),
        seeds=(0, 1),
    )
    figures, _ = draw(Findings(made), FIGURES)
    for drawing in [one for drawings in figures.values() for one in drawings]:
        assert_readable(drawing)


def test_titles_of_many_variants_fit_their_panels_and_stay_apart(new_study: NewStudy) -> None:
    variants = [
        {"optimizer.momentum": i / 12, "architecture.depth": i, "dataset.folder": f"{'W' * 60}{i}{'W' * 60}"}
        for i in range(6)
    ]
    made = new_study(
        effects={"WWWWWWWWWWWWWWWWWWWW": lambda onset, offset: 0.01}, deficits={"WWWWWWWWWWWWWWWWWWWW": "blur"},
        variants=variants, seeds=(0, 1), until=(0, 40), onsets=(0, 20),
    )  # fmt: skip
    figures, _ = draw(Findings(made), FIGURES)
    for drawing in [one for drawings in figures.values() for one in drawings]:
        assert_readable(drawing)
    titles = [panel.get_title(loc="left") for panel in panels(figures["removal"][0])]
    assert len(set(titles)) == 6
    for title, variant in zip(titles, variants, strict=True):
        assert f"depth={variant['architecture.depth']}" in title.replace("\n", "")


def test_labels_of_onsets_touch_no_line(new_study: NewStudy) -> None:
    made = new_study(variants=[{"architecture.depth": depth} for depth in range(1, 5)], seeds=(0, 1, 2), until=())
    for drawing in drawn("link", made):
        with figure_style():
            drawing.figure.draw_without_rendering()
        for panel in panels(drawing):
            assert len(panel.texts) == 2
            for text in panel.texts:
                box = text.get_window_extent()
                for line in panel.lines:
                    if line.get_linestyle() == "None":
                        continue
                    ends = line.get_transform().transform(np.column_stack(line.get_data()).astype(float))
                    for start, end in pairwise(ends):  # a line is followed in steps of under a pixel
                        walk = start + np.linspace(0, 1, 600)[:, None] * (end - start)
                        assert not any(box.contains(x, y) for x, y in walk), text.get_text()


def test_labels_of_onsets_stay_apart_where_fisher_information_rises_and_falls(new_study: NewStudy) -> None:
    made = new_study(seeds=(0,), onsets=tuple(range(0, 81, 10)), until=(), epochs=130)

    def peak(t: TrajectoryRecord) -> Floats:
        return np.exp(-(((t.history.measured_epoch - 60) / 25) ** 2))[:, None] * np.full(4, 100.0)

    metrics = with_metrics(made, {"fisher": peak}).trajectories
    quantity = [replace(t.history.metrics["fisher"], quantity=FISHER_TRACE) for t in metrics]
    histories = [replace(t.history, metrics={"fisher": m}) for t, m in zip(metrics, quantity, strict=True)]
    trajectories = tuple(replace(t, history=h) for t, h in zip(metrics, histories, strict=True))
    (drawing,) = drawn("link", replace(made, trajectories=trajectories))
    assert_readable(drawing)
    for panel in panels(drawing):
        assert [text.get_text() for text in panel.texts] == ["onset 80", "onset 0"]
        data = min(artist.zorder for artist in panel.collections)
        assert all(text.zorder < data for text in panel.texts)  # no label hides a point or a whisker


def test_maps_of_all_variants_have_one_scale(new_study: NewStudy) -> None:
    made = new_study(variants=[{"architecture.depth": 1}, {"architecture.depth": 2}], seeds=(0, 1), onsets=())

    def tilted(t: TrajectoryRecord) -> Floats:
        values = t.history.metrics["fisher"].values.copy()
        values[:, 0] *= 10.0 if t.variant["architecture.depth"] == 2 else 1.0
        return values

    made = replace(
        made,
        trajectories=tuple(
            replace(t, history=replace(t.history, metrics={
                "fisher": replace(t.history.metrics["fisher"], values=tilted(t))})) for t in made.trajectories
        ),
    )  # fmt: skip
    drawings = drawn("layers", made)
    maps = [panel.images[0] for drawing in drawings for panel in panels(drawing) if panel.images]
    assert len(drawings) == 2
    (limits,) = {image.get_clim() for image in maps}
    first, second = (
        max(float(np.max(panel.images[0].get_array())) for panel in panels(drawing) if panel.images)
        for drawing in drawings
    )
    assert second > 1.1 * first
    assert limits == (0, pytest.approx(max(float(np.max(image.get_array())) for image in maps)))


@pytest.mark.parametrize("name", ["$x^2$ & <b>", "a_b\\c", "字 blur"])
def test_names_are_letters_and_no_formulas(new_study: NewStudy, name: str) -> None:
    made = new_study(effects={name: lambda onset, offset: 0.01}, deficits={name: "blur"}, seeds=(0, 1))
    for figure in ("removal", "fisher"):
        (drawing,) = drawn(figure, made)
        assert name in texts(drawing)


def test_every_figure_is_one_column_wide_and_at_least_six_points_are_read(study: StudyRecord) -> None:
    figures, _ = draw(Findings(study), FIGURES)
    for drawing in [one for drawings in figures.values() for one in drawings]:
        assert drawing.figure.get_size_inches()[0] == 3.5
        sizes = {text.get_fontsize() for text in drawing.figure.findobj(Text) if isinstance(text, Text)}
        assert min(sizes) >= 6.5
        assert drawing.description.endswith(".")


def test_ink_and_quiet_contrast_with_paper() -> None:
    def contrast(one: str, other: str) -> float:
        def luminance(colour: str) -> float:
            parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
            linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
            return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

        light, dark = sorted((luminance(one), luminance(other)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    assert contrast(INK, "#ffffff") > 20
    assert contrast(QUIET, "#ffffff") >= 4.5  # WCAG 2.2, 1.4.3; a dark page has a grey of its own
