"""Protocols: their timelines, epoch by epoch, and the problems of their fields."""

import random

import pytest

from cpframe.records.model import CLEAN
from cpframe.spec.protocols import PROTOCOLS, Removal, Sliding, Timeline

TOO_SHORT = "must be at least 5, the number of epochs in a score (`score_epochs`), not 4"


def epochs(timeline: Timeline) -> list[str]:
    """The condition of every epoch, from the runs of the timeline."""
    return [run.condition for run in timeline.segments for _ in range(run.epochs)]


def test_removal() -> None:
    timelines = list(Removal((0, 2, 3), 4).timelines(("blur", "flip")))
    assert [epochs(timeline) for timeline in timelines] == [
        ["clean"] * 4,
        ["blur"] * 2 + ["clean"] * 4,
        ["blur"] * 3 + ["clean"] * 4,
        ["flip"] * 2 + ["clean"] * 4,
        ["flip"] * 3 + ["clean"] * 4,
    ]
    assert timelines[0] == Timeline("removal", CLEAN, 0, 0, 4)
    assert timelines[2] == Timeline("removal", "blur", 0, 3, 7)


def test_sliding() -> None:
    timelines = list(Sliding((3, 0, 1), 2, 5).timelines(("blur",)))
    assert [epochs(timeline) for timeline in timelines] == [
        ["blur", "blur", "clean", "clean", "clean"],
        ["clean", "blur", "blur", "clean", "clean"],
        ["clean", "clean", "clean", "blur", "blur"],
    ]
    assert timelines[1] == Timeline("sliding", "blur", 1, 3, 5)


def test_a_sweep_is_a_set() -> None:
    assert list(Removal((3, 0, 3, 1), 4).timelines(("x",))) == list(Removal((1, 3), 4).timelines(("x",)))
    assert list(Sliding((3, 0, 3), 1, 9).timelines(("x",))) == list(Sliding((0, 3), 1, 9).timelines(("x",)))


def test_timelines_are_as_long_as_they_say_and_degraded_in_the_window_alone() -> None:
    rng = random.Random(0)
    for _ in range(200):
        onset, length, rest = rng.randrange(4), rng.randint(1, 4), rng.randrange(4)
        timeline = Timeline("sliding", "x", onset, onset + length, onset + length + rest)
        assert epochs(timeline) == [
            "x" if onset <= epoch < onset + length else CLEAN for epoch in range(timeline.epochs)
        ]
        assert all(run.epochs > 0 for run in timeline.segments)


@pytest.mark.parametrize(
    ("protocol", "expected"),
    [
        (Removal((0, 1), 5), {}),
        (Removal((0, 1), 4), {("recovery",): TOO_SHORT}),
        (Removal((), 4), {("until",): "must have at least one epoch of removal", ("recovery",): TOO_SHORT}),
        (Sliding((0, 3), 2, 5), {}),
        (Sliding((0, 4), 2, 5), {("onsets", 1): "from epoch 4 ends at epoch 6, beyond the 5 epochs"}),
        (Sliding((4, 0, 9), 2, 5), {("onsets", 0): "ends at epoch 6", ("onsets", 2): "ends at epoch 11"}),
        (Sliding((), 2, 5), {("onsets",): "must have at least one onset"}),
        (Sliding((0,), 2, 4), {("epochs",): TOO_SHORT}),
    ],
)
def test_problems(protocol: Removal | Sliding, expected: dict[tuple[str | int, ...], str]) -> None:
    found = dict(protocol.problems(score_epochs=5))
    assert found.keys() == expected.keys()
    assert all(expected[key] in found[key] for key in expected)


def test_every_protocol_has_its_name() -> None:
    assert {"removal": Removal, "sliding": Sliding} == PROTOCOLS
    for name, kind in PROTOCOLS.items():
        protocol = kind(
            **{"removal": {"until": (1,), "recovery": 1}, "sliding": {"onsets": (0,), "length": 1, "epochs": 1}}[name]
        )
        assert {timeline.protocol for timeline in protocol.timelines(("x",))} == {name}
