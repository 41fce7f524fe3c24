"""Names of variants: as short as distinguishes them, and never the same for two."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
from rich.console import Console

from cpframe.analysis.comparisons import variant_key
from cpframe.records.model import StudyRecord
from cpframe.report.terminal.render import render
from cpframe.report.variant_names import variant_names

NewStudy = Callable[..., StudyRecord]


def test_keys_with_one_value_are_left_out() -> None:
    made = [{"optimizer.momentum": m, "optimizer.lr": 0.1, "architecture.depth": d} for m in (0.0, 0.9) for d in (1, 2)]
    names = variant_names(made)
    assert list(names.full.values()) == [f"momentum={m}, depth={d}" for m in (0.0, 0.9) for d in (1, 2)]
    assert list(names.brief.values()) == [f"mom={m}, depth={d}" for m in (0.0, 0.9) for d in (1, 2)]


def test_a_single_variant_keeps_its_keys() -> None:
    only = {"variant": "constant", "optimizer.lr": 0.1}
    assert variant_names([only]).label(only) == "constant, lr=0.1"
    assert variant_names([{}]).label({}) == ""
    assert variant_names([{"variant": "constant"}]).label({"variant": "constant"}) == "constant"
    grid = {"optimizer.momentum": 0.9, "architecture.depth": 3}
    assert variant_names([grid]).label(grid) == "momentum=0.9, depth=3"
    alike = {"deficits.blur.size": 8, "deficits.noise.size": 4}
    assert variant_names([alike]).label(alike) == "deficits.blur.size=8, deficits.noise.size=4"


def test_keys_are_abbreviated_only_if_they_stay_distinct() -> None:
    made = [{"a.weight_decay": x, "b.momentum": y, "c.momenta": y} for x in (1, 2) for y in (3, 4)]
    assert next(iter(variant_names(made).brief.values())) == "wd=1, momentum=3, momenta=3"
    alike = [{"deficits.blur.size": x, "deficits.noise.size": x} for x in (1, 2)]
    assert next(iter(variant_names(alike).full.values())) == "deficits.blur.size=1, deficits.noise.size=1"


def test_numbers_are_rounded_only_if_they_stay_distinct() -> None:
    thirds = [{"o.lr": value} for value in (1 / 3, 2 / 3, 0.1)]
    assert list(variant_names(thirds).full.values()) == ["lr=0.333", "lr=0.667", "lr=0.1"]
    near = [{"o.lr": value} for value in (0.3333333, 0.3333334)]
    assert list(variant_names(near).full.values()) == ["lr=0.3333333", "lr=0.3333334"]


def test_no_two_variants_share_a_name() -> None:
    rng = np.random.default_rng(0)
    values = [1, 1.0, "1", True, "True", "a, b=1", "a\x1b", "a ", [1], "[1]", None, 1 / 3, 0.3333333, 1e-9, "x" * 50]
    for _ in range(200):
        keys = rng.choice(["o.a", "p.a", "q.b", "momentum", "r.momenta", "variant"], size=2, replace=False)
        pairs = list(product(rng.permutation(len(values))[:4], rng.permutation(len(values))[:4]))
        made = [{str(keys[0]): values[i], str(keys[1]): values[j]} for i, j in pairs]
        distinct = len({variant_key(variant) for variant in made})
        names = variant_names(made)
        assert len(set(names.full.values())) == len(set(names.brief.values())) == distinct


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
def test_every_row_of_the_panel_stands_under_or_beside_its_own_variant(new_study: NewStudy, width: int) -> None:
    # Names that a cut in the middle would make the same.
    variants = [
        {"optimizer.momentum": m, "optimizer.weight_decay": w, "data.augmentation": "none"}
        for m in (0.0, 0.1, 0.9) for w in (0.0, 0.0005)
    ]  # fmt: skip
    effects = {"blur": lambda onset, offset: 0.02, "flip": lambda onset, offset: 0.0}
    made = new_study(
        variants=variants, seeds=(0, 1, 2), effects=effects, deficits={"blur": "blur", "flip": "vertical-flip"},
        until=(0, 40), onsets=(), metrics=False,
    )  # fmt: skip
    stream = io.StringIO()
    render(made, Console(file=stream, width=width), ("verdict",))
    text = stream.getvalue().split("╰")[0]
    assert "aug" not in text
    assert max(map(len, text.split("\n"))) <= width
    found = re.findall(r"mom\w*=([\d.]+), w\w*=([\d.]+)\s+[│\s]*● blur .*\n(?:│ +\(\S+\) +│\n)?│ +■ flip ", text)
    assert found == [(str(v["optimizer.momentum"]), str(v["optimizer.weight_decay"])) for v in variants]
