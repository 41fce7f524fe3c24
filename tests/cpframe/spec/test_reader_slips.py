"""Every slip that a spec can have is told at its line, in a plain sentence, and all of them at once."""

import re
from pathlib import Path

import pytest

from cpframe.errors import SpecError
from cpframe.plugins.discovery import Catalogue, discover
from cpframe.spec.reader import read_spec

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

ARCHITECTURES = "known names: 'all-cnn', 'depth-cnn', 'mlp', 'resnet18'"
DATASETS = "known names: 'cifar10', 'cifar100', 'digits', 'fashion-mnist', 'image-folder', 'mnist'"
DEFICITS = (
    "known names: 'blur', 'coarse-labels', 'idle', 'label-permutation', 'noise', 'other-images', 'random-labels', "
    "'rotation', 'vertical-flip'"
)
METRICS = (
    "known names: 'first-layer-filters', 'fisher-trace', 'fisher-variational', 'gradient', 'hessian-trace', "
    "'weight-norm'"
)
OPTIMIZERS = "known names: 'adam', 'adamw', 'sgd'"
SCHEDULES = "known names: 'constant', 'cosine', 'exponential', 'step'"
TABLES = (
    "known names: 'architecture', 'dataset', 'deficits', 'grid', 'metrics', 'observers', 'optimizer', 'profiles', "
    "'protocols', 'score_epochs', 'seeds', 'title', 'training', 'variants'"
)
NO_PROTOCOLS = "should be at least one [[protocols]] table, which says when the deficits act"


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return discover()


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(text: str, catalogue: Catalogue) -> list[str]:
    Path("s.toml").write_text(text)
    with pytest.raises(SpecError) as caught:
        read_spec(Path("s.toml"), catalogue)
    return [re.sub(r"^s\.toml:(?=\d)", "", str(problem)) for problem in caught.value.problems]


def edited(old: str, new: str, text: str = BASE) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


SLIPS = [
    # the head
    ("seeds = [0, 1]", "sedes = [0, 1]", ["2: sedes: is not a key of a spec; did you mean 'seeds'?"]),
    ("seeds = [0, 1]", "x = 1", [f"2: x: is not a key of a spec; {TABLES}"]),
    ("seeds = [0, 1]", "'a b' = 1", [f'2: "a b": is not a key of a spec; {TABLES}']),
    ("seeds = [0, 1]", "seeds = []", ["2: seeds: is empty: name at least one seed"]),
    ("seeds = [0, 1]", "seeds = [2,0,2,2]", [f"2: seeds[{place}]: names seed 2 more than once" for place in (2, 3)]),
    ("seeds = [0, 1]", "seeds = 1", ["2: seeds: should be an array, not 1"]),
    ("seeds = [0, 1]", "seeds = {}", ["2: seeds: should be an array, not a table"]),
    ("seeds = [0, 1]", "seeds = [0, -1]", ["2: seeds[1]: should be at least 0, not -1"]),
    ("seeds = [0, 1]", "seeds = [true]", ["2: seeds[0]: should be a whole number, not true"]),
    ("seeds = [0, 1]", "seeds = [1.0]", ["2: seeds[0]: should be a whole number, not 1.0"]),
    ("seeds = [0, 1]", "seeds = [[0]]", ["2: seeds[0]: should be a whole number, not [0]"]),
    ("seeds = [0, 1]", f"seeds = [1, {2**63}]", ["2: seeds[1]: should be a number of at most 64 bits"]),
    ("seeds = [0, 1]", "seeds = [0x" + "f" * 5000 + "]", ["2: seeds[0]: should be a number of at most 64 bits"]),
    ("seeds = [0, 1]", "seeds = ['a', 1, 'b']", [
        '2: seeds[0]: should be a whole number, not "a"', '2: seeds[2]: should be a whole number, not "b"']),
    ("score_epochs = 3", "score_epochs = 0", ["3: score_epochs: should be at least 1, not 0"]),
    ("score_epochs = 3", "score_epochs = 7", ["25: protocols[0].recovery: trains 6 epochs only, "
                                              "and a score is the mean over the last 7 (`score_epochs`)"]),
    ('title = "A study"', "title = 3", ["1: title: should be text, not 3"]),
    ('title = "A study"', "title = 2020-01-02", [
        "1: title: cannot be a date or a time, 2020-01-02; if text is meant, it needs quotes"]),
    # numbers
    ("lr = 0.1", "lr = '0.1'", ['12: optimizer.lr: should be a number, not "0.1"']),
    ("lr = 0.1", "lr = true", ["12: optimizer.lr: should be a number, not true"]),
    ("lr = 0.1", "lr = 0", ["12: optimizer.lr: should be above 0, not 0"]),
    ("lr = 0.1", "lr = -0.5", ["12: optimizer.lr: should be above 0, not -0.5"]),
    ("lr = 0.1", "lr = nan", ["12: optimizer.lr: should be a finite number, not nan"]),
    ("lr = 0.1", "lr = -inf", ["12: optimizer.lr: should be a finite number, not -inf"]),
    ("lr = 0.1", "lr = 1e999", ["12: optimizer.lr: should be a finite number, not inf"]),
    ("lr = 0.1", "momentum = 1.5", ["12: optimizer.momentum: should be at most 1, not 1.5"]),
    ("lr = 0.1", "momentum = nan", ["12: optimizer.momentum: should be at most 1, not nan"]),
    ("lr = 0.1", "nesterov = 1", ["12: optimizer.nesterov: should be true or false, not 1"]),
    ("size = 2", "size = 1.5", ["19: deficits.blur.size: should be a whole number, not 1.5"]),
    ("size = 2", "size = true", ["19: deficits.blur.size: should be a whole number, not true"]),
    ("size = 2", "size = 0", ["19: deficits.blur.size: should be at least 1, not 0"]),
    ("size = 2", "size = 12:30:00", [
        "19: deficits.blur.size: cannot be a date or a time, 12:30:00; if text is meant, it needs quotes"]),
    ("batch_size = 50", "batch_size = '" + "x" * 80 + "'", [
        '15: training.batch_size: should be a whole number, not "' + "x" * 56 + "..."]),
    # fields taken together: at the line of the key that the plugin's message names
    ("lr = 0.1", "lr = 0.1\nmomentum = 1", ["13: optimizer.momentum: `momentum` must be below 1, not 1.0: "
                                            "otherwise the steps grow without bound"]),
    # arrays
    ("sizes = [16, 8]", "sizes = 16", ["9: architecture.sizes: should be an array, not 16"]),
    ("sizes = [16, 8]", "sizes = [16,\n0, 'x']", [
        "10: architecture.sizes[1]: should be at least 1, not 0",
        '10: architecture.sizes[2]: should be a whole number, not "x"']),
    ('use = "sgd"', 'use = "adam"\nbetas = [0.9]', ["12: optimizer.betas: should be a longer array, not [0.9]"]),
    ('use = "sgd"', 'use = "adam"\nbetas = [1, 0, 0]', [
        "12: optimizer.betas: should be an array of 2 or fewer, not [1, 0, 0]"]),
    # choices
    ("batch_size = 50", "order = 'x'", ["15: training.order: should be 'deficit-first' or 'augment-first', not \"x\""]),
    ("inputs = 10", "on = 3", ["35: metrics.fisher.on: should be 'clean' or 'condition', not 3"]),
    # names of components
    ('use = "digits"', 'use = "digit"', ["5: dataset.use: 'digit' is not a known dataset; did you mean 'digits'?"]),
    ('use = "digits"', 'use = "svhn"', [f"5: dataset.use: 'svhn' is not a known dataset; {DATASETS}"]),
    ('use = "digits"', 'use = "mlp"', [f"5: dataset.use: 'mlp' is not a known dataset; {DATASETS}"]),
    ('use = "digits"', 'use = "other/digits"', [
        "5: dataset.use: 'other/digits' is not a known dataset; did you mean 'cpframe/digits'?"]),
    ('use = "digits"', "use = 3", [f"5: dataset.use: should be the name of the dataset, in quotes; {DATASETS}"]),
    ('use = "mlp"\n', "", [f"7: architecture.use: is missing: the name of the architecture, in quotes; "
                           f"{ARCHITECTURES}"]),
    ('use = "idle"', 'use = "idel"', ["21: deficits.dark.use: 'idel' is not a known deficit; did you mean 'idle'?"]),
    ('use = "removal"', 'use = "remove"', [
        "23: protocols[0].use: 'remove' is not a known protocol; did you mean 'removal'?"]),
    ('use = "removal"', "use = ['removal']", [
        "23: protocols[0].use: should be the name of the protocol, in quotes; known names: 'removal', 'sliding'"]),
    ('use = "removal"\n', "", [
        "22: protocols[0].use: is missing: the name of the protocol, in quotes; known names: 'removal', 'sliding'"]),
    ('use = "fisher-trace"', "use = {}", [
        f"33: metrics.fisher.use: should be the name of the metric, in quotes; {METRICS}"]),
    # keys
    ("lr = 0.1", "lrr = 0.1", ["12: optimizer.lrr: is not a key of this table; did you mean 'lr'?"]),
    ("lr = 0.1", "betas = []", [
        "12: optimizer.betas: is not a key of this table; known names: 'lr', 'momentum', 'nesterov', 'schedule', "
        "'use', 'weight_decay'"]),
    ("batch_size = 50", "batchsize = 50", ["15: training.batchsize: is not a key of this table; "
                                           "did you mean 'batch_size'?"]),
    ("shift = 1", "shfit = 1", ["16: training.augment.shfit: is not a key of this table; did you mean 'shift'?"]),
    ("every = 2", "evry = 2", ["34: metrics.fisher.evry: is not a key of this table; did you mean 'every'?"]),
    ("recovery = 6", "recovry = 6", [
        "25: protocols[0].recovry: is not a key of this table; did you mean 'recovery'?",
        "22: protocols[0].recovery: is missing"]),
    ("epochs = 8\n", "", ["26: protocols[1].epochs: is missing"]),
    # a nested table that says by `use` which it is
    ('use = "exponential"', 'use = "exponentiall"', [
        "13: optimizer.schedule.use: \"exponentiall\" is not known here; did you mean 'exponential'?"]),
    ('use = "exponential"', "use = []", [
        f"13: optimizer.schedule.use: should be a name in quotes; {SCHEDULES}"]),
    ('use = "exponential", ', "", ["13: optimizer.schedule: should be a table that says which, "
                                   f'{{ use = "constant", ... }}; {SCHEDULES}']),
    ("gamma = 0.9", "gama = 0.9", ["13: optimizer.schedule.gama: is not a key of this table; did you mean 'gamma'?"]),
    ("gamma = 0.9", "gamma = 'x'", ['13: optimizer.schedule.gamma: should be a number, not "x"']),
    ("gamma = 0.9", "gamma = 2", [
        "13: optimizer.schedule.gamma: `gamma` must be at most 1, not 2.0: the rate must not grow"]),
    ('"exponential", gamma = 0.9', '"cosine"', ["13: optimizer.schedule.epochs: is missing"]),
    ("{ use = \"exponential\", gamma = 0.9 }", "'constant'", [
        f'13: optimizer.schedule: should be a table that says which, {{ use = "constant", ... }}; {SCHEDULES}']),
    ("{ shift = 1, flip = true }", "true", ["16: training.augment: should be a table, not true"]),
    # protocols
    ("until = [0, 4]", "until = []", ["24: protocols[0].until: is empty: name at least one epoch of removal"]),
    ("until = [0, 4]", "until = 4", ["24: protocols[0].until: should be an array, not 4"]),
    ("until = [0, 4]", "until = [0,\n-4]", ["25: protocols[0].until[1]: should be at least 0, not -4"]),
    ("until = [0, 4]", "until = [2000000]", ["24: protocols[0].until[0]: should be at most 1000000, not 2000000"]),
    ("recovery = 6", "recovery = 2", ["25: protocols[0].recovery: trains 2 epochs only, "
                                      "and a score is the mean over the last 3 (`score_epochs`)"]),
    ("onsets = [0, 2]", "onsets = []", ["29: protocols[1].onsets: is empty: name at least one onset"]),
    ("onsets = [0, 2]", "onsets = [6, 5,\n9]", [
        "29: protocols[1].onsets[0]: a window of length 3 from epoch 6 ends at epoch 9, beyond the 8 epochs of the "
        "training",
        "30: protocols[1].onsets[2]: a window of length 3 from epoch 9 ends at epoch 12, beyond the 8 epochs of the "
        "training"]),
    ("length = 3\nepochs = 8", "length = 1\nepochs = 2", [
        "31: protocols[1].epochs: trains 2 epochs only, and a score is the mean over the last 3 (`score_epochs`)",
        "29: protocols[1].onsets[1]: a window of length 1 from epoch 2 ends at epoch 3, beyond the 2 epochs of the "
        "training"]),
    ("deficits = [\"blur\"]", "deficits = ['blurr']", [
        "28: protocols[1].deficits[0]: 'blurr' is not a deficit of this spec; did you mean 'blur'?"]),
    ("deficits = [\"blur\"]", "deficits = ['blur', 'blur']", [
        "28: protocols[1].deficits[1]: names 'blur' more than once"]),
    ("deficits = [\"blur\"]", "deficits = 'blur'", ['28: protocols[1].deficits: should be an array, not "blur"']),
    # names that are taken, or that results files cannot hold
    ("[deficits.dark]", "[deficits.clean]", [
        "20: deficits.clean: should be a word of letters, digits, - and _, other than 'clean'"]),
    ("[deficits.dark]", "[deficits.'a/b']", [
        '20: deficits."a/b": should be a word of letters, digits, - and _, other than \'clean\'']),
    ("[metrics.fisher]", "[metrics.'fisher.x']", [
        '32: metrics."fisher.x": should be a word of letters, digits, - and _']),
    ("[metrics.fisher]", "[metrics.epoch]", [
        "32: metrics.epoch: needs another name: results files have something else under this one"]),
    ("[metrics.fisher]", "[metrics.fisher_stderr]", [
        "32: metrics.fisher_stderr: needs another name: results files have something else under this one"]),
    # misspelt tables
    ("[optimizer]", "[optimiser]", [
        "10: optimiser: is not a key of a spec; did you mean 'optimizer'?",
        f's.toml: optimizer: is missing: a table with use = "...", the name of the optimizer; {OPTIMIZERS}']),
    ("[metrics.fisher]", "[metric.fisher]", ["32: metric: is not a key of a spec; did you mean 'metrics'?"]),
    # one kind of value for another
    ("[dataset]", "[[dataset]]", [
        f'4: dataset: should be a table with use = "...", the name of the dataset; {DATASETS}']),
    ("[training]", "[[training]]", ["14: training: should be a table, not an array of tables"]),
    ("[deficits.dark]", "[[deficits.dark]]", [
        f'20: deficits.dark: should be a table with use = "...", the name of the deficit; {DEFICITS}']),
    ("[metrics.fisher]", "[[metrics]]", ["32: metrics: should be tables, [metrics.NAME], not an array of tables"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), SLIPS)
def test_one_slip(old: str, new: str, expected: list[str], catalogue: Catalogue) -> None:
    assert problems(edited(old, new), catalogue) == expected


def without(*tables: str) -> str:
    """The base spec without these tables."""
    blocks = BASE.replace("\n[", "\n\0[").split("\0")
    return "".join(block for block in blocks if not block.strip("[").startswith(tables))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("deficits", "3", ["deficits: should be tables, [deficits.NAME], not 3"]),
        ("deficits", "{ blur = 3 }", [
            f'deficits.blur: should be a table with use = "...", the name of the deficit; {DEFICITS}']),
        ("metrics", "1", ["metrics: should be tables, [metrics.NAME], not 1"]),
        ("metrics", "{ fisher = [1] }", [
            f'metrics.fisher: should be a table with use = "...", the name of the metric; {METRICS}']),
        ("protocols", "{}", [f"protocols: {NO_PROTOCOLS}"]),
        ("protocols", "[]", [f"protocols: {NO_PROTOCOLS}"]),
        ("protocols", '"removal"', [f"protocols: {NO_PROTOCOLS}"]),
        ("protocols", "[3, ['x']]", [
            "protocols[0]: should be a table, not 3", 'protocols[1]: should be a table, not ["x"]']),
        ("dataset", '"digits"', [
            f'dataset: should be a table with use = "...", the name of the dataset; {DATASETS}']),
        ("training", "0.5", ["training: should be a table, not 0.5"]),
        ("grid", "1", ['grid: should be a table of arrays, "optimizer.lr" = [0.1, 0.2], not 1']),
        ("grid", "['optimizer.lr']", [
            'grid: should be a table of arrays, "optimizer.lr" = [0.1, 0.2], not ["optimizer.lr"]']),
        ("profiles", "[1]", ["profiles: should be tables, [profiles.NAME]"]),
        ("profiles", "{ x = 1 }", ["profiles.x: should be a table, [profiles.x]"]),
    ],
)  # fmt: skip
def test_one_kind_of_value_for_another(key: str, value: str, expected: list[str], catalogue: Catalogue) -> None:
    found = problems(f"{key} = {value}\n" + without(key), catalogue)
    assert found[: len(expected)] == [f"1: {problem}" for problem in expected]
    # without its deficits a spec has protocols with nothing to apply
    assert key == "deficits" or len(found) == len(expected)


def test_everything_that_is_missing(catalogue: Catalogue) -> None:
    assert problems("", catalogue) == [
        f's.toml: dataset: is missing: a table with use = "...", the name of the dataset; {DATASETS}',
        f's.toml: architecture: is missing: a table with use = "...", the name of the architecture; {ARCHITECTURES}',
        f's.toml: optimizer: is missing: a table with use = "...", the name of the optimizer; {OPTIMIZERS}',
        f"s.toml: protocols: {NO_PROTOCOLS}",
    ]
    assert problems(without("protocols"), catalogue) == [f"s.toml: protocols: {NO_PROTOCOLS}"]
    assert problems(without("deficits"), catalogue) == [
        "17: protocols[0]: has no deficit to apply: add a [deficits.NAME] table",
        "23: protocols[1].deficits[0]: 'blur' is not a deficit of this spec; known names: none",
    ]


def test_all_problems_at_once(catalogue: Catalogue) -> None:
    together = (
        "title = 3",
        "seeds = [0, -1]",
        "score_epochs = 0",
        'use = "digit"',
        "sizes = 16",
        "lr = nan",
        "gama = 0.9",
        "batchsize = 50",
        "shfit = 1",
        "size = 0",
        'use = "idel"',
        "recovry = 6",
        "deficits = 'blur'",
        "evry = 2",
    )
    chosen = [slip for slip in SLIPS if slip[1] in together]
    assert len(chosen) == len(together)
    text, expected = BASE, []
    for old, new, alone in chosen:
        text = edited(old, new, text)
        expected += alone
    assert sorted(problems(text, catalogue)) == sorted(expected)
