"""Deficits that need data of their own, from the spec to the results: parameters, preflight, training and errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from cpframe.api import Batch, DataError, Generator
from cpframe.errors import SpecError
from cpframe.execution.preflight import preflight
from cpframe.numerics import prepare
from cpframe.plan.identity import component_facts, with_data
from cpframe.plan.stages import Study, plan
from cpframe.plugins.discovery import discover
from cpframe.records.model import StudyRecord
from cpframe.spec.model import Component, Spec
from cpframe.spec.reader import read_spec
from cpframe.store import read_stage
from cpframe.testing.training import EXACT, make_workspace, train_study
from cpframe.training import conditions

CATALOGUE = discover()
SPEC = """
title = "Small"
seeds = [0]
score_epochs = 1
[dataset]
use = "digits"
train = 60
[architecture]
use = "mlp"
sizes = [16]
[optimizer]
use = "sgd"
lr = 0.05
[training]
batch_size = 20
[deficits.coarse]
use = "coarse-labels"
groups = [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
[deficits.turned]
use = "rotation"
[deficits.other]
use = "other-images"
dataset = { use = "image-folder", path = "own" }
[[protocols]]
use = "removal"
until = [0, 2, 4]
recovery = 2
"""


@pytest.fixture(autouse=True)
def exact() -> None:
    prepare(EXACT)
    conditions._load_deficit.cache_clear()  # each test has its own folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of colour images, 6 x 6 pixels."""
    for label in range(2):
        for number in range(5):
            pixels = np.random.default_rng([label, number]).integers(256, size=(6, 6, 3), dtype=np.uint8)
            for part in ("train", "test"):
                path = tmp_path / "own" / part / f"class{label}" / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path


def spec_of(folder: Path, *overrides: str, text: str = SPEC) -> Spec:
    (folder / "small.toml").write_text(text)
    return read_spec(folder / "small.toml", CATALOGUE, None, overrides)


def plan_study(folder: Path, *overrides: str) -> Study:
    return plan(with_data(spec_of(folder, *overrides), folder), {})


def run(study: Study, folder: Path, data: Path) -> StudyRecord:
    return train_study(study, make_workspace(folder, data))


# --- the spec -------------------------------------------------------------------------------------------------------


def problems(old: str, new: str, folder: Path) -> list[str]:
    assert SPEC.count(old) == 1
    with pytest.raises(SpecError) as caught:
        spec_of(folder, text=SPEC.replace(old, new))
    return [re.sub(r"^.*?small\.toml:\d+: ", "", str(problem)) for problem in caught.value.problems]


GROUPS = "groups = [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]"
DATASET = 'dataset = { use = "image-folder", path = "own" }'


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (GROUPS, "groups = 1", "deficits.coarse.groups: must be at least 2 or an array, not 1"),
        (GROUPS, "groups = '2'", 'deficits.coarse.groups: must be a whole number or an array, not "2"'),
        (GROUPS, "groups = [[0], [-1]]", "deficits.coarse.groups[1][0]: must be at least 0, not -1"),
        (GROUPS, "groups = [[0, 1]]", "deficits.coarse.groups: `groups` must contain at least two groups, each with at "
                                      "least one class number"),
        (GROUPS, "groups = [[0, 1], []]", "deficits.coarse.groups: `groups` must contain at least two groups, each "
                                          "with at least one class number"),
        (GROUPS, "groups = [[0, 1], [2, 1]]", "deficits.coarse.groups: `groups` must contain each class once; class 1 "
                                              "is repeated"),
        (DATASET, "", "deficits.other.dataset: is missing"),
        (DATASET, "dataset = 'mnist'", "deficits.other.dataset: must be a table with a name, "
                                       '{ use = "digits", ... }; known names: '),
        (DATASET, "dataset = { use = 'mnits' }", "deficits.other.dataset.use: unknown name 'mnits'; did you "
                                                 "mean 'mnist'? Known names: 'cifar10', 'cifar100', "
                                                 "'digits', 'fashion-mnist', 'image-folder', 'mnist'"),
        (DATASET, "dataset = { use = 'mnist', path = 'x' }", "deficits.other.dataset.path: unknown key; "
                                                             "known keys: 'train', 'use'"),
        (DATASET, "dataset = { use = 'image-folder' }", "deficits.other.dataset.path: is missing"),
        (DATASET, "dataset = { use = 'cifar10', train = 0 }", "deficits.other.dataset.train: must be at least 1, "
                                                              "not 0"),
    ],
)  # fmt: skip
def test_invalid_parameters(old: str, new: str, expected: str, tmp_path: Path) -> None:
    problem = problems(old, new, tmp_path)[-1]
    assert problem[: len(expected)] == expected


@pytest.mark.parametrize("use", ["digits", "mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_every_bundled_data_set_can_be_named_in_a_spec(use: str, tmp_path: Path) -> None:
    spec = spec_of(tmp_path, f"deficits.other.dataset={{ use = '{use}', train = 20 }}")
    chosen = spec.variants[0].deficits["other"].call.dataset
    assert (chosen.use, chosen.train, chosen.dataset.train) == (use, 20, 20)
    assert type(chosen.dataset) is CATALOGUE.find("dataset", use).component


# --- trained --------------------------------------------------------------------------------------------------------


def test_a_transfer_study_is_trained_and_a_branch_equals_a_whole_run(folder: Path) -> None:
    assert preflight(spec_of(folder), EXACT, folder)[0].idle == frozenset()
    record = run(plan_study(folder), folder, folder)
    assert {one.status for one in record.trajectories} == {"complete"}
    assert record.deficits["other"] == "cpframe/other-images"
    clean = next(one.history for one in record.trajectories if one.deficit == "clean")
    for name in ("coarse", "turned", "other"):
        short, long = [one.history for one in record.trajectories if one.deficit == name]
        assert long.condition == (name,) * 4 + ("clean",) * 2
        assert (short.train_loss[:2] != clean.train_loss).all()
        # the first two epochs are shared; a run without the branch, in another store, gives the same values
        only = f"protocols.0.deficits=['{name}']"
        *_, whole = run(plan_study(folder, only, "protocols.0.until=[4]"), folder / name, folder).trajectories
        assert (whole.deficit, whole.epochs) == (name, 6)
        for curve in ("train_loss", "train_accuracy", "test_loss", "test_accuracy"):
            np.testing.assert_array_equal(getattr(whole.history, curve), getattr(long, curve))
            np.testing.assert_array_equal(getattr(short, curve)[:2], getattr(long, curve)[:2])


def test_the_order_of_deficit_and_augmentation_does_not_matter_without_augmentation(folder: Path) -> None:
    """With augment-first, the deficit is applied to each batch instead of once to the training set."""
    only = ("protocols.0.deficits=['other']", "protocols.0.until=[2]")
    *_, first = run(plan_study(folder, *only), folder / "first", folder).trajectories
    order = "training.order='augment-first'"
    *_, second = run(plan_study(folder, *only, order), folder / "second", folder).trajectories
    assert first.deficit == second.deficit == "other"
    # per batch or for the whole training set, normalisation rounds differently in float32
    np.testing.assert_allclose(second.history.train_loss, first.history.train_loss, rtol=1e-5)


def test_changed_files_change_the_stage_ids_of_their_deficit_only(folder: Path) -> None:
    before = plan_study(folder)
    assert plan_study(folder).stages.keys() == before.stages.keys()
    (folder / "own" / "train" / "class0" / "0.png").unlink()
    after = plan_study(folder)
    for old, new in zip(before.trajectories, after.trajectories, strict=True):
        assert old.name == new.name
        assert (old.stages == new.stages) is (old.timeline.deficit != "other")
    # a deficit without files of its own adds nothing to the spec, so the ids stay as they are
    plain = "deficits={ coarse = { use = 'coarse-labels', groups = 2 } }"
    spec = spec_of(folder, plain, "deficits.other={ use = 'other-images', dataset = { use = 'digits' } }")
    assert with_data(spec, folder).variants == spec.variants


def test_missing_data_are_found_by_the_preflight(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^other-images: image-folder: no such folder: .*own; a relative `path`"):
        preflight(spec_of(tmp_path), EXACT, tmp_path)


def test_classes_that_do_not_fit_the_network_are_found_by_the_preflight(folder: Path) -> None:
    text = SPEC.replace('dataset = { use = "image-folder", path = "own" }', 'dataset = { use = "digits" }')
    spec = spec_of(folder, "dataset.use='image-folder'", text=text.replace("train = 60", "path = 'own'"))
    spec = replace(spec, variants=(replace(spec.variants[0], deficits={"other": spec.variants[0].deficits["other"]}),))
    with pytest.raises(
        SpecError, match=r"deficits\.other: other-images: digits has 10 classes and needs .* as many outputs, not 2"
    ):
        preflight(spec, EXACT, folder)


# --- a third-party deficit that needs data --------------------------------------------------------------------------


@dataclass(frozen=True)
class FileColour:
    """Fills images with the colour that a file names, and logs each time it is loaded."""

    deterministic: ClassVar[bool] = True

    def loaded(self, folder: Path) -> Callable[[Batch, Generator], Batch]:
        if not (folder / "colour").exists():
            raise DataError("no colour")
        with (folder / "loads").open("a") as file:
            file.write("x")
        return FixedColour(float((folder / "colour").read_text()))

    def fingerprint(self, folder: Path) -> str:
        return (folder / "colour").read_text()


@dataclass(frozen=True)
class FixedColour:
    colour: float
    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        return batch._replace(inputs=torch.full_like(batch.inputs, self.colour))


def with_deficit(spec: Spec, call: Any) -> Spec:
    deficits = {"coarse": Component("tests/file-colour", "0", call)}
    protocols = tuple((protocol, ("coarse",)) for protocol, _ in spec.protocols)
    variants = tuple(replace(variant, deficits=deficits) for variant in spec.variants)
    return replace(spec, variants=variants, protocols=protocols)


def test_the_data_of_a_deficit_are_loaded_once_per_process(tmp_path: Path) -> None:
    (tmp_path / "colour").write_text("0.25")
    spec = with_data(with_deficit(spec_of(tmp_path), FileColour()), tmp_path)
    assert component_facts(spec.variants[0].deficits["coarse"])["data"] == "0.25"
    preflight(spec, EXACT, tmp_path)
    record = run(plan(spec, {}), tmp_path / "file", tmp_path)
    assert (tmp_path / "loads").read_text() == "x"
    # the same as with the colour as a parameter
    expected = run(plan(with_deficit(spec, FixedColour(0.25)), {}), tmp_path / "fixed", tmp_path)
    for one, other in zip(record.trajectories, expected.trajectories, strict=True):
        np.testing.assert_array_equal(one.history.train_loss, other.history.train_loss)


def test_data_that_disappear_during_a_run_fail_the_stages_that_need_them(tmp_path: Path) -> None:
    (tmp_path / "colour").write_text("0.25")
    spec = with_data(with_deficit(spec_of(tmp_path), FileColour()), tmp_path)
    (tmp_path / "colour").unlink()
    study = plan(spec, {})
    record = run(study, tmp_path, tmp_path)
    assert {one.deficit: one.status for one in record.trajectories} == {"clean": "complete", "coarse": "failed"}
    failed = next(one for one in record.trajectories if one.deficit == "coarse")
    assert failed.reason.startswith("DataError: no colour (")
    # the failure is not committed: once the data are back, the next run tries again
    stage = next(one for one in study.stages.values() if one.condition == "coarse")
    assert read_stage(tmp_path / "stages" / "format-3" / stage.id) is None
    (tmp_path / "colour").write_text("0.25")
    assert {one.status for one in run(study, tmp_path, tmp_path).trajectories} == {"complete"}
