"""The plan: which stages there are, that none is trained twice, and when a stage is the same as another."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise, takewhile
from pathlib import Path

import pytest

from cpframe.numerics import Numerics
from cpframe.plan.identity import determinants
from cpframe.plan.stages import Study, plan
from cpframe.plugins.discovery import Catalogue, discover
from cpframe.spec.model import Spec
from cpframe.spec.reader import read_spec

HEAD = """\
seeds = [0]
score_epochs = 1
dataset = { use = "digits" }
architecture = { use = "mlp" }
optimizer = { use = "sgd", lr = 0.5, schedule = { use = "exponential", gamma = 0.9 } }
deficits.blur = { use = "blur", size = 2 }
"""
REMOVAL = """
[[protocols]]
use = "removal"
until = [0, 3, 5]
recovery = 6
"""
METRIC = """
[metrics.fisher]
use = "fisher-trace"
every = 3
"""


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return discover()


@pytest.fixture
def spec_of(tmp_path: Path, catalogue: Catalogue):
    def read(text: str, *overrides: str) -> Spec:
        (tmp_path / "s.toml").write_text(text)
        return read_spec(tmp_path / "s.toml", catalogue, None, overrides)

    return read


@pytest.fixture
def study_of(spec_of):
    def planned(text: str, *overrides: str) -> Study:
        return plan(spec_of(text, *overrides), {"numerics": "exact"})

    return planned


def conditions_of(timeline) -> tuple[str, ...]:
    """The condition of every epoch, by the definition of the window."""
    return tuple(
        timeline.deficit if timeline.onset <= epoch < timeline.offset else "clean" for epoch in range(timeline.epochs)
    )


def test_the_saving_of_the_papers_protocols(study_of) -> None:
    """Counted by hand. Asked: removals 160 + (180 + ... + 300), windows 8 * 200, and 300 without deficit.

    To train: 300 without deficit; 140 of blur from the start, and seven recoveries of 160; for each window that does
    not start at 0, what is left of its 200 from there. The window from epoch 0 is the removal at 40: nothing.
    """
    study = study_of(
        HEAD
        + REMOVAL.replace("[0, 3, 5]", "[0, 20, 40, 60, 80, 100, 120, 140]").replace("recovery = 6", "recovery = 160")
        + """
[[protocols]]
use = "sliding"
onsets = [0, 20, 40, 60, 80, 100, 120, 140]
length = 40
epochs = 200
"""
    )
    assert study.epochs_asked == 160 + sum(range(180, 301, 20)) + 8 * 200 + 300 == 3740
    assert study.epochs_to_train == 300 + 140 + 7 * 160 + sum(200 - onset for onset in range(20, 141, 20)) == 2400


def random_text(rng: random.Random) -> str:
    deficits = [f"d{number}" for number in range(rng.randint(1, 3))]
    lines = [
        f"seeds = {rng.sample(range(9), rng.randint(1, 2))}",
        "score_epochs = 1",
        'dataset = { use = "digits" }',
        'architecture = { use = "mlp" }',
        'optimizer = { use = "sgd", lr = 0.5, schedule = { use = "exponential", gamma = 0.9 } }',
        f'training.restart_at_removal = "{rng.choice(["nothing", "rate", "state", "rate-and-state"])}"',
        *(f'deficits.{name} = {{ use = "blur", size = 4 }}' for name in deficits),
    ]
    for _ in range(rng.randint(1, 3)):
        chosen = rng.sample(deficits, rng.randint(1, len(deficits)))
        lines += ["[[protocols]]", f"deficits = {chosen}"]
        if rng.random() < 0.5:
            until = rng.sample(range(9), rng.randint(1, 4))
            lines += ['use = "removal"', f"until = {until}", f"recovery = {rng.randint(1, 8)}"]
        else:
            onsets, length = rng.sample(range(9), rng.randint(1, 4)), rng.randint(1, 5)
            epochs = max(onsets) + length + rng.randrange(4)
            lines += ['use = "sliding"', f"onsets = {onsets}", f"length = {length}", f"epochs = {epochs}"]
    match rng.randrange(3):
        case 1:
            lines += ["[grid]", '"optimizer.lr" = [0.5, 0.25]']
        case 2:
            lines += ["[grid]", '"deficits.d0.size" = [2, 3]', '"optimizer.lr" = [0.5, 0.25]']
    return "\n".join(lines)


@pytest.mark.parametrize("seed", range(60))
def test_no_epoch_is_trained_twice_and_every_chain_is_its_timeline(seed: int, study_of) -> None:
    """Against brute force: an epoch is the same as another if and only if all that came before it is the same."""
    study = study_of(random_text(random.Random(seed)))
    variants = study.spec.variants
    lived: dict[tuple[object, ...], str] = {}
    for trajectory in study.trajectories:
        variant = variants[trajectory.variant]
        conditions = conditions_of(trajectory.timeline)
        stages = [study.stages[stage] for stage in trajectory.stages]

        assert [condition for stage in stages for condition in [stage.condition] * stage.epochs] == list(conditions)
        assert (stages[0].parent, stages[0].start, stages[-1].stop) == (None, 0, len(conditions))
        for before, after in pairwise(stages):
            assert (after.parent, after.start) == (before.id, before.stop)
        assert {stage.seed for stage in stages} == {trajectory.seed}

        restart = variant.training.restart_at_removal
        removal = [
            epoch for epoch in range(1, len(conditions)) if conditions[epoch] == "clean" != conditions[epoch - 1]
        ]
        origins = [max((r for r in removal if r <= epoch), default=0) for epoch in range(len(conditions))]
        if "rate" not in restart:
            origins = [0] * len(conditions)
        lr = variant.optimizer.call.lr
        expected = [lr * 0.9 ** (epoch - origin) for epoch, origin in enumerate(origins)]
        assert [rate for stage in stages for rate in stage.rates] == expected
        restarted = [stage.start for stage in stages if stage.restart_state]
        assert restarted == (removal if "state" in restart else [])

        facts = [(one, variant.deficits[one].call.size if one != "clean" else 0) for one in conditions]
        for stop, epoch in enumerate([stage for stage in stages for _ in range(stage.epochs)], 1):
            # the same epoch is always in the same stage, so it is trained once
            assert lived.setdefault((lr, trajectory.seed, *facts[:stop]), epoch.id) == epoch.id
    assert study.epochs_to_train == len(lived)
    assert study.epochs_asked == sum(len(conditions_of(trajectory.timeline)) for trajectory in study.trajectories)

    seen: set[str | None] = {None}
    for name, stage in study.stages.items():
        assert name == stage.id
        assert stage.parent in seen  # every parent before its children
        seen.add(name)
    assert {stage for trajectory in study.trajectories for stage in trajectory.stages} == set(study.stages)


def kinds(study) -> list[tuple[str, str, int, int]]:
    return [(t.timeline.protocol, t.timeline.deficit, t.timeline.epochs, t.seed) for t in study.trajectories]


def test_a_removal_comes_with_a_run_without_deficit(study_of) -> None:
    study = study_of(HEAD + REMOVAL.replace("[0, 3, 5]", "[5]"), "seeds=[3, 7]")
    assert kinds(study) == [
        ("removal", "clean", 6, 3),
        ("removal", "blur", 11, 3),
        ("removal", "clean", 6, 7),
        ("removal", "blur", 11, 7),
    ]


def test_a_window_comes_with_a_run_without_deficit_as_long_as_the_longest(study_of) -> None:
    window = '[[protocols]]\nuse = "sliding"\nonsets = [2]\nlength = 3\nepochs = 8\n'
    study = study_of(HEAD + REMOVAL.replace("[0, 3, 5]", "[5]") + window)
    assert kinds(study) == [
        ("clean", "clean", 11, 0),
        ("removal", "clean", 6, 0),
        ("removal", "blur", 11, 0),
        ("sliding", "blur", 8, 0),
    ]


@pytest.mark.parametrize("seed", range(0, 60, 7))
def test_names_are_unique_and_the_same_every_time(seed: int, study_of) -> None:
    text = random_text(random.Random(seed))
    names = [trajectory.name for trajectory in study_of(text).trajectories]
    assert len(set(names)) == len(names)
    assert names == [trajectory.name for trajectory in study_of(text).trajectories]


def test_two_protocols_that_ask_for_the_same_ask_once(study_of) -> None:
    assert study_of(HEAD + REMOVAL * 2).trajectories == study_of(HEAD + REMOVAL).trajectories


BASE = HEAD + REMOVAL + METRIC


@pytest.mark.parametrize(
    "change",
    [
        ("title=another",),
        ("seeds=[1, 0, 5]",),
        ("score_epochs=2",),
        ("optimizer.momentum=0.9",),  # its default
        ("optimizer.lr=5e-1",),
        ("training.batch_size=128",),
        ("training.numerics=exact",),  # what it came to is said by the determinants
        ("training={ augment = { flip = false } }",),
        ("architecture.use=cpframe/mlp",),
        ("deficits.noise.use=noise",),  # a second deficit, at the same epochs
        ("protocols.0.until=[5, 3]",),
    ],
)
def test_stages_stay_the_same_when_what_changes_does_not_matter_to_them(change: tuple[str, ...], study_of) -> None:
    before, after = study_of(BASE), study_of(BASE, *change)
    assert before.stages.items() <= after.stages.items()


def test_the_order_in_which_things_are_written_does_not_matter(study_of) -> None:
    other = "[metrics.weights]\nuse = 'weight-norm'\n"
    text = HEAD.splitlines()
    assert study_of("\n".join(text[::-1]) + REMOVAL + other + METRIC).stages == study_of(BASE + other).stages


def test_two_runs_of_the_same_epochs_are_the_same_wherever_others_branch_off(study_of) -> None:
    """Removal at 1 cuts the blurred epochs [0, 3) in two; what comes after epoch 3 is none the wiser."""
    before, after = study_of(BASE), study_of(BASE, "protocols.0.until=[0, 1, 3, 5]")
    assert {s.start for s in before.stages.values() if s.condition == "blur"} == {0, 3}
    assert {s.start for s in after.stages.values() if s.condition == "blur"} == {0, 1, 3}
    kept = before.stages.keys() & after.stages.keys()
    assert kept == {s.id for s in before.stages.values() if s.condition == "clean" or s.start == 3}
    blurred = [s for s in after.stages.values() if s.condition == "blur"]
    assert [(s.start, s.stop) for s in blurred] == [(0, 1), (1, 3), (3, 5)]


@pytest.mark.parametrize(
    "change",
    [
        ("seeds=[1]",),
        ("dataset.train=200",),
        ("dataset.split_seed=1",),
        ("architecture.sizes=[8]",),
        ("optimizer={ use = 'adam' }",),
        ("optimizer.lr=0.25",),
        ("optimizer.weight_decay=0.1",),
        ("optimizer.schedule={ use = 'constant' }",),
        ("training.batch_size=64",),
        ("training.augment.shift=1",),
        ("training.order=augment-first",),
        ("training.reestimate_batchnorm=true",),
        ("metrics.fisher.every=2",),
        ("metrics.fisher.inputs=5",),
        ("metrics.fisher.on=condition",),
        ("metrics.fisher.estimator=exact",),
        ("metrics.more.use=weight-norm",),
    ],
)
def test_every_stage_is_another_when_what_matters_changes(change: tuple[str, ...], study_of) -> None:
    assert not study_of(BASE).stages.keys() & study_of(BASE, *change).stages.keys()


def test_the_name_of_a_metric_matters(study_of) -> None:
    # its random stream is keyed by it
    assert not study_of(BASE).stages.keys() & study_of(BASE.replace("[metrics.fisher]", "[metrics.f]")).stages.keys()


@pytest.mark.parametrize(
    "text",
    [
        BASE.replace("size = 2", "size = 3"),
        BASE.replace('use = "blur", size = 2', 'use = "noise"'),
        BASE.replace("deficits.blur", "deficits.dim"),
    ],
    ids=["its parameter", "another component", "its name"],
)
def test_a_deficit_changes_the_stages_that_it_acts_in_and_those_after(text: str, study_of) -> None:
    sliding = "[[protocols]]\nuse = 'sliding'\nonsets = [4]\nlength = 2\nepochs = 8\n"
    before, after = study_of(BASE + sliding), study_of(text + sliding)
    assert len(before.stages) == len(after.stages)
    stages = [[before.stages[one] for one in trajectory.stages] for trajectory in before.trajectories]
    untouched = {one.id for chain in stages for one in takewhile(lambda stage: stage.condition == "clean", chain)}
    assert before.stages.keys() & after.stages.keys() == untouched
    assert {(s.start, s.stop) for s in before.stages.values() if s.id in untouched} == {(0, 4), (4, 6), (6, 11)}


def test_a_restart_changes_the_stages_after_the_removal_alone(study_of) -> None:
    ways = ("nothing", "rate", "state", "rate-and-state")
    studies = [study_of(BASE, f"training.restart_at_removal={way}") for way in ways]
    recoveries = []
    for way, study in zip(ways, studies, strict=True):
        blurred = {stage.id for stage in study.stages.values() if stage.condition == "blur"}
        after = [stage for stage in study.stages.values() if stage.parent in blurred and stage.condition == "clean"]
        assert [stage.restart_state for stage in after] == ["state" in way] * 2
        assert [stage.rates[0] == 0.5 for stage in after] == ["rate" in way] * 2
        recoveries.append({stage.id for stage in after})
    shared = set.intersection(*(set(study.stages) for study in studies))
    assert all(set(study.stages) == shared | after for study, after in zip(studies, recoveries, strict=True))
    assert len(set.union(*recoveries)) == 4 * 2
    # so that the control by a grid costs the recoveries only
    grid = study_of(BASE + f'[grid]\n"training.restart_at_removal" = {list(ways)}\n')
    assert set(grid.stages) == shared.union(*recoveries)


def test_determinants_are_part_of_every_stage(spec_of) -> None:
    spec = spec_of(BASE)
    exact, fast = Numerics("cpu", "exact", "float32"), Numerics("cuda:1", "fast", "bfloat16")
    here, there = determinants(exact), determinants(fast)
    assert not plan(spec, here).stages.keys() & plan(spec, there).stages.keys()
    assert plan(spec, there).stages == plan(spec, determinants(replace(fast, device="cuda:0"))).stages
    for fact in here:
        assert not plan(spec, here).stages.keys() & plan(spec, here | {fact: "else"}).stages.keys()


def test_a_deficit_of_another_package_leaves_the_clean_stages_alone(spec_of) -> None:
    """To add a plugin's deficit to a study must not train everything anew."""
    spec, numerics = spec_of(BASE), Numerics("cpu", "exact", "float32")
    (variant,) = spec.variants
    theirs = {"blur": replace(variant.deficits["blur"], use="their-package/blur", version="7")}
    other = replace(spec, variants=(replace(variant, deficits=theirs),))
    before, after = (plan(one, determinants(numerics)) for one in (spec, other))
    assert {s.condition for s in before.stages.values() if s.id in after.stages} == {"clean"}
    assert any(s.condition == "blur" and s.id not in before.stages for s in after.stages.values())
    newer = {"blur": replace(theirs["blur"], version="8")}
    newest = plan(replace(spec, variants=(replace(variant, deficits=newer),)), determinants(numerics))
    assert {s.condition for s in after.stages.values() if s.id in newest.stages} == {"clean"}
    network = replace(variant.architecture, use="their-package/mlp", version="7")
    of_theirs = [replace(variant, architecture=one) for one in (network, replace(network, version="8"))]
    plans = [plan(replace(spec, variants=(one,)), determinants(numerics)).stages.keys() for one in of_theirs]
    assert not plans[0] & plans[1]
    assert not plans[0] & before.stages.keys()


def test_a_grid_makes_variants_that_share_what_they_can(study_of) -> None:
    study = study_of(BASE + '[grid]\n"deficits.blur.size" = [2, 3]\n"optimizer.lr" = [0.5, 0.25]\n')
    alone = [
        study_of(BASE, f"deficits.blur.size={size}", f"optimizer.lr={lr}") for size in (2, 3) for lr in (0.5, 0.25)
    ]
    assert set(study.stages) == {stage for one in alone for stage in one.stages}
    assert [t.stages for t in study.trajectories] == [t.stages for one in alone for t in one.trajectories]
    assert [t.variant for t in study.trajectories] == [number for number in range(4) for _ in alone[0].trajectories]
    assert [t.name for t in study.trajectories] == [
        f"variant{number}-{t.name}" for number, one in enumerate(alone) for t in one.trajectories
    ]
    # without deficit the size of the blur is no matter
    assert study.trajectories[0].stages == study.trajectories[6].stages != study.trajectories[3].stages


def test_stages_are_the_same_in_another_process(study_of, tmp_path: Path) -> None:
    """Else nothing could be resumed. Another seed for Python's own hashes shows whether any set or hash leaks in."""
    here = study_of(BASE)
    code = f"""
from pathlib import Path
from cpframe.plan import stages as plan
from cpframe.spec import reader as reading
from cpframe.plugins import discovery as plugins
spec = reading.read_spec(Path({str(tmp_path / "s.toml")!r}), plugins.discover())
print(*plan.plan(spec, {{"numerics": "exact"}}).stages)
"""
    environment = os.environ | {"PYTHONHASHSEED": "12345"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    assert done.stdout.split() == list(here.stages)
