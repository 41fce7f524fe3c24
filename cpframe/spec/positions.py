"""Where each key of a TOML text stands: its line, by its path.

The parser (tomli) checks the text but does not say where a key was. This reads the same text, known to be valid
TOML 1.1, only for its keys.
"""

from __future__ import annotations

import re
from itertools import count
from typing import NamedTuple

import tomli

KeyPath = tuple[str | int, ...]

_TOKEN = re.compile(
    r"""(?P<comment>\#[^\n]*)
      | (?P<string>\"{3}(?:\\.|[^\\])*?\"{3,5}|'{3}.*?'{3,5}|"(?:\\.|[^"\\\n])*"|'[^'\n]*')
      | (?P<newline>\n)
      | (?P<mark>[\[\]{}=,.])
      | (?P<bare>[^\s\[\]{}=,.\#"']+)""",
    re.VERBOSE | re.DOTALL,
)


class _Token(NamedTuple):
    text: str
    line: int


def _tokens(text: str) -> list[_Token]:
    found = []
    line, seen = 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", seen, match.start())
        seen = match.start()
        if match.lastgroup != "comment":
            found.append(_Token(match.group(), line))
    return [*found, _Token("\n", line)]


def key_lines(text: str) -> dict[KeyPath, int]:
    """Map the path of every table, key and array element to its line.

    Args:
        text: valid TOML.

    Returns:
        Line numbers from 1, by path; the elements of arrays and arrays of tables are numbered from 0.
    """
    tokens = _tokens(text)
    lines: dict[KeyPath, int] = {}
    arrays: dict[KeyPath, int] = {}
    table: KeyPath = ()
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token.text == "\n":
            at += 1
        elif token.text == "[":
            double = tokens[at + 1].text == "["
            key, at = _key(tokens, at + 1 + double)
            table = _resolve(key[:-1], arrays) + key[-1:]
            if double:
                arrays[table] = arrays.get(table, -1) + 1
            if table in arrays:
                lines.setdefault(table, token.line)
                table += (arrays[table],)
            for depth in range(1, len(table) + 1):
                lines.setdefault(table[:depth], token.line)
            at += 1 + double
        else:
            at = _pair(tokens, at, table, lines)
    return lines


def _resolve(path: KeyPath, arrays: dict[KeyPath, int]) -> KeyPath:
    """Put the number of the current element behind every array of tables on the way."""
    resolved: KeyPath = ()
    for part in path:
        resolved += (part,)
        if resolved in arrays:
            resolved += (arrays[resolved],)
    return resolved


def _key(tokens: list[_Token], at: int) -> tuple[KeyPath, int]:
    parts: list[str] = []
    while tokens[at].text not in ("=", "]"):
        text = tokens[at].text
        if text != ".":
            parts.append(tomli.loads(f"key = {text}")["key"] if text[0] in "\"'" else text)
        at += 1
    return tuple(parts), at


def _pair(tokens: list[_Token], at: int, table: KeyPath, lines: dict[KeyPath, int]) -> int:
    line = tokens[at].line
    key, at = _key(tokens, at)
    for depth in range(1, len(key) + 1):
        lines.setdefault(table + key[:depth], line)
    return _value(tokens, at + 1, table + key, lines)


def _value(tokens: list[_Token], at: int, path: KeyPath, lines: dict[KeyPath, int]) -> int:
    opening = tokens[at].text
    if opening not in ("[", "{"):
        while tokens[at].text not in ("\n", ",", "]", "}"):
            at += 1
        return at
    at += 1
    for number in count():
        while tokens[at].text in ("\n", ","):
            at += 1
        if tokens[at].text in ("]", "}"):
            break
        if opening == "[":
            lines[(*path, number)] = tokens[at].line
            at = _value(tokens, at, (*path, number), lines)
        else:
            at = _pair(tokens, at, path, lines)
    return at + 1
