"""A spec's tables, what is laid over them, and where each key is then said to have been written."""

import random
from datetime import date
from pathlib import Path

import pytest

from cpframe.errors import SpecError
from cpframe.spec.document import read_document
from cpframe.spec.dotted_keys import dotted, key_path

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


def sound(profile=None, *overrides, text=TEXT):
    document, problems = read(profile, *overrides, text=text)
    assert not problems
    return document


def told(profile=None, *overrides, text=TEXT):
    return [str(problem) for problem in read(profile, *overrides, text=text)[1]]


def value_at(document, *path):
    value = document.tables
    for part in path:
        value = value[part]
    return value


def line_of(text: str, nth: int = 1) -> str:
    """Where the nth line that begins with this text stands, counted by hand as it were."""
    found = [number for number, line in enumerate(TEXT.splitlines(), 1) if line.startswith(text)]
    return f"s.toml:{found[nth - 1]}"


def test_without_anything_laid_over_it() -> None:
    document = sound()
    assert document.text == TEXT
    assert document.tables.keys() == {"seeds", "optimizer", "protocols"}  # and no profiles
    assert document.where(("optimizer", "schedule", "every")) == line_of("schedule =")
    assert document.where(("protocols", 1, "use")) == line_of('use = "sliding"')
    # what is not there is said to be missing from the nearest table around it
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
    assert value_at(sound(None, override), *path) == value


def test_set_says_where_each_key_it_touched_was_written() -> None:
    document = sound(None, "a.b.c=1", "optimizer.lr=2", "protocols.1.length=3", "seeds.1=9")
    assert document.where(("a",)) == document.where(("a", "b", "c")) == "--set a.b.c=1"
    assert document.where(("optimizer", "lr")) == "--set optimizer.lr=2"
    assert document.where(("optimizer", "momentum")) == line_of("momentum")
    assert document.where(("optimizer",)) == line_of("[optimizer]")
    assert document.where(("protocols", 1, "length")) == "--set protocols.1.length=3"
    assert document.where(("protocols", 1)) == line_of("[[protocols]]", 2)
    assert (document.where(("seeds", 0)), document.where(("seeds", 1))) == ("s.toml:1", "--set seeds.1=9")


def test_later_overrides_win_and_profiles_come_first() -> None:
    document = sound("dotted", "optimizer.lr=1", "optimizer.lr=2")
    assert document.tables["optimizer"]["lr"] == 2
    assert document.where(("optimizer", "lr")) == "--set optimizer.lr=2"
    assert document.where(("optimizer", "schedule", "every")) == line_of('"optimizer.schedule.every"')


def test_a_profile_of_dotted_keys() -> None:
    document = sound("dotted")
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


def test_a_profile_of_tables_is_laid_over_key_by_key() -> None:
    document = sound("tables")
    assert document.tables["optimizer"] == {**sound().tables["optimizer"], "lr": 0.3}
    assert document.tables["training"] == {"batch_size": 10}
    assert document.where(("optimizer", "lr")) == line_of("lr = 0.3")
    assert document.where(("optimizer",)) == line_of("[optimizer]")
    assert document.where(("training", "batch_size")) == line_of("batch_size")
    assert document.where(("training",)) == line_of("[profiles.tables.training]")


def test_a_table_with_another_use_takes_the_place_of_the_table() -> None:
    document = sound("other")
    assert document.tables["optimizer"] == {"use": "adam", "lr": 0.4}
    # nothing is left of the keys that were there, nor of their lines
    assert document.where(("optimizer", "momentum")) == document.where(("optimizer", "lr")) == line_of("optimizer =")
    document = sound("schedule")
    assert document.tables["optimizer"]["schedule"] == {"use": "exponential", "gamma": 0.9}
    assert document.tables["optimizer"]["lr"] == 0.1
    assert document.where(("optimizer", "schedule", "gamma")) == line_of("gamma")


def test_arrays_of_a_profile_take_the_place_of_arrays() -> None:
    document = sound("array")
    assert document.tables["seeds"] == [7, 8, 9]
    assert document.tables["protocols"] == [{"use": "removal", "until": [1]}]
    assert document.where(("seeds", 2)) == line_of("seeds = [7")
    assert document.where(("protocols", 0, "until", 0)) == line_of("until = [1]")
    assert document.where(("protocols", 1)) == line_of("[[profiles.array.protocols]]")


def test_every_slip_in_a_profile_is_told_and_the_rest_laid_over() -> None:
    document, problems = read("wrong")
    assert document.tables["seeds"] == [3]
    expected = {
        '"seeds.2"': "seeds.2: seeds is an array of 2, numbered from 0: it has no '2'",
        '"optimizer.lr.x"': "optimizer.lr.x: optimizer.lr is not a table, so nothing can be set inside it",
        '"protocols.first"': "protocols.first: protocols is an array of 2, numbered from 0: it has no 'first'",
        '"optimizer."': "optimizer.: is not a key; write parts joined by dots, as in optimizer.lr",
        "profiles =": "profiles: cannot be set: profiles are what is laid over a spec, and are chosen by --profile",
    }
    assert [str(problem) for problem in problems] == [f"{line_of(line)}: {why}" for line, why in expected.items()]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seeds", "should read key=value, as in --set optimizer.lr=0.1"),
        ("=3", "should read key=value, as in --set optimizer.lr=0.1"),
        ("  = 3", "should read key=value, as in --set optimizer.lr=0.1"),
        ("seeds.2=1", "seeds.2: seeds is an array of 2, numbered from 0: it has no '2'"),
        ("seeds.-1=1", "seeds.-1: seeds is an array of 2, numbered from 0: it has no '-1'"),
        ("seeds.00=1", "seeds.00: seeds is an array of 2, numbered from 0: it has no '00'"),
        ('seeds."²"=1', "seeds.\"²\": seeds is an array of 2, numbered from 0: it has no '²'"),
        ("seeds.0.x=1", "seeds.0.x: seeds[0] is not a table, so nothing can be set inside it"),
        ("protocols.use=x", "protocols.use: protocols is an array of 2, numbered from 0: it has no 'use'"),
        ("optimizer.use.x=1", "optimizer.use.x: optimizer.use is not a table, so nothing can be set inside it"),
        ("a..b=1", "a..b: is not a key; write parts joined by dots, as in optimizer.lr"),
        (".=1", ".: is not a key; write parts joined by dots, as in optimizer.lr"),
        ("a b=1", "a b: is not a key; write parts joined by dots, as in optimizer.lr"),
        ("profiles.x.lr=1", "profiles.x.lr: cannot be set: profiles are what is laid over a spec, "
         "and are chosen by --profile"),
    ],
)  # fmt: skip
def test_slips_in_set(override, message) -> None:
    assert told(None, override, "seeds.3=1") == [
        f"--set {override}: {message}",
        "--set seeds.3=1: seeds.3: seeds is an array of 2, numbered from 0: it has no '3'",  # and the next as well
    ]


def test_a_key_far_too_deep_is_refused() -> None:
    (message,) = told(None, ".".join("a" * 2000) + "=1")
    assert message.endswith("is not a key; write parts joined by dots, as in optimizer.lr")


@pytest.mark.parametrize(
    ("profile", "text", "message"),
    [
        ("tabels", TEXT, "s.toml: --profile tabels: is not a profile of this spec; did you mean 'tables'?"),
        ("cpu", "a = 1", "s.toml: --profile cpu: is not a profile of this spec; known names: none"),
        ("cpu", "[profiles.gpu]", "s.toml: --profile cpu: is not a profile of this spec; did you mean 'gpu'?"),
        (None, "profiles = 1", "s.toml:1: profiles: should be tables, [profiles.NAME]"),
        (None, "\n[[profiles]]\nx = 1", "s.toml:2: profiles: should be tables, [profiles.NAME]"),
        (None, "[profiles]\nx = 1", "s.toml:2: profiles.x: should be a table, [profiles.x]"),
    ],
)
def test_profiles_that_are_not_there_or_none(profile, text, message) -> None:
    document, problems = read(profile, text=text)
    assert message in [str(problem) for problem in problems]
    assert "profiles" not in document.tables


def test_no_profile_is_laid_over_unless_it_is_asked_for() -> None:
    text = 'a = 1\n[profiles.""]\na = 2'
    assert sound(text=text).tables == {"a": 1}
    assert sound("", text=text).tables == {"a": 2}


def test_laying_over_leaves_the_document_as_it_was() -> None:
    document = sound()
    before = repr(document)
    value = {"use": "adam", "betas": [1, 2]}
    changed = document.laid_over("optimizer", value, {(): "here"})
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
def test_what_is_no_key(key) -> None:
    with pytest.raises(KeyError, match="is not a key"):
        key_path(key)


def test_dotted_keys_can_be_read_back() -> None:
    rng = random.Random(1)
    for _ in range(200):
        path = tuple("".join(rng.choices("ab.0-_ \"'\\ü=#[", k=rng.randrange(4))) for _ in range(rng.randint(1, 4)))
        assert key_path(dotted(path)) == path
    assert dotted(("protocols", 0, "until", 1)) == "protocols[0].until[1]"
    assert dotted(()) == ""


def refused(path: Path) -> str:
    with pytest.raises(SpecError) as caught:
        read_document(path)
    assert len(caught.value.problems) == 1
    return str(caught.value)


def test_files_that_cannot_be_read() -> None:
    Path("folder").mkdir()
    Path("latin.toml").write_bytes('title = "Schärfe"'.encode("latin-1"))
    assert refused(Path("nothing.toml")) == "nothing.toml: there is no such file"
    assert refused(Path("folder")) == "folder: cannot be read: Is a directory"
    assert refused(Path("latin.toml")) == "latin.toml: is not a text file in UTF-8"


def test_a_byte_order_mark_and_other_line_ends_are_no_matter() -> None:
    Path("s.toml").write_bytes(b"\xef\xbb\xbfa = 1\r\nb = 2\r\n")
    document, _ = read_document(Path("s.toml"))
    assert document.tables == {"a": 1, "b": 2}
    assert document.where(("b",)) == "s.toml:2"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nuse = blur", "s.toml:2: is not valid TOML: this is no value; text needs quotes"),
        ("a = 1\nb = 1\na = 2", "s.toml:3: is not valid TOML: this key has a value already"),
        ("\n? 3", "s.toml:2: is not valid TOML: this is neither `key = value` nor a [table]"),
        ("[a]\n[a]", "s.toml:2: is not valid TOML: Cannot declare ('a',) twice"),
        ("\na = 'x\nb = 1", "s.toml:3: is not valid TOML: a closing quote is missing"),
        ('a = "x\nb = 1', "s.toml:1: is not valid TOML: a closing quote is missing"),
        ('\na = """x\nb = 1', "s.toml:3: is not valid TOML: a closing quote is missing"),
        ("a = [1,\n\n", "s.toml:3: is not valid TOML: this is no value; text needs quotes"),
        ("a = " + "9" * 5000, "s.toml: has a whole number of thousands of digits; 64 bits is the most there can be"),
        ("a = " + "[" * 33 + "]" * 33, "s.toml: nests tables or arrays more than 32 deep"),
        ("a = " + "[" * 5000 + "]" * 5000, "s.toml: nests tables or arrays far too deep"),
        (".".join("a" * 40) + " = 1", "s.toml: nests tables or arrays more than 32 deep"),
        (".".join("a" * 5000) + " = 1", "s.toml: nests tables or arrays far too deep"),
    ],
)
def test_what_is_no_toml_or_no_spec(text, message) -> None:
    Path("s.toml").write_text(text)
    assert refused(Path("s.toml")) == message
