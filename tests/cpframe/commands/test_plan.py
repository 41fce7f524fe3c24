"""What `cpframe plan` says, what it remembers, and that it writes nothing into a study."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from cpframe.commands.run import compare_stages
from cpframe.execution.cost_cache import cached_costs, store_costs
from cpframe.execution.costs import Costs
from cpframe.execution.forecast import forecast
from cpframe.execution.progress import StudyProgress, read_progress
from cpframe.plan.stages import Study, plan
from cpframe.plugins.discovery import discover
from cpframe.spec.reader import read_spec
from cpframe.testing import run_command
from cpframe.testing.training import EXACT, make_workspace

SPEC = """
title = "Planned"
seeds = [0, 1]
score_epochs = 1
[dataset]
use = "digits"
train = 40
[architecture]
use = "mlp"
sizes = [4]
[optimizer]
use = "sgd"
lr = 0.05
[deficits.blur]
use = "blur"
size = 2
[[protocols]]
use = "removal"
until = [0, 2, 4]
recovery = 3
"""


def planned(*overrides: str) -> Study:
    return plan(read_spec(SPEC, discover(), None, overrides), {})


def cpframe(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_command(*words, cwd=cwd, XDG_CACHE_HOME=str(cwd / "cache"))


@pytest.mark.long
def test_plan_draws_what_is_to_train_and_then_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC)
    first = cpframe("plan", "spec.toml", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    for said in (
        "stages of each of 2 seeds, which form equal trees",
        "blur [0, 2)",
        "clean [2, 5)",
        # 3 + 5 + 7 epochs for each of 2 seeds; blur [0, 2) is shared.
        "30 in all trajectories; 26 with shared ones counted once (13% saved)",
        "10: 10 to train",
        "(measured just now)",
    ):
        assert said in first.stdout, first.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "spec.toml"]
    assert "(measured earlier on this machine)" in cpframe("plan", "spec.toml", cwd=tmp_path).stdout
    (remembered,) = (tmp_path / "cache").rglob("*.json")
    remembered.write_text("[]")
    assert "(measured just now)" in cpframe("plan", "spec.toml", cwd=tmp_path).stdout
    assert cpframe("run", "spec.toml", "--set", "seeds=[0]", cwd=tmp_path).returncode == 0
    half = cpframe("plan", "spec.toml", cwd=tmp_path).stdout
    assert "10: 5 complete, 5 to train" in half
    assert "complete 1 of 2" in half
    more = cpframe("run", "spec.toml", "--set", "protocols.0.recovery=4", cwd=tmp_path)
    assert "of its 5 stages are used again, 3 are not (they stay in the store)" in more.stderr


def test_a_bad_spec_is_told_as_by_run(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC.replace("digits", "digitz"))
    done = cpframe("plan", "spec.toml", cwd=tmp_path)
    assert done.returncode == 2
    assert "spec.toml:6: dataset.use: " in done.stderr


def test_the_forecast_is_the_walk_of_the_engine(tmp_path: Path) -> None:
    progress = read_progress(planned("seeds=[0]"), make_workspace(tmp_path))
    costs = {0: Costs(train=1.0, test=0.0, metrics={}, idle=frozenset(), state_bytes=10**9)}
    alone = forecast(progress, costs, 1, keep_states=False)
    assert alone.seconds == pytest.approx(13)
    # blur [0, 2), then blur [2, 4) beside clean [0, 3), and clean [2, 5), clean [4, 7): the longest way is 7 epochs.
    two = forecast(progress, costs, 2, keep_states=False)
    assert 7 <= two.seconds <= 8
    # Under clean [4, 7): its own state, twice, beside those of blur [0, 2) and [2, 4); none in the end.
    assert round(alone.peak_bytes / 10**9) == 4
    assert alone.final_bytes < 10**6
    assert round(forecast(progress, costs, 1, keep_states=True).final_bytes / 10**9) == 5


def test_a_study_that_changes_is_compared_with_the_one_before(tmp_path: Path) -> None:
    def progress_of(*overrides: str) -> StudyProgress:
        return read_progress(planned(*overrides), make_workspace(tmp_path))

    assert compare_stages(tmp_path, progress_of()) == ""
    assert compare_stages(tmp_path, progress_of()) == ""
    said = compare_stages(tmp_path, progress_of("seeds=[1, 2]"))
    assert "5 of its 10 stages are used again, 5 are not (they stay in the store)" in said
    assert said.startswith("this folder held a different version of the study: ")
    assert said.endswith("5 stages are new, 5 of them to be trained")
    (tmp_path / "stages.txt").write_bytes(b"\xff\xfe")
    assert compare_stages(tmp_path, progress_of()) == ""


def test_of_two_measurements_the_quicker_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that had other work to do makes a training look dear; a run corrects that."""
    (tmp_path / "spec.toml").write_text(SPEC)
    spec = read_spec(tmp_path / "spec.toml", discover(), None, ())
    quick, slow = ({0: Costs(seconds, 0.5, {}, frozenset())} for seconds in (1.0, 9.0))
    for cache, order in (("falling", (slow, quick)), ("rising", (quick, slow))):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / cache))
        for costs in order:
            store_costs(spec, EXACT, costs)
        assert cached_costs(spec, EXACT, tmp_path) == (quick, True)


@pytest.mark.parametrize(
    "damage",
    [
        "{",
        "[]",
        '{"0": []}',
        '{"0": {}}',
        '{"1": ROW}',
        '{"0": {"train": "1"}}',
        '{"0": {"train": NaN}}',
        '{"0": {"train": Infinity}}',
        '{"0": {"test": -1}}',
        '{"0": {"state_bytes": null}}',
        '{"0": {"metrics": {"trace": 1.0}}}',
        '{"0": {"metrics": []}}',
        '{"0": {"numbers": "none"}}',
        '{"0": {"idle": 1}}',
        '{"0": {"idle": [[]]}}',
    ],
)
def test_timings_that_are_damaged_are_measured_again(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = {0: Costs(train=1.0, test=0.5, metrics={}, idle=frozenset({"blur"}), state_bytes=10)}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("cpframe.execution.cost_cache.preflight", lambda *_: good)
    (tmp_path / "spec.toml").write_text(SPEC)
    spec = read_spec(tmp_path / "spec.toml", discover(), None, ())
    assert cached_costs(spec, EXACT, tmp_path) == (good, False)
    assert cached_costs(spec, EXACT, tmp_path) == (good, True)
    (remembered,) = (tmp_path / "cache").rglob("*.*")
    row = json.loads(remembered.read_text())["0"]
    if damage.startswith('{"0": {"'):
        damage = json.dumps({"0": row | json.loads(damage)["0"]})
    remembered.write_text(damage.replace("ROW", json.dumps(row)))
    assert cached_costs(spec, EXACT, tmp_path) == (good, False)
    assert cached_costs(spec, EXACT, tmp_path) == (good, True)
