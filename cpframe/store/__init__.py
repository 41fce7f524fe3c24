"""The store: stage folders committed epoch by epoch, and the study's results file. No torch in here.

kill -9 at any instant, or a full disk, loses nothing that was committed: a file is built whole in memory, written
under another name, and renamed into place.
"""

from cpframe.store.atomic import (
    DamagedError,
    InUseError,
    StoreError,
    check_writable,
    is_sealed,
    locked,
    write_atomically,
)
from cpframe.store.results import read_results, results_file, write_results
from cpframe.store.stages import (
    StageRecord,
    commit,
    drop_remake,
    drop_state,
    other_formats,
    read_stage,
    read_state,
    recover,
    remake_folder,
    stage_folder,
)

__all__ = [
    "DamagedError",
    "InUseError",
    "StageRecord",
    "StoreError",
    "check_writable",
    "commit",
    "drop_remake",
    "drop_state",
    "is_sealed",
    "locked",
    "other_formats",
    "read_results",
    "read_stage",
    "read_state",
    "recover",
    "remake_folder",
    "results_file",
    "stage_folder",
    "write_atomically",
    "write_results",
]
