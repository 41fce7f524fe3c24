"""The printed report, read back: its numbers against scipy, its lines against the width."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console
from scipy import stats

from cpframe.records.model import CLEAN, MetricHistory, StudyRecord, TrajectoryRecord
from cpframe.report.sections import section_names
from cpframe.report.terminal.render import render

NewStudy = Callable[..., StudyRecord]
CutShort = Callable[..., TrajectoryRecord]


def printed(study: StudyRecord, width: int = 80, *sections: str) -> str:
    """The report as it is written to a file."""
    stream = io.StringIO()
    render(study, Console(file=stream, width=width, color_system=None, force_terminal=False), sections)
    return stream.getvalue()


def coloured(study: StudyRecord, width: int = 80, *, no_color: bool = False) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, color_system="truecolor", force_terminal=True, no_color=no_color)
    render(study, console)
    return stream.getvalue()


def section(report: str, title: str) -> str:
    """The lines below the heading that begins with a title, up to the next heading."""
    lines = report.split("\n")
    (start,) = [i for i, line in enumerate(lines) if line.startswith(title)]
    end = next((i for i in range(start + 1, len(lines)) if re.search(r"^\w.* ─+$", lines[i])), len(lines))
    return "\n".join(lines[start:end])


UNTIL = (5, 10, 20, 40, 80)


def scores(study: StudyRecord, **wanted: object) -> dict[int, float]:
    found = [t for t in study.trajectories if all(getattr(t, k) == v for k, v in wanted.items())]
    return {t.seed: t.score for t in found if math.isfinite(t.score)}


def assert_fits(report: str, width: int) -> None:
    for line in report.split("\n"):
        assert cell_len(line) <= width, line


CELL = re.compile(r"(\d+\.\d)\s+(-?\d+\.\d)(?:±(\d+\.\d))?\s+([▼▲]?)\s+(\d+)")


def expected_cell(drops: list[float], score: float) -> tuple[str, str, str, str, str]:
    interval = stats.ttest_1samp(drops, 0.0).confidence_interval(0.95)
    half = (interval.high - interval.low) / 2
    sign = "▼" if interval.low > 0 else "▲" if interval.high < 0 else ""
    texts = [f"{100 * value:.1f}" for value in (score, float(np.mean(drops)), half)]
    return texts[0], texts[1].replace("-0.0", "0.0"), texts[2], sign, str(len(drops))


@pytest.mark.parametrize("width", [80, 120])
def test_removal_table_has_the_numbers_of_the_paired_t_test(study: StudyRecord, width: int) -> None:
    text = section(printed(study, width), "Removal").split("Final accuracy (%) against")[0]
    found: dict[tuple[str, int], tuple[str, ...]] = {}
    names: list[str] = []
    for line in text.split("\n"):
        if "●" in line or "▲ flip" in line:
            names = re.findall(r"[●■▲◇] (\w+)", line)
        row = re.match(r" *(\d+)  ", line)
        if row and row[1] != "0":
            cells = CELL.findall(line[row.end() :])
            assert len(cells) == len(names)
            found |= {(name, int(row[1])): cell for name, cell in zip(names, cells, strict=True)}
    reference = scores(study, protocol="removal", deficit=CLEAN)
    assert len(found) == 20
    for (deficit, until), cell in found.items():
        reached = scores(study, protocol="removal", deficit=deficit, offset=until)
        drops = [reference[seed] - reached[seed] for seed in range(5)]
        assert cell == expected_cell(drops, float(np.mean(list(reached.values()))))
    assert any(cell[3] == "▼" for cell in found.values())
    assert text.count("no deficit   5") == 4
    assert f"{100 * np.mean(list(reference.values())):.1f}   no deficit" in text


@pytest.mark.parametrize("width", [80, 120])
def test_sliding_table_has_the_numbers_of_the_paired_t_test(study: StudyRecord, width: int) -> None:
    text = section(printed(study, width), "Sliding")
    rows = [line for line in text.split("\n") if re.search(r"\[\d+, \d+\)", line)]
    assert len(rows) == 12
    reference = {
        t.seed: float(t.history.test_accuracy[115:120].mean()) for t in study.trajectories if t.protocol == "clean"
    }
    scale = re.search(r"-\d\.\d +0 +\d\.\d$", text, flags=re.MULTILINE)
    assert scale is not None
    low, _, high = map(float, scale[0].split())
    cell_width, left = (high - low) / (len(scale[0]) - 1), width - len(scale[0])
    for line, (deficit, onset) in zip(
        rows, [(d, o) for d in ("blur", "noise", "flip", "idle") for o in (0, 20, 40)], strict=True
    ):
        assert f"[{onset}, {onset + 40})" in line
        assert (deficit in line) is (onset == 0)
        cell = CELL.search(line)
        assert cell is not None
        reached = scores(study, protocol="sliding", deficit=deficit, onset=onset)
        drops = [reference[seed] - reached[seed] for seed in range(5)]
        assert cell.groups(default="") == expected_cell(drops, float(np.mean(list(reached.values()))))
        interval = stats.ttest_1samp(drops, 0.0).confidence_interval(0.95)
        for glyph, value in (("├", interval.low), ("┤", interval.high)):
            shown = low + (line.index(glyph) - left) * cell_width
            # Half a cell of rounding, and the labels of the scale are rounded to 0.05 points.
            assert shown == pytest.approx(100 * value, abs=cell_width / 2 + 0.05)
    mean = 100 * np.mean(list(reference.values()))
    assert f"Accuracy at epoch 120 without a deficit: {mean:.1f}% (n = 5)." in text


def test_verdicts_are_explained_in_sentences(study: StudyRecord) -> None:
    text = " ".join(section(printed(study, 120, "verdict"), "Verdicts in words").split())
    reference, blur = scores(study, protocol="removal", deficit=CLEAN), {}
    for until in UNTIL:
        blur[until] = scores(study, protocol="removal", deficit="blur", offset=until)
    worst = min(blur, key=lambda until: float(np.mean(list(blur[until].values()))))
    drops = [reference[seed] - blur[worst][seed] for seed in range(5)]
    # Five epochs of removal are compared: the interval that holds for all is taken at 99 %.
    interval = stats.ttest_1samp(drops, 0.0).confidence_interval(0.99)
    number = f"{100 * np.mean(drops):.1f}±{50 * (interval.high - interval.low):.1f}"
    assert f"● blur SCAR The drop after removal at epoch {worst} is {number} points (n = 5)." in text
    assert re.search(
        r"▲ flip no effect found The largest drop is \S+ points, after removal at epoch \d+ \(n = 5\).", text
    )
    assert re.search(
        r"● blur CRITICAL PERIOD The drop at onset 0 exceeds that at onset 40 by \S+ points \(n = 5\).", text
    )
    assert "It exceeds that of the idle control by" in text
    assert "This difference exceeds that of the idle control by" in text


@pytest.mark.parametrize("width", [80, 100, 120, 200])
def test_no_line_is_longer_than_the_console(study: StudyRecord, width: int) -> None:
    assert_fits(printed(study, width), width)


@pytest.mark.parametrize("width", [80, 120])
def test_large_studies_fit(new_study: NewStudy, width: int) -> None:
    effects = {f"deficit-with-a-long-name-{i}": lambda onset, offset: 0.2 for i in range(9)}
    made = new_study(
        title="A long title " * 20,
        seeds=(0, 1, 2),
        effects=effects,
        deficits=dict.fromkeys(effects, "blur"),
        until=(0, 1000, 1400),
        recovery=160,
        onsets=(0, 1000),
        length=400,
        epochs=1600,
        variants=({"architecture.some_long_name": [1, 2, 3], "optimizer.other_long_name": "x" * 40},),
        layers=[f"a.very.long.layer.name.{i}" for i in range(60)],
    )
    assert_fits(printed(made, width), width)
    report = printed(made, width, *section_names())
    assert_fits(report, width)
    # 60 layers are shown as bands, all of them covered.
    bands = {(int(first), int(last)) for first, last in re.findall(r"layers (\d+)-(\d+)", report)}
    assert len(bands) == 24
    assert sorted(layer for first, last in bands for layer in range(first, last + 1)) == list(range(1, 61))
    assert re.search(r"\[1000, 1400\) of 1600", report)


def test_colour_adds_nothing_to_the_words(study: StudyRecord) -> None:
    plain = printed(study)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", coloured(study))
    shades = str.maketrans(dict.fromkeys("░▒▓█ ", ""))
    # Layer maps are shaded in black and white; all else is the same, character by character.
    assert bare.translate(shades).split() == plain.translate(shades).split()
    assert "\x1b[" in coloured(study)
    assert "\x1b[" not in plain


def test_without_colour_layer_maps_are_shaded(study: StudyRecord) -> None:
    for report in (printed(study), re.sub(r"\x1b\[[0-9;]*m", "", coloured(study, no_color=True))):
        conv2 = [line for line in report.split("\n") if line.startswith("conv2")]
        assert len(conv2) == 2  # no deficit, and the deficit with the largest drop
        assert any("▒" in line for line in conv2)
    # In colour the cells are full and differ by their colour; the share at the end is printed next to them.
    assert not any("▒" in line for line in coloured(study).split("\n") if "conv2" in line)


def test_layer_maps_print_the_share_at_the_end(study: StudyRecord) -> None:
    text = printed(study).split("Each layer's share")[1]
    values = np.mean([t.history.metrics["fisher"].values for t in study.trajectories if t.protocol == "clean"], axis=0)
    printed_shares = re.findall(r"^ *(?:conv1|conv2|conv3|head) .* (\d+\.\d)$", text, flags=re.MULTILINE)[:4]
    assert printed_shares == [f"{100 * share:.1f}" for share in values[-1] / values[-1].sum()]


def test_fisher_table_has_a_row_for_every_timeline(study: StudyRecord) -> None:
    text = section(printed(study, 120, "phases"), "Fisher information: fisher")
    rows = re.findall(r"^  (\[\d+, \d+\)|all clean) of (\d+) +(\S.*)$", text, flags=re.MULTILINE)
    assert len(rows) == 4 * (5 + 3) + 1
    clean = next(row for row in rows if row[0] == "all clean")
    risen, peak, at, half, plateau, end, n = clean[2].split()[-7:]
    values = np.mean(
        [t.history.metrics["fisher"].values.sum(axis=1) for t in study.trajectories if t.protocol == "clean"], axis=0
    )
    assert n == "5"
    assert float(peak) == pytest.approx(values.max(), rel=0.005)  # three digits are printed
    assert float(end) == pytest.approx(values[-1], rel=0.005)
    assert 0 < int(risen) < int(at) < int(half) <= 140
    assert plateau == "-" or int(half) < int(plateau) <= 126  # a tenth of the training at least
    # The synthetic curve, a pulse of 600 on a constant of 90, peaks at epoch 60 and is flat around it.
    assert abs(int(at) - 60) <= 10


def test_brackets_mark_the_deficit_in_the_bars(study: StudyRecord) -> None:
    text = section(printed(study, 120, "phases"), "Fisher information: fisher")
    (row,) = [line for line in text.split("\n") if line.startswith("  [20, 60) of 120") and "[" in line[20:]][:1]
    (header,) = [line for line in text.split("\n") if line.startswith("epochs")]
    opening, closing = row.index("[", 20), row.index(")", 20)
    labels = {int(match[0]): match.start() + (len(match[0]) - 1) // 2 for match in re.finditer(r"\d+", header)}
    assert {0, 50, 100} <= labels.keys()
    scale = (labels[100] - labels[50]) / 50  # cells an epoch
    start = labels[0] + 20 * scale
    # The brackets stand outside of the period, a cell each; one more for rounding each of ends and labels.
    assert abs(opening - start) <= 2
    assert abs((closing - opening) / scale - 40) <= 4 / scale
    during, after = row[opening + 1 : closing], row[closing + 1 : 80]
    assert set(during) <= set("▁▂▃▄▅▆▇█")
    assert after.strip()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("onsets", "length"), [((0, 20, 80), 40), ((1, 6, 119), 1), ((0,), 120)])
def test_bars_of_trainings_of_one_length_end_together(
    new_study: NewStudy, width: int, onsets: tuple[int, ...], length: int
) -> None:
    made = new_study(seeds=(0,), until=(), onsets=onsets, length=length, epochs=120)
    text = section(printed(made, width, "phases"), "Fisher information: fisher")
    rows = [line for line in text.split("\n") if re.match(r"  (\[\d+, \d+\)|all clean) of 120", line)]
    assert len(rows) == 1 + 4 * len(onsets)
    bars = [re.search(r"[▁▂▃▄▅▆▇█\[)]+(?=  )", line[20:]) for line in rows]
    ends = {match.end() for match in bars if match}
    assert len(ends) == 1
    for line, window in zip(rows[1:], list(onsets) * 4, strict=True):
        drawn = line[20:]
        assert ("[" in drawn) is (window > 1)  # a window that begins in the first cell has no opening bracket
        assert (")" in drawn) is (window + length < 119)  # and one that ends in the last cell no closing one


def test_shares_of_layers_have_no_line(study: StudyRecord) -> None:
    """The mean over layers of shares that add up to 1 is constant."""

    def add(trajectory: TrajectoryRecord) -> TrajectoryRecord:
        fisher = trajectory.history.metrics["fisher"]
        share = replace(fisher, values=fisher.values / fisher.values.sum(axis=1, keepdims=True), estimator="share")
        metrics = dict(trajectory.history.metrics) | {"fisher-share": share}
        return replace(trajectory, history=replace(trajectory.history, metrics=metrics))

    text = section(printed(replace(study, trajectories=tuple(map(add, study.trajectories)))), "Other metrics")
    assert "weight-norm" in text
    assert "share" not in text


def test_other_metrics_have_one_line(study: StudyRecord) -> None:
    text = section(printed(study), "Other metrics")
    clean = next(t for t in study.trajectories if t.protocol == "clean")
    values = clean.history.metrics["weight-norm"].values.mean(axis=1)
    assert f"weight-norm  {values[0]:.2f} → {values[-1]:.2f}" in text
    assert "no deficit, 5 seeds, mean of 4 layers" in text


def test_head_counts_and_names_failures(study: StudyRecord, cut_short: CutShort) -> None:
    members = list(study.trajectories)
    for i in range(40, 47):
        members[i] = cut_short(members[i], 3, "failed", "diverged: the loss is nan")
    members[60] = cut_short(members[60], 10, "unfinished", "")
    text = printed(replace(study, trajectories=tuple(members)))
    assert f"{len(members) - 8} complete · 1 unfinished · 7 FAILED" in text
    assert text.count("diverged: the loss is nan") == 5
    assert members[40].name in text
    assert "and 2 more" in text
    assert "5: 0, 1, 2, 3, 4" in text
    assert "numerics exact" in text
    assert "Blur leaves a scar" in text
    assert "on clean test data, averaged over the last 5 epochs" in text


def test_unfinished_and_failed_trajectories_change_no_mean(study: StudyRecord, cut_short: CutShort) -> None:
    def cut(t: TrajectoryRecord) -> TrajectoryRecord:
        if t.deficit == "blur" and (t.onset, t.offset) == (0, 40) and t.seed in (1, 3):
            return cut_short(t, 50, "failed" if t.seed == 1 else "unfinished", "diverged")
        return t

    broken = replace(study, trajectories=tuple(cut(t) for t in study.trajectories))
    report = printed(broken)
    assert "nan" not in report
    reference = scores(study, protocol="removal", deficit=CLEAN)
    reached = scores(broken, protocol="removal", deficit="blur", offset=40)
    assert set(reached) == {0, 2, 4}
    drops = [reference[seed] - reached[seed] for seed in (0, 2, 4)]
    row = re.search(r"^ +40  (.*)$", section(report, "Removal"), flags=re.MULTILINE)
    assert row is not None
    assert CELL.findall(row[1])[0] == expected_cell(drops, float(np.mean(list(reached.values()))))
    window = re.search(r"^● blur +\[0, 40\) +(.*)$", section(report, "Sliding"), flags=re.MULTILINE)
    assert window is not None
    assert CELL.findall(window[1])[0][4] == "3"


def test_a_missing_seed_moves_no_point_of_the_chart(new_study: NewStudy) -> None:
    effects = {"blur": lambda onset, offset: 0.02}
    made = new_study(effects=effects, deficits={"blur": "blur"}, until=(0, 20, 40), onsets=(), noise=0.0)
    (lost,) = [t for t in made.trajectories if t.protocol == "removal" and t.offset == 40 and t.seed == 4]
    broken = tuple(replace(t, status="failed", score=math.nan) if t is lost else t for t in made.trajectories)
    charts = []
    for trajectories in (made.trajectories, broken):
        text = section(printed(replace(made, trajectories=trajectories)), "Removal")
        charts.append(text.split("against the epoch of removal")[1])
    # Without noise every seed has a drop of two points: the seeds differ, their paired drops do not.
    assert charts[0] == charts[1]


def test_nothing_complete_yet(study: StudyRecord, cut_short: CutShort) -> None:
    started = replace(study, trajectories=tuple(cut_short(t, 7, "unfinished", "") for t in study.trajectories))
    report = printed(started)
    assert "No trajectory with a deficit is complete yet." in report
    assert "No run without a deficit has reached epoch 120." in report
    assert "SCAR" not in report
    assert "nan" not in report
    assert_fits(report, 80)


def test_nothing_started(study: StudyRecord, cut_short: CutShort) -> None:
    waiting = replace(study, trajectories=tuple(cut_short(t, 0, "unfinished", "") for t in study.trajectories))
    report = printed(waiting)
    assert "170 unfinished" in report
    assert "nan" not in report


def test_one_seed_gives_numbers_and_no_verdict(new_study: NewStudy) -> None:
    blur = {"effects": {"blur": lambda onset, offset: 0.1}, "deficits": {"blur": "blur"}}
    report = printed(new_study(seeds=(3,), until=(0, 40), onsets=(), **blur))
    assert "SCAR" not in report
    assert "not enough seeds" in report
    assert "Missing controls" in section(report, "Controls")
    assert "seeds: 1 of at least 3" in report
    assert "±" not in section(report, "Removal").split("Accuracy is the final accuracy")[0]
    assert "Sliding" not in report
    assert_fits(report, 80)


def test_two_seeds_give_intervals_and_no_verdict(new_study: NewStudy) -> None:
    report = printed(new_study(seeds=(0, 1)))
    assert "SCAR" not in report
    assert "CRITICAL PERIOD" not in report
    assert "±" in section(report, "Removal")


def test_a_falling_rate_without_idle_is_no_scar(new_study: NewStudy) -> None:
    made = new_study(
        effects={"blur": lambda onset, offset: 0.1},
        deficits={"blur": "blur"},
        rate=lambda epoch: 0.05 * 0.97**epoch,
        onsets=(),
    )
    report = printed(made)
    assert "SCAR" not in report
    assert "confounded" in report
    assert "no idle control" in " ".join(report.split())
    assert "▸ idle under removal" in report


def test_no_metrics_no_sections_on_them(new_study: NewStudy) -> None:
    report = printed(new_study(metrics=False))
    assert "Fisher" not in report
    assert "Other metrics" not in report


def test_sliding_alone(new_study: NewStudy) -> None:
    report = printed(new_study(until=()))
    assert "Removal:" not in report
    assert "CRITICAL PERIOD" in report


def test_variants_are_told_apart(new_study: NewStudy) -> None:
    report = printed(new_study(seeds=(0, 1, 2), variants=({"optimizer.momentum": 0.0}, {"optimizer.momentum": 0.9})))
    headings = [line for line in report.split("\n") if line.endswith("─") and "momentum" in line]
    for title in ("Removal:", "Sliding:", "Fisher information:"):
        labels = [re.search(r"momentum=(\S+)", line) for line in headings if line.startswith(title)]
        assert [label and label[1] for label in labels] == ["0.0", "0.9"]
    assert "variants        2: momentum=0.0; momentum=0.9" in report


def test_an_empty_study(study: StudyRecord) -> None:
    report = printed(replace(study, trajectories=(), title="", provenance={}, created=""))
    assert "untitled study" in report
    assert "0 complete" in report


def test_text_in_a_results_file_cannot_control_the_terminal(study: StudyRecord, cut_short: CutShort) -> None:
    members = list(study.trajectories)
    members[3] = replace(
        cut_short(members[3], 3, "failed", "\x1b]0;owned\x07 [bold]x[/bold] :smile:"), name="\x1b[2Jgone"
    )
    report = printed(replace(study, trajectories=tuple(members), title="[red]title[/red]\x1b[2J\nsecond"))
    assert "\x1b" not in report
    assert "\x07" not in report
    assert "[red]title[/red] [2J second" in report  # markup is text
    assert "[bold]x[/bold] :smile:" in report


def test_report_imports_neither_torch_nor_h5py() -> None:
    import subprocess
    import sys

    heavy = ("torch", "h5py", "matplotlib")
    code = f"import sys, cpframe.report.terminal.render; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def panel(report: str) -> list[str]:
    """The lines inside the frame at the top."""
    lines = report.split("\n")
    return [line.strip("│ ") for line in lines[1 : next(i for i, line in enumerate(lines) if line.startswith("╰"))]]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_verdicts_come_first_in_a_frame(study: StudyRecord, width: int) -> None:
    report = printed(study, width)
    assert report.startswith("╭─ Blur leaves a scar, a vertical flip does not")
    lines = panel(report)
    scar, none = (next(line for line in lines if line.startswith(name)) for name in ("● blur", "▲ flip"))
    drops = {}
    reference = scores(study, protocol="removal", deficit=CLEAN)
    for until in UNTIL:
        reached = scores(study, protocol="removal", deficit="blur", offset=until)
        drops[until] = [reference[seed] - reached[seed] for seed in range(5)]
    worst = max(drops, key=lambda until: float(np.mean(drops[until])))
    bands = {until: stats.ttest_1samp(d, 0.0).confidence_interval(0.99) for until, d in drops.items()}
    size = f"{100 * np.mean(drops[worst]):.1f}±{50 * (bands[worst].high - bands[worst].low):.1f}"
    assert re.search(rf"● blur +SCAR +{size} at {worst} ", scar)
    # The ends of the interval of the recovery limit are the last removal surely within a point and the first beyond.
    earliest = max((until for until in drops if all(bands[u].high <= 0.01 for u in drops if u <= until)), default=0)
    latest = min(until for until in drops if bands[until].low > 0.01)
    limit = re.search(r"(\d+) to (\d+)(?: \((\d+)-(\d+)\))?$", " ".join(lines[lines.index(scar) :][: 1 + (width < 80)]))
    assert limit is not None
    assert earliest <= int(limit[1]) < int(limit[2]) <= latest
    assert (limit[3] is None) == ((int(limit[1]), int(limit[2])) == (earliest, latest))
    assert limit[3] is None or (int(limit[3]), int(limit[4])) == (earliest, latest)
    assert re.search(r"no effect found +under \d\.\d", none)
    assert any(re.match(r"● blur +CRITICAL PERIOD +\S+ at 0 .* 0( \(0-\d+\))?$", line) for line in lines)
    assert "n = 5" in " ".join(lines)


def test_a_panel_of_many_verdicts_shows_the_strongest(new_study: NewStudy) -> None:
    variants = [{"architecture.depth": depth} for depth in range(1, 8)]
    made = new_study(variants=variants, seeds=(0, 1, 2), metrics=False, until=(0, 40), onsets=())
    brief, full = panel(printed(made)), panel(printed(made, 80, "verdict"))
    assert sum(bool(re.search(r"[●■▲] ", line)) for line in full) == 21
    assert sum(bool(re.search(r"[●■▲] ", line)) for line in brief) == 16
    assert "The strongest 16 of 21 verdicts are shown; --section verdict shows all." in " ".join(brief)
    assert sum("SCAR" in line for line in brief) == sum("SCAR" in line for line in full) > 0
    # The variants share a question, and each has its label once.
    assert sum("Is there a scar" in line for line in full) == 1
    assert [line.split()[0] for line in full if line.startswith("depth=")] == [f"depth={i}" for i in range(1, 8)]


def test_the_threshold_changes_the_recovery_limit(study: StudyRecord) -> None:
    stream = io.StringIO()
    render(study, Console(file=stream, width=100), ("verdict",), threshold=0.5)
    assert "A network has recovered if its drop is at most 50.0 points" in " ".join(panel(stream.getvalue()))
    assert all(line.endswith("80+") for line in panel(stream.getvalue())[3:6])


@pytest.mark.parametrize("name", section_names())
def test_a_section_alone_is_shown_in_full(study: StudyRecord, name: str) -> None:
    titles = {
        "verdict": ["Verdicts in words"],
        "curves": ["Removal:", "Sliding:"],
        "phases": ["Fisher information:"],
        "layers": ["Layers:"],
        "plasticity": ["Plasticity:"],
        "link": ["Fisher information and sensitivity:"],
        "metrics": ["Other metrics"],
        "controls": ["Controls"],
    }
    report = printed(study, 80, name)
    found = [line for line in report.split("\n") if re.search(r"^\w.* ─+$", line)]
    assert len(found) == len(titles[name])
    assert all(line.startswith(title) for line, title in zip(found, titles[name], strict=True))
    assert report.startswith("╭") is (name == "verdict")
    assert "--section" not in report


def test_sections_come_in_the_order_of_the_report_and_once(study: StudyRecord) -> None:
    assert printed(study, 80, "controls", "phases", "controls") == printed(study, 80, "phases", "controls")
    with pytest.raises(KeyError, match="nothing"):
        printed(study, 80, "nothing")


def test_the_report_shows_the_timelines_of_the_largest_drop(study: StudyRecord) -> None:
    report = printed(study)
    rows = re.findall(r"^[○●■▲◇] [a-z ]+(\[\d+, \d+\)|) +[▁▂▃▄▅▆▇█[)]+ ", report, flags=re.MULTILINE)
    accuracies = {
        until: np.mean([*scores(study, protocol="removal", deficit="blur", offset=until).values()]) for until in UNTIL
    }
    assert rows == [
        "",
        *[f"[0, {min(accuracies, key=lambda until: accuracies[until])})"] * 4,
    ]  # all at the window of the largest drop of blur
    assert "5 of 33 timelines are shown; --section phases shows all." in " ".join(report.split())


def test_plasticity_is_shown_with_its_measurement_error(study: StudyRecord) -> None:
    text = section(printed(study, 100, "plasticity"), "Plasticity: fisher")
    row = re.search(r"^● blur \[0, 80\) +80-140 +(\S+)±(\S+) +(\S+) +(\S+)→(\S+) +([+-]\S+)±\S+ +5", text, re.MULTILINE)
    assert row is not None
    redistributed = []
    for t in study.trajectories:
        if (t.protocol, t.deficit, t.offset) == ("removal", "blur", 80):
            values = t.history.metrics["fisher"].values
            before, after = values[15] / values[15].sum(), values[-1] / values[-1].sum()
            redistributed.append(abs(after - before).sum() / 2)
    assert row[1] == f"{100 * np.mean(redistributed):.1f}"
    # Each layer is known to 5 %, so a share of 1/4 to about 0.25 sqrt(.05^2 (.75 ^ 2 / .25^2 + 3) * .25^2) of one.
    assert 1 < float(row[3]) < 4
    assert float(row[5]) - float(row[4]) == pytest.approx(float(row[6]), abs=0.11)  # two roundings to 0.1
    narrow = section(printed(study, 60, "plasticity"), "Plasticity: fisher")
    assert re.search(
        rf"^● blur \[0, 80\) +80-140 +{row[1]}±{row[2]} +{row[3]} +{re.escape(row[6])}±\S+ +5$", narrow, re.M
    )


def test_a_link_is_drawn_and_fitted(new_study: NewStudy) -> None:
    made = new_study(onsets=(0, 15, 30, 45, 60, 75), until=(), noise=0.001)
    text = section(printed(made), "Fisher information and sensitivity: fisher")
    assert "(6 onsets)" in " ".join(text.split())
    assert "R²" in text
    assert text.count("●") >= 5  # onsets on the chart, of which some may share a cell, and the name
    full = section(printed(made, 80, "link"), "Fisher information and sensitivity: fisher")
    assert re.search(r"15: -?\d+\.\d±", full)


def test_few_onsets_are_not_fitted(study: StudyRecord) -> None:
    assert "too few onsets, at least 4 are needed (3 onsets)" in section(printed(study), "Fisher information and sens")


def test_the_part_that_idle_explains_is_shown(new_study: NewStudy) -> None:
    effects = {"blur": lambda onset, offset: 0.06 * min(1.0, offset / 40), "idle": lambda onset, offset: 0.03}
    deficits = {"blur": "blur", "idle": "idle"}
    made = new_study(effects=effects, deficits=deficits, rate=lambda epoch: 0.05 * 0.97**epoch, onsets=())
    text = " ".join(section(printed(made, 120), "Controls").split())
    assert re.search(r"● blur (in part|YES, idle has the same drop|undecided, [^:]+): \d+% \(\d+% to \d+%\)", text)


def test_larger_arrays_are_named_and_break_nothing(study: StudyRecord) -> None:
    filters = MetricHistory(np.zeros((28, 4, 3, 5)), None, "", "first layer", "clean", ("filter", "height", "width"))

    def add(t: TrajectoryRecord) -> TrajectoryRecord:
        return replace(t, history=replace(t.history, metrics={**t.history.metrics, "filters": filters}))

    text = section(printed(replace(study, trajectories=tuple(map(add, study.trajectories)))), "Other metrics")
    assert "filters      an array of 4 x 3 x 5 per measurement, without a curve" in text


def test_of_many_variants_those_with_the_largest_drops_are_shown(new_study: NewStudy) -> None:
    variants = [{"architecture.depth": depth} for depth in range(1, 8)]
    made = new_study(variants=variants, seeds=(0, 1, 2), until=(0, 40), onsets=(), layers=("a", "b"))
    report = printed(made)
    shown = re.findall(r"^Removal: .*depth=(\d)", report, flags=re.MULTILINE)
    assert len(shown) == 4
    assert shown == re.findall(r"^Fisher information: .*depth=(\d)", report, flags=re.MULTILINE)
    largest = {}
    for depth in range(1, 8):
        one = replace(
            made, trajectories=tuple(t for t in made.trajectories if t.variant["architecture.depth"] == depth)
        )
        reference = scores(one, protocol="removal", deficit=CLEAN)
        drops = [[reference[s] - x for s, x in scores(one, deficit=d).items()] for d in ("blur", "noise", "flip")]
        largest[depth] = max(float(np.mean(drop)) for drop in drops)
    assert sorted(map(int, shown)) == sorted(sorted(largest, key=lambda depth: -largest[depth])[:4])
    assert "the 4 with the largest drops are shown" in report
    assert len(re.findall(r"^Removal:", printed(made, 80, "curves"), flags=re.MULTILINE)) == 7
