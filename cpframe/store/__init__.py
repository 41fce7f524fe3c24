"""The store: stage folders committed epoch by epoch, and the study's results file. No torch in here.

kill -9 at any instant, or a full disk, loses nothing that was committed: a file is built whole in memory, written
under another name, and renamed into place.
"""

from cpframe.store.files import InUseError, StoreError, locked
from cpframe.store.histories import joined
from cpframe.store.results import read_results, write_results
from cpframe.store.stages import StageRecord, commit, drop_state, read_stage, read_state

__all__ = [
    "InUseError",
    "StageRecord",
    "StoreError",
    "commit",
    "drop_state",
    "joined",
    "locked",
    "read_results",
    "read_stage",
    "read_state",
    "write_results",
]
