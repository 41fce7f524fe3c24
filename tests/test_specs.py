"""The specs in specs/: each is valid in full size and with each profile, and agrees with the published settings."""

import os
import re
from pathlib import Path

import pytest

from cpframe.execution.preflight import preflight
from cpframe.numerics import prepare, resolve
from cpframe.plan.stages import plan
from cpframe.plugins.discovery import discover
from cpframe.spec.document import read_document
from cpframe.spec.reader import read_spec

SPECS = {path.stem: path for path in sorted((Path(__file__).parents[1] / "specs").glob("*.toml"))}
FIGURES = {
    "removal_curve", "sensitivity_window", "which_deficits", "depth", "generality", "mnist", "weight_decay",
    "fisher_vs_sensitivity", "layerwise_fisher", "gradients_and_filters", "controls", "transfer",
}  # fmt: skip
ON_CIFAR = sorted(FIGURES - {"mnist", "depth", "generality", "transfer"})
PUBLISHED_UNTIL = (0, 20, 40, 60, 80, 100, 120, 140)


def profiles(name: str) -> list[str | None]:
    return [None, *re.findall(r"^\[profiles\.(\w+)\]", SPECS[name].read_text(), re.MULTILINE)]


CASES = [(name, profile) for name in SPECS for profile in profiles(name)]
CATALOGUE = discover()


def test_every_experiment_of_the_paper_has_a_spec_with_a_cpu_profile() -> None:
    assert SPECS.keys() >= FIGURES
    assert all("cpu" in profiles(name) for name in FIGURES)


@pytest.mark.parametrize(("name", "profile"), CASES)
def test_a_spec_is_valid_and_its_comment_gives_the_command(name: str, profile: str | None) -> None:
    spec = read_spec(SPECS[name], CATALOGUE, profile, ())
    study = plan(spec, {})
    assert study.trajectories
    command = f"#     cpframe run specs/{name}.toml" + (f" --profile {profile}" if profile else "")
    assert any(line.startswith(command) for line in SPECS[name].read_text().splitlines())
    if profile == "cpu":  # an epoch takes about half a second to a second on two cores
        assert study.epochs_to_train <= 11_000 if name == "mnist" else study.epochs_to_train <= 2_600


def epochs_to_train(name: str, profile: str | None) -> str:
    return f"{plan(read_spec(SPECS[name], CATALOGUE, profile, ()), {}).epochs_to_train:,}"


def test_the_readme_lists_every_spec_with_its_number_of_epochs() -> None:
    text = (Path(__file__).parents[1] / "specs" / "README.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if line.startswith("| [")]
    listed = {row[1].partition("]")[0].removeprefix("["): (row[4], row[5]) for row in rows}
    assert listed.keys() == SPECS.keys()
    for name, (full, reduced) in listed.items():
        assert full == epochs_to_train(name, None)
        assert reduced == (epochs_to_train(name, "cpu") if "cpu" in profiles(name) else "")
    assert f"({epochs_to_train('which_deficits', 'digits')} epochs, " in text


@pytest.mark.parametrize("name", FIGURES)
def test_a_spec_states_published_settings_choices_and_expected_results(name: str) -> None:
    comment = SPECS[name].read_text().partition("\ntitle")[0]
    for word in ("# Published", "# Choices", "# It should look like this"):
        assert word in comment


@pytest.mark.parametrize("name", ON_CIFAR)
def test_the_full_size_has_the_published_training(name: str) -> None:
    spec = read_spec(SPECS[name], CATALOGUE, None, ())
    variant = spec.variants[0]
    assert variant.dataset.use == "cpframe/cifar10"
    assert variant.architecture.use == "cpframe/all-cnn"
    assert variant.architecture.call.width == 1
    assert variant.training.batch_size == 128
    assert variant.deficits["blur"].call.size == 8
    for epoch in (0, 1, 100):
        assert variant.optimizer.call.learning_rate(epoch) == pytest.approx(0.05 * 0.97**epoch, rel=1e-12)
    if name != "weight_decay":
        assert variant.optimizer.call.weight_decay == 0.001


@pytest.mark.parametrize("name", ["removal_curve", "which_deficits", "depth", "weight_decay", "generality"])
def test_the_full_size_has_the_published_protocol(name: str) -> None:
    spec = read_spec(SPECS[name], CATALOGUE, None, ())
    timelines = [trajectory.timeline for trajectory in plan(spec, {}).trajectories]
    blurred = {(c.offset, c.epochs - c.offset) for c in timelines if c.deficit == "blur"}
    assert blurred == {(until, 160) for until in PUBLISHED_UNTIL if until}


def test_mnist_has_the_published_network_and_protocol() -> None:
    spec = read_spec(SPECS["mnist"], CATALOGUE, None, ())
    variant = spec.variants[0]
    assert variant.architecture.call.sizes == (2500, 2000, 1500, 1000, 500)
    assert variant.architecture.call.batchnorm
    assert {variant.optimizer.call.learning_rate(epoch) for epoch in range(600)} == {0.005}
    assert variant.dataset.call.pad == 2
    until = {c.offset for c in (t.timeline for t in plan(spec, {}).trajectories) if c.deficit == "blur"}
    assert until == set(range(40, 441, 40))


def test_depth_varies_the_depth_alone_at_a_constant_rate() -> None:
    variants = read_spec(SPECS["depth"], CATALOGUE, None, ()).variants
    assert [variant.architecture.call.depth for variant in variants] == [1, 2, 3]
    assert {variant.optimizer.call.learning_rate(epoch) for variant in variants for epoch in range(300)} == {0.001}


def test_the_variants_of_the_controls_differ_in_their_rates() -> None:
    spec = read_spec(SPECS["controls"], CATALOGUE, None, ())
    falling, constant, _ = spec.variants
    assert [variant.values["variant"] for variant in spec.variants] == ["falling", "constant", "restart"]
    assert falling.optimizer.call.learning_rate(100) < 0.05 * falling.optimizer.call.learning_rate(0)
    assert constant.optimizer.call.learning_rate(100) == constant.optimizer.call.learning_rate(0)
    study = plan(spec, {})
    after = {
        name: stage.rates[0]
        for name, number in (("falling", 0), ("restart", 2))
        for stage in study.stages.values()
        if stage.variant == number and stage.start == 100 and stage.condition == "clean" and stage.parent
    }
    assert after["falling"] == pytest.approx(0.05 * 0.97**100)
    assert after["restart"] == pytest.approx(0.05)


@pytest.mark.long
@pytest.mark.parametrize("name", sorted(SPECS))
def test_every_part_of_a_cpu_profile_works_on_real_images(name: str) -> None:
    """Every part is used once: the network takes the data, the deficits degrade them, the metrics measure."""
    folder = os.environ.get("CPFRAME_DATA")
    if not folder and name != "quickstart":
        pytest.skip("needs CPFRAME_DATA, the folder of MNIST and the CIFAR-10 images")
    images = ("dataset.use=image-folder", "dataset.path=cifar10-jpeg")
    document, _ = read_document(SPECS[name], "cpu" if "cpu" in profiles(name) else None)
    cifar = document.tables["dataset"]["use"] == "cifar10"
    spec = read_spec(SPECS[name], CATALOGUE, "cpu" if "cpu" in profiles(name) else None, images if cifar else ())
    numerics = resolve("cpu", "exact")
    prepare(numerics)
    costs = preflight(spec, numerics, Path(folder or "."))
    assert len(costs) == len(spec.variants)
