"""The store: stage folders, committed epoch by epoch, and the results file of a study. No torch in this package.

`stages` commits and reads stages, `results` writes and reads results.h5, `history_h5` lays out a history in HDF5,
`byte_index` reads it back without HDF5, `atomic` replaces and checks whole files. A new fact of a trajectory goes into
`results` and is described in README.md, as is the promise that ``kill -9`` or a full disk loses no committed epoch.
"""

from cpframe.errors import StoreError
from cpframe.store.atomic import (
    DamagedError,
    InUseError,
    check_writable,
    has_seal,
    lock_folder,
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
    "has_seal",
    "lock_folder",
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
