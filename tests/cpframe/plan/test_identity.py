"""What identifies a stage: ids are pinned, and change with what decides the bits of a stage and with nothing else."""

import importlib
import json
import subprocess
import sys
import types
from dataclasses import dataclass, field, make_dataclass, replace
from enum import Enum
from pathlib import Path

import pytest

import cpframe
from cpframe.errors import SpecError
from cpframe.numerics import Numerics
from cpframe.plan import identity
from cpframe.plan.identity import TRAINING_CODE, canonical, changes, component_facts, determinants, training_code
from cpframe.plan.stages import plan
from cpframe.plugins.discovery import discover
from cpframe.plugins.source_digest import code_digest, current_digest, source_digest
from cpframe.spec.model import Augment, Component, MetricSchedule, Spec, Training
from cpframe.spec.reader import read_spec

GOLDEN = Path(__file__).parent / "golden" / "stage_ids.json"
SPEC = """\
seeds = [0, 3]
dataset = { use = "digits", train = 200 }
architecture = { use = "mlp", sizes = [8] }
optimizer = { use = "sgd", lr = 0.5, schedule = { use = "exponential", gamma = 0.9 } }
deficits.blur = { use = "blur", size = 2 }
deficits.idle = { use = "idle" }
[[protocols]]
use = "removal"
until = [0, 3, 5]
recovery = 6
"""
CHANGES = {
    "defaults": (),
    "training": ("training={ batch_size = 64, augment = { shift = 2, flip = true }, order = 'augment-first' }",),
    "reestimate": ("training.reestimate_batchnorm=true",),
    "restart": ("training.restart_at_removal=rate-and-state",),
    "metric": ("metrics.fisher={ use = 'fisher-trace', every = 3, inputs = 64, on = 'condition' }",),
    "metric by default": ("metrics.fisher={ use = 'fisher-trace' }",),
}


@pytest.fixture
def spec_of(tmp_path: Path):
    catalogue = discover()

    def read(*overrides: str) -> Spec:
        (tmp_path / "s.toml").write_text(SPEC)
        return read_spec(tmp_path / "s.toml", catalogue, None, overrides)

    return read


@pytest.mark.parametrize("name", CHANGES)
def test_ids_are_those_of_the_golden_file(name: str, spec_of, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ids outlive renames, new fields and releases; the digests of sources, which may change, are left out here."""
    monkeypatch.setattr(identity, "source_digest", lambda module: "source")
    study = plan(spec_of(*CHANGES[name]), {"numerics": "cpu exact float32", "code": "code"})
    assert list(study.stages) == json.loads(GOLDEN.read_text())[name]


def test_a_new_field_with_a_default_and_another_class_name_change_nothing() -> None:
    training = Training(batch_size=64, augment=Augment(shift=2))
    schooling = make_dataclass(
        "Schooling",
        [
            ("momentum", float, field(default=0.1)),
            ("batch_size", int, 128),
            ("augment", object, Augment()),
        ],
        frozen=True,
    )
    assert changes(schooling(batch_size=64, augment=Augment(shift=2))) == changes(training)
    assert changes(training) == {"batch_size": 64, "augment": {"shift": 2}}
    assert changes(schooling(momentum=0.2)) == {"momentum": 0.2}


def test_defaults_are_pinned() -> None:
    """What a default means is part of every id without being in it: another default would be served old stages."""
    assert canonical(Training()) == {
        "batch_size": 128,
        "augment": {"shift": 0, "flip": False},
        "order": "deficit-first",
        "restart_at_removal": "nothing",
        "reestimate_batchnorm": False,
        "numerics": "auto",
    }
    assert canonical(MetricSchedule()) == {"every": 1, "inputs": 256, "on": "clean"}


@dataclass(frozen=True)
class Growing:
    names: list[str] = field(default_factory=list)
    cache: object = field(default=None, init=False)


def test_a_default_that_a_function_makes_and_a_field_that_is_no_parameter_are_left_out() -> None:
    assert changes(Growing()) == {}
    assert changes(Growing(["a"])) == {"names": ["a"]}
    assert canonical(Growing()) == {"names": []}


def test_code_that_was_edited_after_its_import_is_refused(spec_of, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of()
    identity.check_sources(spec)
    monkeypatch.setattr(identity, "current_digest", lambda module: "another")
    with pytest.raises(SpecError, match="cpframe/blur: its source has changed since this process imported it; restart"):
        identity.check_sources(spec)


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Nested:
    names: frozenset[str]
    where: Path = Path("a/b")


def test_the_canonical_form_of_every_kind_of_value() -> None:
    values = [True, 1, 1.0, "x", None, (1, (2,)), {"b": 1, "a": Colour.RED}, Nested(frozenset("ba")), 1j]
    assert canonical(values) == [
        *(True, 1, 1.0, "x", None, [1, [2]], {"b": 1, "a": "red"}),
        *({"names": ['"a"', '"b"'], "where": "a/b"}, "1j"),
    ]


def test_a_release_of_cpframe_keeps_ids_and_one_of_another_package_does_not(spec_of) -> None:
    component = spec_of().variants[0].optimizer
    assert component_facts(replace(component, version="99")) == component_facts(component)
    theirs = Component("their-package/sgd", "1", component.call)
    assert component_facts(replace(theirs, version="2")) != component_facts(theirs)


def test_training_code_is_in_every_id(spec_of) -> None:
    facts = determinants(Numerics("cpu", "exact", "float32"))
    assert facts["code"] == training_code()
    before, after = (plan(spec_of(), facts | code).stages for code in ({}, {"code": "other"}))
    assert not before.keys() & after.keys()


def imported(module: str) -> set[str]:
    """The modules of cpframe that are loaded in a new process along with `module`."""
    code = f"import sys, {module}; print(*(name for name in sys.modules if name.startswith('cpframe')))"
    return set(subprocess.check_output([sys.executable, "-c", code], text=True).split())


NO_BITS = {
    "api": "types; the tasks in api/data.py are covered",
    "environment": "where caches lie",
    "errors": "messages",
    "plan": "conditions, rates and settings are in the id",
    "plugins": "components and their source are in the id",
    "python_api": "public functions, which import what they call",
    "records": "arrays, which are carried",
    "report": "what is shown of results",
    "spec": "settings are in the id",
    "store": "files, which are carried bit by bit",
}


def test_every_module_that_trains_is_covered_or_decides_no_bits() -> None:
    """A new module of the training path has to be put into one of the two lists."""
    root = Path(cpframe.__file__).parent
    covered = {root / name for name in TRAINING_CODE}
    assert all(path.exists() for path in covered)
    files = {name: Path(importlib.import_module(name).__file__ or "") for name in imported("cpframe.training.stage")}
    left = {name for name, file in files.items() if not covered & {file, *file.parents}}
    assert {name for name in left if name.split(".")[1:2] == [] or name.split(".")[1] not in NO_BITS} == {"cpframe"}


def digest_of(folder: Path, text: str) -> str:
    (folder / "m.py").write_text(text)
    return code_digest(folder, folder.glob("*.py"))


def test_comments_docstrings_and_layout_change_no_digest(tmp_path: Path) -> None:
    code = 'def f(a, b=1):\n    """One."""\n    return "x" + a[b]\n'
    same = """"M"
# why
def f(
    a,
    b = 1,
):
    "Two."
    return ('x'  +a[b])
"""
    assert digest_of(tmp_path, code) == digest_of(tmp_path, same)
    others = [code.replace("b=1", "b=2"), code.replace("b=1", "b=True"), code.replace("return", "yield")]
    others += ["x = 1\n", ""]
    others += ['def f(a, b=1):\n    """One."""\n    "x"\n    return "x" + a[b]\n', "def f(:", "def g(:"]
    assert len({digest_of(tmp_path, text) for text in [code, *others]}) == len(others) + 1


def test_names_of_files_count_and_places_do_not(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "m.py").write_text("x = 1\n")
    digests = [code_digest(tmp_path / name, (tmp_path / name).glob("*.py")) for name in ("one", "two")]
    assert digests[0] == digests[1]
    (tmp_path / "two" / "m.py").rename(tmp_path / "two" / "n.py")
    assert code_digest(tmp_path / "two", (tmp_path / "two").glob("*.py")) != digests[0]


def test_the_form_of_a_syntax_tree_is_pinned(tmp_path: Path) -> None:
    """Another version of Python has to give the same digest, so that an upgrade of Python retrains nothing."""
    code = """from a import b as c

@c
class A(b):
    x: int = -1

    def f(self, *a, k=f'{1!r:>{2}}'):
        return [i for i in a if i]
"""
    assert digest_of(tmp_path, code) == "521a2c038d25c8d2bcc1a8192dc14728"


def test_a_plugin_that_is_edited_is_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its version says: the stages of its component are not those of the old one."""
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for number in range(2):
        (tmp_path / "edited_plugin.py").write_text(f"VALUE = {number}\n")
        sys.modules.pop("edited_plugin", None)
        importlib.invalidate_caches()
        importlib.import_module("edited_plugin")
        found.append(source_digest("edited_plugin"))
    assert len(set(found)) == 2
    assert source_digest("no_such_module") == ""
    assert source_digest("cpframe_plugins.deficits") == source_digest("cpframe_plugins.metrics") != ""


def test_a_folder_of_a_package_is_the_unit_that_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module beside the component's changes its digest; one in a folder below, or above, does not."""
    for name in ("house", "house/room"):
        (tmp_path / name).mkdir()
        for file in ("__init__.py", "plugin.py", "beside.py"):
            (tmp_path / name / file).write_text("x = 1\n")
    for name in ("house.plugin", "house.room.plugin"):
        module = types.ModuleType(name)
        module.__file__ = str(tmp_path / (name.replace(".", "/") + ".py"))
        monkeypatch.setitem(sys.modules, name, module)

    def digests() -> list[str]:
        return [current_digest("house.plugin"), current_digest("house.room.plugin")]

    before = digests()
    (tmp_path / "house" / "room" / "beside.py").write_text("x = 2\n")
    after = digests()
    assert (after[0] == before[0], after[1] == before[1]) == (True, False)
    (tmp_path / "house" / "beside.py").write_text("x = 2\n")
    last = digests()
    assert (last[0] == after[0], last[1] == after[1]) == (False, True)


def test_a_component_in_the_first_file_of_a_package_counts_with_the_files_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "fog_house").mkdir()
    (tmp_path / "fog_house" / "__init__.py").write_text("from fog_house.core import K\n")
    (tmp_path / "fog_house" / "core.py").write_text("K = 0.5\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("fog_house")
    before = source_digest("fog_house")
    (tmp_path / "fog_house" / "core.py").write_text("K = 0.0\n")
    assert current_digest("fog_house") != before == source_digest("fog_house")
