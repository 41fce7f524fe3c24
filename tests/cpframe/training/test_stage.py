"""run_stage: a branch is the whole run, bit for bit; and an independent loop comes to the same weights."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cpframe.api import Batch, Generator, Measurement, Probe, Splits, classification
from cpframe.numerics import prepare
from cpframe.plan.stages import Stage
from cpframe.plugins.discovery import discover
from cpframe.records.histories import concatenate
from cpframe.records.model import CLEAN, History
from cpframe.spec.model import Augment, Component, Metric, MetricSchedule, Training, Variant
from cpframe.store import StageRecord, read_stage, read_state, stages
from cpframe.store import atomic as files
from cpframe.testing.training import EXACT
from cpframe.training import stage as training
from cpframe.training.job import EpochDone, Event, Job, StageDone
from cpframe.training.randomness import stream
from cpframe.training.stage import run_stage

CATALOGUE = discover()
CLASSES, SIZE = 3, 26


@pytest.fixture(autouse=True)
def exact() -> None:
    prepare(EXACT)


@dataclass(frozen=True)
class Stripes:
    """Noisy stripes of 6 x 6 pixels; the class is their direction and position."""

    def __call__(self, folder: Path) -> Splits:
        rng = np.random.default_rng(4)
        labels = rng.integers(CLASSES, size=SIZE + 20)
        pixels = rng.integers(0, 120, (len(labels), 1, 6, 6))
        for image, label in zip(pixels, labels, strict=True):
            image[0, :, 2 * label : 2 * label + 2] += 90
        inputs, targets = torch.from_numpy(pixels.astype(np.uint8)), torch.from_numpy(labels)
        return Splits(
            inputs[:SIZE], targets[:SIZE], inputs[SIZE:], targets[SIZE:], (0.3,), (0.2,), classification(CLASSES)
        )


@dataclass(frozen=True)
class Net:
    """A small network with everything that has a state or draws at random."""

    batchnorm: bool = False
    dropout: float = 0.0

    def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
        middle = [nn.BatchNorm1d(8)] if self.batchnorm else []
        return nn.Sequential(
            nn.Flatten(), nn.Linear(36, 8), *middle, nn.ReLU(), nn.Dropout(self.dropout), nn.Linear(8, outputs)
        )


@dataclass(frozen=True)
class Black:
    """Shows black images."""

    deterministic: ClassVar[bool] = True

    def __call__(self, batch: Batch, rng: Generator) -> Batch:
        return batch._replace(inputs=torch.zeros_like(batch.inputs))


@dataclass(frozen=True)
class Brightness:
    """The mean of the probe's inputs."""

    def __call__(self, probe: Probe) -> Measurement:
        return Measurement(float(probe.inputs.mean()))


@dataclass(frozen=True)
class Raising:
    """A deficit or metric that fails."""

    message: str = "out of ideas"

    def __call__(self, *_: object) -> Any:
        raise RuntimeError(self.message)


def part(call: Any) -> Component:
    return Component("tests/part", "0", call)


def bundled(kind: Any, use: str, **parameters: Any) -> Component:
    offer = CATALOGUE.find(kind, use)
    return Component(f"{offer.package}/{use}", offer.version, offer.component(**parameters))


SGD = bundled("optimizer", "sgd", lr=0.05, momentum=0.9, weight_decay=0.001)
ADAM = bundled("optimizer", "adam", lr=0.01)
DEFICITS = {
    "noise": bundled("deficit", "noise"),
    "blur": bundled("deficit", "blur", size=2),
    "idle": bundled("deficit", "idle"),
    "black": part(Black()),
    "broken": part(Raising()),
}


@dataclass
class Bench:
    """A folder of stages, and the variant and metrics with which they are trained."""

    folder: Path
    optimizer: Component = SGD
    architecture: Component = field(default_factory=lambda: part(Net()))
    training: Training = field(default_factory=lambda: Training(batch_size=8))
    metrics: tuple[Metric, ...] = ()

    def job(
        self,
        name: str,
        condition: str = CLEAN,
        start: int = 0,
        stop: int = 4,
        parent: str | None = None,
        rates: tuple[float, ...] | None = None,
        restart_state: bool = False,
        seed: int = 0,
    ) -> Job:
        rates = rates or tuple(self.optimizer.call.learning_rate(epoch) for epoch in range(start, stop))
        variant = Variant({}, part(Stripes()), self.architecture, self.optimizer, self.training, DEFICITS)
        return Job(
            stage=Stage(name, parent, seed, 0, condition, start, stop, rates, restart_state),
            variant=variant,
            metrics=self.metrics,
            numerics=EXACT,
            data_folder=self.folder,
            folder=self.folder / name,
            parent_folder=None if parent is None else self.folder / parent,
            keep_state=True,
        )

    def record(self, name: str) -> StageRecord:
        record = read_stage(self.folder / name)
        assert record is not None
        return record

    def state(self, name: str) -> dict[str, Any]:
        content = read_state(self.folder / name, self.record(name))
        return torch.load(io.BytesIO(content), weights_only=True)  # type: ignore[no-any-return]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def train(job: Job) -> StageDone:
    """Train a stage to its end."""
    last = list(run_stage(job))[-1]
    assert isinstance(last, StageDone)
    return last


def trained(*jobs: Job) -> None:
    for job in jobs:
        assert train(job).failure == ""


def epochs(events: list[Event]) -> list[int]:
    return [event.epoch for event in events if isinstance(event, EpochDone)]


def next_epoch(running: Iterator[Event]) -> EpochDone:
    """Train on to the end of the next epoch."""
    return next(event for event in running if isinstance(event, EpochDone))


def assert_same_state(one: Any, other: Any) -> None:
    """The same weights and optimizer state, bit for bit."""
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, Mapping):
        assert one.keys() == other.keys()
        for key in one:
            assert_same_state(one[key], other[key])
    else:
        assert one == other


def assert_same_history(one: History, other: History) -> None:
    """The same numbers, bit for bit; nan is equal to nan."""
    assert (one.condition, one.layers, one.metrics.keys()) == (other.condition, other.layers, other.metrics.keys())
    curves = ("epoch", "learning_rate", "train_loss", "train_accuracy", "test_loss", "test_accuracy", "measured_epoch")
    for name in curves:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    for name, metric in one.metrics.items():
        np.testing.assert_array_equal(metric.values, other.metrics[name].values)


# --- branch = whole run ---------------------------------------------------------------------------------------------

CASES = {
    "sgd": {},
    "adam": {"optimizer": ADAM},
    "batchnorm": {"architecture": part(Net(batchnorm=True)), "optimizer": ADAM},
    "reestimated": {
        "architecture": part(Net(batchnorm=True)),
        "training": Training(batch_size=8, reestimate_batchnorm=True),
    },
    "dropout": {
        "architecture": part(Net(batchnorm=True, dropout=0.5)),
        "training": Training(batch_size=8, reestimate_batchnorm=True),
    },
    "augmented": {"training": Training(batch_size=8, augment=Augment(1, True))},
    "augment-first": {"training": Training(batch_size=8, augment=Augment(1, True), order="augment-first")},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("condition", [CLEAN, "noise", "blur"])
def test_a_branch_is_the_whole_run(tmp_path: Path, case: str, condition: str) -> None:
    metrics = (
        Metric("weights", bundled("metric", "weight-norm"), MetricSchedule(every=2, inputs=8)),
        Metric("fisher", bundled("metric", "fisher-trace"), MetricSchedule(every=3, inputs=8, on="condition")),
    )
    bench = Bench(tmp_path, metrics=metrics, **CASES[case])  # type: ignore[arg-type]
    trained(bench.job("whole", condition))
    trained(bench.job("one", condition, 0, 1))
    trained(bench.job("two", condition, 1, 3, parent="one"), bench.job("three", condition, 3, 4, parent="two"))
    assert_same_state(bench.state("three"), bench.state("whole"))
    whole = bench.record("whole").history
    assert_same_history(concatenate([bench.record(name).history for name in ("one", "two", "three")]), whole)
    assert whole.epoch.tolist() == [1, 2, 3, 4]
    assert np.isfinite(whole.train_loss).all()
    # Another seed gives another training.
    trained(bench.job("other", condition, 0, 1, seed=1))
    assert bench.record("other").history.train_loss[0] != whole.train_loss[0]


class Drawing(nn.Linear):
    """Draws from torch's own generator whenever it is trained, as dropout does, and keeps the numbers."""

    drawn: ClassVar[list[float]] = []

    def forward(self, inputs: Tensor) -> Tensor:
        if self.training:
            self.drawn.append(float(torch.rand(1, dtype=torch.float64)))
        return super().forward(inputs)


def test_torch_draws_anew_in_every_epoch_and_the_same_for_every_trajectory(tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Random:
        def __call__(self, shape: tuple[int, ...], outputs: int) -> nn.Module:
            return nn.Sequential(nn.Flatten(), Drawing(36, outputs))

    bench, draws = Bench(tmp_path, architecture=part(Random())), []
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    for name, condition, seed in (("one", CLEAN, 0), ("two", "blur", 0), ("three", CLEAN, 1)):
        Drawing.drawn.clear()
        trained(bench.job(name, condition, stop=3, seed=seed))
        draws.append(list(Drawing.drawn))
    # 26 images in batches of 8 are 4 steps an epoch
    assert len(set(draws[0])) == len(draws[0]) == 12
    assert draws[1] == draws[0]
    assert not set(draws[2]) & set(draws[0])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_window_is_clean_degraded_and_clean_again(bench: Bench) -> None:
    trained(bench.job("before", stop=2), bench.job("noise", "noise", 2, 3, parent="before"))
    trained(bench.job("after", CLEAN, 3, 5, parent="noise"), bench.job("clean", CLEAN, 2, 5, parent="before"))
    history = concatenate([bench.record(name).history for name in ("before", "noise", "after")])
    assert history.condition == (CLEAN, CLEAN, "noise", CLEAN, CLEAN)
    clean = concatenate([bench.record(name).history for name in ("before", "clean")])
    assert history.train_loss[2] > clean.train_loss[2]
    assert (history.test_loss[2:] != clean.test_loss[2:]).all()


def test_idle_leaves_the_weights_alone_while_the_clock_runs(bench: Bench) -> None:
    trained(bench.job("before", stop=1), bench.job("idle", "idle", 1, 4, parent="before", rates=(0.3, 0.2, 0.1)))
    assert_same_state(bench.state("idle")["model"], bench.state("before")["model"])
    history = bench.record("idle").history
    assert np.isnan(history.train_loss).all()
    assert np.isnan(history.train_accuracy).all()
    np.testing.assert_array_equal(history.test_loss, np.repeat(bench.record("before").history.test_loss, 3))
    assert history.learning_rate.tolist() == [0.3, 0.2, 0.1]


# --- an independent loop --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Momentum:
    """The optimizer of the loop below."""

    def __call__(self, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=1.0, momentum=0.9, weight_decay=0.001)


def plain_loop(rates: tuple[float, ...], fresh_optimizer_at: int = -1) -> tuple[nn.Module, list[float], list[float]]:
    """Train on the clean images by nothing but PyTorch and the documented streams.

    Returns:
        The network, the training loss and the test accuracy of every epoch.
    """
    splits = Stripes()(Path())
    inputs = (splits.train_inputs.float() / 255 - torch.tensor(0.3)) / torch.tensor(0.2)
    test_inputs = (splits.test_inputs.float() / 255 - torch.tensor(0.3)) / torch.tensor(0.2)
    with torch.random.fork_rng():
        torch.manual_seed(int(stream(0, "init").integers(2**63)))
        model = Net(batchnorm=True)((1, 6, 6), CLASSES)
    losses, accuracies = [], []
    for epoch, rate in enumerate(rates):
        if epoch in (0, fresh_optimizer_at):
            optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=0.001)
        optimizer.param_groups[0]["lr"] = rate
        order = stream(0, "order", epoch).permutation(SIZE)
        model.train()
        total = 0.0
        for start in range(0, SIZE, 8):
            chosen = torch.from_numpy(order[start : start + 8])
            found = nn.functional.cross_entropy(model(inputs[chosen]), splits.train_targets[chosen], reduction="none")
            optimizer.zero_grad()
            found.mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += float(found.detach().sum())
        losses.append(total / SIZE)
        model.eval()
        accuracies.append(float((model(test_inputs).argmax(dim=1) == splits.test_targets).float().mean()))
    return model, losses, accuracies


def test_an_independent_loop_comes_to_the_same_weights(tmp_path: Path) -> None:
    bench = Bench(tmp_path, part(Momentum()), part(Net(batchnorm=True)))
    rates = (0.05, 0.04, 0.1)
    trained(bench.job("stage", stop=3, rates=rates))
    model, losses, accuracies = plain_loop(rates)
    # The same operations in the same order: the same bits.
    assert_same_state(bench.state("stage")["model"], dict(model.state_dict()))
    history = bench.record("stage").history
    np.testing.assert_allclose(history.train_loss, losses, rtol=1e-6)  # sums in another order
    np.testing.assert_allclose(history.test_accuracy, accuracies, atol=1e-6)  # means in float32 and float64
    assert history.learning_rate.tolist() == list(rates)


def test_reestimated_batchnorm_changes_the_tests_and_not_the_training(tmp_path: Path) -> None:
    bench = Bench(tmp_path, architecture=part(Net(batchnorm=True)), training=Training(batch_size=SIZE))
    trained(bench.job("running", "black", stop=3))
    bench.training = replace(bench.training, reestimate_batchnorm=True)
    trained(bench.job("anew", "black", stop=3))
    assert_same_state(bench.state("anew"), bench.state("running"))
    running, anew = bench.record("running").history, bench.record("anew").history
    np.testing.assert_array_equal(anew.train_loss, running.train_loss)
    # By hand: the statistics of all clean images in one batch, as PyTorch gathers them.
    model = Net(batchnorm=True)((1, 6, 6), CLASSES)
    model.load_state_dict(bench.state("anew")["model"])
    splits = Stripes()(Path())
    inputs, test_inputs = ((part.float() / 255 - 0.3) / 0.2 for part in (splits.train_inputs, splits.test_inputs))
    for history in (running, anew):
        with torch.no_grad():
            loss = nn.functional.cross_entropy(model.eval()(test_inputs), splits.test_targets)
        # float32 against float64 sums
        assert history.test_loss[-1] == pytest.approx(float(loss), rel=1e-5)
        norm = model.get_submodule("2")
        assert isinstance(norm, nn.BatchNorm1d)
        norm.reset_running_stats()
        norm.momentum = None
        model.train()(inputs)
    assert anew.test_loss[-1] != pytest.approx(running.test_loss[-1], rel=1e-3)


def test_the_state_of_the_optimizer_starts_anew_where_that_is_asked_for(tmp_path: Path) -> None:
    bench = Bench(tmp_path, part(Momentum()), part(Net(batchnorm=True)))
    rates = (0.05, 0.05, 0.05)
    trained(bench.job("before", stop=2, rates=rates[:2]))
    trained(bench.job("anew", start=2, stop=3, parent="before", rates=rates[2:], restart_state=True))
    trained(bench.job("on", start=2, stop=3, parent="before", rates=rates[2:]))
    anew, on = bench.state("anew")["model"], bench.state("on")["model"]
    assert_same_state(anew, dict(plain_loop(rates, fresh_optimizer_at=2)[0].state_dict()))
    assert_same_state(on, dict(plain_loop(rates)[0].state_dict()))
    assert not torch.equal(anew["1.weight"], on["1.weight"])


def test_a_restart_happens_once_even_if_the_stage_is_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "COMMIT_SECONDS", 0.0)
    bench = Bench(tmp_path)
    trained(bench.job("before", stop=2))
    trained(bench.job("whole", start=2, stop=5, parent="before", restart_state=True))
    broken = bench.job("broken", start=2, stop=5, parent="before", restart_state=True)
    running = run_stage(broken)
    for _ in range(3):
        next_epoch(running)
    running.close()  # type: ignore[attr-defined]
    assert epochs(list(run_stage(broken))) == [5]
    assert_same_state(bench.state("broken"), bench.state("whole"))


# --- interrupted ----------------------------------------------------------------------------------------------------


def names(folder: Path) -> list[str]:
    """The files of a stage, but for its lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


@pytest.mark.parametrize("after", [1, 2, 3, 4])
def test_an_interrupted_stage_goes_on_from_its_last_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    monkeypatch.setattr(training, "COMMIT_SECONDS", 0.0)
    metrics = (Metric("weights", bundled("metric", "weight-norm"), MetricSchedule(every=2, inputs=8)),)
    bench = Bench(tmp_path, ADAM, part(Net(batchnorm=True, dropout=0.2)), metrics=metrics)
    trained(bench.job("whole", "noise"))
    job = bench.job("broken", "noise")
    running = run_stage(job)
    assert epochs([next_epoch(running) for _ in range(after)]) == list(range(1, after + 1))
    running.close()  # type: ignore[attr-defined]
    # Epoch `after` was reported but not yet committed, so it is trained again.
    assert epochs(list(run_stage(job))) == list(range(after, 5))
    assert_same_state(bench.state("broken"), bench.state("whole"))
    assert_same_history(bench.record("broken").history, bench.record("whole").history)
    assert names(job.folder) == ["history.h5", "state-000004.pt"]


class Crash(BaseException):
    """The end of the process."""


def test_a_crash_at_any_write_costs_no_more_than_the_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "COMMIT_SECONDS", 0.0)
    bench = Bench(tmp_path)
    trained(bench.job("whole"))
    write = files.write_atomically
    calls, crash_at, before_write = 0, 0, False

    def failing(path: Path, content: bytes) -> None:
        nonlocal calls
        calls += 1
        if calls == crash_at and before_write:
            raise Crash
        write(path, content)
        if calls == crash_at:
            raise Crash

    monkeypatch.setattr(stages, "write_atomically", failing)
    # 4 commits, each of a state and then the history that names it
    for crash_at in range(1, 9):
        for before_write in (True, False):
            calls = 0
            job = bench.job(f"crash{crash_at}{before_write}")
            with pytest.raises(Crash):
                list(run_stage(job))
            committed = (crash_at - before_write) // 2
            record = read_stage(job.folder)
            assert (0 if record is None else int(record.history.epoch[-1])) == committed
            assert epochs(list(run_stage(job))) == list(range(committed + 1, 5))
            assert_same_state(bench.state(job.stage.id), bench.state("whole"))
            assert_same_history(bench.record(job.stage.id).history, bench.record("whole").history)
            # A crash after the very last commit leaves the previous state; the next commit removes any other.
            assert len(names(job.folder)) == (3 if crash_at == 8 and not before_write else 2)


def test_quick_epochs_are_committed_together(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "COMMIT_SECONDS", 3600.0)
    running = run_stage(bench.job("quick"))
    for _ in range(4):
        next_epoch(running)
        assert read_stage(bench.folder / "quick") is None
    running.close()  # type: ignore[attr-defined]
    assert epochs(list(run_stage(bench.job("quick")))) == [1, 2, 3, 4]
    assert bench.record("quick").status == "complete"


def test_a_complete_stage_is_not_trained_again(bench: Bench) -> None:
    trained(bench.job("stage"))
    before = (bench.folder / "stage" / "history.h5").read_bytes()
    assert list(run_stage(bench.job("stage"))) == [StageDone("stage", "")]
    assert (bench.folder / "stage" / "history.h5").read_bytes() == before


def test_the_state_of_a_complete_stage_can_be_made_again(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "COMMIT_SECONDS", 0.0)
    trained(bench.job("whole"))
    trained(replace(bench.job("stage"), keep_state=False))
    complete = bench.record("stage")
    assert (complete.status, complete.state) == ("complete", "")
    running = run_stage(bench.job("stage"))
    for _ in range(3):
        next_epoch(running)
        # The complete stage stays complete while its state is made again.
        assert bench.record("stage").status == "complete"
        assert len(bench.record("stage").history.epoch) == 4
    running.close()  # type: ignore[attr-defined]
    # Stopped in its third epoch, it continues with that epoch; no intermediate files remain.
    assert epochs(list(run_stage(bench.job("stage")))) == [3, 4]
    assert not [path for path in (bench.folder / "stage").iterdir() if path.is_dir()]
    assert_same_state(bench.state("stage"), bench.state("whole"))
    assert_same_history(bench.record("stage").history, complete.history)


def test_a_stage_is_given_back_without_the_state_that_it_goes_on_from(bench: Bench) -> None:
    job = bench.job("after", start=4, stop=5, parent="before")
    gone = [StageDone("after", "", "gone")]
    assert list(run_stage(job)) == gone
    trained(bench.job("before"))
    state = bench.folder / "before" / "state-000004.pt"
    whole = state.read_bytes()
    for content in (whole[:-1], whole[:99] + b"?" + whole[100:]):
        state.write_bytes(content)
        assert list(run_stage(job)) == gone
    state.unlink()
    assert list(run_stage(job)) == gone
    assert not job.folder.exists()
    state.write_bytes(whole)
    assert epochs(list(run_stage(job))) == [5]


def test_a_stage_is_given_back_while_somebody_else_trains_it(bench: Bench) -> None:
    one, other = run_stage(bench.job("stage")), run_stage(bench.job("stage"))
    assert epochs([next(one)]) == [1]
    assert list(other) == [StageDone("stage", "", "in use")]
    assert epochs(list(one)) == [2, 3, 4]
    assert list(run_stage(bench.job("stage"))) == [StageDone("stage", "")]


# --- failures -------------------------------------------------------------------------------------------------------


def test_a_diverging_training_fails_with_its_history_so_far(bench: Bench) -> None:
    job = bench.job("stage", rates=(0.05, 0.05, 1e30, 0.05))
    events = list(run_stage(job))
    record = bench.record("stage")
    assert record.status == "failed"
    assert record.reason.startswith("diverged in epoch 3: the ")
    assert record.state == ""
    assert events[-1] == StageDone("stage", record.reason)
    assert epochs(events) == record.history.epoch.tolist() == [1, 2, 3]
    assert np.isfinite(record.history.test_loss[:2]).all()
    assert not np.isfinite(record.history.test_loss[2])
    # It would diverge again, so it is not retried.
    assert list(run_stage(job)) == [StageDone("stage", record.reason)]


@pytest.mark.parametrize(
    "message", ["out of ideas", "two\nlines", "control \x00 character", "half a letter \ud800", ""]
)
def test_a_plugin_that_raises_fails_its_stage_with_one_line(bench: Bench, message: str) -> None:
    bench.metrics = (Metric("m", part(Raising(message)), MetricSchedule()),)
    done = train(bench.job("stage"))
    assert done.failure.startswith("RuntimeError: ")
    assert "(test_stage.py:" in done.failure
    assert message.partition("\n")[0].partition(" ")[0] in done.failure
    assert done.failure.isprintable()
    assert done.failure.encode()
    # Nothing is committed, so the stage is trained once the plugin is fixed.
    assert read_stage(bench.folder / "stage") is None
    bench.metrics = ()
    trained(bench.job("stage"))


def test_a_deficit_that_raises_fails_its_stage_and_no_other(bench: Bench) -> None:
    trained(bench.job("before", stop=1))
    assert "out of ideas" in train(bench.job("broken", "broken", 1, 3, parent="before")).failure
    trained(bench.job("after", CLEAN, 1, 3, parent="before"))


def test_a_metric_of_the_wrong_shape_is_refused(bench: Bench) -> None:
    @dataclass(frozen=True)
    class Three:
        def __call__(self, probe: Probe) -> Measurement:
            return Measurement([1.0, 2.0, 3.0])

    bench.metrics = (Metric("m", part(Three()), MetricSchedule()),)
    assert "the metric m must return one number, or one for each of 2 layers" in train(bench.job("stage")).failure


# --- metrics --------------------------------------------------------------------------------------------------------


def test_metrics_are_measured_after_the_first_epoch_and_then_after_every_so_many(bench: Bench) -> None:
    norm = bundled("metric", "weight-norm")
    bench.metrics = (
        Metric("threes", norm, MetricSchedule(every=3, inputs=4)),
        Metric("fours", norm, MetricSchedule(every=4, inputs=4)),
    )
    trained(bench.job("one", stop=7), bench.job("two", start=7, stop=10, parent="one"))
    history = concatenate([bench.record("one").history, bench.record("two").history])
    assert history.measured_epoch.tolist() == [1, 3, 4, 6, 8, 9]
    for name, measured in (("threes", [1, 3, 6, 9]), ("fours", [1, 4, 8])):
        found = history.measured_epoch[~np.isnan(history.metrics[name].values[:, 0])]
        assert found.tolist() == measured
    weight, bias = (bench.state("two")["model"][name].double() for name in ("4.weight", "4.bias"))
    fresh = Bench(bench.folder, metrics=(Metric("n", norm, MetricSchedule(every=10, inputs=4)),))
    trained(fresh.job("last", start=7, stop=10, parent="one"))
    last = fresh.record("last").history
    assert last.measured_epoch.tolist() == [10]
    assert last.metrics["n"].values[0, 1] == pytest.approx(float((weight.square().sum() + bias.square().sum()).sqrt()))


@pytest.mark.parametrize(
    ("condition", "on", "level"),
    [
        (CLEAN, "clean", None),
        ("black", "clean", None),
        ("black", "condition", (0 - 0.3) / 0.2),
        ("idle", "condition", None),  # the learner sees nothing, so metrics are measured on clean inputs
    ],
)
def test_a_metric_sees_what_it_asks_for(bench: Bench, condition: str, on: Any, level: float | None) -> None:
    bench.metrics = (Metric("brightness", part(Brightness()), MetricSchedule(every=1, inputs=1000, on=on)),)
    trained(bench.job("stage", condition, stop=2))
    metric = bench.record("stage").history.metrics["brightness"]
    assert metric.source == on
    clean = ((Stripes()(Path()).train_inputs.double() / 255 - 0.3) / 0.2).mean()
    # float32 sums over 936 numbers of about 1
    np.testing.assert_allclose(metric.values, float(clean) if level is None else level, rtol=1e-4)


def test_a_probe_is_the_same_at_every_epoch_and_leaves_training_alone(bench: Bench) -> None:
    seen: list[tuple[Probe, float, bool]] = []

    @dataclass(frozen=True)
    class Watch:
        def __call__(self, probe: Probe) -> Mapping[str, Measurement]:
            seen.append((probe, float(probe.rng.random()), probe.model.training))
            return {"one": Measurement(1.0), "two": Measurement([3.0, 4.0], [0.5, 0.25], units="u", estimator="e")}

    bench.architecture = part(Net(batchnorm=True, dropout=0.5))
    trained(bench.job("unwatched"))
    bench.metrics = (Metric("w", part(Watch()), MetricSchedule(inputs=5)),)
    trained(bench.job("watched"))
    assert_same_state(bench.state("watched"), bench.state("unwatched"))
    metrics = bench.record("watched").history.metrics
    assert set(metrics) == {"w-one", "w-two"}
    assert metrics["w-two"].values.tolist() == [[3.0, 4.0]] * 4
    assert metrics["w-two"].stderr is not None
    assert metrics["w-two"].stderr.tolist() == [[0.5, 0.25]] * 4
    assert (metrics["w-two"].units, metrics["w-two"].estimator) == ("u", "e")
    first, draw, _ = seen[0]
    assert len(first.inputs) == len(first.targets) == 5
    assert [layer.name for layer in first.layers] == ["1", "5"]
    for probe, number, in_training in seen:
        assert torch.equal(probe.inputs, first.inputs)
        assert torch.equal(probe.targets, first.targets)
        assert number == draw
        assert not in_training
