"""Results for other tools: a `StudyRecord` goes in, data frames, an xarray dataset or files come out. No torch in here.

`results` is what `cpframe.open_results` returns, `dataframes` has its tables, `xarray_dataset` its histories, `files`
writes them as CSV, Parquet or netCDF. Another format is a function in `files`.
"""
