"""Exports: files are read back by pandas, pyarrow, h5netcdf and xarray, whole or absent, and replaced only by force."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="pyarrow missing: pip install 'cpframe[export]'")
import h5netcdf  # type: ignore[import-untyped]
import pandas
import pyarrow
import pyarrow.parquet
import xarray

from cpframe.export import Format
from cpframe.export import files as exporting
from cpframe.export.files import export
from cpframe.export.results import Results
from cpframe.records.model import MetricHistory, StudyRecord
from cpframe.store import StoreError, write_results
from cpframe.store import atomic as files
from cpframe.testing import run_command

pytestmark = pytest.mark.needs_extra("export")

TABLES = ("trajectories", "epochs", "metrics")
AWKWARD = 'diverged, "so they say",\nin epoch 7;\ttab, Unschärfe, 視力, \r\n end'


@pytest.fixture(scope="module")
def results(new_study: Callable[..., StudyRecord]) -> Results:
    """A small study with awkward texts, a number as a metric, and values that are hard to print."""
    grid = ({"optimizer.lr": 0.1, "architecture.sizes": [4, 5]}, {"optimizer.lr": 1 / 3, "architecture.sizes": [6]})
    study = new_study(title='A, "title"\nof ünïcode', seeds=(0, 2), variants=grid, until=(0, 10), onsets=(0,))
    first = study.trajectories[0]
    values = np.random.default_rng(0).random(len(first.history.measured_epoch)) * 10.0 ** np.arange(-12, 12)[:24]
    metrics = {**first.history.metrics, "loss": MetricHistory(values, None, "", "", "clean")}
    failed = replace(
        first, status="failed", reason=AWKWARD, score=np.nan, history=replace(first.history, metrics=metrics)
    )
    return Results(Path("results.h5"), replace(study, trajectories=(failed, *study.trajectories[1:])))


def tables_of(results: Results) -> dict[str, pandas.DataFrame]:
    return {"trajectories": results.trajectories, "epochs": results.epochs, "metrics": results.metrics}


def test_csv_reads_back_exactly(tmp_path: Path, results: Results) -> None:
    lines = export(results, Format.CSV, tmp_path / "out")
    assert str(tmp_path / "out") in lines[0]
    for name, table in tables_of(results).items():
        texts = {column: "string" for column, kind in table.dtypes.items() if kind == "string"}
        read = pandas.read_csv(
            tmp_path / "out" / f"{name}.csv",
            dtype=texts,
            keep_default_na=False,
            na_values={column: [""] for column in table.columns if column not in texts or column == "layer"},
        )
        pandas.testing.assert_frame_equal(read, table, check_exact=True)
    raw = (tmp_path / "out" / "trajectories.csv").read_bytes()
    assert "視力".encode() in raw
    assert not raw.startswith(b"\xef\xbb\xbf")
    about = json.loads((tmp_path / "out" / "study.json").read_text(encoding="utf-8"))
    assert about["title"] == results.study.title
    assert about["metrics"]["fisher"] == {
        "units": "nats",
        "estimator": "Fisher trace, labels from the model",
        "source": "clean",
        "dimensions": ["layer"],
    }
    grid = {"optimizer.lr", "architecture.sizes"}
    written = {column for table in tables_of(results).values() for column in table.columns}
    assert written - grid - {"name", "trajectory", "metric", "layer"} <= about["columns"].keys()


def test_parquet_reads_back_exactly_with_its_types(tmp_path: Path, results: Results) -> None:
    export(results, Format.PARQUET, tmp_path / "out")
    for name, table in tables_of(results).items():
        path = tmp_path / "out" / f"{name}.parquet"
        pandas.testing.assert_frame_equal(pandas.read_parquet(path), table, check_exact=True)
        schema = pyarrow.parquet.read_schema(path)
        for column, kind in table.dtypes.items():
            found = schema.field(column).type
            if kind == "string":
                assert pyarrow.types.is_string(found) or pyarrow.types.is_large_string(found)
            else:
                assert found == pyarrow.from_numpy_dtype(kind)


def test_netcdf_reads_back_exactly_with_named_dimensions(tmp_path: Path, results: Results) -> None:
    path = tmp_path / "new" / "study.nc"
    export(results, Format.NETCDF, path)
    expected = results.histories
    with xarray.open_dataset(path, engine="h5netcdf") as read:
        assert read.sizes == expected.sizes
        assert read.coords.keys() == expected.coords.keys()
        for name, variable in expected.variables.items():
            assert read[name].dims == variable.dims
            np.testing.assert_array_equal(read[name].values, variable.values)
            for attribute, value in variable.attrs.items():
                assert read[name].attrs[attribute] == value
        assert read.attrs["title"] == results.study.title
        assert read.set_coords([]).sel(trajectory=results.study.trajectories[0].name).reason == AWKWARD
    with h5netcdf.File(path) as file:
        assert set(file.dimensions) == {"trajectory", "epoch", "measured_epoch", "layer"}
        assert file.variables["fisher"].dimensions == ("trajectory", "measured_epoch", "layer")


def test_metrics_that_define_dimensions_are_in_netcdf_and_named_as_missing_from_tables(
    tmp_path: Path, results: Results
) -> None:
    first = results.study.trajectories[0]
    values = np.random.default_rng(0).random((len(first.history.measured_epoch), 4, 3))
    filters = MetricHistory(values, None, "", "weights", "clean", ("filter", "channel"))
    history = replace(first.history, metrics={**first.history.metrics, "filters": filters})
    study = replace(results.study, trajectories=(replace(first, history=history),))
    lines = export(Results(results.path, study), Format.CSV, tmp_path / "out")
    assert lines[1] == "not in these tables: filters; use --to netcdf to export them"
    export(Results(results.path, study), Format.NETCDF, tmp_path / "out.nc")
    with xarray.open_dataset(tmp_path / "out.nc", engine="h5netcdf") as read:
        np.testing.assert_array_equal(read.filters.sel(trajectory=first.name), values)
        assert read.filters.dims == ("trajectory", "measured_epoch", "filter", "channel")


@pytest.mark.parametrize("format_", Format)
def test_an_export_is_replaced_only_by_force(tmp_path: Path, results: Results, format_: Format) -> None:
    out = tmp_path / "out"
    half = Results(results.path, replace(results.study, trajectories=results.study.trajectories[:2]))
    export(half, format_, out)
    before = contents(tmp_path)
    with pytest.raises(StoreError, match="out: already exists; choose another --out, or replace it with --force"):
        export(results, format_, out)
    assert contents(tmp_path) == before
    export(results, format_, out, force=True)
    assert before.keys() == contents(tmp_path).keys()
    assert before != contents(tmp_path)


@pytest.mark.parametrize("format_", [Format.CSV, Format.NETCDF])
def test_other_files_are_left_alone(tmp_path: Path, results: Results, format_: Format) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    write_results(tmp_path / "results.h5", results.study)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    for name in ("notes.txt", "results.h5", "folder"):
        with pytest.raises(StoreError, match=f"{name}.* --out"):
            export(results, format_, tmp_path / name)
    assert contents(tmp_path) == before


def test_force_replaces_neither_results_files_nor_files_with_other_names(tmp_path: Path, results: Results) -> None:
    write_results(tmp_path / "results.h5", results.study)
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    for format_ in Format:
        with pytest.raises(StoreError, match="is a results file of cpframe, which an export never replaces"):
            export(results, format_, tmp_path / "results.h5", force=True)
    export(results, Format.CSV, tmp_path, force=True)
    after = contents(tmp_path)
    assert after.keys() - before.keys() == {"trajectories.csv", "epochs.csv", "metrics.csv", "study.json"}
    assert {name: after[name] for name in before} == before
    with pytest.raises(StoreError, match=r"notes\.txt.*cannot be written"):
        export(results, Format.CSV, tmp_path / "notes.txt", force=True)
    assert contents(tmp_path) == after


def test_an_unknown_format_is_refused(tmp_path: Path, results: Results) -> None:
    with pytest.raises(ValueError, match="xls"):
        export(results, "xls", tmp_path / "out")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("format_", Format)
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_what_was_there(
    tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch, format_: Format, there: bool
) -> None:
    out = tmp_path / "out"
    if there:
        export(results, format_, out)
    before = contents(tmp_path)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        export(results, format_, out, force=there)
    monkeypatch.undo()
    assert contents(tmp_path) == before
    assert out.exists() is there


def test_a_disk_that_fills_up_leaves_no_new_folder(
    tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch
) -> None:
    sync, calls = os.fsync, iter(range(100))

    def full(descriptor: int) -> None:
        if next(calls) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        export(results, Format.CSV, tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("force", [True, False])
def test_a_killed_export_leaves_whole_files_and_can_be_repeated(
    tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    """Killed at each step on the disk in turn: every file of the export is whole, and a repetition completes it."""
    files = exporting.csv_files(results)
    half = Results(results.path, replace(results.study, trajectories=results.study.trajectories[:2]))
    old = exporting.csv_files(half)
    killed = 0
    for step in range(20):
        out = tmp_path / str(step) / "out"
        if force:
            export(half, Format.CSV, out)
        child = os.fork()
        if not child:
            die_at(step, monkeypatch)
            export(results, Format.CSV, out, force=force)
            os._exit(0)
        killed += os.waitpid(child, 0)[1] == signal.SIGKILL
        found = {path.name: path.read_bytes() for path in out.glob("*") if path.suffix != ".part"}
        for name, content in found.items():
            assert content in ({files[name], old[name]} if force else {files[name]})
        if force:
            assert found.keys() == files.keys()
        export(results, Format.CSV, out, force=True)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == files
        assert [path.name for path in out.parent.iterdir()] == ["out"]
    assert 8 <= killed < 20


def die_at(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process be killed at its step-th write, rename, or removal."""
    left = iter(range(step, -1, -1))

    def counted(action: Callable[..., Any]) -> Callable[..., Any]:
        def act(*arguments: Any, **more: Any) -> Any:
            if next(left) == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return action(*arguments, **more)

        return act

    monkeypatch.setattr(os, "fsync", counted(os.fsync))
    for name in ("replace", "mkdir", "unlink", "rmdir"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def command(*words: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run_command("export", *words, cwd=cwd)


def test_the_command_writes_next_to_the_results_and_names_the_files(tmp_path: Path, results: Results) -> None:
    (tmp_path / "study").mkdir()
    write_results(tmp_path / "study" / "results.h5", results.study)
    for format_, name in (("csv", "results-csv"), ("netcdf", "results.nc")):
        done = command("study", "--to", format_, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert f"study/{name}" in done.stdout
        assert (tmp_path / "study" / name).exists()


def test_the_command_refuses_in_one_line(tmp_path: Path, results: Results) -> None:
    write_results(tmp_path / "results.h5", results.study)
    (tmp_path / "damaged.h5").write_bytes((tmp_path / "results.h5").read_bytes()[:-1])
    for words, code, why in (
        (("damaged.h5", "--to", "csv"), 1, "damaged.h5: is not a results file of cpframe"),
        (("nothing.h5", "--to", "csv"), 1, "nothing.h5: no such file"),
        (
            ("results.h5", "--to", "netcdf", "--out", "results.h5"),
            1,
            "is a results file of cpframe, which an export never replaces",
        ),
    ):
        done = command(*words, cwd=tmp_path)
        assert done.returncode == code
        assert why in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged.h5", "results.h5"]


def test_the_command_names_the_formats_if_one_is_unknown(tmp_path: Path, results: Results) -> None:
    write_results(tmp_path / "results.h5", results.study)
    done = command("results.h5", "--to", "netcd", cwd=tmp_path)
    assert done.returncode == 2
    assert "'netcd' is not one of 'csv', 'parquet', 'netcdf'" in " ".join(done.stderr.replace("│", " ").split())
    assert [path.name for path in tmp_path.iterdir()] == ["results.h5"]


def test_the_command_replaces_an_export_with_force(tmp_path: Path, results: Results) -> None:
    write_results(tmp_path / "results.h5", results.study)
    assert command("results.h5", "--to", "csv", cwd=tmp_path).returncode == 0
    done = command("results.h5", "--to", "csv", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == ("cpframe: results-csv: already exists; choose another --out, or replace it with --force\n")
    assert command("results.h5", "--to", "csv", "--force", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("format_", "package"), [(Format.PARQUET, "pyarrow"), (Format.NETCDF, "h5netcdf"), (Format.CSV, "pandas")]
)
def test_a_missing_package_is_named(
    tmp_path: Path, results: Results, monkeypatch: pytest.MonkeyPatch, format_: Format, package: str
) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"needs {package}.*: pip install 'cpframe\["):
        export(Results(results.path, results.study), format_, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_a_results_file_is_recognised_by_its_seal(tmp_path: Path, results: Results) -> None:
    write_results(tmp_path / "results.h5", results.study)
    (tmp_path / "short").write_bytes(b"x")
    assert files.has_seal(tmp_path / "results.h5")
    assert not files.has_seal(tmp_path / "short")
    assert not files.has_seal(tmp_path / "nothing")
