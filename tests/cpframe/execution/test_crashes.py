"""A study that is killed at any instant: its files stay readable, and resuming gives identical results."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CRASH_STUDY = Path(__file__).with_name("crash_study.py")
SPEC = """
title = "Killed"
seeds = [0]
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
momentum = 0.9
[training]
batch_size = 20
[deficits.noise]
use = "noise"
[[protocols]]
use = "removal"
until = [0, 1]
recovery = 2
[metrics.weights]
use = "weight-norm"
every = 2
"""

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")


def run_crash_study(kind: str, folder: Path) -> dict[str, Any]:
    (folder / "spec.toml").write_text(SPEC)
    done = subprocess.run([sys.executable, CRASH_STUDY, kind, folder], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


@pytest.mark.long
@pytest.mark.parametrize("kind", ["keep", "drop"])
def test_a_study_can_be_killed_at_any_write_sync_rename_or_unlink(tmp_path: Path, kind: str) -> None:
    outcome = run_crash_study(kind, tmp_path)
    assert outcome["faults"] == []
    # 2 trajectories; if states are kept, those of 3 stages are compared too.
    assert outcome["digests"] == 2 + 3 * (kind == "keep")
    # One kill per step; there are fewer steps where states are dropped, since that is one unlink.
    assert outcome["kills"] >= (60 if kind == "keep" else 50)


def test_a_study_that_is_killed_repeatedly_has_the_same_results(tmp_path: Path) -> None:
    outcome = run_crash_study("random", tmp_path)
    assert outcome["faults"] == []
    assert outcome["kills"] > 2
