"""Synthetic studies: records with known effects and noise of a fixed seed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cpframe.records.model import Status, StudyRecord, TrajectoryRecord
from cpframe.testing.synthetic import Design, make_study
from cpframe.testing.synthetic import cut_short as cut


@pytest.fixture(scope="session")
def study() -> StudyRecord:
    """Five seeds; blur, noise, flip and idle under both protocols; a constant rate; Fisher by layer."""
    return make_study(Design())


@pytest.fixture(scope="session")
def new_study() -> Callable[..., StudyRecord]:
    """Make a study from what differs from the default `Design`."""
    return lambda **changes: make_study(Design(**changes))


@pytest.fixture(scope="session")
def cut_short() -> Callable[[TrajectoryRecord, int, Status, str], TrajectoryRecord]:
    """Make an unfinished or failed trajectory of a complete one: see `cut_short`."""
    return cut
