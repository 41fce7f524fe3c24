"""The API for plugin authors: its public names, and the attributes that a component may have or not."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from torch import nn

from cpframe import api
from cpframe.api import components, data, events, optional, parameters
from cpframe.api.optional import data_fingerprint, declares_layers, is_deterministic, is_idle


def test_all_types_for_authors_can_be_imported_from_the_package() -> None:
    """Every class and parameter type of its modules; functions of `optional` are for the engine alone."""
    own = {
        name
        for module in (components, data, events, optional)
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__ == module.__name__
    }
    own |= {name for name in vars(parameters) if name[0].isupper() and name not in ("Annotated", "Field")}
    own |= {name for name in vars(components) if name.endswith("s") and name[0].isupper()}
    assert own <= set(api.__all__)
    assert {"hookimpl", "classification", "Generator", "History", "MetricHistory", "StudyRecord"} <= set(api.__all__)
    assert all(hasattr(api, name) for name in api.__all__)


def test_the_package_is_imported_without_torch() -> None:
    code = "import sys, cpframe.api; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@dataclass(frozen=True)
class Plain:
    def __call__(self, batch, rng):
        return batch


@dataclass(frozen=True)
class ByClass(Plain):
    idle: ClassVar[bool] = True
    deterministic: ClassVar[bool] = True


@dataclass(frozen=True)
class ByField(Plain):
    idle: bool = True
    deterministic: bool = True


@dataclass(frozen=True)
class ByProperty(Plain):
    strength: float = 0.0

    @property
    def idle(self) -> bool:
        return self.strength == 1

    @property
    def deterministic(self) -> bool:
        return self.strength == 1


@pytest.mark.parametrize(
    ("deficit", "expected"),
    [
        (Plain(), False),
        (ByClass(), True),
        (ByField(), True),
        (ByField(idle=False, deterministic=False), False),
        (ByProperty(), False),
        (ByProperty(1), True),
    ],
)
def test_idle_and_deterministic_may_be_missing_or_an_attribute_of_any_sort(deficit, expected: bool) -> None:
    assert is_idle(deficit) is is_deterministic(deficit) is expected


@dataclass(frozen=True)
class Files(Plain):
    name: str = "a"

    def fingerprint(self, folder: Path) -> str:
        return f"{folder.name}/{self.name}"


def test_the_fingerprint_is_empty_without_the_method() -> None:
    assert data_fingerprint(Plain(), Path("data")) == ""
    assert data_fingerprint(Files("b"), Path("data")) == "data/b"


class Declared(nn.Module):
    def layers(self):
        return {}


def test_only_a_method_declares_layers() -> None:
    with_submodule = nn.Module()
    with_submodule.layers = nn.ModuleList()
    assert [declares_layers(model) for model in (nn.Linear(1, 1), with_submodule, Declared())] == [False, False, True]
