"""Datasets and attributes written with h5py's low-level interface.

A history has some 60 of them, for which the high-level interface takes ten times as long.
"""

from __future__ import annotations

from collections.abc import Sequence

import h5py
import numpy as np
from h5py import h5a, h5d, h5s, h5t

_TEXT = h5py.string_dtype()
_TEXT_TYPE = h5t.py_create(_TEXT, logical=True)
_SCALAR = h5s.create(h5s.SCALAR)


def write_array(group: h5py.Group, name: str, data: np.ndarray) -> h5d.DatasetID:
    """Write an array of numbers as a new dataset."""
    data = np.ascontiguousarray(data)
    dataset = h5d.create(group.id, name.encode(), h5t.py_create(data.dtype), h5s.create_simple(data.shape))
    if data.size:
        dataset.write(h5s.ALL, h5s.ALL, data)
    return dataset


def write_texts(group: h5py.Group, name: str, texts: Sequence[str]) -> h5d.DatasetID:
    """Write texts, (N,), as a new dataset."""
    dataset = h5d.create(group.id, name.encode(), _TEXT_TYPE, h5s.create_simple((len(texts),)))
    if texts:
        dataset.write(h5s.ALL, h5s.ALL, np.array(texts, dtype=_TEXT))
    return dataset


def set_attributes(target: h5py.h5g.GroupID | h5d.DatasetID, **facts: str | int | float) -> None:
    """Set attributes that a group or dataset does not have yet."""
    for name, fact in facts.items():
        value = np.array(fact, dtype=_TEXT if isinstance(fact, str) else None)
        kind = _TEXT_TYPE if isinstance(fact, str) else h5t.py_create(value.dtype)
        h5a.create(target, name.encode(), kind, _SCALAR).write(value)
