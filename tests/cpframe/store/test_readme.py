"""README.md of the store: its code blocks run on a results file, and its tables name what the files hold."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

import cpframe.store
from cpframe.numerics import Numerics
from cpframe.plan.provenance import provenance
from cpframe.plugins.discovery import discover
from cpframe.records.model import FISHER_TRACE, History, MetricHistory, StudyRecord, TrajectoryRecord
from cpframe.spec.reader import read_spec
from cpframe.store import commit, stage_folder, write_results
from cpframe.store.stages import FORMAT

README = (Path(cpframe.store.__file__).parent / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
NAME = "removal-blur-0-40-of-100-seed0"
SPEC = """\
dataset = { use = "digits" }
architecture = { use = "mlp" }
optimizer = { use = "sgd" }
deficits.blur = { use = "blur", size = 2 }
protocols = [{ use = "removal", until = [40], recovery = 60 }]
"""


def make_history() -> History:
    epoch, measured = np.arange(1, 101), np.arange(10, 101, 10)
    fisher = np.outer(measured, [1.0, 2.0, 3.0])
    axes = ("filter", "channel", "height", "width")
    return History(
        epoch=epoch,
        condition=("blur",) * 40 + ("clean",) * 60,
        learning_rate=np.full(100, 0.1),
        train_loss=1 / epoch,
        train_accuracy=1 - 1 / epoch,
        test_loss=2 / epoch,
        test_accuracy=epoch / 100,
        measured_epoch=measured,
        layers=("a", "b", "c"),
        metrics={
            "fisher": MetricHistory(fisher, fisher / 10, "nat", "exact", "clean", quantity=FISHER_TRACE),
            "first-layer-filters": MetricHistory(np.ones((10, 4, 1, 3, 3)), None, "", "", "clean", axes=axes),
        },
    )


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyRecord:
    """A results file and a stage in the folders of the README, below the working directory."""
    monkeypatch.chdir(tmp_path)
    Path("s.toml").write_text(SPEC)
    spec = read_spec("s.toml", discover(), None, ["seeds=[0]"])
    spec = replace(spec, document=replace(spec.document, profile="cpu"))
    facts = provenance(spec, Numerics("cpu", "exact", "float32")) | {"git_commit": "0123456789"}
    trajectory = TrajectoryRecord(
        NAME, "removal", "blur", 0, 40, 100, 0, {"optimizer.lr": 0.1}, "complete", "", 0.98, make_history()
    )
    deficits = {"blur": "cpframe/blur"}
    study = StudyRecord("A study", SPEC, 5, deficits, "2026-03-01T12:00:00+00:00", facts, (trajectory,))
    Path("runs/quickstart").mkdir(parents=True)
    write_results(Path("runs/quickstart/results.h5"), study)
    state = io.BytesIO()
    torch.save({"model": {"weight": torch.ones(2)}, "optimizer": {}}, state)
    commit(stage_folder(Path("runs/.stages"), "abc"), "complete", "", make_history(), state.getvalue(), kept=True)
    return study


@pytest.mark.needs_extra("notebook")
def test_the_code_blocks_run(study: StudyRecord) -> None:
    variables: dict[str, Any] = {}
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), variables)
    history = study.trajectories[0].history
    assert variables["deficits"] == study.deficits
    assert variables["scores"] == {NAME: 0.98}
    assert variables["variants"] == {NAME: {"optimizer.lr": 0.1}}
    np.testing.assert_array_equal(variables["accuracy"], history.test_accuracy)
    run = variables["run"]
    assert run.test_accuracy.dims == ("epoch",)
    assert run.fisher.dims == ("measured_epoch", "layer")
    assert float(run.fisher.sum("layer").sel(measured_epoch=40)) == 40 * 6
    assert run.fisher.units == "nat"
    assert run["first-layer-filters"].dims == ("measured_epoch", "filter", "channel", "height", "width")
    run.close()
    assert variables["intact"] is True
    assert list(variables["results"].trajectories.name) == [NAME]
    assert variables["results"].histories.fisher.dims == ("trajectory", "measured_epoch", "layer")
    assert variables["state"] == "state-000100.pt"
    assert variables["weights"]["weight"].tolist() == [1.0, 1.0]
    assert len(BLOCKS) == README.count("```python") == 5


def rows(heading: str) -> list[list[str]]:
    """The cells of the table whose first column has this heading."""
    table = README.split(f"| {heading} |", 1)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]


def code(text: str) -> list[str]:
    return re.findall(r"`(\S+?)`", text)


def names(heading: str) -> set[str]:
    return {name for row in rows(heading) for name in code(row[0])}


def test_the_tables_name_every_attribute_and_dataset_of_a_results_file(study: StudyRecord) -> None:
    with h5py.File("runs/quickstart/results.h5") as file:
        assert set(file) == {"trajectories", "index"}
        assert set(file.attrs) == names("attribute of the file")
        group = file["trajectories"][NAME]
        assert set(group.attrs) == names("attribute of `/trajectories/NAME`")
        metrics = {"fisher", "fisher_stderr", "first-layer-filters", "filter", "channel", "height", "width"}
        assert set(group) == metrics | names("dataset of `/trajectories/NAME`") - {"_stderr"}
        assert set(group["fisher"].attrs) >= {"units", "estimator", "source", "quantity"}
        assert group["first-layer-filters"].attrs["units"] == "1"


def test_the_table_of_datasets_has_their_dimensions_and_units(study: StudyRecord) -> None:
    checked = set()
    with h5py.File("runs/quickstart/results.h5") as file:
        group = file["trajectories"][NAME]
        for name_cell, dimensions, units_cell, _ in rows("dataset of `/trajectories/NAME`"):
            units = units_cell.split(", ")
            for number, name in enumerate(one for one in code(name_cell) if one in group):
                scales = [
                    scale.name.rpartition("/")[2] for dimension in group[name].dims for scale in dimension.values()
                ]
                assert (scales or [name]) == [dimensions]
                assert group[name].attrs.get("units", "") == units[number % len(units)]
                assert group[name].dtype in (np.float64, np.int64, object)
                checked.add(name)
    assert len(checked) == 9


def test_the_table_of_stage_files_names_what_a_history_has(study: StudyRecord) -> None:
    (row,) = [row for row in rows(f"file in `format-{FORMAT}/ID/`") if row[0] == "`history.h5`"]
    with (
        h5py.File("runs/.stages/format-3/abc/history.h5") as stage,
        h5py.File("runs/quickstart/results.h5") as file,
    ):
        assert {"/history", *stage.attrs} == set(code(row[1]))
        assert set(stage["history"]) == set(file["trajectories"][NAME])
