"""``cpframe export``: the tables of a study as CSV or Parquet, its histories as one netCDF file.

What is written is whole or not there: files are built in memory, a folder is made aside and renamed. Only what such
an export wrote is ever replaced.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cpframe.errors import Problem, SpecError, nearest, needed
from cpframe.export.dataframes import FACTS, left_out
from cpframe.export.results import Results
from cpframe.records.histories import CURVES
from cpframe.store import StoreError, has_seal, write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

FORMATS = ("csv", "parquet", "netcdf")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_COLUMNS = {
    "epoch": "epochs completed",
    "condition": "what the learner experienced: clean, or a deficit's name in the spec",
    **CURVES,
    "value": "of the metric, in its units; one row a layer, or one without a layer",
    "stderr": "standard error of the value; empty where there is none",
}


def check_format(format_: str) -> None:
    """Refuse what is no format.

    Raises:
        SpecError: with the formats there are.
    """
    if format_ not in FORMATS:
        raise SpecError([Problem(f"--to {format_}", "", f"is not a format; {nearest(format_, FORMATS)}")])


def export(results: Results, format_: str, out: Path | None) -> list[str]:
    """Write the results of a study in another format.

    Args:
        results: opened.
        format_: ``csv`` and ``parquet`` (a folder with a file for each table, and ``study.json``), or ``netcdf`` (one
            file with the histories of all trajectories).
        out: the folder or file; None for one beside the results file.

    Returns:
        What was written, in lines for the user.

    Raises:
        StoreError: when it cannot be written, or would replace what is no such export; what was there is whole.
        NotInstalledError: without the packages of the extra.
    """
    count = len(results.study.trajectories)
    if format_ == "netcdf":
        path = out or results.path.with_suffix(".nc")
        _check_replaceable(path)
        with suppress(OSError):  # `write_atomically` says what is wrong
            path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, netcdf(results))
        return [f"{path}: histories of {count} trajectories"]
    made = {"csv": csv_files, "parquet": parquet_files}[format_](results)
    path = out or results.path.with_name(f"{results.path.stem}-{format_}")
    _write_folder(path, made)
    lost = left_out(results.study)
    return [
        f"{path}: {', '.join(made)}; {count} trajectories",
        *([f"no table has room for {', '.join(lost)}: --to netcdf has"] if lost else []),
    ]


def netcdf(results: Results) -> bytes:
    """The histories as a netCDF4 file; every float as it is, bit for bit.

    Raises:
        NotInstalledError: without xarray or h5netcdf.
    """
    with needed("--to netcdf", "notebook"):
        import h5netcdf  # noqa: F401 - xarray writes with it
    dataset = results.histories
    packed = {name: {"zlib": True, "complevel": 4} for name in dataset.data_vars if dataset[name].dtype.kind == "f"}
    return bytes(dataset.to_netcdf(engine="h5netcdf", encoding=packed))


def csv_files(results: Results) -> dict[str, bytes]:
    """The files of a CSV export (UTF-8), by name. Floats have as many digits as it takes to read them back exactly.

    Raises:
        NotInstalledError: without pandas.
    """
    return _files(results, "csv", lambda table: table.to_csv(index=False, lineterminator="\n").encode())


def parquet_files(results: Results) -> dict[str, bytes]:
    """The files of a Parquet export, by name.

    Raises:
        NotInstalledError: without pandas or pyarrow.
    """
    with needed("--to parquet", "export"):
        import pyarrow.parquet  # noqa: F401 - pandas writes with it

    def written(table: DataFrame) -> bytes:
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False, engine="pyarrow")
        return buffer.getvalue()

    return _files(results, "parquet", written)


def _files(results: Results, ending: str, written: Callable[[DataFrame], bytes]) -> dict[str, bytes]:
    study = results.study
    tables = {"trajectories": results.trajectories, "epochs": results.epochs, "metrics": results.metrics}
    metrics = {
        name: {"units": one.units, "estimator": one.estimator, "source": one.source, "dimensions": one.dimensions}
        for trajectory in study.trajectories
        for name, one in trajectory.history.metrics.items()
    }
    about = {
        "title": study.title,
        "created": study.created,
        "score_epochs": study.score_epochs,
        "deficits": dict(study.deficits),
        "provenance": dict(study.provenance),
        "metrics": metrics,
        "columns": FACTS | _COLUMNS,
        "left_out": left_out(study),
        "spec": study.spec,
    }
    files = {f"{name}.{ending}": written(table) for name, table in tables.items()}
    return {**files, "study.json": f"{json.dumps(about, ensure_ascii=False, indent=2)}\n".encode()}


def _check_replaceable(path: Path) -> None:
    """Refuse to replace a file that is no netCDF export: anything else than HDF5, and cpframe's own files."""
    try:
        with path.open("rb") as file:
            ours = file.read(len(_HDF5)) == _HDF5
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path}: cannot be replaced: {error.strerror}; choose another file with --out") from None
    if not ours or has_seal(path):
        raise StoreError(f"{path}: is there, and no netCDF export: not replaced; choose another file with --out")


def _write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Put a folder with these files at `path`, in one step; one with other files than these is not replaced."""
    target = path.resolve()
    aside, before = (target.with_name(f".{target.name}.{word}") for word in ("part", "before"))
    _check_contents(path, target, files)
    try:
        for stale in (aside, before) if target.exists() else (aside,):  # a killed export's
            _remove(stale, files)
        aside.mkdir(parents=True)
        for name, content in files.items():
            with (aside / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        if target.exists():
            target.rename(before)
        try:
            aside.rename(target)
        except OSError:
            if before.exists():
                before.rename(target)
            raise
    except OSError as error:
        with suppress(OSError):
            _remove(aside, files)
        raise StoreError(f"{path}: cannot be written: {error.strerror}; what was there before is whole") from None
    with suppress(OSError):  # somebody has put a file of theirs in it just now: it is theirs
        _remove(before, files)


def _check_contents(path: Path, target: Path, files: Mapping[str, bytes]) -> None:
    try:
        others = sorted(entry.name for entry in target.iterdir() if entry.name not in files)
    except FileNotFoundError:
        return
    except OSError as error:
        raise StoreError(f"{path}: cannot be replaced: {error.strerror}; choose another folder with --out") from None
    if others:
        has = ", ".join(others[:3]) + (" ..." if len(others) > 3 else "")
        raise StoreError(f"{path}: has files of somebody else, {has}: not replaced; choose another folder with --out")


def _remove(folder: Path, files: Mapping[str, bytes]) -> None:
    """Remove a folder of an export, and nothing that such an export did not write."""
    if folder.is_dir():
        for name in files:
            (folder / name).unlink(missing_ok=True)
        folder.rmdir()
