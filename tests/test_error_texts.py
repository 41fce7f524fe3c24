"""Every error text of cpframe and its plugins stands in one golden file, where it was reviewed line by line.

The texts are read from the source: the arguments of exceptions, problems, warnings, and functions that make one; texts
assigned to a variable for a reason; pairs of key and text that checks yield; what is added to a caught error; and
tables of words. A variable stands for the texts assigned to it in the same function, and a call of a function of one
expression for the text that it returns. After a change, run this file as a script, and read the lines that changed.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "cpframe" / "golden" / "errors.txt"
MAKERS = {"Problem": 2, "problem": 1, "_fail": 0, "StageWarning": 1, "_print": 0}
"""The functions that make a message, and the number of their arguments before the text."""
REASONS = {"why", "reason", "message", "problem", "suffix"}
TABLES = {"_EXPECTED", "_PLAIN"}

Texts = dict[str, list[ast.expr]]


def templates(expression: ast.expr, texts: Texts, seen: frozenset[str] = frozenset()) -> list[str]:
    """The texts that an expression can be, with `{...}` for what is put in."""
    match expression:
        case ast.Constant(value=str(text)):
            return [text]
        case ast.JoinedStr(values=parts):
            found = [""]
            for part in parts:
                if isinstance(part, ast.Constant):
                    inner = [str(part.value)]
                else:
                    assert isinstance(part, ast.FormattedValue)
                    inner = (
                        templates(part.value, texts, seen)
                        if is_text(part.value)
                        else [f"{{{ast.unparse(part.value)}}}"]
                    )
                found = [text + end for text in found for end in inner]
            return found
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            starts, ends = templates(left, texts, seen), templates(right, texts, seen)
            return [start + end for start in starts for end in ends]
        case ast.IfExp(body=body, orelse=orelse):
            return templates(body, texts, seen) + templates(orelse, texts, seen)
        case ast.Name(id=name) if name in texts and name not in seen:
            return [text for value in texts[name] for text in templates(value, texts, seen | {name})]
        case ast.Call(func=ast.Name(id=name)) if f"{name}()" in texts:
            return [text for value in texts[f"{name}()"] for text in templates(value, {}, seen)]
    return [f"{{{ast.unparse(expression)}}}"]


def is_text(expression: ast.expr) -> bool:
    return isinstance(expression, ast.IfExp | ast.JoinedStr)


def is_sentence(text: str) -> bool:
    """Return whether a text has a word outside its ``{...}``; otherwise it only passes other texts on."""
    outside, depth = "", 0
    for letter in text:
        depth += (letter == "{") - (letter == "}")
        outside += letter if depth == 0 else ""
    return bool(re.search("[A-Za-z]{3}", outside))


def assigned(function: ast.AST) -> Texts:
    """Every value assigned to a name in a function, or added to it."""
    found: Texts = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, []).append(node.value)
    return found


def returned(tree: ast.Module) -> Texts:
    """The returned expression of each function that has no other statement, as ``name()``."""
    found: Texts = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and isinstance(node.body[-1], ast.Return) and len(node.body) == 1:
            value = node.body[-1].value
            found[f"{node.name}()"] = [] if value is None else [value]
    return found


def arguments(call: ast.Call) -> list[ast.expr]:
    """The arguments of a call that can be texts of an error; none if the call does not make one."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in MAKERS:
        return call.args[MAKERS[name] :]
    if name[:1].isupper() and name.endswith(("Error", "BadParameter")):
        return [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg != "param_hint")]
    if name == "append" and isinstance(call.args[0], ast.Tuple):
        return call.args[0].elts[1:]
    return []


def expressions(node: ast.AST) -> list[ast.expr]:
    """The expressions of a statement or call whose values are texts of errors."""
    match node:
        case ast.Call():
            return arguments(node)
        case ast.Yield(value=ast.Tuple(elts=[_, text])):
            return [text]
        case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in REASONS:
            return [value]
        case ast.JoinedStr(values=[ast.FormattedValue(value=ast.Name(id="error")), *_]):
            return [node]
    return []


def texts_of(path: Path) -> Iterator[str]:
    """The error texts of a module."""
    tree = ast.parse(path.read_text())
    for name, values in assigned(tree).items():
        for table in values:
            if name in TABLES and isinstance(table, ast.Dict):
                yield from (text for value in table.values for text in templates(value, {}))
    helpers = returned(tree)
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        nested = {
            id(inner)
            for other in ast.walk(function)
            if isinstance(other, ast.FunctionDef) and other is not function
            for inner in ast.walk(other)
        }
        known = assigned(function) | helpers
        for node in ast.walk(function):
            for expression in [] if id(node) in nested else expressions(node):
                yield from (" ".join(text.split()) for text in templates(expression, known) if is_sentence(text))


def golden_text() -> str:
    blocks = []
    for folder in ("cpframe", "plugins/cpframe_plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            texts = sorted(set(texts_of(path)))
            if texts:
                blocks.append(f"{path.relative_to(ROOT).as_posix()}\n" + "".join(f"    {text}\n" for text in texts))
    return "\n".join(blocks)


def test_every_error_text_is_in_the_golden_file() -> None:
    assert golden_text() == GOLDEN.read_text(), (
        "an error text has changed: run python tests/test_error_texts.py, read the change"
    )


if __name__ == "__main__":
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(golden_text())
