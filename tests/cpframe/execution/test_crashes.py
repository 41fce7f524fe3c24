"""A study that is killed at any instant: what was committed opens, and going on comes to the same bits."""

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
title = "Mortal"
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


def crashed(kind: str, folder: Path) -> dict[str, Any]:
    (folder / "spec.toml").write_text(SPEC)
    done = subprocess.run([sys.executable, CRASH_STUDY, kind, folder], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("kind", ["keep", pytest.param("drop", marks=pytest.mark.long)])
def test_a_study_may_die_at_any_write_sync_rename_or_unlink(tmp_path: Path, kind: str) -> None:
    found = crashed(kind, tmp_path)
    assert found["wrong"] == []
    # 2 trajectories; with the states kept, those of 3 stages are compared too.
    assert found["states"] == 2 + 3 * (kind == "keep")
    # Every step was died at: where states are dropped there are fewer, since that is one unlink.
    assert found["deaths"] >= (60 if kind == "keep" else 50)


def test_a_study_that_is_killed_again_and_again_comes_to_the_same(tmp_path: Path) -> None:
    found = crashed("random", tmp_path)
    assert found["wrong"] == []
    assert found["deaths"] > 2
