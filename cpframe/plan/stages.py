"""Spec -> Study: timelines, trajectories, and the tree of stages that they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

from cpframe.plan.identity import canonical_text, component_facts, digest, training_facts
from cpframe.records.model import CLEAN
from cpframe.spec.model import VARIANT, Spec, Variant
from cpframe.spec.protocols import Segment, Timeline


@dataclass(frozen=True)
class Trajectory:
    """One training that the study asks for.

    Attributes:
        name: unique in the study.
        timeline: its protocol and timeline.
        seed: of the training.
        variant: index into the spec's variants.
        stages: ids of its stages, from the first epoch to the last.
    """

    name: str
    timeline: Timeline
    seed: int
    variant: int
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """A run of epochs under one condition that one or more trajectories share.

    Attributes:
        id: hash of all that determines its bits.
        parent: id of the stage it goes on from, or None: it starts from fresh weights.
        seed: of the training.
        variant: index into the spec's variants.
        condition: ``clean``, or a deficit's name.
        start: epochs completed before it.
        stop: epochs completed after it.
        rates: the learning rate of each of its epochs.
        restart_state: the optimizer's state is dropped at its start.
    """

    id: str
    parent: str | None
    seed: int
    variant: int
    condition: str
    start: int
    stop: int
    rates: tuple[float, ...]
    restart_state: bool

    @property
    def epochs(self) -> int:
        """Its length."""
        return self.stop - self.start


@dataclass(frozen=True)
class Study:
    """Everything that a spec asks for.

    Attributes:
        spec: it.
        trajectories: in the order of the report.
        stages: by id, every parent before its children.
    """

    spec: Spec
    trajectories: tuple[Trajectory, ...]
    stages: Mapping[str, Stage]

    @property
    def epochs_asked(self) -> int:
        """Epochs of all trajectories."""
        return sum(trajectory.timeline.epochs for trajectory in self.trajectories)

    @property
    def epochs_to_train(self) -> int:
        """Epochs of all stages: those asked for, with the shared ones counted once."""
        return sum(stage.epochs for stage in self.stages.values())


def plan(spec: Spec, determinants: Mapping[str, str]) -> Study:
    """Lay out the trajectories of a spec and the stages that they share.

    Args:
        spec: checked.
        determinants: whatever else determines the bits of a training: numerics profile, versions, training code.
    """
    trajectories: list[Trajectory] = []
    stages: dict[str, Stage] = {}
    timelines = _timelines(spec)
    prefixes = _prefixes(spec)
    for index, variant in enumerate(spec.variants):
        for seed in spec.seeds:
            root = digest(training_facts(spec, variant, seed, determinants))
            chains: list[list[str]] = [[] for _ in timelines]
            for stage, members in _shared(timelines, variant, index, seed, root):
                stages[stage.id] = stage
                for member in members:
                    chains[member].append(stage.id)
            for timeline, chain in zip(timelines, chains, strict=True):
                name = _name(timeline, seed, prefixes[index])
                trajectories.append(Trajectory(name, timeline, seed, index, tuple(chain)))
    return Study(spec, tuple(trajectories), stages)


def _timelines(spec: Spec) -> tuple[Timeline, ...]:
    """Every timeline that the protocols ask for, once.

    With sliding windows comes a no-deficit run, as long as the longest training, to compare them with.
    """
    asked = [timeline for protocol, deficits in spec.protocols for timeline in protocol.timelines(deficits)]
    if any(timeline.protocol == "sliding" for timeline in asked):
        asked.insert(0, Timeline("clean", CLEAN, 0, 0, max(timeline.epochs for timeline in asked)))
    return tuple(dict.fromkeys(asked))


def _prefixes(spec: Spec) -> list[str]:
    """What the names of a variant's trajectories begin with: its name, its number in the grid where there are more.

    The dot cannot be part of a name, so that no two trajectories come to be called the same.
    """
    names = [variant.values.get(VARIANT) for variant in spec.variants]
    gridded = len(names) > len(set(names))
    seen: Counter[object] = Counter()
    found = []
    for name in names:
        found.append(("" if name is None else f"{name}.") + (f"variant{seen[name]}-" if gridded else ""))
        seen[name] += 1
    return found


def _name(timeline: Timeline, seed: int, prefix: str) -> str:
    window = "" if timeline.deficit == CLEAN else f"-{timeline.onset}-{timeline.offset}"
    return f"{prefix}{timeline.protocol}-{timeline.deficit}{window}-of-{timeline.epochs}-seed{seed}"


@dataclass(frozen=True)
class _Branch:
    """Trajectories that have shared everything so far; each with the runs of its timeline still to come."""

    parent: Stage | None
    history: blake2b
    rate_origin: int
    members: tuple[tuple[int, tuple[Segment, ...]], ...]


def _shared(
    timelines: tuple[Timeline, ...], variant: Variant, index: int, seed: int, root: blake2b
) -> Iterator[tuple[Stage, tuple[int, ...]]]:
    """Yield every stage of one variant and seed, parents first, with the numbers of the timelines that run through it.

    A stage ends where any of its timelines branches off, ends or changes its condition.
    """
    waiting = [_Branch(None, root, 0, tuple((number, timeline.segments) for number, timeline in enumerate(timelines)))]
    while waiting:
        branch = waiting.pop()
        for condition in dict.fromkeys(ahead[0].condition for _, ahead in branch.members):
            members = [(number, ahead) for number, ahead in branch.members if ahead[0].condition == condition]
            epochs = min(ahead[0].epochs for _, ahead in members)
            stage, history, origin = _stage(branch, condition, epochs, variant, index, seed)
            yield stage, tuple(number for number, _ in members)
            rest = [(number, _after(ahead, epochs)) for number, ahead in members]
            going_on = tuple((number, ahead) for number, ahead in rest if ahead)
            if going_on:
                waiting.append(_Branch(stage, history, origin, going_on))


def _after(ahead: tuple[Segment, ...], epochs: int) -> tuple[Segment, ...]:
    """What is left of a timeline when that many epochs of its first run have passed."""
    left = ahead[0].epochs - epochs
    return (Segment(ahead[0].condition, left), *ahead[1:]) if left else ahead[1:]


def _stage(
    branch: _Branch, condition: str, epochs: int, variant: Variant, index: int, seed: int
) -> tuple[Stage, blake2b, int]:
    parent = branch.parent
    start = parent.stop if parent is not None else 0
    removal = parent is not None and parent.condition != CLEAN and condition == CLEAN
    restart = variant.training.restart_at_removal
    origin = start if removal and restart in ("rate", "rate-and-state") else branch.rate_origin
    rates = tuple(variant.optimizer.call.learning_rate(epoch - origin) for epoch in range(start, start + epochs))
    restart_state = removal and restart in ("state", "rate-and-state")
    history = branch.history.copy()
    deficit = component_facts(variant.deficits[condition]) if condition != CLEAN else None
    experience = canonical_text([condition, deficit])
    for number, rate in enumerate(rates):
        # One epoch at a time: the same experience gives the same hash wherever other trajectories happen to branch.
        history.update(f"{experience}{rate!r}{restart_state and number == 0}\n".encode())
    ended = history.copy()
    ended.update(f"from {start}".encode())
    parent_id = parent.id if parent is not None else None
    stop = start + epochs
    stage = Stage(ended.hexdigest(), parent_id, seed, index, condition, start, stop, rates, restart_state)
    return stage, history, origin
