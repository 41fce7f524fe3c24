"""Any text is read or rejected in sentences: bundled specs with lines lost, copied, garbled or given odd values."""

import random
from pathlib import Path

import pytest

from cpframe.errors import SpecError
from cpframe.plugins.discovery import discover
from cpframe.spec.reader import read_spec

SPECS = Path(__file__).parents[3] / "specs"

VALUES = [
    "0", "-1", "1.5", "nan", "-inf", "1e308", "0xff", "99999999999999999999", "true", "''", "'x'", "'blur'", "'digits'",
    "'constant'", "'removal'", "[]", "[0]", "[[1]]", "[{}]", "[1, 'a']", "['blur']", "[0.9, 0.9]", "[[2, { c = [] }]]",
    "{}", "{ use = 'blur' }", "{ use = 3 }", "{ use = [] }", "{ a = { b = 1 } }", "1979-05-27", "12:00:00",
]  # fmt: skip
KEYS = [
    "use", "lr", "title", "seeds", "deficits", "grid", "metrics", "until", "protocols", "profiles", "schedule", "x",
    "'a.b'", "optimizer.lr", "'optimizer.lr'", "variants", "[variants.constant]",
]  # fmt: skip
SETS = [
    "seeds", "optimizer", "optimizer.lr", "optimizer.schedule.use", "protocols", "protocols.0.until", "protocols.9",
    "deficits.blur", "metrics.fisher.every", "grid", "grid.'optimizer.lr'", "grid.'deficits.blur'", "dataset.use",
    "training.augment", "profiles", "..", "''", "variants", "variants.constant", "variants.constant.optimizer.lr",
    "variants.constant.'optimizer.lr'", "variants.other",
]  # fmt: skip


def mutated(rng: random.Random, text: str) -> str:
    """The text with some of its lines deleted, copied, garbled, or with another key or value."""
    lines = text.splitlines()
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(len(lines))
        key, equals, value = lines[at].partition("=")
        match rng.choice(["delete", "copy", "value", "value", "key", "brackets", "garble"]):
            case "delete":
                lines[at] = ""
            case "copy":
                lines.insert(at, rng.choice(lines))
            case "value" if equals:
                lines[at] = f"{key}= {rng.choice(VALUES)}"
            case "key" if equals:
                lines[at] = f"{rng.choice(KEYS)} ={value}"
            case "brackets":
                doubled = "[[" in lines[at]
                lines[at] = lines[at].replace("[[" if doubled else "[", "[" if doubled else "[[")
                lines[at] = lines[at].replace("]]" if doubled else "]", "]" if doubled else "]]")
            case "garble" if lines[at]:
                place = rng.randrange(len(lines[at]))
                rest = lines[at][place + rng.randint(0, 1) :]
                lines[at] = lines[at][:place] + rng.choice("\"'[]{}=.,#x1 \\") + rest
    return "\n".join(lines)


VARIANTS = """
[variants.falling]
[variants.constant]
"optimizer.schedule" = { use = "constant" }
deficits.blur.size = 3
"training.batch_size" = 10
[profiles.cpu.variants.constant]
"optimizer.lr" = 0.5
"""


@pytest.mark.parametrize(
    ("path", "more"), [("quickstart.toml", ""), ("flip_vs_blur.toml", ""), ("flip_vs_blur.toml", VARIANTS)]
)
def test_read_or_rejected_in_sentences(path: str, more: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    catalogue = discover()
    rng = random.Random(path + more)
    original = (SPECS / path).read_text() + more
    read_well = 0
    for _ in range(250):
        text = mutated(rng, original)
        overrides = [f"{rng.choice(SETS)}={rng.choice(VALUES)}" for _ in range(rng.choice([0, 0, 0, 1, 2]))]
        try:
            Path("s.toml").write_text(text)
            assert read_spec(Path("s.toml"), catalogue, rng.choice([None, None, "cpu"]), overrides).variants
            read_well += 1
        except SpecError as error:
            lines = text.count("\n") + 1
            for problem in error.problems:
                where, _, line = problem.where.partition(":")
                assert where == "s.toml" or where.startswith("--set ")
                assert not line or where != "s.toml" or 1 <= int(line) <= lines
                assert problem.why
                assert "Input" not in problem.why  # pydantic's words
                assert "\n" not in problem.why
    assert 10 < read_well < 240  # else the mutations are too wild, or too tame, to show anything
