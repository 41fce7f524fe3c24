"""The positions of keys in a TOML text: the line of each, by its path.

The parser (tomli) validates a text but gives no positions. This module reads the same text, which is known to be valid
TOML 1.1, for its keys alone.
"""

from __future__ import annotations

import re
from itertools import count
from typing import NamedTuple

import tomli

KeyPath = tuple[str | int, ...]
"""A path to a key: keys of tables, and numbers of array elements from 0."""

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
    tokens = []
    line, seen = 1, 0
    for match in _TOKEN.finditer(text):
        line += text.count("\n", seen, match.start())
        seen = match.start()
        if match.lastgroup != "comment":
            tokens.append(_Token(match.group(), line))
    return [*tokens, _Token("\n", line)]


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line of every table, key and array element.

    Args:
        text: valid TOML.

    Returns:
        Line numbers from 1, by path.
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
            key, at = _read_key(tokens, at + 1 + double)
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
            at = _read_pair(tokens, at, table, lines)
    return lines


def _resolve(path: KeyPath, arrays: dict[KeyPath, int]) -> KeyPath:
    """Insert the number of the current element after every array of tables in the path."""
    resolved: KeyPath = ()
    for part in path:
        resolved += (part,)
        if resolved in arrays:
            resolved += (arrays[resolved],)
    return resolved


def _read_key(tokens: list[_Token], at: int) -> tuple[KeyPath, int]:
    parts: list[str] = []
    while tokens[at].text not in ("=", "]"):
        text = tokens[at].text
        if text != ".":
            parts.append(tomli.loads(f"key = {text}")["key"] if text[0] in "\"'" else text)
        at += 1
    return tuple(parts), at


def _read_pair(tokens: list[_Token], at: int, table: KeyPath, lines: dict[KeyPath, int]) -> int:
    line = tokens[at].line
    key, at = _read_key(tokens, at)
    for depth in range(1, len(key) + 1):
        lines.setdefault(table + key[:depth], line)
    return _read_value(tokens, at + 1, table + key, lines)


def _read_value(tokens: list[_Token], at: int, path: KeyPath, lines: dict[KeyPath, int]) -> int:
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
            at = _read_value(tokens, at, (*path, number), lines)
        else:
            at = _read_pair(tokens, at, path, lines)
    return at + 1
