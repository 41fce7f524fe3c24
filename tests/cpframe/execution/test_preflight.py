"""The preflight: errors are found before anything is trained, at their line of the spec; and the time estimate."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cpframe.api import Batch, DataError, Generator, Measurement, Probe, Splits, classification
from cpframe.errors import SpecError
from cpframe.execution.costs import Costs, estimated_seconds
from cpframe.execution.preflight import preflight
from cpframe.numerics import prepare
from cpframe.plan.stages import Stage, plan
from cpframe.plugins.discovery import discover
from cpframe.spec.model import Component, Metric, MetricSchedule, Spec
from cpframe.spec.reader import read_spec
from cpframe.testing.training import EXACT

CATALOGUE = discover()
SPEC = """\
title = "Small"
seeds = [0]

[dataset]
use = "digits"
train = 60

[architecture]
use = "mlp"
sizes = [16]

[optimizer]
use = "sgd"

[training]
batch_size = 20

[deficits.blur]
use = "blur"
size = 2

[deficits.off]
use = "idle"

[[protocols]]
use = "removal"
until = [0, 2]
recovery = 5

[metrics.fisher]
use = "fisher-trace"
every = 2
inputs = 48
"""


@pytest.fixture(autouse=True)
def exact() -> None:
    prepare(EXACT)


def spec_of(folder: Path, *overrides: str, text: str = SPEC) -> Spec:
    path = folder / "study.toml"
    path.write_text(text)
    return read_spec(path, CATALOGUE, None, overrides)


def problem_of(spec: Spec, folder: Path) -> tuple[str, str, str]:
    """Return the only problem that the preflight finds: the line of the spec, the key, and what is wrong."""
    with pytest.raises(SpecError) as raised:
        preflight(spec, EXACT, folder)
    (problem,) = raised.value.problems
    file, _, line = problem.where.rpartition(":")
    assert file == str(spec.document.path)
    return spec.document.text.splitlines()[int(line) - 1], problem.key, problem.why


def with_parts(spec: Spec, **parts: Any) -> Spec:
    """Return the spec with components of this file."""
    components: Any = {kind: Component(f"tests/{kind}", "0", call) for kind, call in parts.items()}
    return replace(spec, variants=tuple(replace(variant, **components) for variant in spec.variants))


def with_deficit(spec: Spec, call: Any) -> Spec:
    deficits = {"blur": Component("tests/deficit", "0", call)}
    return replace(spec, variants=tuple(replace(variant, deficits=deficits) for variant in spec.variants))


def with_metric(spec: Spec, call: Any, schedule: MetricSchedule) -> Spec:
    return replace(spec, metrics=(Metric("fisher", Component("tests/metric", "0", call), schedule),))


# --- mistakes -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Raising:
    """A component of any kind that raises an error."""

    error: Exception

    def __call__(self, *_: object) -> Any:
        raise self.error

    def learning_rate(self, epoch: int) -> float:
        return 0.1


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        (
            '"mlp"\nsizes = [16]',
            '"depth-cnn"\nwidth = 0.05\ndepth = 4',
            "architecture",
            "needs images of at least 16 x 16 pixels, not 8 x 8",
        ),
        ("\nsize = 2", "\nsize = 8", "deficits.blur", "`size` must be below 8 for images of 8 x 8 pixels, not 8"),
        ("\nsize = 2", "\nsize = 20", "deficits.blur", "`size` must be below 8 for images of 8 x 8 pixels, not 20"),
        ("batch_size = 20", "batch_size = 1", "training", "more than 1 value per channel"),
    ],
)
def test_parts_that_do_not_fit_are_reported_at_their_line(
    tmp_path: Path, old: str, new: str, key: str, message: str
) -> None:
    assert SPEC.count(old) == 1
    text = SPEC.replace(old, new)
    if key == "training":
        text = text.replace("sizes = [16]", "sizes = [16]\nbatchnorm = true")
    header, reported_key, why = problem_of(spec_of(tmp_path, text=text), tmp_path)
    assert (header, reported_key) == (f"[{key}]", key)
    assert message in why
    assert "\n" not in why


def test_a_convolutional_network_reports_images_that_are_too_small(tmp_path: Path) -> None:
    spec = with_parts(spec_of(tmp_path, 'architecture={ use = "all-cnn", width = 0.05 }'), dataset=Tiny())
    with pytest.raises(SpecError, match=r"--set architecture=.*: architecture: .* at least 4 x 4 pixels"):
        preflight(spec, EXACT, tmp_path)


@dataclass(frozen=True)
class Tiny:
    """Images of 3 x 3 pixels."""

    def __call__(self, folder: Path) -> Splits:
        pixels, labels = torch.zeros(12, 1, 3, 3, dtype=torch.uint8), torch.arange(12) % 3
        return Splits(pixels, labels, pixels, labels, (0.5,), (0.5,), classification(3))


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("dataset", "dataset"),
        ("architecture", "architecture"),
        ("optimizer", "optimizer"),
        ("deficit", "deficits.blur"),
        ("metric", "metrics.fisher"),
    ],
)
def test_a_plugin_that_raises_is_reported_at_the_line_of_its_table(tmp_path: Path, part: str, key: str) -> None:
    for error, message in (
        (RuntimeError("no\n  output"), "RuntimeError: no output (test_preflight.py:"),
        (KeyError("x"), "KeyError: 'x' (test_preflight.py:"),
        # the message of a ValueError is meant for the user, and is reported as it is
        (ValueError("needs\nmore"), "needs more"),
    ):
        spec, call = spec_of(tmp_path), Raising(error)
        if part == "deficit":
            spec = with_deficit(spec, call)
        elif part == "metric":
            spec = with_metric(spec, call, MetricSchedule())
        else:
            spec = with_parts(spec, **{part: call})
        header, reported_key, why = problem_of(spec, tmp_path)
        assert (header, reported_key) == (f"[{key}]", key)
        assert why.startswith(message)


def test_an_unavailable_data_set_is_not_an_error_of_the_spec(tmp_path: Path) -> None:
    spec = with_parts(spec_of(tmp_path), dataset=Raising(DataError("the server is down")))
    with pytest.raises(DataError, match="the server is down"):
        preflight(spec, EXACT, tmp_path)


@dataclass(frozen=True)
class Rows:
    """A data set that does not consist of images."""

    def __call__(self, folder: Path) -> Splits:
        rows, labels = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3
        return Splits(rows, labels, rows, labels, (0.0,) * 4, (1.0,) * 4, classification(3))


def test_components_that_need_images_are_reported_when_the_data_are_not_images(tmp_path: Path) -> None:
    spec = with_parts(spec_of(tmp_path), dataset=Rows())
    assert problem_of(spec, tmp_path)[:2] == ("[deficits.blur]", "deficits.blur")
    shifted = spec_of(tmp_path, text=SPEC.replace("batch_size = 20", "batch_size = 20\naugment = { shift = 1 }"))
    header, key, why = problem_of(with_deficit(with_parts(shifted, dataset=Rows()), Counting([])), tmp_path)
    assert (header, key) == ("[training]", "training")
    assert "training.augment needs images of shape (C, H, W)" in why


def test_a_network_with_too_few_outputs_is_reported(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Narrow:
        def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
            return nn.Sequential(nn.Flatten(), nn.Linear(64, 2))

    assert "out of bounds" in problem_of(with_parts(spec_of(tmp_path), architecture=Narrow()), tmp_path)[2]


def test_an_error_in_a_named_variant_is_reported_where_it_was_written(tmp_path: Path) -> None:
    variants = '[variants.plain]\n[variants.deep]\n"architecture" = { use = "depth-cnn", depth = 4 }\n'
    line, key, why = problem_of(spec_of(tmp_path, text=SPEC + variants), tmp_path)
    assert line.startswith('"architecture" = ')
    assert key == "architecture"
    assert "needs images of at least 16 x 16 pixels, not 8 x 8" in why
    assert why.endswith("(variant deep)")
    # values that the variant takes from the spec are reported there
    variants = "[variants.plain]\n[variants.small]\n'training.batch_size' = 10\n"
    _, key, why = problem_of(spec_of(tmp_path, "deficits.blur.size=20", text=SPEC + variants), tmp_path)
    assert (key, why.endswith("(variant plain)")) == ("deficits.blur", True)


def test_an_error_in_one_grid_point_is_found(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, text=SPEC + '\n[grid]\n"deficits.blur.size" = [2, 4, 8]\n')
    header, key, why = problem_of(spec, tmp_path)
    assert (header, key) == ("[deficits.blur]", "deficits.blur")
    assert "8 x 8 pixels" in why


# --- the estimate ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Counting:
    """A metric or deficit that records the number of examples in each call."""

    sizes: list[int]

    def __call__(self, first: Batch | Probe, rng: Generator | None = None) -> Any:
        self.sizes.append(len(first.targets))
        return first if isinstance(first, Batch) else Measurement(1.0)


def test_the_preflight_is_small_and_covers_every_part_of_every_variant(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, text=SPEC + '\n[grid]\n"optimizer.lr" = [0.1, 0.2]\n')
    deficit, metric = Counting([]), Counting([])
    costs = preflight(with_metric(with_deficit(spec, deficit), metric, MetricSchedule(inputs=48)), EXACT, tmp_path)
    assert costs.keys() == {0, 1}
    assert deficit.sizes == [32, 32]
    assert set(metric.sizes) == {32}
    for cost in costs.values():
        assert cost.train > 0
        assert cost.test > 0
        assert cost.metrics.keys() == {"fisher"}
        assert cost.metrics["fisher"] > 0
        assert cost.idle == frozenset()


def test_the_preflight_finds_the_idle_conditions(tmp_path: Path) -> None:
    assert preflight(spec_of(tmp_path), EXACT, tmp_path)[0].idle == {"off"}


def test_the_preflight_writes_nothing(tmp_path: Path) -> None:
    preflight(spec_of(tmp_path), EXACT, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def stage(condition: str, start: int, stop: int, variant: int = 0) -> Stage:
    return Stage(f"{condition}{start}", None, 0, variant, condition, start, stop, (0.1,) * (stop - start), False)


def metric_every(name: str, every: int) -> Metric:
    return Metric(name, Component("tests/metric", "0", None), MetricSchedule(every=every))


def test_the_estimate_is_the_sum_over_epochs_tests_and_measurements() -> None:
    costs = {
        0: Costs(train=10.0, test=1.0, metrics={"often": 0.1, "seldom": 0.01}, idle=frozenset({"off"})),
        1: Costs(train=1000.0, test=100.0, metrics={"often": 0.0, "seldom": 0.0}, idle=frozenset()),
    }
    metrics = [metric_every("often", 2), metric_every("seldom", 5)]
    # epochs 1..4: often at 1, 2, 4; seldom at 1
    assert estimated_seconds([stage("clean", 0, 4)], metrics, costs) == pytest.approx(4 * 11 + 3 * 0.1 + 0.01)
    # epochs 5..10, tested and measured but not trained: often at 6, 8, 10; seldom at 5, 10
    assert estimated_seconds([stage("off", 4, 10)], metrics, costs) == pytest.approx(6 * 1 + 3 * 0.1 + 2 * 0.01)
    both: Iterable[Stage] = [stage("clean", 0, 4), stage("off", 4, 10), stage("blur", 0, 1, variant=1)]
    assert estimated_seconds(both, metrics, costs) == pytest.approx(44 + 6 + 6 * 0.1 + 3 * 0.01 + 1100)
    assert estimated_seconds([], metrics, costs) == 0


def test_the_estimate_covers_a_whole_study(tmp_path: Path) -> None:
    spec = spec_of(tmp_path)
    study = plan(spec, {})
    costs = {0: Costs(train=1.0, test=0.0, metrics={"fisher": 0.0}, idle=frozenset({"off"}))}
    idle = sum(one.epochs for one in study.stages.values() if one.condition == "off")
    assert idle == 2
    assert estimated_seconds(study.stages.values(), spec.metrics, costs) == study.epochs_to_train - idle
