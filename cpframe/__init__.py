"""cpframe finds, measures and explains critical learning periods in neural networks.

``run`` trains everything that a spec asks for, ``plan`` estimates its time, ``open_results`` opens the results, and
``report`` explains them. Authors of plugins import `cpframe.api`; `cpframe.fisher` measures any classifier.
"""

# The packages come first, so that importing them later cannot replace the functions of the same names.
from cpframe import plan as _plan_package  # noqa: F401
from cpframe import report as _report_package  # noqa: F401
from cpframe.errors import DataError, ExecutorError, NotInstalledError, SpecError, StoreError
from cpframe.python_api import open_results, plan, report, run

__all__ = [
    "DataError",
    "ExecutorError",
    "NotInstalledError",
    "SpecError",
    "StoreError",
    "open_results",
    "plan",
    "report",
    "run",
]
