"""Lines of keys: every path that tomli parses has a line, and the line shows the key."""

import random
import re

import pytest
import tomli

from cpframe.spec.positions import key_lines

TEXT = '''title = "a # no comment [x]"  # one
seeds = [0, 1,
  2]
[dataset]
use = "digits"
"odd.key" = { a = 1, b = [ { c = 2 } ] }
long = """
[not a table]
x = 1
"""
optimizer.lr = 0.1

[deficits.blur] # here
use = 'blur'
when = 1979-05-27 07:32:00
[[protocols]]
use = "removal"
until = [0,
  5, # five
  10]
[[protocols]]
use = "sliding"
[protocols.more]
deep.er = true
nested = {
  one = 1,
  two = { three = 3, },
}
'''

EXPECTED = {
    ("title",): 1,
    ("seeds", 2): 3,
    ("dataset",): 4,
    ("dataset", "odd.key", "a"): 6,
    ("dataset", "odd.key", "b", 0, "c"): 6,
    ("dataset", "long"): 7,
    ("dataset", "optimizer", "lr"): 11,
    ("deficits", "blur"): 13,
    ("deficits", "blur", "when"): 15,
    ("protocols", 0): 16,
    ("protocols", 0, "until", 1): 19,
    ("protocols", 0, "until", 2): 20,
    ("protocols", 1, "use"): 22,
    ("protocols", 1, "more"): 23,
    ("protocols", 1, "more", "deep", "er"): 24,
    ("protocols", 1, "more", "nested", "two", "three"): 27,
}


def paths(value, above=()):
    """Every path of a parsed document, as the independent list of what there is to find."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in children:
        yield (*above, key)
        yield from paths(inner, (*above, key))


def test_lines_of_known_keys() -> None:
    lines = key_lines(TEXT)
    assert {path: lines[path] for path in EXPECTED} == EXPECTED


def test_every_parsed_path_is_found_and_nothing_else() -> None:
    assert set(key_lines(TEXT)) == set(paths(tomli.loads(TEXT)))


class Writer:
    """Writes random TOML in every style there is. Each key and number is used once, so that it can be looked for."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.count = 1000

    def number(self) -> str:
        self.count += 1
        return str(self.count)

    def key(self) -> str:
        name = f"k{self.number()}"
        return self.rng.choice([name, name, f'"{name}"', f"'{name}'", f'"{name} . [x] # = y"', f'"\\u0041{name}"'])

    def dotted(self) -> str:
        return self.rng.choice([".", " . "]).join(self.key() for _ in range(self.rng.choice([1, 1, 2, 3])))

    def gap(self) -> str:
        """White space, line ends and comments, wherever TOML 1.1 lets them stand between brackets."""
        return self.rng.choice(["", " ", "\n", " # [decoy] = { 'x' ]\n", "\n\n  ", "\t"])

    def value(self, depth: int = 0) -> str:
        kind = self.rng.randrange(10 if depth < 3 else 8)
        if kind == 8:
            return f"[{self.items(lambda: self.value(depth + 1))}]"
        if kind == 9:
            return f"{{{self.items(lambda: f'{self.dotted()} = {self.value(depth + 1)}')}}}"
        # a number that is all its own, in values of every kind
        return [
            self.number(),
            f"{self.number()}.5",
            f'"{self.number()} # ] \\" }} = ["',
            f"'{self.number()} \\'",
            f'"""{self.number()}\n[decoy]\ndecoy = 1 \\""" ""\n"""',
            f'""""{self.number()}"" \\\n  """"',
            f"'''{self.number()}\\\n[[decoy]] ''\n''''",
            f"1979-05-27 07:32:00.{self.number()}",
        ][kind]

    def items(self, item) -> str:
        """What stands between brackets, with a comma behind the last or not."""
        written = [self.gap() + item() + self.gap() for _ in range(self.rng.randrange(4))]
        return ",".join(written) + ("," + self.gap() if written and self.rng.random() < 0.5 else self.gap())

    def pairs(self) -> list[str]:
        comment = self.rng.choice(["", " # decoy = [", "  "])
        return [
            f"{self.rng.choice(['', '  '])}{self.dotted()} = {self.value()}{comment}"
            for _ in range(self.rng.randrange(4))
        ]

    def text(self) -> str:
        lines = self.pairs()
        for _ in range(self.rng.randrange(5)):
            header = self.dotted()
            if self.rng.random() < 0.5:
                lines += [f"[{header}]", *self.pairs()]
            else:
                for _ in range(self.rng.randint(1, 3)):
                    lines += [f"[[ {header} ]]  # ]]", *self.pairs()]
                    if self.rng.random() < 0.5:
                        lines += [f"[{header}.{self.dotted()}]", *self.pairs()]
            lines += self.rng.choice([[], [""], ["# [decoy]", "# decoy = 1"]])
        return "\n".join(lines)


def leaves(value, above=()):
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, (*above, key))
    else:
        yield above, value


@pytest.mark.parametrize("seed", range(200))
def test_random_documents(seed: int) -> None:
    """Every path has a line; a key's is the first that shows it, and a value's key or element is where it begins."""
    text = Writer(seed).text()
    parsed, lines, found = tomli.loads(text), text.splitlines(), key_lines(text)
    assert set(found) == set(paths(parsed))
    for path, line in found.items():
        if isinstance(path[-1], str):
            token = re.search(r"k\d+", path[-1])
            assert token is not None
            assert line == next(number for number, shown in enumerate(lines, 1) if token.group() in shown)
    for path, value in leaves(parsed):
        number = re.search(r"1\d\d\d", str(value).replace("1979", ""))
        if isinstance(path[-1], int) and number is not None:
            assert number.group() in lines[found[path] - 1]
