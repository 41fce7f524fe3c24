"""``cpframe export``: the tables of a study as CSV or Parquet files, or its histories as one netCDF file."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cpframe.errors import require_extra
from cpframe.export import Format
from cpframe.export.dataframes import TRAJECTORY_COLUMNS, array_metrics
from cpframe.export.results import Results
from cpframe.records.histories import CURVES
from cpframe.store import StoreError, has_seal, write_atomically

if TYPE_CHECKING:
    from pandas import DataFrame

_COLUMNS = {
    **TRAJECTORY_COLUMNS,
    "epoch": "number of completed epochs",
    "condition": "condition of the epoch: clean, or a deficit's name in the spec",
    **CURVES,
    "value": "value of the metric in its units; one row per layer, or one row without a layer",
    "stderr": "standard error of the value; empty where there is none",
}


def export(results: Results, format_: Format, out: Path | None = None, *, force: bool = False) -> list[str]:
    """Write the results of a study in another format.

    CSV and Parquet exports are folders with one file per table, and ``study.json``, written last, which describes them.
    A netCDF export is one file with the histories of all trajectories.

    Args:
        results: the results of the study.
        format_: the format.
        out: the folder or file to write; by default one next to the results file.
        force: whether to write to an existing folder or file. Only files of the export's names are replaced.

    Returns:
        The paths of the files that were written, as lines for the user.

    Raises:
        ValueError: if the format is unknown.
        StoreError: if `out` exists and `force` is false, if it is a results file, or if it cannot be written.
        NotInstalledError: if an optional package that the format needs is not installed.
    """
    format_ = Format(format_)
    count = len(results.study.trajectories)
    if format_ is Format.NETCDF:
        path = out or results.path.with_suffix(".nc")
        _check_target(path, force=force)
        _write_file(path, netcdf(results))
        return [f"{path}: histories of {count} trajectories"]
    path = out or results.path.with_name(f"{results.path.stem}-{format_}")
    _check_target(path, force=force)
    files = csv_files(results) if format_ is Format.CSV else parquet_files(results)
    _write_folder(path, files)
    omitted = array_metrics(results.study)
    return [
        f"{path}: {', '.join(files)}; {count} trajectories",
        *([f"not in these tables: {', '.join(omitted)}; use --to netcdf to export them"] if omitted else []),
    ]


def netcdf(results: Results) -> bytes:
    """Return the histories as the contents of a netCDF4 file; floats keep all their bits.

    Raises:
        NotInstalledError: if xarray or h5netcdf is not installed.
    """
    with require_extra("a netCDF export", "notebook"):
        import h5netcdf  # noqa: F401 - xarray writes with it
    dataset = results.histories
    packed = {name: {"zlib": True, "complevel": 4} for name in dataset.data_vars if dataset[name].dtype.kind == "f"}
    return bytes(dataset.to_netcdf(engine="h5netcdf", encoding=packed))


def csv_files(results: Results) -> dict[str, bytes]:
    """Return the files of a CSV export (UTF-8) by name; floats have enough digits to be read back exactly.

    Raises:
        NotInstalledError: if pandas is not installed.
    """
    return _files(results, "csv", lambda table: table.to_csv(index=False, lineterminator="\n").encode())


def parquet_files(results: Results) -> dict[str, bytes]:
    """Return the files of a Parquet export by name.

    Raises:
        NotInstalledError: if pandas or pyarrow is not installed.
    """
    with require_extra("a Parquet export", "export"):
        import pyarrow.parquet  # noqa: F401 - pandas writes with it

    def encode(table: DataFrame) -> bytes:
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False, engine="pyarrow")
        return buffer.getvalue()

    return _files(results, "parquet", encode)


def _files(results: Results, extension: str, encode: Callable[[DataFrame], bytes]) -> dict[str, bytes]:
    study = results.study
    tables = {"trajectories": results.trajectories, "epochs": results.epochs, "metrics": results.metrics}
    metrics = {
        name: {
            "units": metric.units,
            "estimator": metric.estimator,
            "source": metric.source,
            "dimensions": metric.dimensions,
        }
        for trajectory in study.trajectories
        for name, metric in trajectory.history.metrics.items()
    }
    description = {
        "title": study.title,
        "created": study.created,
        "score_epochs": study.score_epochs,
        "deficits": dict(study.deficits),
        "provenance": dict(study.provenance),
        "metrics": metrics,
        "columns": _COLUMNS,
        "left_out": array_metrics(study),
        "spec": study.spec,
    }
    files = {f"{name}.{extension}": encode(table) for name, table in tables.items()}
    return {**files, "study.json": f"{json.dumps(description, ensure_ascii=False, indent=2)}\n".encode()}


def _check_target(path: Path, *, force: bool) -> None:
    if has_seal(path):
        raise StoreError(f"{path}: is a results file of cpframe, which an export never replaces; choose another --out")
    if path.exists() and not force:
        raise StoreError(f"{path}: already exists; choose another --out, or replace it with --force")


def _write_file(path: Path, content: bytes) -> None:
    with suppress(OSError):  # `write_atomically` reports the reason
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content)


def _write_folder(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a folder; a folder that this call has created is removed if one of them cannot be written."""
    is_new = not path.exists()
    try:
        for name, content in files.items():
            _write_file(path / name, content)
    except StoreError:
        if is_new:
            shutil.rmtree(path, ignore_errors=True)
        raise
