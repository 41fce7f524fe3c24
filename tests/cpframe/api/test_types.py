"""The plugin seam is typed: mypy --strict accepts the right uses of components, and reports the wrong ones."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import cpframe

pytestmark = pytest.mark.needs_extra("dev")

CONFIG = """\
[mypy]
strict = true
mypy_path = {root}
[mypy-torch.*,torchvision.*,pydantic.*,pydantic_core.*]
follow_imports = skip
[mypy-h5py.*]
ignore_missing_imports = true
"""

HEAD = """\
from dataclasses import dataclass, replace
from pathlib import Path

from cpframe import api
from cpframe.api.optional import data_fingerprint, is_idle
from cpframe.plugins.discovery import Catalogue
from cpframe.plugins.kinds import DEFICIT, METRIC
from cpframe.spec.model import Component, Metric, MetricSchedule, Spec, Variant
from cpframe.training.conditions import Condition, load_deficit
from cpframe.training.data import DeviceData, load


@dataclass(frozen=True)
class Fog:
    density: api.Fraction = 0.8
    deterministic = True

    def __call__(self, batch: api.Batch, rng: api.Generator) -> api.Batch:
        return batch


@dataclass(frozen=True)
class Norm:
    def __call__(self, probe: api.Probe) -> api.Measurement:
        return api.Measurement(1.0)


@dataclass(frozen=True)
class Files:
    path: str

    def __call__(self, folder: Path) -> api.Splits:
        raise api.DataError("none")

    def fingerprint(self, folder: Path) -> str:
        return self.path


@api.hookimpl
def cpframe_deficits() -> api.Deficits:
    return {"fog": Fog}


"""

RIGHT = """\
def right(variant: Variant, folder: Path, batch: api.Batch, rng: api.Generator, found: Catalogue) -> None:
    splits: api.Splits = variant.dataset.call(folder)
    data: DeviceData = load(variant.dataset.call, folder, "cpu")
    rate: float = variant.optimizer.call.learning_rate(0)
    deficit: api.Deficit = load_deficit(variant.deficits["fog"].call, folder)
    seen: api.Batch | None = deficit(batch, rng)
    fog: Component[Fog] = Component("fog/fog", "1", Fog())
    replace(variant, deficits={"fog": fog}, dataset=Component("a/files", "1", Files("x")))
    Metric("norm", Component("a/norm", "1", Norm()), MetricSchedule())
    metric: type[api.Metric] = found.find(METRIC, "norm").component
    idle: bool = is_idle(fog.call)
    text: str = data_fingerprint(variant.dataset.call, folder)
"""

WRONG = {
    "variant.dataset.call(3)": 'Argument 1 to "__call__" of "Dataset" has incompatible type "int"; expected "Path"',
    "variant.dataset.call(folder).images": '"Splits" has no attribute "images"',
    "variant.architecture.call((3, 32, 32))": 'Missing positional argument "outputs" in call to "__call__"',
    'variant.optimizer.call.learning_rate("x")': 'to "learning_rate" of "Optimizer" has incompatible type "str"',
    "variant.deficits['fog'].call(batch, rng)": '"DeficitWithData" not callable',
    "load_deficit(variant.deficits['fog'].call, folder)(batch)": (
        'Missing positional argument "rng" in call to "__call__"'
    ),
    "load_deficit(variant.dataset.call, folder)": 'Argument 1 to "load_deficit" has incompatible type "Dataset"',
    'Condition("fog", Norm())': 'Argument 2 to "Condition" has incompatible type "Norm"; expected "Deficit | None"',
    'load(Fog(), folder, "cpu")': 'Argument 1 to "load" has incompatible type "Fog"; expected "Dataset"',
    'load(variant.dataset.call, "cpu", folder)': 'Argument 2 to "load" has incompatible type "str"; expected "Path"',
    'Metric("fog", Component("fog/fog", "1", Fog()), MetricSchedule())': 'incompatible type "Fog"; expected "Metric"',
    'replace(variant, deficits={"norm": Component("a/norm", "1", Norm())})': 'has incompatible type "Norm"; expected',
    "spec.metrics[0].component.call(batch)": 'of "Metric" has incompatible type "Batch"; expected "Probe"',
    "spec.observers[0].component.call(batch)": 'to "__call__" of "Observer" has incompatible type "Batch"',
    "x: type[api.Deficit] = found.find(METRIC, 'fog').component": 'expression has type "type[Metric]"',
    "found.find('deficit', 'fog')": 'Argument 1 to "find" of "Catalogue" has incompatible type "str"',
    "is_idle(variant.dataset.call)": 'Argument 1 to "is_idle" has incompatible type "Dataset"',
    "data_fingerprint(spec.metrics[0].component.call, folder)": 'to "data_fingerprint" has incompatible type',
    "offers: api.Metrics = {'fog': Fog}": 'Dict entry 0 has incompatible type "str": "type[Fog]"',
}


@pytest.fixture(scope="module")
def errors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """The errors that mypy reports in one file with all uses, by the line of code."""
    folder = tmp_path_factory.mktemp("types")
    parameters = "variant: Variant, spec: Spec, folder: Path, batch: api.Batch, rng: api.Generator, found: Catalogue"
    wrong = [f"def wrong_{number}({parameters}) -> None:\n    {code}\n" for number, code in enumerate(WRONG)]
    (folder / "uses.py").write_text(HEAD + RIGHT + "".join(wrong))
    (folder / "mypy.ini").write_text(CONFIG.format(root=Path(cpframe.__file__).parents[1]))
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", "cache", "uses.py"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    lines = (folder / "uses.py").read_text().splitlines()
    reported: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if match := re.match(r"(.*):(\d+): error: (.*)", line):
            assert match[1] == "uses.py", line
            reported.setdefault(lines[int(match[2]) - 1].strip(), []).append(match[3])
    assert reported, done.stdout + done.stderr
    return reported


@pytest.mark.parametrize("code", WRONG)
def test_a_wrong_use_is_an_error(code: str, errors: dict[str, list[str]]) -> None:
    assert WRONG[code] in " ".join(errors[code])


def test_right_uses_and_components_that_inherit_nothing_have_no_error(errors: dict[str, list[str]]) -> None:
    assert errors.keys() == WRONG.keys()
