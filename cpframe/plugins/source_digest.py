"""Digests of source code: code that is edited is other code, whatever its version says.

What is hashed is the syntax tree without docstrings: comments, docstrings and layout of a file change no digest.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from functools import cache
from hashlib import blake2b
from pathlib import Path

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def source_digest(module: str) -> str:
    """Hash the source of a module, by its name; in a package, of all modules in the same folder.

    So a folder of a package is the unit that counts: an edit in a file changes the digest of every component defined
    beside it, and of none defined in another folder. A module without source has an empty digest.
    """
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return ""
    path = Path(file)
    try:
        return code_digest(path.parent, path.parent.glob("*.py") if "." in module else [path])
    except OSError:
        return ""


def code_digest(root: Path, files: Iterable[Path]) -> str:
    """Hash Python files by their paths below `root` and their code.

    Raises:
        OSError: when one of them cannot be read.
    """
    digest = blake2b(digest_size=16)
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        digest.update(f"{name}\n".encode() + _code(path.read_bytes()) + b"\n")
    return digest.hexdigest()


def _code(source: bytes) -> bytes:
    try:
        return repr(_plain(ast.parse(source))).encode(errors="surrogatepass")
    except (SyntaxError, ValueError):  # no Python that this version reads: then its bytes count
        return source


def _plain(node: object) -> object:
    """Write a syntax tree as tuples that are the same in every version of Python: empty fields are left out."""
    if isinstance(node, list):
        return [_plain(one) for one in node]
    if not isinstance(node, ast.AST):
        return node
    fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
    if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    return (type(node).__name__, *((name, _plain(value)) for name, value in fields.items()))
