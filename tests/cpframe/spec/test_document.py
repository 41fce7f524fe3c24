"""A document: the tables of a spec, profiles and overrides applied to them, and the origin of every key."""

import random
from datetime import date
from pathlib import Path

import pytest

from cpframe.errors import SpecError
from cpframe.spec.document import read_document
from cpframe.spec.dotted_keys import dotted_key, key_path

TEXT = """\
seeds = [0, 1]
[optimizer]
use = "sgd"
lr = 0.1
momentum = 0.9
schedule = { use = "step", every = 3 }
[[protocols]]
use = "removal"
until = [0, 4]
[[protocols]]
use = "sliding"

[profiles.dotted]
"optimizer.lr" = 0.2
"optimizer.schedule.every" = 4
"protocols.1.length" = 5
'optimizer."odd key".x' = 1

[profiles.tables.optimizer]
lr = 0.3

[profiles.tables.training]
batch_size = 10

[profiles.other]
optimizer = { use = "adam", lr = 0.4 }

[profiles.schedule.optimizer.schedule]
use = "exponential"
gamma = 0.9

[profiles.array]
seeds = [7, 8, 9]
[[profiles.array.protocols]]
use = "removal"
until = [1]

[profiles.wrong]
"seeds.2" = 1
"optimizer.lr.x" = 1
"protocols.first" = 1
"optimizer." = 1
profiles = { x = {} }
seeds = [3]
"""


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def read(profile=None, *overrides, text=TEXT):
    Path("s.toml").write_text(text)
    return read_document(Path("s.toml"), profile, overrides)


def read_valid(profile=None, *overrides, text=TEXT):
    document, problems = read(profile, *overrides, text=text)
    assert not problems
    return document


def messages(profile=None, *overrides, text=TEXT):
    return [str(problem) for problem in read(profile, *overrides, text=text)[1]]


def value_at(document, *path):
    value = document.tables
    for part in path:
        value = value[part]
    return value


def line_of(text: str, nth: int = 1) -> str:
    """Return the position of the nth line that begins with this text."""
    found = [number for number, line in enumerate(TEXT.splitlines(), 1) if line.startswith(text)]
    return f"s.toml:{found[nth - 1]}"


def test_without_profile_and_overrides() -> None:
    document = read_valid()
    assert document.text == TEXT
    assert document.tables.keys() == {"seeds", "optimizer", "protocols"}  # and no profiles
    assert document.where(("optimizer", "schedule", "every")) == line_of("schedule =")
    assert document.where(("protocols", 1, "use")) == line_of('use = "sliding"')
    # a key that is not there is missing from the nearest table around it
    assert document.where(("optimizer", "nesterov")) == line_of("[optimizer]")
    assert document.where(("protocols", 0, "recovery")) == line_of("[[protocols]]")
    assert document.where(("dataset",)) == "s.toml"


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("optimizer.lr=0.5", ("optimizer", "lr"), 0.5),
        ("optimizer.lr = 5e-1", ("optimizer", "lr"), 0.5),
        ("seeds=[3, 4]", ("seeds",), [3, 4]),
        ("seeds=[]", ("seeds",), []),
        ("seeds.1=5", ("seeds",), [0, 5]),
        ("title=plain", ("title",), "plain"),
        ("title=two words", ("title",), "two words"),
        ('title="0.5"', ("title",), "0.5"),
        ("title=a=b", ("title",), "a=b"),
        ("title=", ("title",), ""),
        ("title=[1, 2", ("title",), "[1, 2"),
        ("title=a # b", ("title",), "a # b"),
        ("title=1\nother = 2", ("title",), "1\nother = 2"),
        ("training.augment.flip=true", ("training",), {"augment": {"flip": True}}),
        ("start=1979-05-27", ("start",), date(1979, 5, 27)),
        (
            "protocols.1.length=3",
            ("protocols",),
            [{"use": "removal", "until": [0, 4]}, {"use": "sliding", "length": 3}],
        ),
        ("protocols.0.until.0=2", ("protocols", 0, "until"), [2, 4]),
        ("protocols=[{ use = 'x' }]", ("protocols",), [{"use": "x"}]),
        ("grid.'optimizer.lr'=[1]", ("grid",), {"optimizer.lr": [1]}),
        ("optimizer.schedule={ every = 9 }", ("optimizer", "schedule"), {"use": "step", "every": 9}),
        ("optimizer.schedule={ use = 'x' }", ("optimizer", "schedule"), {"use": "x"}),
        ("optimizer.schedule=x", ("optimizer", "schedule"), "x"),
        ("optimizer.use=adam", ("optimizer", "momentum"), 0.9),
        ("title=" + "[" * 40 + "]" * 40, ("title",), "[" * 40 + "]" * 40),  # deeper than any value: a plain word
    ],
)
def test_set(override, path, value) -> None:
    assert value_at(read_valid(None, override), *path) == value


def test_the_origin_of_each_key_that_set_touches() -> None:
    document = read_valid(None, "a.b.c=1", "optimizer.lr=2", "protocols.1.length=3", "seeds.1=9")
    assert document.where(("a",)) == document.where(("a", "b", "c")) == "--set a.b.c=1"
    assert document.where(("optimizer", "lr")) == "--set optimizer.lr=2"
    assert document.where(("optimizer", "momentum")) == line_of("momentum")
    assert document.where(("optimizer",)) == line_of("[optimizer]")
    assert document.where(("protocols", 1, "length")) == "--set protocols.1.length=3"
    assert document.where(("protocols", 1)) == line_of("[[protocols]]", 2)
    assert (document.where(("seeds", 0)), document.where(("seeds", 1))) == ("s.toml:1", "--set seeds.1=9")


def test_later_overrides_win_and_profiles_come_first() -> None:
    document = read_valid("dotted", "optimizer.lr=1", "optimizer.lr=2")
    assert document.tables["optimizer"]["lr"] == 2
    assert document.where(("optimizer", "lr")) == "--set optimizer.lr=2"
    assert document.where(("optimizer", "schedule", "every")) == line_of('"optimizer.schedule.every"')


def test_a_profile_of_dotted_keys() -> None:
    document = read_valid("dotted")
    assert document.tables["optimizer"] == {
        "use": "sgd",
        "lr": 0.2,
        "momentum": 0.9,
        "schedule": {"use": "step", "every": 4},
        "odd key": {"x": 1},
    }
    assert document.tables["protocols"][1] == {"use": "sliding", "length": 5}
    assert document.where(("optimizer", "lr")) == line_of('"optimizer.lr"')
    assert document.where(("optimizer", "odd key")) == line_of("'optimizer.\"odd key\".x'")
    assert document.where(("optimizer", "momentum")) == line_of("momentum")


def test_a_profile_of_tables_is_merged_key_by_key() -> None:
    document = read_valid("tables")
    assert document.tables["optimizer"] == {**read_valid().tables["optimizer"], "lr": 0.3}
    assert document.tables["training"] == {"batch_size": 10}
    assert document.where(("optimizer", "lr")) == line_of("lr = 0.3")
    assert document.where(("optimizer",)) == line_of("[optimizer]")
    assert document.where(("training", "batch_size")) == line_of("batch_size")
    assert document.where(("training",)) == line_of("[profiles.tables.training]")


def test_a_table_with_another_use_replaces_the_table() -> None:
    document = read_valid("other")
    assert document.tables["optimizer"] == {"use": "adam", "lr": 0.4}
    # the previous keys and their lines are gone
    assert document.where(("optimizer", "momentum")) == document.where(("optimizer", "lr")) == line_of("optimizer =")
    document = read_valid("schedule")
    assert document.tables["optimizer"]["schedule"] == {"use": "exponential", "gamma": 0.9}
    assert document.tables["optimizer"]["lr"] == 0.1
    assert document.where(("optimizer", "schedule", "gamma")) == line_of("gamma")


def test_arrays_of_a_profile_replace_arrays() -> None:
    document = read_valid("array")
    assert document.tables["seeds"] == [7, 8, 9]
    assert document.tables["protocols"] == [{"use": "removal", "until": [1]}]
    assert document.where(("seeds", 2)) == line_of("seeds = [7")
    assert document.where(("protocols", 0, "until", 0)) == line_of("until = [1]")
    assert document.where(("protocols", 1)) == line_of("[[profiles.array.protocols]]")


def test_every_mistake_in_a_profile_is_reported_and_the_rest_applied() -> None:
    document, problems = read("wrong")
    assert document.tables["seeds"] == [3]
    expected = {
        '"seeds.2"': "seeds.2: seeds is an array of length 2, numbered from 0; it has no element '2'",
        '"optimizer.lr.x"': "optimizer.lr.x: optimizer.lr is not a table, so no key can be set in it",
        '"protocols.first"': "protocols.first: protocols is an array of length 2, numbered from 0; it has no "
        "element 'first'",
        '"optimizer."': "optimizer.: is not a valid key; write parts joined by dots, as in optimizer.lr",
        "profiles =": "profiles: cannot be overridden; choose a profile with --profile, or with `profile` in Python",
    }
    assert [str(problem) for problem in problems] == [f"{line_of(line)}: {why}" for line, why in expected.items()]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", "must have the form key=value, as in --set optimizer.lr=0.1"),
        ("=3", "must have the form key=value, as in --set optimizer.lr=0.1"),
        ("  = 3", "must have the form key=value, as in --set optimizer.lr=0.1"),
        ("seeds.2=1", "seeds.2: seeds is an array of length 2, numbered from 0; it has no element '2'"),
        ("seeds.-1=1", "seeds.-1: seeds is an array of length 2, numbered from 0; it has no element '-1'"),
        ("seeds.00=1", "seeds.00: seeds is an array of length 2, numbered from 0; it has no element '00'"),
        ('seeds."²"=1', "seeds.\"²\": seeds is an array of length 2, numbered from 0; it has no element '²'"),
        ("seeds.0.x=1", "seeds.0.x: seeds[0] is not a table, so no key can be set in it"),
        ("protocols.use=x", "protocols.use: protocols is an array of length 2, numbered from 0; it has no element "
            "'use'"),
        ("optimizer.use.x=1", "optimizer.use.x: optimizer.use is not a table, so no key can be set in it"),
        ("a..b=1", "a..b: is not a valid key; write parts joined by dots, as in optimizer.lr"),
        (".=1", ".: is not a valid key; write parts joined by dots, as in optimizer.lr"),
        ("a b=1", "a b: is not a valid key; write parts joined by dots, as in optimizer.lr"),
        ("profiles.x.lr=1", "profiles.x.lr: cannot be overridden; choose a profile with --profile, "
         "or with `profile` in Python"),
    ],
)  # fmt: skip
def test_mistakes_in_set(override, message) -> None:
    assert messages(None, override, "seeds.3=1") == [
        f"--set {override}: {message}",
        # and the next override as well
        "--set seeds.3=1: seeds.3: seeds is an array of length 2, numbered from 0; it has no element '3'",
    ]


def test_a_key_far_too_deep_is_refused() -> None:
    (message,) = messages(None, ".".join("a" * 2000) + "=1")
    assert message.endswith("is not a valid key; write parts joined by dots, as in optimizer.lr")


@pytest.mark.parametrize(
    ("profile", "text", "message"),
    [
        (
            "tabels",
            TEXT,
            "s.toml: profiles.tabels: unknown profile; did you mean 'tables'? Known profiles: 'array', "
            "'dotted', 'other', 'schedule', 'tables', 'wrong'",
        ),
        ("cpu", "a = 1", "s.toml: profiles.cpu: unknown profile; known profiles: none"),
        ("cpu", "[profiles.gpu]", "s.toml: profiles.cpu: unknown profile; did you mean 'gpu'? Known profiles: 'gpu'"),
        (None, "profiles = 1", "s.toml:1: profiles: must contain only tables, [profiles.NAME]"),
        (None, "\n[[profiles]]\nx = 1", "s.toml:2: profiles: must contain only tables, [profiles.NAME]"),
        (None, "[profiles]\nx = 1", "s.toml:2: profiles.x: must be a table, [profiles.x]"),
    ],
)
def test_unknown_profiles_and_values_that_are_no_profiles(profile, text, message) -> None:
    document, problems = read(profile, text=text)
    assert message in [str(problem) for problem in problems]
    assert "profiles" not in document.tables


def test_no_profile_is_applied_unless_it_is_asked_for() -> None:
    text = 'a = 1\n[profiles.""]\na = 2'
    assert read_valid(text=text).tables == {"a": 1}
    assert read_valid("", text=text).tables == {"a": 2}


def test_with_value_leaves_the_document_unchanged() -> None:
    document = read_valid()
    before = repr(document)
    value = {"use": "adam", "betas": [1, 2]}
    changed = document.with_value("optimizer", value, {(): "here"})
    changed.tables["optimizer"]["betas"].append(3)
    changed.tables["protocols"][0]["until"].append(3)
    assert repr(document) == before
    assert value == {"use": "adam", "betas": [1, 2]}


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("lr", ("lr",)),
        ("optimizer.lr", ("optimizer", "lr")),
        ("optimizer . lr", ("optimizer", "lr")),
        ("protocols.0.until.1", ("protocols", "0", "until", "1")),
        ("grid.'optimizer.lr'", ("grid", "optimizer.lr")),
        ('a."b \\" c"', ("a", 'b " c')),
        ('""', ("",)),
    ],
)
def test_key_path(key, path) -> None:
    assert key_path(key) == path


@pytest.mark.parametrize(
    "key", ["", ".", "a.", ".a", "a b", "a = 1\nb", "[a]\nb\nc", "a.'b", "ü", "a\nb", "{", "a={x=1},b"]
)
def test_invalid_keys(key) -> None:
    with pytest.raises(KeyError, match="is not a valid key"):
        key_path(key)


def test_dotted_keys_can_be_read_back() -> None:
    rng = random.Random(1)
    for _ in range(200):
        path = tuple("".join(rng.choices("ab.0-_ \"'\\ü=#[", k=rng.randrange(4))) for _ in range(rng.randint(1, 4)))
        assert key_path(dotted_key(path)) == path
    assert dotted_key(("protocols", 0, "until", 1)) == "protocols[0].until[1]"
    assert dotted_key(()) == ""


def refused(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read_document(path)
    assert len(caught.value.problems) == 1
    return str(caught.value)


def test_files_that_cannot_be_read() -> None:
    Path("folder").mkdir()
    Path("latin.toml").write_bytes('title = "Schärfe"'.encode("latin-1"))
    assert refused(Path("nothing.toml")) == "nothing.toml: no such file"
    assert refused(Path("folder")) == "folder: cannot be read: Is a directory"
    assert refused(Path("latin.toml")) == "latin.toml: must be a text file in UTF-8"


def test_a_byte_order_mark_and_other_line_ends_are_accepted() -> None:
    Path("s.toml").write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    document, _ = read_document(Path("s.toml"))
    assert document.tables == {"a": 1, "b": 2}
    assert document.where(("b",)) == "s.toml:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nuse = blur", "s.toml:2: invalid TOML: expected a value; text needs quotes"),
        ("a = 1\nb = 1\na = 2", "s.toml:3: invalid TOML: this key already has a value"),
        ("\n? 3", "s.toml:2: invalid TOML: expected `key = value` or a [table]"),
        ("[a]\n[a]", "s.toml:2: invalid TOML: Cannot declare ('a',) twice"),
        ("\na = 'x\nb = 1", "s.toml:3: invalid TOML: a closing quote is missing"),
        ('a = "x\nb = 1', "s.toml:1: invalid TOML: a closing quote is missing"),
        ('\na = """x\nb = 1', "s.toml:3: invalid TOML: a closing quote is missing"),
        ("a = [1,\n\n", "s.toml:3: invalid TOML: expected a value; text needs quotes"),
        ("a = " + "9" * 5000, "s.toml: contains a whole number with thousands of digits; at most 64 bits are allowed"),
        ("a = " + "[" * 33 + "]" * 33, "s.toml: nests tables or arrays more than 32 levels deep"),
        ("a = " + "[" * 5000 + "]" * 5000, "s.toml: nests tables or arrays too deeply; at most 32 levels are allowed"),
        (".".join("a" * 40) + " = 1", "s.toml: nests tables or arrays more than 32 levels deep"),
        (".".join("a" * 5000) + " = 1", "s.toml: nests tables or arrays too deeply; at most 32 levels are allowed"),
    ],
)
def test_invalid_toml_and_toml_beyond_the_bounds_of_a_spec(text, message) -> None:
    Path("s.toml").write_text(text)
    assert refused(Path("s.toml")) == message
