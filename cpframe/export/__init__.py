"""The results of a study for other tools: a `StudyRecord` becomes data frames, an xarray dataset, or files.

`results` has the `Results` that `cpframe.open_results` returns, `dataframes` its tables, `xarray_dataset` its
histories, and `files` writes them as CSV, Parquet or netCDF. To add a file format, add a member to `Format` and a
branch to `files.export`. pandas, xarray and pyarrow are optional dependencies, imported when they are needed; torch is
never imported.
"""

from enum import StrEnum


class Format(StrEnum):
    """A file format of ``cpframe export``."""

    CSV = "csv"
    PARQUET = "parquet"
    NETCDF = "netcdf"
