"""What is shown of a run while it goes on."""

import io
import re
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from cpframe.commands.progress_bar import show_progress
from cpframe.execution.progress import StudyProgress


@pytest.mark.parametrize("epochs", [1, 100_000])
def test_the_bar_leaves_room_for_the_echo_of_ctrl_c_in_80_cells(epochs: int) -> None:
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=80, color_system=None)
    with show_progress(cast("StudyProgress", SimpleNamespace(epochs=epochs)), console):
        pass
    rows = re.split(r"[\r\n]", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue()))
    bars = [len(row) for row in rows if row.startswith("training")]
    assert bars
    assert max(bars) < 80 - len("^C")
