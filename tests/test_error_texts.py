"""Every error text of cpframe and its plugins stands in one golden file, where it was reviewed line by line.

The texts are read from the source: what is passed to an exception, a `Problem`, or a function that makes one. Where a
variable is passed, the texts assigned to it in the same function count. After a change, run this file as a script,
and read the lines that changed.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "cpframe" / "golden" / "errors.txt"
MAKERS = {"Problem", "problem", "_fail"}


def templates(expression: ast.expr, texts: dict[str, list[ast.expr]], seen: frozenset[str] = frozenset()) -> list[str]:
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
    return [f"{{{ast.unparse(expression)}}}"]


def is_text(expression: ast.expr) -> bool:
    return isinstance(expression, ast.IfExp | ast.JoinedStr)


def assigned(function: ast.AST) -> dict[str, list[ast.expr]]:
    """Every value assigned to a name in a function, and the starting value of what is added to."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    found.setdefault(target.id, []).append(node.value)
        elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            found.setdefault(node.target.id, []).append(node.value)
    return found


def calls(tree: ast.Module) -> Iterator[tuple[ast.Call, dict[str, list[ast.expr]]]]:
    """Every call that makes an error, with the texts known in its function."""
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    for function in functions:
        nested = {
            id(inner)
            for one in ast.walk(function)
            if isinstance(one, ast.FunctionDef) and one is not function
            for inner in ast.walk(one)
        }
        texts = assigned(function)
        for node in ast.walk(function):
            if id(node) in nested or not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in MAKERS or (name.endswith(("Error", "BadParameter")) and name[:1].isupper()):
                yield node, texts


def texts_of(path: Path) -> Iterator[str]:
    """The error texts of a module: those of calls, and those of the pairs of key and text that checks yield."""
    for call, known in calls(ast.parse(path.read_text())):
        arguments = [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg != "param_hint")]
        choices = [
            [text.strip() for text in templates(argument, known) if " " in text.strip()] for argument in arguments
        ]
        for found in choices:
            for text in found:
                if not text.startswith("{["):  # a list of problems, whose own texts are found
                    yield " ".join(text.split())


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
