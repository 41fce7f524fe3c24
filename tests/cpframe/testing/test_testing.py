"""The builders as the author of a plugin uses them: a package, a spec that names its component, a study."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from cpframe.errors import SpecError
from cpframe.plan.stages import plan
from cpframe.store import read_results
from cpframe.testing import Design, make_study, run_command, run_study_inline, small_spec, write_package
from cpframe.testing.specs import SMALL
from cpframe.testing.training import make_job, make_stage, make_workspace, train_study
from cpframe.training.job import StageDone
from cpframe.training.stage import run_stage

DARK = '''
"""Darkness: every image is black."""
from dataclasses import dataclass
import torch
from cpframe.api import Batch, Deficits, Generator, hookimpl

@dataclass(frozen=True)
class Dark:
    """Set every pixel to 0."""

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        return batch._replace(inputs=torch.zeros_like(batch.inputs))

@hookimpl
def cpframe_deficits() -> Deficits:
    return {"dark": Dark}
'''


def test_a_plugin_is_written_found_and_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (point,) = write_package(site, "night-plugin", "2.0", dark=DARK)
    assert (point.group, point.name, point.value) == ("cpframe", "dark", "night_plugin_dark")
    monkeypatch.syspath_prepend(site)
    spec = small_spec(deficits={"night": {"use": "dark"}})
    assert spec.variants[0].deficits["night"].use == "night-plugin/dark"
    settings = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    record = run_study_inline(spec, tmp_path)
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == settings
    assert {trajectory.status for trajectory in record.trajectories} == {"complete"}
    assert {trajectory.deficit for trajectory in record.trajectories} == {"clean", "night"}
    assert [one.name for one in read_results(tmp_path / "results.h5").trajectories] == [
        one.name for one in record.trajectories
    ]
    sys.modules.pop("night_plugin_dark")


def test_a_small_spec_takes_tables_and_then_overrides() -> None:
    spec = small_spec("optimizer.lr=0.5", optimizer={"use": "adam"}, seeds=[3, 4])
    assert (spec.seeds, spec.variants[0].optimizer.call.lr) == ((3, 4), 0.5)
    assert spec.variants[0].optimizer.use == "cpframe/adam"
    assert SMALL["seeds"] == [0]
    with pytest.raises(SpecError, match="unknown key"):
        small_spec(optimiser={"use": "adam"})


def test_a_study_is_the_same_whole_and_planned(tmp_path: Path) -> None:
    spec = small_spec()
    for name in ("whole", "planned"):
        (tmp_path / name).mkdir()
    whole = run_study_inline(spec, tmp_path / "whole")
    planned = train_study(plan(spec, {}), make_workspace(tmp_path / "planned"))
    for one, other in zip(whole.trajectories, planned.trajectories, strict=True):
        assert (one.name, one.status) == (other.name, "complete")
        np.testing.assert_array_equal(one.history.test_loss, other.history.test_loss)


def test_a_job_trains_its_stage(tmp_path: Path) -> None:
    spec = small_spec()
    first = make_job(make_stage("first", 2, "blur"), spec, tmp_path, keep_state=True)
    second = make_job(make_stage("second", 1, parent="first", start=2), spec, tmp_path)
    for job in (first, second):
        done = list(run_stage(job))[-1]
        assert isinstance(done, StageDone)
        assert done.failure == ""
    assert second.parent_folder == first.folder


def test_a_synthetic_study_has_the_effects_of_its_design() -> None:
    design = Design(effects={"fog": lambda onset, offset: 0.1}, deficits={"fog": "fog"}, until=(0, 5), noise=0.0)
    scores = {
        deficit: [one.score for one in make_study(design).trajectories if (one.protocol, one.deficit) == key]
        for deficit, key in {"fog": ("removal", "fog"), "clean": ("removal", "clean")}.items()
    }
    # The accuracy is still rising by up to 0.6 exp(-55 / 6) at the score epochs.
    np.testing.assert_allclose(np.subtract(scores["clean"], scores["fog"]), 0.1, atol=1e-4)


def test_the_command_line_runs_in_a_process(tmp_path: Path) -> None:
    done = run_command("--version", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert run_command("plot", "--figure", cwd=tmp_path).returncode == 2


def test_the_builders_need_no_pytest() -> None:
    code = "import sys, cpframe.testing; assert 'pytest' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
