"""The list of figures: everything that names figures follows it, and it imports nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from cpframe.records.model import StudyRecord
from cpframe.report.figures import FIGURES
from cpframe.store import write_results

GUIDE = Path(__file__).parents[4] / "cpframe" / "report" / "README.md"

TOY = """
import sys, types
from cpframe.report import figures

def draw(findings):
    from matplotlib.figure import Figure
    return [(Figure(), "One panel."), (Figure(), "Another.")]

toy = types.ModuleType("cpframe.report.figures.toy")
toy.draw = draw
sys.modules[toy.__name__] = toy
figures.FIGURES += (figures.Figure("toy", "Toys", "a toy", "nothing", "metrics"),)

from cpframe.cli import app
app()
"""


def run_python(code: str, *words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


@pytest.mark.needs_extra("plot")
def test_a_figure_added_to_the_list_is_a_choice_and_is_drawn(study: StudyRecord, tmp_path: Path) -> None:
    assert "toy" in run_python(TOY, "plot", "--help", cwd=tmp_path).stdout
    write_results(tmp_path / "results.h5", study)
    done = run_python(TOY, "plot", "results.h5", "--figure", "toy", "--format", "svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["figures/toy.svg", "figures/toy-2.svg"]
    assert "<svg" in (tmp_path / "figures" / "toy-2.svg").read_text()
    done = run_python(TOY, "report", "results.h5", "--html", "page.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("A toy.") == 2 * 2  # caption and label
    done = run_python(TOY, "plot", "results.h5", "--figure", "tyo", cwd=tmp_path)
    assert done.returncode == 2
    assert "'toy'" in done.stderr


def test_the_list_imports_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys, cpframe.report.figures\n"
        "heavy = {'matplotlib', 'numpy', 'h5py', 'torch', 'scipy', 'rich'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    done = run_python(code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_guide_has_a_row_per_figure() -> None:
    table = GUIDE.read_text(encoding="utf-8").split("\n| figure | what it shows | what it needs |\n")[1]
    rows = re.findall(r"^\| `([a-z]+)` \| (.*) \| (.*) \|$", table.split("\n\n")[0], flags=re.MULTILINE)
    assert rows == [(figure.name, figure.shows, figure.needs) for figure in FIGURES]
