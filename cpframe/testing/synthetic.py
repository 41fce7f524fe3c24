"""The records of studies with known effects, and noise of a fixed seed: nothing is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from cpframe.records.model import (
    CLEAN,
    FISHER_TRACE,
    Floats,
    History,
    Integers,
    MetricHistory,
    Status,
    StudyRecord,
    TrajectoryRecord,
)

LAYERS = ("conv1", "conv2", "conv3", "head")


def constant_rate(_epoch: int) -> float:
    """Return the learning rate of every epoch."""
    return 0.02


def no_effect(_onset: int, _offset: int) -> float:
    """Return the drop of a deficit that leaves no trace."""
    return 0.0


@dataclass(frozen=True)
class Design:
    """The design of a synthetic study: both protocols, with effects that are known.

    Attributes:
        title: the title of the study.
        seeds: the seeds, which also decide the noise.
        effects: the drop of each deficit by its name, as a fraction of 1, as a function of (onset, offset) in epochs.
        deficits: the component of each deficit, by the name of the deficit.
        until: the removal epochs of the removal protocol; empty for a study without it.
        recovery: the number of clean epochs after the removal.
        onsets: the onsets of the sliding protocol; empty for a study without it.
        length: the number of epochs of each deficit of the sliding protocol.
        epochs: the total number of epochs of the sliding protocol.
        variants: the values of each variant, by dotted key.
        rate: the learning rate as a function of the number of completed epochs.
        restart: whether `rate` starts again when a deficit is removed.
        noise: the standard deviation of the final accuracy between seeds, as a fraction of 1.
        metrics: whether metrics are measured: the Fisher trace and the norms of the weights, every 5 epochs.
        layers: the names of the layers.
        score_epochs: the number of final epochs whose mean test accuracy is the score.
    """

    title: str = "Blur leaves a scar, a vertical flip does not"
    seeds: Sequence[int] = (0, 1, 2, 3, 4)
    effects: Mapping[str, Callable[[int, int], float]] = field(
        default_factory=lambda: {
            "blur": lambda onset, offset: 0.024 * math.exp(-onset / 12) * min(1.0, (offset - onset) / 40),
            "noise": lambda onset, offset: 0.008 * math.exp(-onset / 12) * min(1.0, (offset - onset) / 80),
            "flip": no_effect,
            "idle": no_effect,
        }
    )
    deficits: Mapping[str, str] = field(
        default_factory=lambda: {"blur": "blur", "noise": "noise", "flip": "vertical-flip", "idle": "idle"}
    )
    until: Sequence[int] = (0, 5, 10, 20, 40, 80)
    recovery: int = 60
    onsets: Sequence[int] = (0, 20, 40)
    length: int = 40
    epochs: int = 120
    variants: Sequence[Mapping[str, object]] = ({},)
    rate: Callable[[int], float] = constant_rate
    restart: bool = False
    noise: float = 0.004
    metrics: bool = True
    layers: Sequence[str] = LAYERS
    score_epochs: int = 5


def fisher_history(epoch: Integers, onset: int, offset: int, layers: int) -> Floats:
    """Return the Fisher trace of each layer (epochs, layers), in nats, which rises to a peak and falls.

    A longer deficit makes the peak higher and later, and moves the trace to later layers.
    """
    dose = max(0, offset - max(onset, 0)) * math.exp(-onset / 40)
    top = 60 + 0.4 * dose
    height = 600 * (1 + dose / 45)
    total = 90 + dose + height * (epoch / top) ** 2 * np.exp(2 - 2 * epoch / top)
    depth = np.linspace(0, 1, layers)
    centre = 0.35 + 0.4 * (1 - math.exp(-dose / 40)) * np.minimum(1.0, epoch / 60)
    weight = np.exp(-(((depth[None, :] - centre[:, None]) / 0.3) ** 2)) + 0.05
    shares: Floats = total[:, None] * weight / weight.sum(axis=1, keepdims=True)
    return shares


def make_trajectory(
    design: Design, protocol: str, deficit: str, onset: int, offset: int, epochs: int, seed: int, variant: int = 0
) -> TrajectoryRecord:
    """Return one complete trajectory of a design; equal arguments give equal noise."""
    rng = np.random.default_rng([seed, variant, onset, offset, epochs, *deficit.encode()])
    seed_effect = np.random.default_rng([seed, variant, 77]).normal(0, 0.006)
    epoch = np.arange(1, epochs + 1)
    drop = 0.0 if deficit == CLEAN else design.effects[deficit](onset, offset)
    condition = tuple(deficit if onset < e <= offset else CLEAN for e in epoch)
    blind = np.clip(epoch - onset, 0, offset - onset) if deficit != CLEAN else 0
    seen = np.maximum(epoch - 0.7 * blind, 1)
    final = 0.924 + seed_effect + rng.normal(0, design.noise) - drop
    test_accuracy = np.clip(final - 0.6 * np.exp(-seen / 6) + rng.normal(0, design.noise / 4, epochs), 0, 1)
    rates = [design.rate(e - offset if design.restart and e >= offset else e) for e in range(epochs)]
    measured = np.arange(5, epochs + 1, 5)
    metrics: dict[str, MetricHistory] = {}
    if design.metrics:
        values = fisher_history(measured, onset, offset, len(design.layers))
        values = values * rng.normal(1, 0.05, values.shape)
        metrics["fisher"] = MetricHistory(
            values, 0.05 * values, "nats", "Fisher trace, labels from the model", "clean", quantity=FISHER_TRACE
        )
        norms = 2 + 0.02 * measured[:, None] * np.linspace(1, 2, len(design.layers))[None, :]
        metrics["weight-norm"] = MetricHistory(norms, None, "", "Euclidean norm", "clean")
    history = History(
        epoch=epoch,
        condition=condition,
        learning_rate=np.array(rates),
        train_loss=np.full(epochs, 0.3),
        train_accuracy=np.full(epochs, 0.95),
        test_loss=np.full(epochs, 0.4),
        test_accuracy=test_accuracy,
        measured_epoch=measured,
        layers=tuple(design.layers),
        metrics=metrics,
    )
    return TrajectoryRecord(
        name=f"{protocol}-{deficit}-{onset}-{offset}-v{variant}-seed{seed}",
        protocol=protocol,
        deficit=deficit,
        onset=onset,
        offset=offset,
        epochs=epochs,
        seed=seed,
        variant=design.variants[variant],
        status="complete",
        reason="",
        score=float(test_accuracy[-design.score_epochs :].mean()),
        history=history,
    )


def make_study(design: Design) -> StudyRecord:
    """Return a synthetic study in which all trajectories of a design are complete."""
    made: list[TrajectoryRecord] = []
    longest = max([design.recovery + max(design.until, default=0), design.epochs if design.onsets else 0])
    for variant in range(len(design.variants)):
        for seed in design.seeds:
            made.append(make_trajectory(design, "clean", CLEAN, 0, 0, longest, seed, variant))
            if design.until:
                made.append(make_trajectory(design, "removal", CLEAN, 0, 0, design.recovery, seed, variant))
            for deficit in design.effects:
                for until in design.until:
                    if until > 0:
                        total = until + design.recovery
                        made.append(make_trajectory(design, "removal", deficit, 0, until, total, seed, variant))
                for onset in design.onsets:
                    end = onset + design.length
                    made.append(make_trajectory(design, "sliding", deficit, onset, end, design.epochs, seed, variant))
    return StudyRecord(
        title=design.title,
        spec="",
        score_epochs=design.score_epochs,
        deficits=design.deficits,
        created="2026-03-01T12:00:00+00:00",
        provenance={"device": "cpu", "numerics": "exact", "versions": "cpframe 0.1.0, torch 2.15.0", "command": "run"},
        trajectories=tuple(made),
        idle=frozenset(name for name, component in design.deficits.items() if component == "idle"),
    )


def cut_short(trajectory: TrajectoryRecord, epochs: int, status: Status, reason: str) -> TrajectoryRecord:
    """Return the trajectory as it was after its first epochs, unfinished or failed.

    Args:
        trajectory: a complete trajectory.
        epochs: the number of epochs to keep.
        status: the status of the result.
        reason: the reason of a failure, or an empty text.
    """
    history = trajectory.history
    rows, kept = slice(0, epochs), history.measured_epoch <= epochs
    shorter = replace(
        history,
        epoch=history.epoch[rows],
        condition=history.condition[rows],
        learning_rate=history.learning_rate[rows],
        train_loss=history.train_loss[rows],
        train_accuracy=history.train_accuracy[rows],
        test_loss=history.test_loss[rows],
        test_accuracy=history.test_accuracy[rows],
        measured_epoch=history.measured_epoch[kept],
        metrics={
            name: replace(m, values=m.values[kept], stderr=None if m.stderr is None else m.stderr[kept])
            for name, m in history.metrics.items()
        },
    )
    return replace(trajectory, status=status, reason=reason, score=math.nan, history=shorter)
