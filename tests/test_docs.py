"""Every command in a README is run, in the order of the text, on small versions of the specs that it names."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpframe.testing.command import command_environment

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "cpframe/fisher/README.md",
    "cpframe/report/README.md",
    "cpframe/store/README.md",
    "plugins/README.md",
    "specs/README.md",
]
SHELLS = {"", "sh", "shell", "bash", "console"}
TINY = [
    "dataset={ use = 'digits', train = 60 }",
    "architecture={ use = 'mlp', sizes = [8] }",
    "seeds=[0, 1]",
    "score_epochs=1",
]
"""What is set in every spec; the protocols are shortened as well."""


def commands(text: str) -> Iterator[str]:
    """The lines of shell in the code blocks of a document, and the whole commands of cpframe in its sentences."""
    lines = iter(text.splitlines())
    before_is_text = False
    for line in lines:
        if line.startswith("```"):
            language = line.removeprefix("```").strip()
            block = list(iter(lambda: next(lines), "```"))
            if language in SHELLS:
                yield from block
        elif line.startswith("    ") and not before_is_text:
            if line.strip():
                yield line.strip()
            continue
        else:
            for inline in re.findall(r"`(cpframe [^`]+)`", line):
                if not re.search(r"\b(SPEC|RESULTS|DIR)\b|\.\.\.|…", inline):
                    yield inline
        before_is_text = bool(line.strip()) and not line.startswith("#") and not line.startswith("```")
    return


def steps(document: str) -> list[str]:
    """The single commands of a document, without comments and without what cannot be a command."""
    found = []
    for line in commands((ROOT / document).read_text(encoding="utf-8")):
        bare = re.sub(r"\s+(#|> ).*$", "", line).removeprefix("$ ").replace("NAME", "flip_vs_blur")
        first = bare.split(maxsplit=1)[0] if bare.split() else ""
        if first in PROGRAMS:
            found += [part.strip() for part in bare.split("&&")]
    return found


def shorten(source: Path, target: Path) -> None:
    """Write a spec with the same deficits, metrics and kinds of protocol, which trains in seconds."""
    tables = tomllib.loads(source.read_text())
    protocols = [
        {"use": "removal", "until": [0, 1], "recovery": 2}
        if protocol["use"] == "removal"
        else {"use": "sliding", "onsets": [0, 1], "length": 1, "epochs": 3}
        for protocol in tables["protocols"]
    ]
    names = [name for name, table in tables["deficits"].items() if table["use"] in ("blur", "noise", "idle")][:2]
    text = [f'title = "{tables.get("title", source.stem)}"', *(re.sub("=", " = ", one, count=1) for one in TINY)]
    text += ['optimizer = { use = "sgd", lr = 0.05 }']
    sizes = {name: ", size = 2" if tables["deficits"][name]["use"] == "blur" else "" for name in names}
    text += [f'deficits.{name} = {{ use = "{tables["deficits"][name]["use"]}"{sizes[name]} }}' for name in names]
    text += [] if names else ['deficits.blur = { use = "blur", size = 2 }']
    text += [
        'metrics.fisher = { use = "fisher-trace", inputs = 8 }',
        'metrics.gradient = { use = "gradient", inputs = 8 }',
    ]
    for protocol in protocols:
        text += ["[[protocols]]", *(f"{key} = {value!r}" for key, value in protocol.items())]
    text += [f"[profiles.{name}]\nseeds = [0, 1, 2]" for name in tables.get("profiles", {})]
    target.write_text("\n".join(text) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder like a checkout, with small specs, and the results of the quickstart."""
    made = tmp_path_factory.mktemp("checkout")
    (made / "specs").mkdir()
    for spec in (ROOT / "specs").glob("*.toml"):
        shorten(spec, made / "specs" / spec.name)
    run("cpframe run specs/quickstart.toml", made)
    return made


def run(command: str, folder: Path) -> None:
    words = shlex.split(command)
    environment: dict[str, str] = {}
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        key, _, value = words.pop(0).partition("=")
        environment[key] = value
    PROGRAMS[words[0]](words, folder, environment)


def run_cpframe(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    if words[1:] and words[1:][-1] in ("run", "plan", "report", "plot", "export", "fisher"):  # a command by its name
        words = [*words, "--help"]
    done = subprocess.run(
        [sys.executable, "-m", "cpframe", *words[1:]],
        cwd=folder,
        env={**os.environ, "COLUMNS": "100", "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, f"{shlex.join(words)}\n{done.stderr}"


def check_pip(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    """What is installed is this project, with extras that it has; `.ci/run` installs it."""
    assert words[1:2] == ["install"], words
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for word in words[2:]:
        name, _, extras = word.partition("[")
        assert name in ("-e", ".", project["name"]), words
        for extra in filter(None, extras.rstrip("]").split(",")):
            assert extra in project["optional-dependencies"], words


def check_ci(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    """A check of the whole project is one that `.ci/run` runs; the files that it names exist."""
    script = (ROOT / ".ci" / "run").read_text()
    assert words[0] in script, words
    assert all((ROOT / word).exists() for word in words[1:] if "/" in word), words


def check_python(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    assert words[1] in ("-m", "tests/test_error_texts.py") or (ROOT / words[1]).is_file(), words


def check_help(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    """A server is not started: it is asked for its help."""
    assert shutil.which(words[0]), words


def ignore(words: list[str], folder: Path, environment: dict[str, str]) -> None:
    """A command for what is there before any of ours."""


PROGRAMS = {
    "cpframe": run_cpframe,
    "pip": check_pip,
    "pytest": check_ci,
    "ruff": check_ci,
    "mypy": check_ci,
    "lint-imports": check_ci,
    "python": check_python,
    "tensorboard": check_help,
    "mlflow": check_help,
    "git": ignore,
    "cd": ignore,
    ".": ignore,
    "CPFRAME_DATA=DIR": ignore,
    "OMP_NUM_THREADS=1": ignore,
}


PLACES = {command: document for document in reversed(DOCUMENTS) for command in reversed(steps(document))}
"""Every command, with the first document that has it; a later one need not run it again."""


def needed_extras(command: str) -> list[str]:
    """Return the extras whose packages a command imports; its help needs none."""
    words = shlex.split(command)
    extras = {"plot": "plot", "--html": "plot", "export": "export", "tensorboard": "tensorboard", "mlflow": "mlflow"}
    started = words if words[0] in extras else words[:-1]
    return [] if words[0] == "pip" else sorted({extras[word] for word in started if word in extras})


# Commands use the files of earlier ones: all have the mark, so that `-m needs_extra` selects all of them.
@pytest.mark.parametrize(
    ("document", "command"),
    [
        pytest.param(document, command, marks=pytest.mark.needs_extra(*needed_extras(command)))
        for command, document in reversed(PLACES.items())
    ],
)
def test_a_command_of_the_documentation_works(document: str, command: str, folder: Path) -> None:
    run(command, folder)


@pytest.mark.needs_extra("notebook")
def test_the_python_example_of_the_readme_runs(folder: Path) -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").split("\n## In Python\n")[1]
    code = section.split("```python\n")[1].split("```")[0]
    code += 'assert len(table) == len(results.study.trajectories) > 0\nassert set(table["status"]) == {"complete"}\n'
    environment = command_environment(HOME=str(folder))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "epochs" in done.stdout


def test_all_documents_are_there_and_have_commands() -> None:
    assert all(steps(document) for document in DOCUMENTS if document not in ("cpframe/store/README.md",))


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
