"""The JSON document, read back, against scipy and the records."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from cpframe.records.model import CLEAN, MetricHistory, StudyRecord, TrajectoryRecord
from cpframe.report import json_document
from cpframe.report.json_document import study_document
from cpframe.report.sections import section_names

NewStudy = Callable[..., StudyRecord]
CutShort = Callable[..., TrajectoryRecord]


def read_back(study: StudyRecord, *sections: str) -> dict[str, Any]:
    """Return the document as a program reads it; a constant that is not JSON is refused."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    found: dict[str, Any] = json.loads(
        json.dumps(study_document(study, sections), allow_nan=False), parse_constant=refuse
    )
    return found


def test_the_document_has_all_sections_and_facts(study: StudyRecord) -> None:
    found = read_back(study)
    assert list(found) == ["schema_version", "study", *section_names()]
    assert found["schema_version"] == 3
    assert found["study"]["trajectories"] == {"complete": 170, "unfinished": 0, "failed": 0}
    assert found["study"]["seeds"] == [0, 1, 2, 3, 4]
    assert found["study"]["deficits"] == {"blur": "blur", "noise": "noise", "flip": "vertical-flip", "idle": "idle"}
    assert found["study"]["threshold"] == 0.01


def keys_of(value: object) -> set[str]:
    """All keys of a document, but those that are names and seeds of the study."""
    data = {"provenance", "variant", "variants", "deficits", "drops", "arrays"}
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    if not isinstance(value, dict):
        return set()
    named = {key for key, member in value.items() if key in data and isinstance(member, dict)}
    return set(value).union(*(keys_of(member) for key, member in value.items() if key not in named | {"variants"}))


def test_every_key_is_documented(study: StudyRecord) -> None:
    """Every key stands in a row of the table, or in the definitions above it."""
    text = Path(json_document.__file__).with_name("README.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`([a-z_]+)`", text[text.index("## The JSON document") :]))
    keys = keys_of(read_back(study))
    assert {"schema_version", "recovers_until", "sensitive", "redistributed", "c_low", "bootstrap"} <= keys
    assert keys <= documented


def test_drops_have_both_intervals(study: StudyRecord) -> None:
    (group,) = read_back(study, "curves")["curves"]["removal"]
    assert (group["recovery"], group["protocol"]) == (60, "removal")
    scores = {(t.deficit, t.offset, t.seed): t.score for t in study.trajectories if t.protocol == "removal"}
    assert group["reference"]["mean"] == pytest.approx(np.mean([scores[CLEAN, 0, seed] for seed in range(5)]))
    for curve in group["deficits"]:
        for point in curve["points"]:
            drops = [scores[CLEAN, 0, s] - scores[curve["deficit"], point["at"], s] for s in range(5)]
            interval = stats.ttest_1samp(drops, 0.0).confidence_interval(0.95)
            drop = point["drop"]
            assert (drop["mean"], drop["low"], drop["high"]) == pytest.approx(
                (np.mean(drops), interval.low, interval.high), rel=1e-9, abs=1e-12
            )
            assert point["drops"] == pytest.approx({str(s): value for s, value in enumerate(drops)})
            assert point["bootstrap"]["low"] <= drop["mean"] <= point["bootstrap"]["high"]


def test_verdicts_carry_their_periods(study: StudyRecord) -> None:
    verdicts = read_back(study, "verdict")["verdict"]
    assert [(v["protocol"], v["deficit"]) for v in verdicts] == [
        (protocol, deficit) for protocol in ("removal", "sliding") for deficit in ("blur", "noise", "flip")
    ]
    blur, flip = verdicts[0], verdicts[2]
    assert (blur["kind"], flip["kind"]) == ("supported", "none")
    assert blur["period"]["kind"] == "found"
    assert blur["period"]["earliest"] < blur["period"]["latest"]
    assert flip["period"]["latest"] is None  # unbounded: no removal is significantly beyond the threshold
    assert verdicts[3]["period"]["sensitive"] == [0]


def test_curves_of_metrics_are_all_there(study: StudyRecord) -> None:
    found = read_back(study)
    assert len(found["phases"]) == len(found["layers"]) == len(found["plasticity"]) == 33
    clean = next(entry for entry in found["layers"] if entry["deficit"] == CLEAN)
    np.testing.assert_allclose(np.sum(clean["shares"], axis=1), 1, rtol=1e-12)
    assert clean["layers"] == ["conv1", "conv2", "conv3", "head"]
    curve = found["phases"][0]
    assert len(curve["epoch"]) == len(curve["total"]) == len(curve["low"]) == 28
    assert all(
        low <= total <= high for low, total, high in zip(*(curve[k] for k in ("low", "total", "high")), strict=True)
    )
    assert curve["phases"]["shape"] == "peak"
    assert {entry["metric"] for entry in found["metrics"]["curves"]} == {"weight-norm"}
    assert [link["fit"]["kind"] for link in found["link"]] == ["too few points"] * 3
    assert found["link"][0]["fit"]["c"] is None
    assert [entry["kind"] for entry in found["controls"]["confounds"]] == ["not", "no drop", "no drop"]
    assert found["controls"]["missing"] == []


def test_sections_filter(study: StudyRecord) -> None:
    assert list(read_back(study, "controls", "verdict")) == ["schema_version", "study", "verdict", "controls"]
    with pytest.raises(KeyError, match="nothing"):
        study_document(study, ("nothing",))


def test_missing_controls_are_split(new_study: NewStudy) -> None:
    missing = read_back(new_study(seeds=(0,)), "controls")["controls"]["missing"]
    assert missing[0]["what"] == "seeds"
    assert missing[0]["why"].startswith("1 of at least 3")


@pytest.mark.parametrize("epochs", [0, 7, 70])
def test_unfinished_and_failed_studies_have_documents(study: StudyRecord, cut_short: CutShort, epochs: int) -> None:
    members = [
        cut_short(t, epochs, "failed" if t.seed == 1 else "unfinished", "diverged") if t.seed < 4 else t
        for t in study.trajectories
    ]
    found = read_back(replace(study, trajectories=tuple(members)))
    assert found["study"]["trajectories"]["failed"] == 34
    assert found["study"]["failures"][0]["reason"] == "diverged"
    assert {v["kind"] for v in found["verdict"]} == {"not enough seeds"}
    assert all(v["drop"]["low"] is None for v in found["verdict"])


def test_odd_studies_have_documents(study: StudyRecord, new_study: NewStudy) -> None:
    empty = read_back(replace(study, trajectories=()))
    assert (empty["verdict"], empty["phases"], empty["study"]["seeds"]) == ([], [], [])
    assert read_back(new_study(metrics=False))["layers"] == []
    sliding = read_back(new_study(until=()))
    assert sliding["curves"]["removal"] == []
    grid = read_back(new_study(seeds=(0, 1, 2), variants=({"lr": 0.1, "x": [1, None]}, {"lr": 0.2, "x": math.inf})))
    assert grid["study"]["variants"] == [{"lr": 0.1, "x": [1, None]}, {"lr": 0.2, "x": None}]


def test_larger_arrays_are_named(study: StudyRecord) -> None:
    filters = MetricHistory(np.zeros((28, 4, 3, 5)), None, "", "first layer", "clean", ("filter", "height", "width"))

    def add(t: TrajectoryRecord) -> TrajectoryRecord:
        return replace(t, history=replace(t.history, metrics={**t.history.metrics, "filters": filters}))

    found = read_back(replace(study, trajectories=tuple(map(add, study.trajectories))), "metrics")
    assert found["metrics"]["arrays"] == {"filters": [4, 3, 5]}
