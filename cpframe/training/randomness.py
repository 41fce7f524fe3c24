"""Keyed random streams: each draw is a pure function of (seed, purpose, counters).

Counters are absolute (epoch, then step), never relative to a trajectory or an onset. All trajectories of a seed
therefore start from the same weights and see the same order of images, and a checkpoint needs no random state.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.random import Generator, Philox


def stream(seed: int, purpose: str, *counters: int) -> Generator:
    """Return the random generator for one purpose at one time.

    Args:
        seed: the seed of the training.
        purpose: the purpose of the draws: ``init``, ``order``, a deficit's name ...
        counters: the absolute epoch, then the step, for draws that differ between them.

    Returns:
        A numpy generator over Philox-4x64, keyed by the BLAKE2b hash (128 bits) of the arguments.
    """
    text = "\n".join([str(seed), purpose, *map(str, counters)])
    digest = blake2b(text.encode(), digest_size=16, person=b"cpframe stream 1").digest()
    return Generator(Philox(key=np.frombuffer(digest, dtype="<u8")))
