"""The sources of a spec, a file, a TOML text and a dict: the same spec from each, and every mistake with its place."""

from collections import OrderedDict
from datetime import date
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import tomli

from cpframe.errors import SpecError
from cpframe.numerics import Numerics
from cpframe.plan.identity import canonical
from cpframe.plan.provenance import provenance
from cpframe.plan.stages import plan
from cpframe.plugins.discovery import Catalogue, discover
from cpframe.spec.document import read_document
from cpframe.spec.reader import read_spec

TEXT = """\
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
[[protocols]]
use = "removal"
until = [0, 4]
recovery = 6
[variants.plain]
[variants.constant]
"optimizer.schedule" = { use = "constant" }
[grid]
"training.batch_size" = [10, 20]
[profiles.short]
"protocols.0.recovery" = 3
[profiles.short.variants.constant]
"optimizer.lr" = 0.2
"""
NOT_TOML = "must be text, a number, true or false, an array or a table, not "


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return discover()


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def problems(source, profile=None, overrides=()) -> list[str]:
    """All problems of a spec, as lines."""
    with pytest.raises(SpecError) as caught:
        read_spec(source, discover(), profile, overrides)
    return [str(problem) for problem in caught.value.problems]


def changed(**changes: object) -> dict[str, object]:
    return tomli.loads(TEXT) | changes


@pytest.mark.parametrize("profile", [None, "short"])
def test_a_file_a_text_and_a_dict_give_the_same_spec(profile: str | None, catalogue: Catalogue) -> None:
    Path("s.toml").write_text(TEXT)
    overrides = {"optimizer.momentum": 0.5, "variants.constant.optimizer.nesterov": True}
    texts = ["optimizer.momentum=0.5", "variants.constant.optimizer.nesterov=true"]
    sources = [Path("s.toml"), "s.toml", TEXT, tomli.loads(TEXT), MappingProxyType(OrderedDict(tomli.loads(TEXT)))]
    specs = [read_spec(source, catalogue, profile, given) for source in sources for given in (overrides, texts)]
    assert [spec.title for spec in specs] == ["s"] * 4 + ["study"] * 6
    parts = [canonical([spec.seeds, spec.variants, spec.protocols]) for spec in specs]
    assert all(part == parts[0] for part in parts)
    assert len({tuple(plan(spec, {}).stages) for spec in specs}) == 1
    assert {spec.document.overrides for spec in specs} == {tuple(texts)}
    assert {spec.document.profile for spec in specs} == {profile}
    # the text of each is a spec of its own, which gives the same again
    again = [read_spec(spec.document.text, catalogue, profile, texts) for spec in specs]
    assert all(canonical([spec.seeds, spec.variants, spec.protocols]) == parts[0] for spec in again)


def test_the_name_and_the_path_of_each() -> None:
    Path("a study.toml").write_text("title = 'x'")
    Path("a=b").write_text("title = 'y'")
    read = [read_document(source)[0] for source in ("a study.toml", "a=b", "title = 'x'", {"title": "x"})]
    assert [document.name for document in read] == ["a study", "a=b", "study", "study"]
    assert [document.path for document in read] == [Path("a study.toml"), Path("a=b"), None, None]
    assert [document.text for document in read] == ["title = 'x'", "title = 'y'", "title = 'x'", 'title = "x"\n']
    assert [document.where(("title",)) for document in read] == [
        "a study.toml:1", "a=b:1", "<text>:1", "<dict>"]  # fmt: skip
    assert [document.where(("seeds",)) for document in read] == ["a study.toml", "a=b", "<text>", "<dict>"]


@pytest.mark.parametrize("name", ["nowhere.toml", "nowhere", "a=b.toml", Path("a = 1")])
def test_a_path_to_no_file(name: str | Path) -> None:
    assert problems(name) == [f"{name}: no such file"]


def test_mistakes_in_a_text_are_reported_at_its_lines() -> None:
    assert set(problems(TEXT.replace("lr = 0.1", "lr = -1"))) == {"<text>:10: optimizer.lr: must be above 0, not -1"}
    assert problems("title = x") == ["<text>:1: invalid TOML: expected a value; text needs quotes"]
    assert problems("a = 1\na = 2") == ["<text>:2: invalid TOML: this key already has a value"]
    assert problems("a = " + "[" * 40 + "]" * 40) == ["<text>: nests tables or arrays more than 32 levels deep"]
    assert problems(TEXT, "shorter") == [
        "<text>: profiles.shorter: unknown profile; did you mean 'short'? Known profiles: 'short'"
    ]
    assert problems("seeds = [0]\n")[0].startswith("<text>: dataset: is missing; it must be a table with use = ")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seeds": [0, True]}, ["seeds[1]: must be a whole number, not true"]),
        ({"sedes": [0]}, ["sedes: unknown key; did you mean 'seeds'? Known keys: "]),
        ({"optimizer": {"use": "sgd", "lr": "x"}}, ['optimizer.lr: must be a number, not "x"']),
        ({"protocols": [{"use": "removal", "until": (0, 4), "recovery": 1}]}, ["protocols[0].recovery: must be at "]),
        ({"variants": {"a": {"optimizer.lr": -1.0}}}, ["variants.a.optimizer.lr: must be above 0, not -1.0"]),
        ({"grid": {"optimizer.lr": [0.1, 0.1]}}, ['grid."optimizer.lr"[1]: repeats 0.1']),
        ({"profiles": [1]}, ["profiles: must contain only tables, [profiles.NAME]"]),
        # what TOML does not have
        ({"title": None}, [f"title: {NOT_TOML}None"]),
        ({"title": b"x", "seeds": {1, 2}}, [
            f"seeds: {NOT_TOML}a value of type set", f"title: {NOT_TOML}a value of type bytes"]),
        ({"seeds": [0, 1j]}, [f"seeds[1]: {NOT_TOML}a value of type complex"]),
        ({"title": date(2020, 1, 2)}, [f"title: {NOT_TOML}a value of type date"]),
        ({"seeds": [2**63]}, ["seeds[0]: must be a whole number of at most 64 bits"]),
        ({"seeds": [10**5000]}, ["seeds[0]: must be a whole number of at most 64 bits"]),
        ({"grid": {3: [1]}}, ["grid: must have keys that are text, not 3"]),
        ({None: 1}, ["must have keys that are text, not None"]),
    ],
)  # fmt: skip
def test_mistakes_in_a_dict_are_reported_at_their_keys(changes, expected: list[str]) -> None:
    found = problems(tomli.loads(TEXT) | changes)
    assert [line[: len(start) + len("<dict>: ")] for line, start in zip(found, expected, strict=True)] == [
        f"<dict>: {start}" for start in expected
    ]


def test_a_dict_that_contains_itself() -> None:
    source: dict[str, object] = {}
    source["training"] = source
    path = ".".join(["training"] * 31)
    assert problems(source) == [f"<dict>: {path}: nests tables or arrays more than 32 levels deep"]


def test_values_of_numpy_and_paths_are_those_of_python(catalogue: Catalogue) -> None:
    numbers = changed(seeds=np.arange(2), title=np.str_("x"), dataset={"use": "image-folder", "path": Path("a") / "b"})
    numbers["optimizer"] = {
        "use": "sgd",
        "lr": np.float64(0.1),
        "nesterov": np.bool_(True),
        "momentum": np.float32(0.5),
    }
    spec = read_spec(numbers, catalogue)
    assert (spec.seeds, spec.title, spec.variants[0].dataset.call.path) == ((0, 1), "x", "a/b")
    optimizer = spec.variants[0].optimizer.call
    assert (optimizer.lr, optimizer.nesterov, optimizer.momentum) == (0.1, True, 0.5)
    assert read_spec(spec.document.text, catalogue).variants == spec.variants


def test_a_dict_is_not_changed(catalogue: Catalogue) -> None:
    source = changed()
    read_spec(source, catalogue, "short", {"variants.constant": {"optimizer.lr": 3}})
    assert source == tomli.loads(TEXT)


def test_text_with_every_sort_of_character_survives(catalogue: Catalogue) -> None:
    title = "a \"b\" \\ \n\t\x7f\x01 é 視 # [x] = 'y'"
    spec = read_spec(changed(title=title), catalogue)
    assert spec.title == title
    assert read_spec(spec.document.text, catalogue).title == title


@pytest.mark.parametrize(
    ("overrides", "text", "path", "value"),
    [
        ({"optimizer.lr": 0.5}, "optimizer.lr=0.5", ("optimizer", "lr"), 0.5),
        ({"seeds": (3, 4)}, "seeds=[3, 4]", ("seeds",), [3, 4]),
        ({"seeds.1": np.int64(5)}, "seeds.1=5", ("seeds",), [0, 5]),
        ({"title": "0.5"}, 'title="0.5"', ("title",), "0.5"),
        ({"title": "a\x7f\n'\""}, 'title="a\\u007f\\n\'\\""', ("title",), "a\x7f\n'\""),
        ({"training.augment": {"flip": True}}, "training.augment={ flip = true }", ("training",), {
            "augment": {"flip": True}}),
        ({"optimizer.schedule": {"gamma": 1e-07}}, "optimizer.schedule={ gamma = 1e-07 }", ("optimizer", "schedule"), {
            "use": "exponential", "gamma": 1e-07}),
        ({"deficits": {}}, "deficits={}", ("deficits", "blur", "size"), 2),
        ({"grid": {"optimizer.lr": [{"a": [1, -0.0]}]}}, 'grid={ "optimizer.lr" = [{ a = [1, -0.0] }] }',
         ("grid", "optimizer.lr"), [{"a": [1, -0.0]}]),
        ({"training.x": float("inf")}, "training.x=inf", ("training", "x"), float("inf")),
    ],
)  # fmt: skip
def test_a_mapping_of_overrides_says_the_same_as_its_text(overrides, text: str, path, value) -> None:
    by_mapping, problems_of_mapping = read_document(TEXT, None, overrides)
    by_text, problems_of_text = read_document(TEXT, None, [text])
    assert problems_of_mapping == problems_of_text == []
    assert by_mapping.overrides == by_text.overrides == (text,)
    assert by_mapping.tables == by_text.tables
    found = by_mapping.tables
    for part in path:
        found = found[part]
    assert found == value


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"optimizer.lr": -1}, ["overrides: optimizer.lr: must be above 0, not -1"]),
        ({"optimizer.lr": "0.1"}, ['overrides: optimizer.lr: must be a number, not "0.1"']),
        ({"optimizer": {"schedule": {"gamma": "x"}}}, [
            'overrides: optimizer.schedule.gamma: must be a number, not "x"']),
        ({"seeds.7": 1}, ["overrides: seeds.7: seeds is an array of length 2, numbered from 0; it has no element '7'"]),
        ({"a..b": 1}, ["overrides: a..b: is not a valid key; write parts joined by dots, as in optimizer.lr"]),
        ({"profiles.short": {}}, [
            "overrides: profiles.short: cannot be overridden; choose a profile with --profile, or with `profile` in "
            "Python"]),
        ({"seeds": None}, [f"overrides: seeds: {NOT_TOML}None"]),
        ({"training.augment": {"shift": [None]}}, [f"overrides: training.augment.shift[0]: {NOT_TOML}None"]),
        ({"seeds": [0, None]}, [f"overrides: seeds[1]: {NOT_TOML}None"]),
        ({3: 1, "optimizer.lr": -1}, [
            "overrides: 3: must be text, a dotted key such as optimizer.lr",
            "overrides: optimizer.lr: must be above 0, not -1"]),
        ("optimizer.lr=-1", ["--set optimizer.lr=-1: optimizer.lr: must be above 0, not -1"]),
    ],
)  # fmt: skip
def test_mistakes_in_overrides(overrides, expected: list[str]) -> None:
    text = TEXT.partition("[variants.plain]")[0]
    assert problems(text, None, overrides) == expected


def test_a_document_knows_its_profile_and_overrides_for_the_provenance(catalogue: Catalogue) -> None:
    numerics = Numerics("cpu", "exact", "float32")
    Path("s.toml").write_text(TEXT)
    spec = read_spec("s.toml", catalogue, "short", ["seeds=[3]", "title = a b"])
    facts = provenance(spec, numerics)
    assert (facts["spec_file"], facts["profile"]) == ("s.toml", "short")
    assert facts["overrides"] == "seeds=[3] title = a b"
    facts = provenance(read_spec(TEXT, catalogue), numerics)
    assert not facts.keys() & {"spec_file", "profile", "overrides", "git_commit"}
