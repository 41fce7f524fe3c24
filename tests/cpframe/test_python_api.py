"""The public functions: the path of the commands, for scripts and notebooks."""

import importlib
import json
import os
import pkgutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import cpframe
from cpframe.store import read_results

SPEC = """
title = "Tiny"
seeds = [0, 1]
score_epochs = 1
[dataset]
use = "digits"
train = 60
[architecture]
use = "mlp"
sizes = [8]
[optimizer]
use = "sgd"
lr = 0.05
[deficits.blur]
use = "blur"
size = 2
[[protocols]]
use = "removal"
until = [0, 1]
recovery = 2
[metrics.fisher]
use = "fisher-trace"
inputs = 8
[profiles.long]
"protocols.0.recovery" = 3
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def same_numbers(one: Path, other: Path) -> None:
    for mine, its in zip(read_results(one).trajectories, read_results(other).trajectories, strict=True):
        assert mine.name == its.name
        for curve in ("train_loss", "test_loss", "test_accuracy", "learning_rate"):
            np.testing.assert_array_equal(getattr(mine.history, curve), getattr(its.history, curve))
        for name, metric in mine.history.metrics.items():
            np.testing.assert_array_equal(metric.values, its.history.metrics[name].values)


@pytest.mark.needs_extra("notebook")
def test_a_spec_is_a_path_a_text_or_a_dictionary_and_gives_the_same_numbers_as_the_command(here: Path) -> None:
    import tomllib

    (here / "tiny.toml").write_text(SPEC)
    subprocess.run([sys.executable, "-m", "cpframe", "run", "tiny.toml", "--out", "command"], check=True, cwd=here)
    for number, spec in enumerate((Path("tiny.toml"), "tiny.toml", SPEC, tomllib.loads(SPEC))):
        results = cpframe.run(spec, out=here / str(number), store=here / f"store{number}", quiet=True)
        assert results.path == here / str(number) / "results.h5"
        assert list(results.trajectories.status) == ["complete"] * 4
        same_numbers(here / "command" / "results.h5", results.path)
        text = read_results(results.path).spec
        assert tomllib.loads(text) == tomllib.loads(SPEC)


def test_the_folder_is_named_for_the_spec_and_its_profile(here: Path) -> None:
    (here / "tiny.toml").write_text(SPEC)
    results = cpframe.run("tiny.toml", profile="long", overrides={"seeds": [3], "optimizer.lr": 0.1}, quiet=True)
    assert results.path == Path("runs") / "tiny-long" / "results.h5"
    (run, *_) = results.study.trajectories
    assert (run.seed, run.epochs, run.history.learning_rate[0]) == (3, 3, 0.1)
    assert cpframe.run(SPEC, quiet=True).path == Path("runs") / "study" / "results.h5"


def test_a_plan_says_what_is_left_and_trains_nothing(here: Path) -> None:
    plan = cpframe.plan(SPEC)
    assert (plan.trajectories, plan.stages, plan.epochs_to_train) == (4, 6, 10)
    assert plan.seconds > 0
    assert "trajectories" in str(plan)
    assert plan._repr_html_().startswith("<pre")
    assert not list(here.iterdir())
    cpframe.run(SPEC, quiet=True)
    done = cpframe.plan(SPEC)
    assert (done.epochs_to_train, done.seconds) == (0, 0.0)
    assert "nothing to train" in str(done)


@pytest.mark.needs_extra("plot")
def test_a_report_shows_itself_everywhere(here: Path) -> None:
    results = cpframe.run(SPEC, quiet=True)
    report = cpframe.report(results)
    command = [sys.executable, "-m", "cpframe", "report", results.path]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "COLUMNS": "100"})
    assert str(report).strip() == printed.stdout.strip()
    assert str(cpframe.report(str(results.path))) == str(report)
    assert "<" in report._repr_html_()
    document = cpframe.report(results, sections=["verdict"]).document()
    assert list(document) == ["schema_version", "study", "verdict"]
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    (here / "pages").mkdir()
    assert Path(report.write_html("pages/page.html")).read_text().startswith("<!DOCTYPE html>")
    with pytest.raises(ValueError, match="unknown section 'fases'"):
        cpframe.report(results, sections=["fases"])
    for threshold in (-1, 100, float("nan")):
        with pytest.raises(ValueError, match="threshold"):
            cpframe.report(results, threshold=threshold)


def test_mistakes_say_where_they_are(here: Path) -> None:
    with pytest.raises(cpframe.SpecError, match=r"<text>:9: architecture.use: "):
        cpframe.run(SPEC.replace('"mlp"', '"mpl"'))
    with pytest.raises(cpframe.SpecError, match=r"optimizer.lr"):
        cpframe.run(SPEC, overrides={"optimizer.lr": -1})
    with pytest.raises(cpframe.SpecError, match=r"nowhere\.toml"):
        cpframe.plan("nowhere.toml")
    with pytest.raises(cpframe.SpecError, match="no such device"):
        cpframe.plan(SPEC, device="tpu")
    with pytest.raises(cpframe.SpecError, match="executor"):
        cpframe.run(SPEC, executor="slurm")
    with pytest.raises(cpframe.StoreError):
        cpframe.open_results("nowhere")
    with pytest.raises(cpframe.DataError):
        cpframe.run(SPEC, overrides={"dataset": {"use": "image-folder", "path": "none"}})
    for workers in (0, "2", True, 1.5):
        with pytest.raises(ValueError, match="workers must be a whole number of at least 1, not"):
            cpframe.run(SPEC, workers=workers)
    for spec in (None, 5):
        with pytest.raises(TypeError, match="spec must be a path, TOML text or a dictionary, not"):
            cpframe.plan(spec)
    with pytest.raises(TypeError, match="overrides must be a dictionary or a list of texts, not int"):
        cpframe.plan(SPEC, overrides=5)
    assert not list(here.iterdir())


def test_torch_has_the_settings_that_it_had(here: Path) -> None:
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode(), torch.initial_seed()
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    try:
        cpframe.run(SPEC, executor="inline", quiet=True)
        assert torch.get_num_threads() == 2
        assert torch.get_deterministic_debug_mode() == before[1]
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_num_threads(before[0])


def test_settings_of_the_caller_reach_no_training(here: Path) -> None:
    first = cpframe.run(SPEC, executor="inline", quiet=True, out="first", store="one").path
    torch.set_float32_matmul_precision("medium")
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
            second = cpframe.run(SPEC, executor="inline", quiet=True, out="second", store="two").path
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.set_default_dtype(torch.float32)
    same_numbers(first, second)


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_data_that_changes_between_two_runs_is_read_again(here: Path, executor: str) -> None:
    def write_images(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for part in ("train", "test"):
            for label in ("a", "b"):
                for number in range(6):
                    path = here / "images" / part / label / f"{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(rng.integers(256, size=(8, 8), dtype=np.uint8)).save(path)

    own = {"dataset": {"use": "image-folder", "path": str(here / "images")}, "protocols.0.until": [0]}
    write_images(0)
    cpframe.run(SPEC, overrides=own, executor=executor, quiet=True, out="old", store="one")
    write_images(1)
    again = cpframe.run(SPEC, overrides=own, executor=executor, quiet=True, out="new", store="one").path
    same_numbers(again, cpframe.run(SPEC, overrides=own, executor=executor, quiet=True, out="fresh", store="two").path)


def test_progress_goes_to_the_standard_error_unless_it_is_to_be_quiet(
    here: Path, capsys: pytest.CaptureFixture
) -> None:
    cpframe.run(SPEC)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("test accuracy") == 10
    cpframe.run(SPEC, overrides={"seeds": [7]}, quiet=True)
    assert capsys.readouterr() == ("", "")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # an interrupt inside a finaliser
@pytest.mark.parametrize(("executor", "signals"), [("inline", 1), ("processes", 2)])
def test_an_interrupt_leaves_the_process_usable_and_the_store_sound(here: Path, executor: str, signals: int) -> None:
    """As the stop button of a notebook does it: SIGINT while a study trains, and again while its workers end."""
    long = {"protocols": [{"use": "removal", "until": [0, 1], "recovery": 2000}]}
    before = signal.getsignal(signal.SIGINT)

    def interrupt() -> None:
        while not list(here.glob(".stages/*/*/history.h5")) and not list(here.glob("**/history.h5")):
            time.sleep(0.05)
        for _ in range(signals):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.005)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        cpframe.run(
            SPEC, overrides=long, executor=executor, workers=1 if executor == "inline" else 2, quiet=True, out="o"
        )
    thread.join()
    assert signal.getsignal(signal.SIGINT) is before
    stopped = cpframe.open_results("o")
    assert {one.status for one in stopped.study.trajectories} <= {"unfinished", "complete"}
    plan = cpframe.plan(SPEC, overrides=long, out="o")
    assert 0 < plan.epochs_to_train < 2 * (2000 + 2001)


SCRIPT = """
import cpframe
print("started", flush=True)
results = cpframe.run("tiny.toml", workers=2, executor="processes", quiet=True)
print(len(results.study.trajectories), flush=True)
"""


def test_a_script_needs_no_guard_around_its_main_part(here: Path) -> None:
    """Worker processes import nothing of the script that started them."""
    (here / "tiny.toml").write_text(SPEC)
    (here / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, cwd=here, timeout=120)
    assert done.stdout.split() == ["started", "4"], done.stderr


PUBLIC = {
    "cpframe": [
        *("DataError", "ExecutorError", "NotInstalledError", "SpecError", "StoreError"),
        *("open_results", "plan", "report", "run"),
    ],
    "cpframe.api": [
        *("Architecture", "Architectures", "Batch", "CLEAN", "Count"),
        *("DataError", "Dataset", "Datasets", "Deficit", "DeficitWithData"),
        *("Deficits", "EpochsCommitted", "FISHER_TRACE", "FISHER_VARIATIONAL", "Fraction"),
        *("GRADIENT_MEAN", "GRADIENT_STD", "Generator", "HasDeterministic", "HasFingerprint"),
        *("HasIdle", "HasLayers", "History", "Layer", "Measurement"),
        *("Metric", "MetricHistory", "Metrics", "Natural", "NonNegative"),
        *("Observer", "Observers", "Optimizer", "Optimizers", "Positive"),
        *("Probe", "RunFinished", "RunStarted", "Splits", "StudyRecord"),
        *("Task", "TrajectoryRecord", "Watcher", "classification", "hookimpl"),
    ],
    "cpframe.fisher": [
        *("Estimator", "FisherTrace", "HessianTrace", "VariationalTrace", "chunks", "default_layers"),
        *("example_gradients", "hessian_trace", "layers_of", "layerwise_trace", "variational_trace"),
    ],
    "cpframe.testing": [
        *("Design", "make_study", "run_command", "run_study_inline", "small_spec", "write_package"),
    ],
}


@pytest.mark.parametrize("module", PUBLIC)
def test_what_is_public_is_pinned(module: str) -> None:
    loaded = importlib.import_module(module)
    assert sorted(loaded.__all__) == sorted(PUBLIC[module])
    assert all(hasattr(loaded, name) for name in loaded.__all__)


@pytest.mark.needs_extra("plot")
def test_the_functions_stay_functions_when_all_modules_are_imported() -> None:
    """The packages `plan` and `report` have the names of public functions."""
    code = (
        "import pkgutil, importlib, cpframe\n"
        "for one in pkgutil.walk_packages(cpframe.__path__, 'cpframe.'):\n"
        "    if not one.name.endswith(('__main__', 'ray_actors')): importlib.import_module(one.name)\n"
        "from cpframe.plan.stages import plan\n"
        "assert all(callable(getattr(cpframe, name)) for name in ('run', 'plan', 'report', 'open_results'))\n"
        "assert cpframe.plan is not plan\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert {"plan", "report"} <= {one.name for one in pkgutil.iter_modules(cpframe.__path__)}


def test_importing_is_quick_and_loads_nothing_heavy() -> None:
    code = "import sys, cpframe; print([m for m in ('torch', 'numpy', 'rich', 'h5py', 'typer') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
