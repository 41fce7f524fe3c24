"""Reading a spec: a valid one, profiles, overrides and grids, and the parameters of other packages' plugins."""

import re
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import pytest
import tomli

from cpframe.errors import SpecError
from cpframe.plan.identity import canonical
from cpframe.plugins.discovery import Catalogue, Offer, discover
from cpframe.spec.model import Augment, MetricSchedule, Spec, Training
from cpframe.spec.protocols import Removal, Sliding
from cpframe.spec.reader import read_spec

SPECS = Path(__file__).parents[3] / "specs"

BASE = """\
title = "A study"
seeds = [0, 1]
score_epochs = 3
[dataset]
use = "digits"
train = 100
[architecture]
use = "mlp"
sizes = [16, 8]
[optimizer]
use = "sgd"
lr = 0.1
schedule = { use = "exponential", gamma = 0.9 }
[training]
batch_size = 50
augment = { shift = 1, flip = true }
[deficits.blur]
use = "blur"
size = 2
[deficits.dark]
use = "idle"
[[protocols]]
use = "removal"
until = [0, 4]
recovery = 6
[[protocols]]
use = "sliding"
deficits = ["blur"]
onsets = [0, 2]
length = 3
epochs = 8
[metrics.fisher]
use = "fisher-trace"
every = 2
inputs = 10
"""
SGD = "'lr', 'momentum', 'nesterov', 'schedule', 'use', 'weight_decay'"


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return discover()


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(text: str, catalogue: Catalogue, profile: str | None = None, *overrides: str) -> Spec:
    Path("s.toml").write_text(text)
    return read_spec(Path("s.toml"), catalogue, profile, overrides)


def problems(text: str, catalogue: Catalogue, profile: str | None = None, *overrides: str) -> list[str]:
    with pytest.raises(SpecError) as caught:
        read(text, catalogue, profile, *overrides)
    assert str(caught.value) == "\n".join(map(str, caught.value.problems))
    return [re.sub(r"^s\.toml:(?=\d)", "", str(problem)) for problem in caught.value.problems]


def edited(old: str, new: str, text: str = BASE) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


def test_a_valid_spec(catalogue: Catalogue) -> None:
    spec = read(BASE, catalogue)
    assert (spec.title, spec.seeds, spec.score_epochs) == ("A study", (0, 1), 3)
    assert spec.protocols == (
        (Removal((0, 4), 6), ("blur", "dark")),
        (Sliding((0, 2), 3, 8, ("blur",)), ("blur",)),
    )
    (variant,) = spec.variants
    assert variant.values == {}
    assert variant.training == Training(50, Augment(1, True))
    components = [variant.dataset, variant.architecture, variant.optimizer, *variant.deficits.values()]
    assert [component.use for component in components] == [
        "cpframe/digits",
        "cpframe/mlp",
        "cpframe/sgd",
        "cpframe/blur",
        "cpframe/idle",
    ]
    assert list(variant.deficits) == ["blur", "dark"]
    assert variant.architecture.call.sizes == (16, 8)  # an array becomes the tuple that the field asks for
    assert (variant.dataset.call.train, variant.dataset.call.split_seed) == (100, 0)
    assert canonical(variant.optimizer.call) == {
        "lr": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        "weight_decay": 0.0,
        "schedule": {"gamma": 0.9, "use": "exponential"},
    }
    (metric,) = spec.metrics
    assert (metric.name, metric.component.use, metric.schedule) == (
        "fisher",
        "cpframe/fisher-trace",
        MetricSchedule(2, 10, "clean"),
    )


def test_missing_keys_have_defaults(catalogue: Catalogue) -> None:
    short = """
dataset.use = "digits"
architecture.use = "mlp"
optimizer.use = "sgd"
deficits.blur.use = "blur"
protocols = [{ use = "removal", until = [1], recovery = 5 }]
"""
    spec = read(short, catalogue)
    assert (spec.title, spec.seeds, spec.score_epochs, spec.metrics) == ("s", (0, 1, 2), 5, ())
    assert spec.variants[0].training == Training()


def test_a_whole_number_is_accepted_for_a_number(catalogue: Catalogue) -> None:
    rate = read(edited("lr = 0.1", "lr = 1"), catalogue).variants[0].optimizer.call.lr
    assert (rate, type(rate)) == (1.0, float)


def test_mistakes_in_overrides_and_in_the_spec_are_reported_together(catalogue: Catalogue) -> None:
    text = edited("seeds = [0, 1]", "seeds = [true]") + '[profiles.p]\n"optimizer.lr" = "x"\n"seeds.7" = 1\n'
    assert problems(text, catalogue, "p", "dataset.train=many", "x", "optimizer.momentun=0.5") == [
        "38: seeds.7: seeds is an array of length 1, numbered from 0; it has no element '7'",
        "--set x: must have the form key=value, as in --set optimizer.lr=0.1",
        "2: seeds[0]: must be a whole number, not true",
        '--set dataset.train=many: dataset.train: must be a whole number, not "many"',
        "--set optimizer.momentun=0.5: optimizer.momentun: unknown key; did you mean 'momentum'? Known keys: " + SGD,
        '37: optimizer.lr: must be a number, not "x"',
    ]


def test_set_and_profile_change_the_spec(catalogue: Catalogue) -> None:
    text = BASE + "[profiles.p]\nseeds = [5]\narchitecture = { use = 'all-cnn', width = 0.5 }\n"
    spec = read(text, catalogue, "p", "score_epochs=1", "protocols.0.recovery=1", "title=plain words")
    assert (spec.seeds, spec.score_epochs, spec.title) == ((5,), 1, "plain words")
    assert spec.protocols[0][0] == Removal((0, 4), 1)
    assert spec.variants[0].architecture.call.width == 0.5
    assert spec.document.text == text


def test_messages_name_the_origin_of_an_applied_value(catalogue: Catalogue) -> None:
    short = BASE + "[[profiles.p.protocols]]\nuse = 'removal'\nuntil = [1]\nrecovery = 2\n"
    too_short = "must be at least 3, the number of epochs in a score (`score_epochs`), not 2"
    assert problems(short, catalogue, "p") == [f"39: protocols[0].recovery: {too_short}"]
    assert problems(BASE, catalogue, None, "protocols.0.recovery=2") == [
        f"--set protocols.0.recovery=2: protocols[0].recovery: {too_short}"
    ]
    # a component that replaces another: the other's keys are gone, and a missing key is missing there
    other = BASE + "[profiles.p]\ndataset = { use = 'image-folder' }\n"
    assert problems(other, catalogue, "p") == ["37: dataset.path: is missing"]


def test_grid(catalogue: Catalogue) -> None:
    grid = '[grid]\n"optimizer.lr" = [0.1, 0.2]\n"deficits.blur.size" = [2, 3, 4]\n"training.augment.flip" = [true]\n'
    variants = read(BASE + grid, catalogue).variants
    points = [(lr, size) for lr in (0.1, 0.2) for size in (2, 3, 4)]
    assert [(v.optimizer.call.lr, v.deficits["blur"].call.size) for v in variants] == points
    assert [dict(v.values) for v in variants] == [
        {"optimizer.lr": lr, "deficits.blur.size": size, "training.augment.flip": True} for lr, size in points
    ]
    assert all(v.architecture.call.sizes == (16, 8) for v in variants)


def test_a_grid_may_bring_what_the_spec_lacks(catalogue: Catalogue) -> None:
    text = edited('use = "digits"\ntrain = 100', 'use = "image-folder"')
    assert problems(text, catalogue) == ["4: dataset.path: is missing"]
    variants = read(text + '[grid]\n"dataset.path" = ["a", "b"]', catalogue).variants
    assert [v.dataset.call.path for v in variants] == ["a", "b"]
    # even when something else is wrong, no key is reported as missing
    assert problems(
        edited("seeds = [0, 1]", "seeds = []", text) + '[grid]\n"dataset.path" = ["a", "b"]', catalogue
    ) == ["2: seeds: must have at least one seed"]


def test_a_grid_over_tables_and_keys_in_them_takes_effect_in_any_order(catalogue: Catalogue) -> None:
    lines = ['"optimizer.lr" = [0.3, 0.4]\n', '"optimizer" = [{ use = "adam" }, { use = "sgd" }]\n']
    for order in (lines, lines[::-1]):
        variants = read(BASE + "[grid]\n" + "".join(order), catalogue).variants
        assert {(v.optimizer.use, v.optimizer.call.lr) for v in variants} == {
            (f"cpframe/{name}", lr) for name in ("adam", "sgd") for lr in (0.3, 0.4)
        }


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('"optimizer.lr" = []', ['grid."optimizer.lr": must be an array of the values to try, not []']),
        ('"optimizer.lr" = 0.1', ['grid."optimizer.lr": must be an array of the values to try, not 0.1']),
        ("optimizer.lr = [0.1]", ["grid.optimizer: must be an array of the values to try, not a table"]),
        ('"optimizer.lr" = [0.1, 0.2, 1e-1]', ['grid."optimizer.lr"[2]: repeats 0.1']),
        ('"optimizer.lr" = [0.1, "x", -1]', [
            'optimizer.lr: must be a number, not "x"', "optimizer.lr: must be above 0, not -1"]),
        ('"optimizer.lrr" = [1, 2]', ["optimizer.lrr: unknown key; did you mean 'lr'? Known keys: " + SGD]),
        ('"optimizer.lr.x" = [1]', ['grid."optimizer.lr.x": optimizer.lr is not a table, so no key can be set in '
                                    "it"]),
        ('"optimizer." = [1]', ['grid."optimizer.": is not a valid key; write parts joined by dots, as in '
            'optimizer.lr']),
        ('seeds = [[1], [2]]', [
            "grid.seeds: cannot vary; a grid can vary keys of dataset, architecture, optimizer, training, deficits"]),
        ('"protocols.0.recovery" = [6, 7]', ['grid."protocols.0.recovery": cannot vary; a grid can vary keys of '
                                             "dataset, architecture, optimizer, training, deficits"]),
        ("deficits = [{}]", ["grid.deficits: cannot vary as a whole; vary one deficit, deficits.NAME"]),
        ('"deficits.blurr.size" = [2]', [
            "grid.\"deficits.blurr.size\": unknown deficit 'blurr'; did you mean 'blur'? Known deficits: 'blur', "
            "'dark'"]),
        ('"deficits.new.use" = ["idle"]', [
            "grid.\"deficits.new.use\": unknown deficit 'new'; known deficits: 'blur', 'dark'"]),
    ],
)  # fmt: skip
def test_mistakes_in_the_grid(line: str, expected: list[str], catalogue: Catalogue) -> None:
    assert problems(BASE + "[grid]\n" + line, catalogue) == [f"37: {problem}" for problem in expected]


def test_a_grid_that_is_too_large_is_rejected(catalogue: Catalogue) -> None:
    sizes = "[grid]\n" + "".join(
        f'"{key}" = {list(range(1, 102))}\n' for key in ("dataset.train", "deficits.blur.size")
    )
    assert problems(BASE + sizes, catalogue) == ["36: grid: asks for 10201 variants; at most 10000 are allowed"]


@dataclass(frozen=True)
class Small:
    """A table without a name."""

    n: int = 1


@dataclass(frozen=True)
class Odd:
    """A deficit of another package, with parameters that the bundled ones do not have."""

    names: dict[str, int] = field(default_factory=dict)
    amount: int | Literal["all"] = 1
    code: str = "a"
    small: Small = Small()
    maybe: Small | None = None
    several: tuple[Small, ...] = ()
    anything: object = None

    def __post_init__(self) -> None:
        if self.code == "ours":
            raise ValueError("`code` is\n ours")
        if self.code == "theirs":
            raise ZeroDivisionError("oh")

    def __call__(self, batch, rng):
        return batch


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("names = { a = 1, b = 'x' }", 'deficits.odd.names.b: must be a whole number, not "x"'),
        ("names = 1", "deficits.odd.names: must be a table, not 1"),
        ("amount = 'some'", "deficits.odd.amount: must be a whole number or 'all', not \"some\""),
        ("small = { n = 'x' }", 'deficits.odd.small.n: must be a whole number, not "x"'),
        ("maybe = { m = 1 }", "deficits.odd.maybe.m: unknown key; known keys: 'n'"),
        ("several = [{ n = 1 }, { n = 'x' }]", 'deficits.odd.several[1].n: must be a whole number, not "x"'),
        ("several = [1]", "deficits.odd.several[0]: must be a table, not 1"),
        ("anything = [{ a = 0 }, 2020-01-02]", "deficits.odd.anything[1]: must not be a date or a time, 2020-01-02; "
                                               "put text in quotes"),
        ("code = 'ours'", "deficits.odd.code: `code` is ours"),
    ],
)  # fmt: skip
def test_parameters_of_other_plugins(line: str, expected: str, catalogue: Catalogue) -> None:
    offer = Offer("deficit", "odd", "odd-plugin", "1", Odd)
    more = replace(catalogue, offers=(*catalogue.offers, offer))
    text = BASE + "[deficits.odd]\nuse = 'odd'\n"
    assert read(text, more).variants[0].deficits["odd"].call == Odd()
    assert problems(text + line, more) == [f"38: {expected}"]


def test_a_plugin_that_raises_is_a_problem_of_the_spec(catalogue: Catalogue) -> None:
    more = replace(catalogue, offers=(*catalogue.offers, Offer("deficit", "odd", "odd-plugin", "1", Odd)))
    assert problems(BASE + "[deficits.odd]\nuse = 'odd'\ncode = 'theirs'", more) == [
        "36: deficits.odd: Odd rejects these values: ZeroDivisionError: oh"
    ]


@pytest.mark.parametrize("path", sorted(SPECS.glob("*.toml")), ids=lambda path: path.stem)
def test_the_specs_that_come_with_cpframe_are_valid(path: Path, catalogue: Catalogue) -> None:
    profiles = tomli.loads(path.read_text()).get("profiles", {})
    for profile in (None, *profiles):
        assert read_spec(path, catalogue, profile).variants


def test_a_spec_is_read_without_torch(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
import cpframe.spec.reader, cpframe.plugins.discovery
from cpframe.plan.stages import plan
spec = cpframe.spec.reader.read_spec(Path({str(SPECS / "quickstart.toml")!r}), cpframe.plugins.discovery.discover())
assert plan(spec, {{}}).stages
heavy = {{"torch", "torchvision", "sklearn", "scipy", "h5py", "matplotlib"}} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr
