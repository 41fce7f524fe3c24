"""Random streams: pinned by a golden file, and rebuilt from the hash and the published definition of Philox."""

import hashlib
import itertools
import json
from pathlib import Path

import numpy as np
import pytest

from cpframe.training.randomness import stream

GOLDEN = json.loads((Path(__file__).parent / "golden" / "streams.json").read_text())


@pytest.mark.parametrize("entry", GOLDEN, ids=lambda entry: "-".join(map(str, entry["key"])))
def test_draws_are_those_of_the_golden_file(entry) -> None:
    """Results of earlier versions can be reproduced only as long as these hold."""
    seed, purpose, *counters = entry["key"]
    assert stream(seed, purpose, *counters).integers(2**63, size=4).tolist() == entry["integers"]
    assert stream(seed, purpose, *counters).random(4).tolist() == entry["doubles"]
    # exact: numpy's ziggurat uses only tabulated constants except in its rare tails
    assert stream(seed, purpose, *counters).standard_normal(4).tolist() == entry["normals"]
    assert stream(seed, purpose, *counters).permutation(10).tolist() == entry["permutation"]


def philox(key: tuple[int, int], blocks: int) -> list[int]:
    """Philox-4x64 with ten rounds, from Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3"."""
    mask = 2**64 - 1
    words = []
    for block in range(1, blocks + 1):  # numpy counts before it draws
        a, b, c, d = block, 0, 0, 0
        k0, k1 = key
        for _ in range(10):
            low, high = 0xD2E7470EE14C6C93 * a, 0xCA5A826395121157 * c
            a, b, c, d = high >> 64 ^ b ^ k0, high & mask, low >> 64 ^ d ^ k1, low & mask
            k0, k1 = (k0 + 0x9E3779B97F4A7C15) & mask, (k1 + 0xBB67AE8584CAA73B) & mask
        words += [a, b, c, d]
    return words


@pytest.mark.parametrize("key", [(0, "init"), (7, "order", 3), (2**62, "blur", 12, 345), (1, "métrique x", 0)])
def test_a_stream_is_philox_keyed_by_the_hash_of_its_arguments(key) -> None:
    text = "\n".join(map(str, key)).encode("utf-8")
    digest = hashlib.blake2b(text, digest_size=16, person=b"cpframe stream 1").digest()
    halves = int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")
    raw = stream(*key).bit_generator.random_raw(12)
    assert raw.tolist() == philox(halves, 3)
    # a double is the upper 53 bits of a word
    assert stream(*key).random(12).tolist() == [(word >> 11) * 2.0**-53 for word in philox(halves, 3)]
    assert raw.tolist() == np.random.Philox(key=np.array(halves, dtype=np.uint64)).random_raw(12).tolist()


def test_every_key_has_a_stream_of_its_own() -> None:
    """64 bits each: by chance two of 5,000 would be equal once in 10^12 times."""
    keys = [
        *itertools.product(range(10), ["init", "order", "crop", "flip", "probe", "blur", "metric fisher"]),
        *itertools.product(range(10), ["order", "blur"], range(10)),
        *itertools.product(range(10), ["blur", "blur1"], range(20), range(12)),
        # the parts must not run into one another
        (1, "a", 23), (1, "a", 2, 3), (1, "a2", 3), (1, "a23"), (11, "a"), (1, "1a"), (1, ""), (1, "", 0), (1, "0"),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys)
    assert len({int(stream(*key).bit_generator.random_raw()) for key in keys}) == len(keys)


def test_a_stream_depends_on_nothing_but_its_key() -> None:
    first = stream(3, "order", 5).random(8)
    np.random.default_rng(0).random(100)
    stream(3, "order", 4).random(100)
    assert np.array_equal(stream(3, "order", 5).random(8), first)


def test_streams_of_neighbouring_keys_are_unrelated() -> None:
    """Correlation of 20,000 pairs of uniforms has a standard deviation of 1 / sqrt(20,000) = 0.007: five of them."""
    draws = [stream(0, "order", epoch).random(20_000) for epoch in range(4)]
    for one, other in itertools.combinations(draws, 2):
        assert abs(np.corrcoef(one, other)[0, 1]) < 0.035
    # mean 1/2 with a standard deviation of 1 / sqrt(12 * 80,000) = 0.001: five of them
    assert abs(np.mean(draws) - 0.5) < 0.005
