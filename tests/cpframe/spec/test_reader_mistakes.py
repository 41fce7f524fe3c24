"""Every mistake in a spec is reported at its line, in a plain sentence, and all of them at once."""

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

ARCHITECTURES = "'all-cnn', 'depth-cnn', 'mlp', 'resnet18'"
DATASETS = "'cifar10', 'cifar100', 'digits', 'fashion-mnist', 'image-folder', 'mnist'"
DEFICITS = (
    "'blur', 'coarse-labels', 'idle', 'label-permutation', 'noise', 'other-images', 'random-labels', "
    "'rotation', 'vertical-flip'"
)
METRICS = "'first-layer-filters', 'fisher-trace', 'fisher-variational', 'gradient', 'hessian-trace', 'weight-norm'"
OPTIMIZERS = "'adam', 'adamw', 'sgd'"
SCHEDULES = "'constant', 'cosine', 'exponential', 'step'"
TABLES = (
    "'architecture', 'dataset', 'deficits', 'grid', 'metrics', 'observers', 'optimizer', 'profiles', "
    "'protocols', 'score_epochs', 'seeds', 'title', 'training', 'variants'"
)
SGD = "'lr', 'momentum', 'nesterov', 'schedule', 'use', 'weight_decay'"
TRAINING = "'augment', 'batch_size', 'numerics', 'order', 'reestimate_batchnorm', 'restart_at_removal'"
AUGMENT = "'flip', 'shift'"
FISHER = "'draws', 'estimator', 'every', 'inputs', 'on', 'sketch', 'use'"
REMOVAL = "'deficits', 'recovery', 'until', 'use'"
EXPONENTIAL = "'gamma', 'use'"
NO_PROTOCOLS = "must be at least one [[protocols]] table, which says when the deficits act"


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


MISTAKES = [
    # the head
    ("seeds = [0, 1]", "sedes = [0, 1]", ["2: sedes: unknown key; did you mean 'seeds'? Known keys: " + TABLES]),
    ("seeds = [0, 1]", "x = 1", [f"2: x: unknown key; known keys: {TABLES}"]),
    ("seeds = [0, 1]", "'a b' = 1", [f'2: "a b": unknown key; known keys: {TABLES}']),
    ("seeds = [0, 1]", "seeds = []", ["2: seeds: must have at least one seed"]),
    ("seeds = [0, 1]", "seeds = [2,0,2,2]", [f"2: seeds[{place}]: repeats seed 2" for place in (2, 3)]),
    ("seeds = [0, 1]", "seeds = 1", ["2: seeds: must be an array, not 1"]),
    ("seeds = [0, 1]", "seeds = {}", ["2: seeds: must be an array, not a table"]),
    ("seeds = [0, 1]", "seeds = [0, -1]", ["2: seeds[1]: must be at least 0, not -1"]),
    ("seeds = [0, 1]", "seeds = [true]", ["2: seeds[0]: must be a whole number, not true"]),
    ("seeds = [0, 1]", "seeds = [1.0]", ["2: seeds[0]: must be a whole number, not 1.0"]),
    ("seeds = [0, 1]", "seeds = [[0]]", ["2: seeds[0]: must be a whole number, not [0]"]),
    ("seeds = [0, 1]", f"seeds = [1, {2**63}]", ["2: seeds[1]: must be a whole number of at most 64 bits"]),
    ("seeds = [0, 1]", "seeds = [0x" + "f" * 5000 + "]", ["2: seeds[0]: must be a whole number of at most 64 bits"]),
    ("seeds = [0, 1]", "seeds = ['a', 1, 'b']", [
        '2: seeds[0]: must be a whole number, not "a"', '2: seeds[2]: must be a whole number, not "b"']),
    ("score_epochs = 3", "score_epochs = 0", ["3: score_epochs: must be at least 1, not 0"]),
    ("score_epochs = 3", "score_epochs = 7", ["25: protocols[0].recovery: must be at least 7, the number of epochs "
        "in a "
                                              "score (`score_epochs`), not 6"]),
    ('title = "A study"', "title = 3", ["1: title: must be text, not 3"]),
    ('title = "A study"', "title = 2020-01-02", [
        "1: title: must not be a date or a time, 2020-01-02; put text in quotes"]),
    # numbers
    ("lr = 0.1", "lr = '0.1'", ['12: optimizer.lr: must be a number, not "0.1"']),
    ("lr = 0.1", "lr = true", ["12: optimizer.lr: must be a number, not true"]),
    ("lr = 0.1", "lr = 0", ["12: optimizer.lr: must be above 0, not 0"]),
    ("lr = 0.1", "lr = -0.5", ["12: optimizer.lr: must be above 0, not -0.5"]),
    ("lr = 0.1", "lr = nan", ["12: optimizer.lr: must be a finite number, not nan"]),
    ("lr = 0.1", "lr = -inf", ["12: optimizer.lr: must be a finite number, not -inf"]),
    ("lr = 0.1", "lr = 1e999", ["12: optimizer.lr: must be a finite number, not inf"]),
    ("lr = 0.1", "momentum = 1.5", ["12: optimizer.momentum: must be at most 1, not 1.5"]),
    ("lr = 0.1", "momentum = nan", ["12: optimizer.momentum: must be at most 1, not nan"]),
    ("lr = 0.1", "nesterov = 1", ["12: optimizer.nesterov: must be true or false, not 1"]),
    ("size = 2", "size = 1.5", ["19: deficits.blur.size: must be a whole number, not 1.5"]),
    ("size = 2", "size = true", ["19: deficits.blur.size: must be a whole number, not true"]),
    ("size = 2", "size = 0", ["19: deficits.blur.size: must be at least 1, not 0"]),
    ("size = 2", "size = 12:30:00", [
        "19: deficits.blur.size: must not be a date or a time, 12:30:00; put text in quotes"]),
    ("batch_size = 50", "batch_size = '" + "x" * 80 + "'", [
        '15: training.batch_size: must be a whole number, not "' + "x" * 56 + "..."]),
    # fields taken together: at the line of the key in the plugin's message
    ("lr = 0.1", "lr = 0.1\nmomentum = 1", ["13: optimizer.momentum: `momentum` must be below 1, not 1.0: "
                                            "otherwise the steps grow without bound"]),
    # arrays
    ("sizes = [16, 8]", "sizes = 16", ["9: architecture.sizes: must be an array, not 16"]),
    ("sizes = [16, 8]", "sizes = [16,\n0, 'x']", [
        "10: architecture.sizes[1]: must be at least 1, not 0",
        '10: architecture.sizes[2]: must be a whole number, not "x"']),
    ('use = "sgd"', 'use = "adam"\nbetas = [0.9]', ["12: optimizer.betas: must be a longer array, not [0.9]"]),
    ('use = "sgd"', 'use = "adam"\nbetas = [1, 0, 0]', [
        "12: optimizer.betas: must be an array of at most 2 elements, not [1, 0, 0]"]),
    # choices
    ("batch_size = 50", "order = 'x'", ["15: training.order: must be 'deficit-first' or 'augment-first', not \"x\""]),
    ("inputs = 10", "on = 3", ["35: metrics.fisher.on: must be 'clean' or 'condition', not 3"]),
    # names of components
    ('use = "digits"', 'use = "digit"', [
        "5: dataset.use: unknown dataset 'digit'; did you mean 'digits'? Known datasets: " + DATASETS]),
    ('use = "digits"', 'use = "svhn"', [f"5: dataset.use: unknown dataset 'svhn'; known datasets: {DATASETS}"]),
    ('use = "digits"', 'use = "mlp"', [f"5: dataset.use: unknown dataset 'mlp'; known datasets: {DATASETS}"]),
    ('use = "digits"', 'use = "other/digits"', [
        "5: dataset.use: unknown dataset 'other/digits'; did you mean 'cpframe/digits'? Known datasets: " + "'cpframe/"
        + DATASETS[1:].replace(" '", " 'cpframe/")]),
    ('use = "digits"', "use = 3", [
        f"5: dataset.use: must be the name of the dataset, in quotes; known datasets: {DATASETS}"]),
    ('use = "mlp"\n', "", [f"7: architecture.use: is missing; it must be the name of the architecture, in quotes; "
                           f"known architectures: {ARCHITECTURES}"]),
    ('use = "idle"', 'use = "idel"', [
        "21: deficits.dark.use: unknown deficit 'idel'; did you mean 'idle'? Known deficits: " + DEFICITS]),
    ('use = "removal"', 'use = "remove"', [
        "23: protocols[0].use: unknown protocol 'remove'; did you mean 'removal'? Known protocols: 'removal', "
            "'sliding'"]),
    ('use = "removal"', "use = ['removal']", [
        "23: protocols[0].use: must be the name of the protocol, in quotes; known protocols: 'removal', 'sliding'"]),
    ('use = "removal"\n', "", [
        "22: protocols[0].use: is missing; it must be the name of the protocol, in quotes; known protocols: "
            "'removal', 'sliding'"]),
    ('use = "fisher-trace"', "use = {}", [
        f"33: metrics.fisher.use: must be the name of the metric, in quotes; known metrics: {METRICS}"]),
    # keys
    ("lr = 0.1", "lrr = 0.1", ["12: optimizer.lrr: unknown key; did you mean 'lr'? Known keys: " + SGD]),
    ("lr = 0.1", "betas = []", [
        "12: optimizer.betas: unknown key; known keys: " + SGD]),
    ("batch_size = 50", "batchsize = 50", [
        "15: training.batchsize: unknown key; did you mean 'batch_size'? Known keys: " + TRAINING]),
    ("shift = 1", "shfit = 1", [
        "16: training.augment.shfit: unknown key; did you mean 'shift'? Known keys: " + AUGMENT]),
    ("every = 2", "evry = 2", ["34: metrics.fisher.evry: unknown key; did you mean 'every'? Known keys: " + FISHER]),
    ("recovery = 6", "recovry = 6", [
        "25: protocols[0].recovry: unknown key; did you mean 'recovery'? Known keys: " + REMOVAL,
        "22: protocols[0].recovery: is missing"]),
    ("epochs = 8\n", "", ["26: protocols[1].epochs: is missing"]),
    # a nested table that is named by its `use`
    ('use = "exponential"', 'use = "exponentiall"', [
        "13: optimizer.schedule.use: unknown name 'exponentiall'; did you mean 'exponential'? Known names: "
        + SCHEDULES]),
    ('use = "exponential"', "use = []", [
        f"13: optimizer.schedule.use: must be a name in quotes; known names: {SCHEDULES}"]),
    ('use = "exponential", ', "", ["13: optimizer.schedule: must be a table with a name, "
                                   f'{{ use = "constant", ... }}; known names: {SCHEDULES}']),
    ("gamma = 0.9", "gama = 0.9", [
        "13: optimizer.schedule.gama: unknown key; did you mean 'gamma'? Known keys: " + EXPONENTIAL]),
    ("gamma = 0.9", "gamma = 'x'", ['13: optimizer.schedule.gamma: must be a number, not "x"']),
    ("gamma = 0.9", "gamma = 2", [
        "13: optimizer.schedule.gamma: `gamma` must be at most 1, not 2.0: the rate must not grow"]),
    ('"exponential", gamma = 0.9', '"cosine"', ["13: optimizer.schedule.epochs: is missing"]),
    ("{ use = \"exponential\", gamma = 0.9 }", "'constant'", [
        f'13: optimizer.schedule: must be a table with a name, {{ use = "constant", ... }}; known names: {SCHEDULES}']),
    ("{ shift = 1, flip = true }", "true", ["16: training.augment: must be a table, not true"]),
    # protocols
    ("until = [0, 4]", "until = []", ["24: protocols[0].until: must have at least one epoch of removal"]),
    ("until = [0, 4]", "until = 4", ["24: protocols[0].until: must be an array, not 4"]),
    ("until = [0, 4]", "until = [0,\n-4]", ["25: protocols[0].until[1]: must be at least 0, not -4"]),
    ("until = [0, 4]", "until = [2000000]", ["24: protocols[0].until[0]: must be at most 1000000, not 2000000"]),
    ("recovery = 6", "recovery = 2", ["25: protocols[0].recovery: must be at least 3, the number of epochs in a score "
                                      "(`score_epochs`), not 2"]),
    ("onsets = [0, 2]", "onsets = []", ["29: protocols[1].onsets: must have at least one onset"]),
    ("onsets = [0, 2]", "onsets = [6, 5,\n9]", [
        "29: protocols[1].onsets[0]: a window of length 3 from epoch 6 ends at epoch 9, beyond the 8 epochs of the "
        "training",
        "30: protocols[1].onsets[2]: a window of length 3 from epoch 9 ends at epoch 12, beyond the 8 epochs of the "
        "training"]),
    ("length = 3\nepochs = 8", "length = 1\nepochs = 2", [
        "31: protocols[1].epochs: must be at least 3, the number of epochs in a score (`score_epochs`), not 2",
        "29: protocols[1].onsets[1]: a window of length 1 from epoch 2 ends at epoch 3, beyond the 2 epochs of the "
        "training"]),
    ("deficits = [\"blur\"]", "deficits = ['blurr']", [
        "28: protocols[1].deficits[0]: unknown deficit 'blurr'; did you mean 'blur'? Known deficits: 'blur', 'dark'"]),
    ("deficits = [\"blur\"]", "deficits = ['blur', 'blur']", [
        "28: protocols[1].deficits[1]: repeats 'blur'"]),
    ("deficits = [\"blur\"]", "deficits = 'blur'", ['28: protocols[1].deficits: must be an array, not "blur"']),
    # names that are taken, or that results files cannot hold
    ("[deficits.dark]", "[deficits.clean]", [
        "20: deficits.clean: the name must consist of letters, digits, - and _, and must not be 'clean'"]),
    ("[deficits.dark]", "[deficits.'a/b']", [
        '20: deficits."a/b": the name must consist of letters, digits, - and _, and must not be \'clean\'']),
    ("[metrics.fisher]", "[metrics.'fisher.x']", [
        '32: metrics."fisher.x": the name must consist of letters, digits, - and _']),
    ("[metrics.fisher]", "[metrics.epoch]", [
        "32: metrics.epoch: the name is reserved in results files; choose another name"]),
    ("[metrics.fisher]", "[metrics.fisher_stderr]", [
        "32: metrics.fisher_stderr: the name is reserved in results files; choose another name"]),
    # misspelt tables
    ("[optimizer]", "[optimiser]", [
        "10: optimiser: unknown key; did you mean 'optimizer'? Known keys: " + TABLES,
        f's.toml: optimizer: is missing; it must be a table with use = "...", the name of the optimizer; '
            f'known optimizers: {OPTIMIZERS}']),
    ("[metrics.fisher]", "[metric.fisher]", ["32: metric: unknown key; did you mean 'metrics'? Known keys: " + TABLES]),
    # one kind of value for another
    ("[dataset]", "[[dataset]]", [
        f'4: dataset: must be a table with use = "...", the name of the dataset; known datasets: {DATASETS}']),
    ("[training]", "[[training]]", ["14: training: must be a table, not an array of tables"]),
    ("[deficits.dark]", "[[deficits.dark]]", [
        f'20: deficits.dark: must be a table with use = "...", the name of the deficit; known deficits: {DEFICITS}']),
    ("[metrics.fisher]", "[[metrics]]", ["32: metrics: must be tables, [metrics.NAME], not an array of tables"]),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "expected"), MISTAKES)
def test_one_mistake(old: str, new: str, expected: list[str], catalogue: Catalogue) -> None:
    assert problems(edited(old, new), catalogue) == expected


def without(*tables: str) -> str:
    """The base spec without these tables."""
    blocks = BASE.replace("\n[", "\n\0[").split("\0")
    return "".join(block for block in blocks if not block.strip("[").startswith(tables))


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("deficits", "3", ["deficits: must be tables, [deficits.NAME], not 3"]),
        ("deficits", "{ blur = 3 }", [
            f'deficits.blur: must be a table with use = "...", the name of the deficit; known deficits: {DEFICITS}']),
        ("metrics", "1", ["metrics: must be tables, [metrics.NAME], not 1"]),
        ("metrics", "{ fisher = [1] }", [
            f'metrics.fisher: must be a table with use = "...", the name of the metric; known metrics: {METRICS}']),
        ("protocols", "{}", [f"protocols: {NO_PROTOCOLS}"]),
        ("protocols", "[]", [f"protocols: {NO_PROTOCOLS}"]),
        ("protocols", '"removal"', [f"protocols: {NO_PROTOCOLS}"]),
        ("protocols", "[3, ['x']]", [
            "protocols[0]: must be a table, not 3", 'protocols[1]: must be a table, not ["x"]']),
        ("dataset", '"digits"', [
            f'dataset: must be a table with use = "...", the name of the dataset; known datasets: {DATASETS}']),
        ("training", "0.5", ["training: must be a table, not 0.5"]),
        ("grid", "1", ['grid: must be a table of arrays, "optimizer.lr" = [0.1, 0.2], not 1']),
        ("grid", "['optimizer.lr']", [
            'grid: must be a table of arrays, "optimizer.lr" = [0.1, 0.2], not ["optimizer.lr"]']),
        ("profiles", "[1]", ["profiles: must contain only tables, [profiles.NAME]"]),
        ("profiles", "{ x = 1 }", ["profiles.x: must be a table, [profiles.x]"]),
    ],
)  # fmt: skip
def test_one_kind_of_value_for_another(key: str, value: str, expected: list[str], catalogue: Catalogue) -> None:
    found = problems(f"{key} = {value}\n" + without(key), catalogue)
    assert found[: len(expected)] == [f"1: {problem}" for problem in expected]
    # without its deficits a spec has protocols with nothing to apply
    assert key == "deficits" or len(found) == len(expected)


def test_everything_that_is_missing(catalogue: Catalogue) -> None:
    assert problems("", catalogue) == [
        f's.toml: dataset: is missing; it must be a table with use = "...", the name of the dataset; known '
        f"datasets: {DATASETS}",
        f's.toml: architecture: is missing; it must be a table with use = "...", the name of the architecture; '
        f"known architectures: {ARCHITECTURES}",
        f's.toml: optimizer: is missing; it must be a table with use = "...", the name of the optimizer; known '
        f"optimizers: {OPTIMIZERS}",
        f"s.toml: protocols: {NO_PROTOCOLS}",
    ]
    assert problems(without("protocols"), catalogue) == [f"s.toml: protocols: {NO_PROTOCOLS}"]
    assert problems(without("deficits"), catalogue) == [
        "17: protocols[0]: has no deficit to apply; add a table [deficits.NAME]",
        "23: protocols[1].deficits[0]: unknown deficit 'blur'; known deficits: none",
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
    chosen = [mistake for mistake in MISTAKES if mistake[1] in together]
    assert len(chosen) == len(together)
    text, expected = BASE, []
    for old, new, alone in chosen:
        text = edited(old, new, text)
        expected += alone
    assert sorted(problems(text, catalogue)) == sorted(expected)
