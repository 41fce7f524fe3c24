"""Settings before torch is imported, and the skipping of tests whose optional packages are missing."""

import os
import signal
from collections.abc import Generator
from importlib.util import find_spec

import pytest

# Every process of the tests has one thread, as a worker has.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A shell starts background jobs with SIGINT ignored, which their children inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)

PACKAGES = {
    "ray": ["ray"],
    "plot": ["matplotlib"],
    "notebook": ["pandas", "xarray", "h5netcdf", "ipywidgets"],
    "export": ["pandas", "xarray", "h5netcdf", "pyarrow"],
    "tensorboard": ["tensorboard"],
    "mlflow": ["mlflow", "sqlalchemy", "alembic"],
    "wandb": ["wandb"],
    "dev": ["mypy", "ipykernel"],
}
"""The packages of each extra, by the names under which they are imported."""

NO_SKIPS = os.environ.get("CPFRAME_NO_SKIPS") == "1"
"""Whether a missing extra fails a test: `.ci/run` sets the variable where all extras are installed."""


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked `needs_extra` when a package of one of its extras is missing."""
    for extra in {name for mark in item.iter_markers("needs_extra") for name in mark.args}:
        missing = [package for package in PACKAGES[extra] if find_spec(package) is None]
        if missing:
            reason = f"{', '.join(missing)} missing: pip install 'cpframe[{extra}]'"
            pytest.fail(reason, pytrace=False) if NO_SKIPS else pytest.skip(reason)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail a module that is skipped as a whole for a missing extra, where none may be missing."""
    report = yield
    if NO_SKIPS and report.skipped and "cpframe[" in str(report.longrepr):
        report.outcome = "failed"
    return report
