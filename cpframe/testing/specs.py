"""The spec of a study that trains in a second."""

from __future__ import annotations

from cpframe.plugins.discovery import discover
from cpframe.spec.model import Spec
from cpframe.spec.reader import read_spec

SMALL: dict[str, object] = {
    "title": "Small",
    "seeds": [0],
    "score_epochs": 1,
    "dataset": {"use": "digits", "train": 60},
    "architecture": {"use": "mlp", "sizes": [16]},
    "optimizer": {"use": "sgd", "lr": 0.05},
    "training": {"batch_size": 20},
    "deficits": {"blur": {"use": "blur", "size": 2}},
    "protocols": [{"use": "removal", "until": [0, 2], "recovery": 3}],
}
"""The tables of the small study: 60 images of digits in 3 steps per epoch, a network with 16 hidden units."""


def small_spec(*overrides: str, **tables: object) -> Spec:
    """Return the spec of a small study on the digits, with changes.

    Args:
        overrides: texts ``key=value``, as ``--set`` takes them; applied last.
        tables: the values of top-level keys; each replaces the whole value of the small study.

    Raises:
        SpecError: with all problems of the spec.
    """
    return read_spec({**SMALL, **tables}, discover(), None, overrides)
