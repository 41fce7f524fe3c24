"""The commands as a user meets them: a real process, its streams, its exit code."""

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cpframe.testing import run_command, write_package

SPEC = """
title = "Tiny"
seeds = [0, 1]
score_epochs = 2
[dataset]
use = "digits"
[architecture]
use = "mlp"
sizes = [16]
[optimizer]
use = "sgd"
[training]
batch_size = 50
[deficits.blur]
use = "blur"
size = 2
[[protocols]]
use = "removal"
until = [0, 2]
recovery = 3
[metrics.fisher]
use = "fisher-trace"
every = 2
inputs = 16
"""


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with tiny.toml and its finished run."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "tiny.toml").write_text(SPEC)
    return folder, run_command("run", "tiny.toml", cwd=folder)


def test_run_reports_and_tells_one_line_an_epoch(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, run = study
    assert run.returncode == 0, run.stderr
    assert "Tiny" in run.stdout
    assert (folder / "runs" / "tiny" / "results.h5").is_file()
    lines = [line for line in run.stderr.splitlines() if "test accuracy" in line]
    # 3 epochs without deficit, and blur until 2 with 3 clean epochs; 2 seeds.
    assert len(lines) == 2 * (3 + 5)
    assert lines[0].startswith("1/16 ")
    assert lines[-1].startswith("16/16 ")


def test_a_finished_study_is_not_trained_again(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, run = study
    again = run_command("run", "tiny.toml", cwd=folder)
    assert again.returncode == 0
    assert "nothing to train" in again.stderr
    assert "test accuracy" not in again.stderr
    body = [line for line in run.stdout.splitlines() if "2026" not in line]
    assert [line for line in again.stdout.splitlines() if "2026" not in line][5:] == body[5:]


def test_report_takes_file_or_folder_and_fits_the_width(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = study
    for columns in (80, 120):
        report = run_command("report", "runs/tiny", cwd=folder, COLUMNS=str(columns))
        assert report.returncode == 0
        assert report.stdout == run_command("report", "runs/tiny/results.h5", cwd=folder, COLUMNS=str(columns)).stdout
        assert max(map(len, report.stdout.splitlines())) <= columns
        assert "\x1b" not in report.stdout


def test_report_options_choose_sections_width_and_threshold(
    study: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, _ = study
    options = ["--section", "verdict", "--section", "controls", "--width", "60", "--threshold", "2.5"]
    report = run_command("report", "runs/tiny", *options, cwd=folder)
    assert report.returncode == 0, report.stderr
    assert max(map(len, report.stdout.splitlines())) == 60  # the frame
    assert "has recovered if its drop is at most 2.5 points" in " ".join(report.stdout.replace("│", " ").split())
    assert "Controls ─" in report.stdout
    assert "Removal:" not in report.stdout
    narrow = run_command("report", "runs/tiny", cwd=folder, COLUMNS="20")
    assert max(map(len, narrow.stdout.splitlines())) == 60  # no narrower than a report can be


def test_report_for_machines_is_one_document(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = study
    report = run_command("report", "runs/tiny", "--json", cwd=folder)
    assert report.returncode == 0, report.stderr
    found = json.loads(report.stdout)
    assert found["study"]["trajectories"] == {"complete": 4, "unfinished": 0, "failed": 0}
    assert found["verdict"][0]["kind"] == "not enough seeds"
    some = run_command("report", "runs/tiny", "--json", "--section", "layers", cwd=folder)
    assert list(json.loads(some.stdout)) == ["schema_version", "study", "layers"]
    assert "NaN" not in report.stdout


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_output_that_cannot_be_written_is_told_in_a_line(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = study
    for words in ("report", "runs/tiny"), ("report", "runs/tiny", "--json"), ("plugins",):
        with Path("/dev/full").open("w") as full:
            command = [sys.executable, "-m", "cpframe", *words]
            done = subprocess.run(command, cwd=folder, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)
        assert done.returncode == 1
        assert done.stderr == "cpframe: input or output failed: No space left on device\n"


def test_a_reader_that_has_had_enough_is_no_error(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = study
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed:
        command = [sys.executable, "-m", "cpframe", "report", "runs/tiny"]
        done = subprocess.run(command, cwd=folder, stdout=closed, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr == ""


def test_help_and_report_and_a_bad_spec_import_no_torch(study: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, _ = study
    (folder / "bad.toml").write_text(SPEC.replace("digits", "digitz"))
    for words in (
        ["--help"],
        ["report", "runs/tiny"],
        ["report", "runs/tiny", "--json"],
        ["report", "runs/tiny", "--html", "page.html"],
        ["plot", "runs/tiny"],
        ["run", "bad.toml"],
        ["plugins"],
    ):
        code = (
            "import sys\nfrom cpframe.cli import app\n"
            "try: app()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules, 'torch'"
        )
        command = [sys.executable, "-W", "error", "-c", code, *words]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr


@pytest.mark.needs_extra("plot")
def test_plot_writes_figures_and_names_what_it_leaves_out(study: tuple[Path, object], tmp_path: Path) -> None:
    folder, _ = study
    done = run_command("plot", folder / "runs" / "tiny", "--format", "svg", "--out", "drawn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["fisher.svg", "layers.svg", "removal.svg"]
    assert done.stdout.splitlines()[0] == "drawn/removal.svg"
    assert (
        "left out: sensitivity: no complete pair of a sliding trajectory and its no-deficit trajectory" in done.stdout
    )
    done = run_command("plot", folder / "runs" / "tiny", "--figure", "gradients", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "cpframe: gradients: no gradients were measured per layer; "
        'add [metrics.gradient] use = "gradient" to the spec\n'
    )


@pytest.mark.needs_extra("plot")
def test_report_writes_a_page(study: tuple[Path, object], tmp_path: Path) -> None:
    folder, _ = study
    done = run_command("report", folder / "runs" / "tiny", "--html", "page.html", "--threshold", "2.5", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "page.html\n"), done.stderr
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "A network has recovered if its drop is at most 2.5 points" in page


def test_without_matplotlib_one_line_says_how_to_get_it(study: tuple[Path, object], tmp_path: Path) -> None:
    folder, _ = study
    hidden = "import sys; sys.modules['matplotlib'] = None; from cpframe.cli import app; app()"
    results = str(folder / "runs" / "tiny")
    for words, what in (
        (["plot", results], "a figure"),
        (["report", results, "--html", "p.html"], "a page with figures"),
    ):
        command = [sys.executable, "-c", hidden, *words]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 1
        assert done.stderr == f"cpframe: {what} needs matplotlib: pip install 'cpframe[plot]'\n"
    assert not list(tmp_path.iterdir())


def test_a_bad_spec_is_told_in_full_with_lines_and_writes_nothing(tmp_path: Path) -> None:
    text = SPEC.replace('use = "digits"', 'use = "digitz"').replace("batch_size = 50", 'batch_size = "fifty"')
    (tmp_path / "bad.toml").write_text(text)
    done = run_command("run", "bad.toml", cwd=tmp_path)
    assert done.returncode == 2
    wrong_dataset = text.splitlines().index('use = "digitz"') + 1
    wrong_size = text.splitlines().index('batch_size = "fifty"') + 1
    assert f"bad.toml:{wrong_dataset}: dataset.use: " in done.stderr
    assert "'digits'" in done.stderr
    assert f"bad.toml:{wrong_size}: training.batch_size: " in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["bad.toml"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "nowhere.toml"], 2, "no such file"),
        (["run", "tiny.toml", "--profile", "gpu"], 2, "unknown profile"),
        (["run", "tiny.toml", "--set", "optimizer.lr=-1"], 2, "--set optimizer.lr=-1: optimizer.lr: "),
        (["run", "tiny.toml", "--set", "optimizer.momentun=0"], 2, "did you mean 'momentum'?"),
        (["run", "tiny.toml", "--device", "tpu"], 2, "--device tpu: no such device: this machine has "),
        (["run", "tiny.toml", "--workers", "0"], 2, "--workers"),
        (["run", "tiny.toml", "--executor", "slurm"], 2, "--executor slurm: unknown executor; known executors: 'auto'"),
        (["run", "tiny.toml", "--executor", "inline", "--workers", "2"], 2, "one stage at a time"),
        (["run", "tiny.toml", "--set", "deficits.blur.size=8"], 2, "tiny.toml:14: deficits.blur: "),
        (["run", "tiny.toml", "--set", "training.numerics=fast", "--device", "cpu"], 2, "needs a CUDA device"),
        (["run", "tiny.toml", "--set", "dataset={use='image-folder', path='none'}"], 1, "none"),
        (["run", "tiny.toml", "--set", "dataset={use='mnist'}", "--data", "tiny.toml/x"], 1, "tiny.toml/x"),
        (["run", "tiny.toml", "--out", "tiny.toml"], 1, "cannot be written"),
        (["report", "nowhere.h5"], 1, "no such file"),
        (["report", "nowhere.h5", "--html", "page.html"], 1, "no such file"),
        (["report", "nowhere.h5", "--html", "page.html", "--json"], 2, "--json: has no effect with --html"),
        (["plot", "nowhere.h5"], 1, "no such file"),
        (["plot", "nowhere.h5", "--figure", "removals"], 2, "'removals' is not one of"),
        (["plot", "nowhere.h5", "--format", "jpg"], 2, "'jpg' is not one of 'png', 'svg', 'pdf'"),
        (["report", "nowhere.h5", "--section", "fases"], 2, "'fases' is not one of 'verdict', 'curves', 'phases', "),
        (["report", "nowhere.h5", "--width", "40"], 2, "Invalid value for '--width'"),
        (["report", "nowhere.h5", "--width", "401"], 2, "Invalid value for '--width'"),
        (
            ["report", "nowhere.h5", "--threshold", "-1"],
            2,
            "must be at least 0 and below 100 percentage points, not -1",
        ),
        (["report", "nowhere.h5", "--threshold", "nan"], 2, "must be at least 0 and below 100 percentage points"),
        (["report", "nowhere.h5", "--threshold", "100"], 2, "must be at least 0 and below 100 percentage points"),
        (["report", "nowhere.h5", "--json", "--width", "80"], 2, "--width: has no effect with --json"),
        (["export", "nowhere.h5"], 2, "Missing option '--to'"),
        (["runn", "tiny.toml"], 2, "No such command 'runn'"),
        (["report", "tiny.toml"], 1, "is not a results file"),
    ],
)
def test_mistakes_get_one_clear_line_and_the_right_exit_code(
    words: list[str], code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(SPEC)
    done = run_command(*words, cwd=tmp_path)
    assert said in done.stderr.replace("\n", " "), done.stderr
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]  # nothing was written


def test_a_failed_trajectory_stops_nothing_else_and_gives_exit_code_1(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SPEC + '\n[grid]\n"optimizer.lr" = [0.01, 1e30]\n')
    done = run_command("run", "tiny.toml", cwd=tmp_path)
    assert done.returncode == 1
    assert "diverged in epoch 1" in done.stdout
    assert "4 of 8 trajectories failed" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_output_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SPEC)
    code = (
        "import sys; from pathlib import Path; from cpframe.store import lock_folder\n"
        "with lock_folder(Path('out')): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        done = run_command("run", "tiny.toml", "--out", "out", cwd=tmp_path)
    assert done.returncode == 1
    assert "in use by another run" in done.stderr
    assert not list(tmp_path.rglob("results.h5"))


@pytest.mark.parametrize(
    ("signals", "whole_group", "code", "words"),
    [
        ([signal.SIGINT], True, 130, ["--workers", "2"]),
        pytest.param([signal.SIGINT, signal.SIGINT], True, 130, ["--workers", "2"], marks=pytest.mark.long),
        pytest.param([signal.SIGTERM], False, 143, ["--workers", "2"], marks=pytest.mark.long),
        pytest.param([signal.SIGKILL], False, 137, ["--workers", "2"], marks=pytest.mark.long),
        pytest.param(
            [signal.SIGTERM],
            False,
            143,
            ["--workers", "2", "--executor", "ray"],
            marks=[pytest.mark.long, pytest.mark.needs_extra("ray")],
        ),
    ],
)
def test_a_run_that_is_stopped_says_how_to_go_on_and_leaves_nothing_behind_but_what_it_committed(
    signals: list[signal.Signals], whole_group: bool, code: int, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "tiny.toml").write_text(SPEC.replace("recovery = 3", "recovery = 3000"))
    command = [sys.executable, "-m", "cpframe", "run", "tiny.toml", *words, "--out", "out"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("30/"):  # some are in results.h5 by then, or in the stages
                break
        for number in signals:
            (os.killpg if whole_group else os.kill)(process.pid, number)
            time.sleep(0.6 if len(signals) > 1 else 0)
        _, said = process.communicate(timeout=30)
    # As a shell has it: a second signal may find Python past its last handler, where it ends the process itself.
    assert (process.returncode if process.returncode >= 0 else 128 - process.returncode) == code
    assert "Traceback" not in said
    if signals in ([signal.SIGINT], [signal.SIGTERM]):
        assert said.splitlines()[-1] == "cpframe: stopped; run the same command again to continue"
        assert run_command("report", "out", cwd=tmp_path).returncode == 0
    elif (tmp_path / "out" / "results.h5").exists():
        assert run_command("report", "out", cwd=tmp_path).returncode == 0
    _wait_until_gone(process.pid)


HUNG = """
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from cpframe.api import Observers, hookimpl

@dataclass(frozen=True)
class Hung:
    def __call__(self, run):
        with ThreadPoolExecutor() as pool:  # whose threads Python waits for at exit
            pool.submit(threading.Event().wait).result()

@hookimpl
def cpframe_observers() -> Observers:
    return {"hung": Hung}
"""


@pytest.mark.long
@pytest.mark.parametrize("stopped", [False, True])
def test_an_observer_that_hangs_keeps_neither_the_run_nor_the_end_of_the_process(tmp_path: Path, stopped: bool) -> None:
    site = tmp_path / "site"
    site.mkdir()
    write_package(site, "hung", observer=HUNG)
    text = f'{SPEC}[observers.slow]\nuse = "hung"\nwait = 0.5\n'
    (tmp_path / "tiny.toml").write_text(text.replace("recovery = 3", "recovery = 3000") if stopped else text)
    path = os.pathsep.join([str(site), *filter(None, [os.environ.get("PYTHONPATH")])])
    with subprocess.Popen(
        [sys.executable, "-m", "cpframe", "run", "tiny.toml", "--out", "out"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "COLUMNS": "100"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr if stopped else ():
            if line.startswith("30/"):
                os.killpg(process.pid, signal.SIGINT)
                break
        report, said = process.communicate(timeout=60)
    assert process.returncode == (130 if stopped else 0)
    assert "observer slow: abandoned because it did not finish within 0.5 s after the run" in said
    assert ("stopped; run the same command again" in said) == stopped
    assert ("trajectories" in report) != stopped
    _wait_until_gone(process.pid)


def _wait_until_gone(group: int) -> None:
    """No worker outlives its run: within some seconds the process group is empty."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail("a worker is still there")


def test_on_a_terminal_there_is_a_bar_and_colour(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(SPEC)
    driver, terminal = pty.openpty()
    command = [sys.executable, "-m", "cpframe", "run", "tiny.toml"]
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=terminal, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        while chunk := _read(driver):
            shown += chunk
    os.close(driver)
    assert process.returncode == 0
    assert b"epochs" in shown
    assert b"test accuracy" not in shown
    assert b"\x1b[" in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux says EIO when the last writer of a terminal is gone
        return b""


def test_plugins_lists_the_bundled_components(tmp_path: Path) -> None:
    done = run_command("plugins", cwd=tmp_path)
    assert done.returncode == 0
    names = {line.split()[1] for line in done.stdout.splitlines() if len(line.split()) > 2}
    assert {"all-cnn", "depth-cnn", "resnet18", "mlp", "digits", "mnist", "fashion-mnist", "cifar10"} <= names
    assert {"cifar100", "image-folder", "blur", "vertical-flip", "label-permutation", "random-labels"} <= names
    assert {"noise", "idle", "sgd", "adam", "adamw", "fisher-trace", "weight-norm", "gradient"} <= names


def test_the_fisher_trace_has_its_companions_in_the_results(study: tuple[Path, object]) -> None:
    """Share and scaled beside it, layer by layer; the report has one Fisher section, not three."""
    import h5py
    import numpy as np

    folder, run = study
    with h5py.File(folder / "runs" / "tiny" / "results.h5") as file:
        group = file["trajectories"]["removal-clean-of-3-seed0"]
        trace, share, scaled = (group[name][...] for name in ("fisher", "fisher-share", "fisher-scaled"))
        assert group["fisher"].attrs["estimator"] == "Fisher trace (model)"
        assert {"fisher_stderr", "fisher-share_stderr", "fisher-scaled_stderr"} <= set(group)
    np.testing.assert_allclose(share, trace / trace.sum(axis=1, keepdims=True), rtol=1e-12)  # rounding
    assert (scaled > 0).all()
    assert isinstance(run, subprocess.CompletedProcess)
    assert run.stdout.count("Fisher information:") == 1


def test_bench_times_the_papers_networks(tmp_path: Path) -> None:
    done = run_command("bench", "fisher", "--images", "2", "--repeats", "1", "--device", "cpu", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split() for line in done.stdout.splitlines() if line.strip()}
    for network in ("all-cnn", "resnet18", "mlp"):
        assert float(rows[network][5]) > 0  # the ratio, after two times with their units
    assert not any(tmp_path.iterdir())


def test_bench_refuses_a_device_that_is_not_here(tmp_path: Path) -> None:
    done = run_command("bench", "fisher", "--device", "cuda:7", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("cpframe: --device cuda:7")
    assert "Traceback" not in done.stderr
