"""Named variants: changes of a spec under a name, how profiles and overrides change them, and every mistake."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from cpframe.errors import SpecError
from cpframe.plan.stages import plan
from cpframe.plugins.discovery import Catalogue, discover
from cpframe.spec.model import Spec, Training, Variant
from cpframe.spec.reader import read_spec

BASE = """\
seeds = [0, 1]
score_epochs = 3
[dataset]
use = "digits"
[architecture]
use = "mlp"
sizes = [16, 8]
[optimizer]
use = "sgd"
lr = 0.1
schedule = { use = "exponential", gamma = 0.9 }
[deficits.blur]
use = "blur"
size = 2
[deficits.dark]
use = "idle"
[[protocols]]
use = "removal"
until = [0, 4]
recovery = 6
"""
LINE = BASE.count("\n") + 1
"""The first line after the base."""
KEYS = "'architecture', 'dataset', 'deficits', 'optimizer', 'training'"
VARIED = "dataset, architecture, optimizer, training, deficits"


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return discover()


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, catalogue: Catalogue, profile: str | None = None, *overrides: str) -> Spec:
    Path("s.toml").write_text(BASE + text)
    return read_spec(Path("s.toml"), catalogue, profile, overrides)


def by_name(spec: Spec) -> Mapping[str, Variant]:
    return {str(variant.values["variant"]): variant for variant in spec.variants}


def problems(text: str, catalogue: Catalogue, profile: str | None = None, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read(text, catalogue, profile, *overrides)
    located = [re.fullmatch(r"s\.toml:(\d+): (.*)", str(problem)) for problem in caught.value.problems]
    # lines are counted from the end of the base
    return [
        f"{int(match[1]) - LINE + 1}: {match[2]}" if match else str(problem)
        for match, problem in zip(located, caught.value.problems, strict=True)
    ]


NAMED = """\
[variants.falling]
[variants.constant]
"optimizer.schedule" = { use = "constant" }
"deficits.blur.size" = 3
[variants.restart]
"training.restart_at_removal" = "rate"
training.batch_size = 10
[variants.adam]
optimizer = { use = "adam", lr = 0.001 }
architecture.sizes = [4]
"""


def test_named_variants(catalogue: Catalogue) -> None:
    spec = read(NAMED, catalogue)
    assert [variant.values for variant in spec.variants] == [
        {"variant": name} for name in ("falling", "constant", "restart", "adam")
    ]
    alone = read("", catalogue).variants[0]
    falling, constant, restart, adam = spec.variants
    assert [getattr(falling, part) for part in ("dataset", "architecture", "optimizer", "training", "deficits")] == [
        getattr(alone, part) for part in ("dataset", "architecture", "optimizer", "training", "deficits")
    ]
    assert [constant.optimizer.call.learning_rate(epoch) for epoch in (0, 9)] == [0.1, 0.1]
    assert (constant.deficits["blur"].call.size, falling.deficits["blur"].call.size) == (3, 2)
    assert restart.training == Training(batch_size=10, restart_at_removal="rate")
    assert restart.optimizer == falling.optimizer
    # a table with another `use` replaces the present table: its schedule is gone
    assert (adam.optimizer.use, adam.optimizer.call.learning_rate(9)) == ("cpframe/adam", 0.001)
    assert adam.architecture.call.sizes == (4,)


def test_a_variant_is_what_a_profile_of_the_same_text_is(catalogue: Catalogue) -> None:
    """In every notation: the two are applied to a spec by one rule."""
    for changes in (
        '"optimizer.lr" = 0.2\n"optimizer.schedule.gamma" = 0.5',
        "optimizer = { lr = 0.2, schedule = { use = 'step', every = 3 } }",
        "optimizer.lr = 0.2\ndeficits.blur = { use = 'noise' }",
        '"optimizer.schedule" = { use = "cosine", epochs = 10 }\n"deficits.blur" = { use = "vertical-flip" }',
        '"architecture.sizes.1" = 5\n"training.augment.shift" = 1\ntraining.augment.flip = true',
    ):
        (one,) = read(f"[variants.x]\n{changes}", catalogue).variants
        (other,) = read(f"[profiles.x]\n{changes}", catalogue, "x").variants
        for part in ("dataset", "architecture", "optimizer", "training", "deficits"):
            assert getattr(one, part) == getattr(other, part), changes


def test_a_mistake_is_reported_under_the_name_that_was_written(catalogue: Catalogue) -> None:
    found = problems(
        "[variants.a]\n"
        '[variants.b]\n"optimizer.lr" = -1\narchitecture = { sizes = [0] }\n'
        "[variants.c]\noptimizer = { use = 'adam', betas = 3 }\n\"deficits.blur.size\" = 1.5\n"
        '[variants.d]\n"architecture.sizes.1" = -2\n'
        '[profiles.p.variants.a]\n"optimizer.mommentum" = 1\n',
        catalogue,
        "p",
        "variants.b.training.batch_sice=3",
        "training.augment.shift=-1",
    )
    assert [line.partition(": must")[0].partition(": unknown")[0] for line in found] == [
        "11: variants.a.optimizer.mommentum",
        "--set training.augment.shift=-1: training.augment.shift",
        "4: variants.b.architecture.sizes[0]",
        "3: variants.b.optimizer.lr",
        "--set variants.b.training.batch_sice=3: variants.b.training.batch_sice",
        "6: variants.c.optimizer.betas",
        "7: variants.c.deficits.blur.size",
        "9: variants.d.architecture.sizes[1]",
    ]


def test_a_variant_may_bring_what_the_spec_lacks(catalogue: Catalogue) -> None:
    Path("s.toml").write_text(
        BASE.replace('[architecture]\nuse = "mlp"\nsizes = [16, 8]\n', "")
        + "[variants.a.architecture]\nuse = 'mlp'\nsizes = [3]\n[variants.b.architecture]\nuse = 'all-cnn'\n"
    )
    spec = read_spec(Path("s.toml"), catalogue)
    assert [variant.architecture.use for variant in spec.variants] == ["cpframe/mlp", "cpframe/all-cnn"]


@pytest.mark.parametrize(
    "text",
    [
        '[deficits.odd]\nuse = "noise"\n[grid]\n"deficits.odd.use" = ["noise", "idle"]\n',
        '[deficits.odd]\nuse = "noise"\n[variants.a]\n[variants.b]\n"deficits.odd.use" = "cpframe/idle"\n',
    ],
)
def test_a_deficit_is_idle_in_all_variants_or_in_none(catalogue: Catalogue, text: str) -> None:
    """Every drop is compared with the idle control of that name."""
    with pytest.raises(SpecError, match=r"deficits\.odd: is idle in some variants and not in others"):
        read(text, catalogue)


def test_named_variants_and_a_grid(catalogue: Catalogue) -> None:
    odd = '[deficits.odd]\nuse = "noise"\n'
    grid = '[grid]\n"deficits.odd.use" = ["noise", "vertical-flip"]\n"optimizer.lr" = [0.5]\n'
    spec = read(NAMED + odd + grid, catalogue, None, "variants.adam.optimizer={ use = 'adamw' }")
    assert [variant.values for variant in spec.variants] == [
        {"variant": name, "deficits.odd.use": use, "optimizer.lr": 0.5}
        for name in ("falling", "constant", "restart", "adam")
        for use in ("noise", "vertical-flip")
    ]
    assert {variant.optimizer.call.lr for variant in spec.variants} == {0.5}
    assert [variant.optimizer.use for variant in spec.variants[5:7]] == ["cpframe/sgd", "cpframe/adamw"]
    names = [trajectory.name for trajectory in plan(spec, {}).trajectories]
    assert names[0] == "falling.variant0-removal-clean-of-6-seed0"
    assert "adam.variant1-removal-blur-0-4-of-10-seed1" in names
    assert len(set(names)) == len(names) == 8 * 2 * 4


def test_trajectories_are_called_by_the_name_of_their_variant(catalogue: Catalogue) -> None:
    study = plan(read(NAMED, catalogue), {})
    names = [trajectory.name for trajectory in study.trajectories]
    assert len(set(names)) == len(names)
    assert [name for name in names if name.startswith("constant.")] == [
        f"constant.removal-{what}-seed{seed}"
        for seed in (0, 1)
        for what in ("clean-of-6", "blur-0-4-of-10", "dark-0-4-of-10")
    ]
    # no two names are equal, whatever the names of variants and deficits
    text = "[variants.a]\n[variants.a-removal]\n[deficits.removal-blur]\nuse = 'blur'\nsize = 3\n"
    names = [trajectory.name for trajectory in plan(read(text, catalogue), {}).trajectories]
    assert len(set(names)) == len(names)
    # a variant without a change trains nothing of its own
    alone = plan(read("", catalogue), {})
    assert {stage for t in study.trajectories if t.variant == 0 for stage in t.stages} == set(alone.stages)


@pytest.mark.parametrize(
    "profile",
    [
        '[profiles.p.variants.constant]\n"optimizer.lr" = 0.7\n',
        "[profiles.p.variants.constant.optimizer]\nlr = 0.7\n",
        '[profiles.p]\n"variants.constant.optimizer.lr" = 0.7\n',
        "[profiles.p]\n\"variants.constant.'optimizer.lr'\" = 0.7\n",
        "[profiles.p]\n\"variants.constant\" = { 'optimizer.lr' = 0.7 }\n",
        "[profiles.p]\nvariants.constant = { optimizer = { lr = 0.7 } }\n",
    ],
)
@pytest.mark.parametrize("line", ['"optimizer.lr" = 0.3', "optimizer.lr = 0.3", "optimizer = { lr = 0.3 }", ""])
def test_profiles_change_variants_in_any_notation(profile: str, line: str, catalogue: Catalogue) -> None:
    text = f'[variants.plain]\n[variants.constant]\n{line}\n"optimizer.schedule" = {{ use = "constant" }}\n{profile}'
    expected = 0.3 if line else 0.1
    assert by_name(read(text, catalogue))["constant"].optimizer.call.lr == expected
    variants = by_name(read(text, catalogue, "p"))
    assert [variants[name].optimizer.call.learning_rate(1) for name in ("plain", "constant")] == [0.1 * 0.9, 0.7]
    # and overrides come after the profile
    for override in (
        "variants.constant.optimizer.lr=2",
        "variants.constant.'optimizer.lr'=2",
        "variants.constant={ 'optimizer.lr' = 2 }",
        "variants={ constant = { optimizer.lr = 2 } }",
    ):
        assert by_name(read(text, catalogue, "p", override))["constant"].optimizer.call.lr == 2


def test_a_profile_puts_another_component_into_a_variant(catalogue: Catalogue) -> None:
    text = NAMED + "[profiles.p.variants.adam]\noptimizer = { use = 'sgd', momentum = 0.5 }\n"
    changed = by_name(read(text, catalogue, "p", "optimizer.lr=0.4"))
    assert (changed["adam"].optimizer.call.lr, changed["adam"].optimizer.call.momentum) == (0.4, 0.5)
    assert changed["falling"].optimizer.call.momentum == 0.9
    # an override outside the variants has less weight than a variant
    assert by_name(read(NAMED, catalogue, None, "optimizer.lr=0.4"))["adam"].optimizer.call.lr == 0.001


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("variants = 3\n", ["1: variants: must be tables, [variants.NAME], not 3"]),
        ("[[variants]]\nx = 1\n", ["1: variants: must be tables, [variants.NAME], not an array of tables"]),
        ("[variants]\n", ["1: variants: is empty; add a table [variants.NAME], or remove it"]),
        ("[variants]\na = 3\n", ["2: variants.a: must be a table, [variants.a], not 3"]),
        ("[variants.'']\n", ['1: variants."": the name must consist of letters, digits, - and _']),
        ("[variants.'a b']\n", ['1: variants."a b": the name must consist of letters, digits, - and _']),
        ("[variants.'a.b']\n", ['1: variants."a.b": the name must consist of letters, digits, - and _']),
        ("[variants.a]\noptimzer.lr = 1\n", [
            "2: variants.a.optimzer: unknown key; did you mean 'optimizer'? Known keys: " + KEYS]),
        ("[variants.a]\n'optimzer.lr' = 1\n", [
            "2: variants.a.optimzer: unknown key; did you mean 'optimizer'? Known keys: " + KEYS]),
        ("[variants.a]\nlr = 1\n", [
            "2: variants.a.lr: unknown key; known keys: " + KEYS]),
        ("[variants.a]\n[[variants.a.protocols]]\nuse = 'removal'\n", [
            f"2: variants.a.protocols: is shared by all variants; a variant can have keys of {VARIED}"]),
        ("[variants.a]\n'protocols.0.recovery' = 3\nseeds = [3]\n", [
            f"2: variants.a.protocols: is shared by all variants; a variant can have keys of {VARIED}",
            f"3: variants.a.seeds: is shared by all variants; a variant can have keys of {VARIED}"]),
        ("[variants.a]\n'optimizer.' = 3\n", [
            '2: variants.a."optimizer.": is not a valid key; write parts joined by dots, as in optimizer.lr']),
        ("[variants.a]\n'optimizer.lr' = 3\noptimizer.lr = 2\n", [
            "3: variants.a.optimizer: is set twice in this table"]),
        ("[variants.a]\noptimizer.lr = 2\n'optimizer.lr' = 3\n", [
            '3: variants.a."optimizer.lr": is set twice in this table']),
        ("[variants.a]\n'optimizer.lr' = 2\n'optimizer.lr.x' = 3\n", [
            '3: variants.a."optimizer.lr.x": is set twice in this table']),
        ("[variants.a]\ndeficits = 3\n", ["2: variants.a.deficits: must be tables, deficits.NAME, not 3"]),
        ("[variants.a]\n'deficits.blurr.size' = 3\n", [
            "2: variants.a.deficits.blurr: unknown deficit 'blurr'; did you mean 'blur'? Known deficits: "
            "'blur', 'dark'"]),
        ("[variants.a]\ndeficits.blur = 3\n", [
            "2: variants.a.deficits.blur: must be a table with use = \"...\", the name of the deficit; known "
                "deficits: "]),
        ("[variants.a]\noptimizer = 3\n", [
            "2: variants.a.optimizer: must be a table with use = \"...\", the name of the optimizer; known "
                "optimizers: "]),
        ("[variants.a]\n'optimizer.lr' = -1\n[variants.b]\noptimizer.lrr = 1\n", [
            "2: variants.a.optimizer.lr: must be above 0, not -1",
            "4: variants.b.optimizer.lrr: unknown key; did you mean 'lr'? Known keys: "]),
        ("[variants.a]\n'architecture.sizes.2' = 1\n", [
            "2: variants.a.architecture: architecture.sizes is an array of length 2, numbered from 0; it has no "
                "element '2'"]),
        ("[variants.a]\noptimizer.use = 'adam'\n[grid]\n'optimizer.lr' = [1, 2]\n'optimizer.momentum' = [0.5]\n", [
            "5: optimizer.momentum: unknown key; known keys: 'betas', "]),
        ("[grid]\n'optimizer.lr' = [0.1, 0.2]\n[variants.a]\n[variants.b]\n'optimizer.lr' = 3\n", [
            "5: variants.b.optimizer.lr: has no effect, because the grid varies optimizer.lr; remove one of "
            "the two"]),
        ("[grid]\n'optimizer.schedule' = [{ use = 'constant' }]\n[variants.b]\noptimizer.schedule.gamma = 0.5\n", [
            "4: variants.b.optimizer.schedule: has no effect, because the grid varies optimizer.schedule; remove "
            "one of the two"]),
    ],
)  # fmt: skip
def test_mistakes(text: str, expected: list[str], catalogue: Catalogue) -> None:
    if text.startswith("variants"):
        Path("s.toml").write_text(text + BASE)
        with pytest.raises(SpecError) as caught:
            read_spec(Path("s.toml"), catalogue)
        found = [str(problem).removeprefix("s.toml:") for problem in caught.value.problems]
    else:
        found = problems(text, catalogue)
    assert [one[: len(start)] for one, start in zip(found, expected, strict=True)] == expected


def test_mistakes_in_what_is_applied_to_variants(catalogue: Catalogue) -> None:
    profile = "[profiles.p.variants.constnat]\n'optimizer.lr' = 1\n"
    assert problems(NAMED + profile, catalogue, "p") == [
        "11: variants: unknown variant 'constnat'; did you mean 'constant'? Known variants: 'adam', 'constant', "
        "'falling', 'restart'"
    ]
    assert problems(NAMED, catalogue, None, "variants.constnat.optimizer.lr=1") == [
        "--set variants.constnat.optimizer.lr=1: variants.constnat.optimizer.lr: unknown variant 'constnat'; did "
        "you mean 'constant'? Known variants: 'adam', 'constant', 'falling', 'restart'"
    ]
    assert problems(NAMED, catalogue, None, "variants.constant.seeds=[1]") == [
        "--set variants.constant.seeds=[1]: variants.constant.seeds: is shared by all variants; a variant can have "
        "keys of " + VARIED
    ]
    assert problems(NAMED, catalogue, None, "variants.adam.optimizer.lr=x") == [
        '--set variants.adam.optimizer.lr=x: variants.adam.optimizer.lr: must be a number, not "x"'
    ]
    twice = "[profiles.p.variants.adam]\n'optimizer.lr' = 1\noptimizer.lr = 2\n"
    assert problems(NAMED + twice, catalogue, "p") == [
        "13: profiles.p.variants.adam.optimizer: is set twice in this table"
    ]
    assert problems(NAMED, catalogue, None, "variants.adam={ 'optimizer.' = 1 }") == [
        "--set variants.adam={ 'optimizer.' = 1 }: variants.adam: variants.adam.\"optimizer.\" is not a valid key; "
        "write "
        "parts joined by dots, as in optimizer.lr"
    ]


def test_too_many_variants_are_rejected(catalogue: Catalogue) -> None:
    text = "".join(f"[variants.v{number}]\n" for number in range(101))
    grid = f'[grid]\n"dataset.train" = {list(range(10, 110))}\n'
    assert problems(text + grid, catalogue) == ["102: grid: asks for 10100 variants; at most 10000 are allowed"]
