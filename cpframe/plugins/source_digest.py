"""Digests of source code, so that edited code is recognised even if its version stays the same.

The digest is that of the syntax tree without docstrings: comments, docstrings and layout of a file do not change it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from types import ModuleType

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


_IMPORTED: dict[str, tuple[ModuleType | None, str]] = {}
"""The digests of modules as they were imported, with the module: a module that is imported anew has another digest."""


def source_digest(module: str) -> str:
    """Return the digest that a module's source had when it was first asked for, which is right after its import.

    A process that lives on after an edit still runs the code that it imported: compare with `current_digest`.
    """
    loaded = sys.modules.get(module)
    if module not in _IMPORTED or _IMPORTED[module][0] is not loaded:
        _IMPORTED[module] = loaded, current_digest(module)
    return _IMPORTED[module][1]


def current_digest(module: str) -> str:
    """Return the digest of a module's source; in a package, of all modules in the same folder.

    The unit is a folder of a package: an edit of a file changes the digest of every component that is defined in the
    same folder, and of none that is defined in another folder. A module without source has an empty digest.

    Args:
        module: the name of the module.
    """
    loaded = sys.modules.get(module)
    file = getattr(loaded, "__file__", None)
    if file is None:
        return ""
    path = Path(file)
    in_package = "." in module or hasattr(loaded, "__path__")
    try:
        return code_digest(path.parent, path.parent.glob("*.py") if in_package else [path])
    except OSError:
        return ""


def code_digest(root: Path, files: Iterable[Path]) -> str:
    """Return the digest of Python files: of their paths relative to `root` and their code.

    Raises:
        OSError: when a file cannot be read.
    """
    digest = blake2b(digest_size=16)
    for name, path in sorted((path.relative_to(root).as_posix(), path) for path in files):
        digest.update(f"{name}\n".encode() + _code(path.read_bytes()) + b"\n")
    return digest.hexdigest()


def _code(source: bytes) -> bytes:
    try:
        return repr(_plain(ast.parse(source))).encode(errors="surrogatepass")
    except (SyntaxError, ValueError):  # this version of Python cannot parse it: hash its bytes
        return source


def _plain(node: object) -> object:
    """Return a syntax tree as tuples, without empty fields, which differ between versions of Python."""
    if isinstance(node, list):
        return [_plain(item) for item in node]
    if not isinstance(node, ast.AST):
        return node
    fields = {name: value for name, value in ast.iter_fields(node) if value is not None and value != []}
    if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    return (type(node).__name__, *((name, _plain(value)) for name, value in fields.items()))
