"""The examples and tables of plugins/README.md: every module is discovered and exercised, and no table lacks a row."""

from __future__ import annotations

import dataclasses
import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import cpframe.api
from cpframe.api import (
    Batch,
    EpochsCommitted,
    History,
    Probe,
    RunFinished,
    RunStarted,
    StudyRecord,
    TrajectoryRecord,
    classification,
)
from cpframe.errors import SpecError
from cpframe.execution.preflight import preflight
from cpframe.fisher import layers_of
from cpframe.numerics import resolve
from cpframe.plugins import hookspecs
from cpframe.plugins.discovery import Catalogue, discover
from cpframe.spec.reader import read_spec

README = (Path(__file__).parents[2] / "plugins" / "README.md").read_text()
MODULES = dict(re.findall(r"`(\w+)\.py`(?:(?!```).)*?\n\n```python\n(.*?)```", README, re.DOTALL))
DEFICIT, ENTRY_POINT = "[deficits.cornea]", "[project.entry-points.cpframe]"

SPEC = """\
seeds = [0]
dataset = { use = "stripes", size = 6, train = 40, test = 20 }
architecture = { use = "two-layer-cnn", width = 4 }
optimizer = { use = "rmsprop", lr = 0.01, halve_every = 2 }
training.batch_size = 10
protocols = [{ use = "removal", until = [0, 2], recovery = 5 }]
metrics.sparsity = { use = "near-zero", threshold = 0.05 }
observers.log = { use = "csv-log" }
"""


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    """The modules of the README, as plugins with entry points."""
    folder = tmp_path_factory.mktemp("modules")
    for name, source in MODULES.items():
        (folder / f"{name}.py").write_text(source)
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()
    yield discover([EntryPoint(name, name, "cpframe") for name in MODULES])
    sys.path.remove(str(folder))
    for name in MODULES:
        sys.modules.pop(name, None)


def component(catalogue: Catalogue, kind: Any, name: str, **parameters: object) -> Any:
    return catalogue.find(kind, name).component(**parameters)


def toml_block(first_line: str) -> str:
    (block,) = (block for block in re.findall(r"```toml\n(.*?)```", README, re.DOTALL) if block.startswith(first_line))
    return str(block)


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table after a heading, without its two head lines."""
    text = README[README.index(f"\n## {heading}\n") :]
    lines = text[text.index("\n|") + 1 :].partition("\n\n")[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


def test_every_block_of_code_is_a_module_that_offers_a_component(catalogue: Catalogue) -> None:
    assert len(MODULES) == README.count("```python\n") == 6
    assert catalogue.broken == ()
    assert {(offer.kind, offer.name) for offer in catalogue.offers} == {
        ("deficit", "fog"),
        ("architecture", "two-layer-cnn"),
        ("dataset", "stripes"),
        ("optimizer", "rmsprop"),
        ("metric", "near-zero"),
        ("observer", "csv-log"),
    }


def test_a_spec_uses_all_the_examples(catalogue: Catalogue, tmp_path: Path) -> None:
    """The preflight uses each of them once, in the forward and backward passes of a training."""
    path = tmp_path / "spec.toml"
    path.write_text(SPEC + toml_block(DEFICIT))
    spec = read_spec(path, catalogue, None, ())
    (variant,) = spec.variants
    assert variant.deficits["cornea"].call == component(catalogue, "deficit", "fog", density=0.6)
    assert [observer.component.use for observer in spec.observers] == ["csv_log/csv-log"]
    assert preflight(spec, resolve("cpu", "exact"), tmp_path).keys() == {0}
    line = path.read_text().splitlines().index("density = 0.6") + 1
    path.write_text(path.read_text().replace("0.6", "1.5"))
    with pytest.raises(SpecError, match=rf"spec\.toml:{line}: deficits\.cornea\.density: .* at most 1, not 1\.5"):
        read_spec(path, catalogue, None, ())


def test_the_entry_point_names_the_module() -> None:
    points = tomllib.loads(toml_block(ENTRY_POINT))["project"]["entry-points"]["cpframe"]
    assert points == {"fog": "fog"}
    assert "fog" in MODULES


def test_the_deficit_blends_each_image_towards_its_mean(catalogue: Catalogue) -> None:
    fog = component(catalogue, "deficit", "fog", density=0.25)
    inputs = torch.rand(3, 2, 4, 5)
    batch = Batch(inputs, torch.zeros(3, dtype=torch.int64), torch.arange(3), 10)
    expected = torch.stack([0.75 * image + 0.25 * image.mean() for image in inputs])
    # float32: a few units in the last place of numbers below 1
    torch.testing.assert_close(fog(batch, np.random.default_rng(0)).inputs, expected, rtol=0, atol=1e-6)


def test_the_architecture_names_its_layers_and_refuses_other_inputs(catalogue: Catalogue) -> None:
    cnn = component(catalogue, "architecture", "two-layer-cnn", width=5)
    model = cnn((3, 8, 8), 7)
    assert model(torch.rand(2, 3, 8, 8)).shape == (2, 7)
    assert [layer.name for layer in layers_of(model)] == ["filters", "classifier"]
    with pytest.raises(ValueError, match=r"needs images \(C, H, W\), not inputs of shape \(9,\)"):
        cnn((9,), 7)


def test_the_data_set_has_constant_rows_or_columns(catalogue: Catalogue, tmp_path: Path) -> None:
    stripes = component(catalogue, "dataset", "stripes", size=6, train=40)
    splits, again = stripes(tmp_path), stripes(tmp_path)
    assert splits.train_inputs.shape == (40, 1, 6, 6)
    assert splits.test_inputs.shape == (100, 1, 6, 6)
    assert torch.equal(splits.train_inputs, again.train_inputs)
    assert set(splits.train_targets.tolist()) == {0, 1}
    for image, label in zip(splits.train_inputs[:, 0], splits.train_targets, strict=True):
        assert torch.equal(image, image[:1].expand(6, 6) if label == 1 else image[:, :1].expand(6, 6))


def test_the_optimizer_halves_its_rate(catalogue: Catalogue) -> None:
    rmsprop = component(catalogue, "optimizer", "rmsprop", lr=0.1, halve_every=3)
    assert [rmsprop.learning_rate(epoch) for epoch in (0, 2, 3, 6)] == [0.1, 0.1, 0.05, 0.025]
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = rmsprop([weight])
    weight.square().sum().backward()
    optimizer.step()
    assert (weight < 1).all()


def test_the_metric_is_a_share_per_layer(catalogue: Catalogue) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2, bias=False), torch.nn.ReLU(), torch.nn.Linear(2, 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[0.001, -0.5], [-0.002, 0.003]]))
        model[2].weight.copy_(torch.tensor([[1.0, 0.0]]))
    probe = Probe(
        model=model,
        inputs=torch.rand(3, 2),
        targets=torch.zeros(3, dtype=torch.int64),
        layers=layers_of(model),
        task=classification(2),
        rng=np.random.default_rng(0),
    )
    measured = component(catalogue, "metric", "near-zero")(probe)
    assert measured.values == [0.75, 0.5]


def test_the_observer_writes_every_epoch_and_the_scores(catalogue: Catalogue, tmp_path: Path) -> None:
    epochs = np.arange(1, 3)
    curve = np.array([0.25, 0.5])
    history = History(epochs, ("clean",) * 2, curve, curve, curve, curve, curve, epochs[:0], (), {})
    names = ("removal-a", "removal-b")
    trajectories = tuple(
        TrajectoryRecord(name, "removal", "clean", 0, 0, 2, 0, {}, "complete", "", 0.375, history) for name in names
    )
    record = StudyRecord("Tiny", "", 2, {}, "2026", {}, trajectories)
    watcher = component(catalogue, "observer", "csv-log", file="log.csv")(RunStarted(tmp_path, record))
    watcher.epochs_committed(EpochsCommitted("stage", 0, {}, "clean", names, history))
    watcher.run_finished(RunFinished(record, stopped=False))
    curves = [f"{name},{epoch},{accuracy}" for name in names for epoch, accuracy in ((1, "0.2500"), (2, "0.5000"))]
    assert (tmp_path / "log.csv").read_text().splitlines() == curves + [f"{name},score,0.3750" for name in names]
    with pytest.raises(ValueError, match=r"`file` must end in \.csv, not 'log\.txt'"):
        component(catalogue, "observer", "csv-log", file="log.txt")


def test_the_table_of_kinds_names_every_hook() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("cpframe_")}
    assert {row[1].strip("`") for row in table("The kinds of components")} == hooks


def test_the_table_of_types_names_every_parameter_type_of_the_api() -> None:
    named = {name for row in table("Parameters") for name in re.findall(r"\b[A-Z]\w+", row[0])}
    assert {"Count", "Natural", "Positive", "NonNegative", "Fraction"} <= named & set(cpframe.api.__all__)


def test_the_table_of_bundled_components_is_complete() -> None:
    listed = {(kind, name.strip("`")): parameters for kind, name, parameters, _ in table("Bundled components")}
    offers = {(offer.kind, offer.name): offer.component for offer in discover().offers if offer.package == "cpframe"}
    assert listed.keys() == offers.keys()
    for key, offered in offers.items():
        names = [f"`{field.name}`" for field in dataclasses.fields(offered) if field.init]
        assert listed[key] == ", ".join(names), key
