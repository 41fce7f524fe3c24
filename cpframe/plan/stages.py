"""`Spec` -> `Study`: the timelines, the trajectories, and the tree of stages that they share."""

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
    """One training of the study.

    Attributes:
        name: the name, unique in the study.
        timeline: the timeline and its protocol.
        seed: the seed of the training.
        variant: the index of the variant in the spec.
        stages: the ids of its stages, in order.
    """

    name: str
    timeline: Timeline
    seed: int
    variant: int
    stages: tuple[str, ...]


@dataclass(frozen=True)
class Stage:
    """Consecutive epochs under one condition that one or more trajectories share.

    Attributes:
        id: the hash of everything that determines its bits.
        parent: the id of the stage before it, or None for a stage that starts from fresh weights.
        seed: the seed of the training.
        variant: the index of the variant in the spec.
        condition: ``clean``, or a deficit's name in the spec.
        start: the number of epochs completed before it.
        stop: the number of epochs completed after it.
        rates: the learning rate per epoch.
        restart_state: whether the optimizer's state is reset at its start.
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
        """The number of epochs in the stage."""
        return self.stop - self.start


@dataclass(frozen=True)
class Study:
    """Everything that one spec asks for.

    Attributes:
        spec: the spec that was planned.
        trajectories: the trajectories, in the order of the report.
        stages: the stages by id, every parent before its children.
    """

    spec: Spec
    trajectories: tuple[Trajectory, ...]
    stages: Mapping[str, Stage]

    @property
    def epochs_asked(self) -> int:
        """The number of epochs of all trajectories."""
        return sum(trajectory.timeline.epochs for trajectory in self.trajectories)

    @property
    def epochs_to_train(self) -> int:
        """The number of epochs of all stages; an epoch that trajectories share is counted once."""
        return sum(stage.epochs for stage in self.stages.values())


def plan(spec: Spec, determinants: Mapping[str, str]) -> Study:
    """Return the trajectories of a spec and the stages that they share.

    Args:
        spec: the spec.
        determinants: the facts outside the spec that determine the bits of a training: numerics, versions, code, data.
    """
    trajectories: list[Trajectory] = []
    stages: dict[str, Stage] = {}
    timelines = _timelines(spec)
    prefixes = _prefixes(spec)
    for index, variant in enumerate(spec.variants):
        for seed in spec.seeds:
            root = digest(training_facts(spec, variant, seed, determinants))
            chains: list[list[str]] = [[] for _ in timelines]
            for stage, members in _share_stages(timelines, variant, index, seed, root):
                stages[stage.id] = stage
                for member in members:
                    chains[member].append(stage.id)
            for timeline, chain in zip(timelines, chains, strict=True):
                name = _name(timeline, seed, prefixes[index])
                trajectories.append(Trajectory(name, timeline, seed, index, tuple(chain)))
    return Study(spec, tuple(trajectories), stages)


def _timelines(spec: Spec) -> tuple[Timeline, ...]:
    """Return the distinct timelines of all protocols.

    Sliding windows are compared with a no-deficit run as long as the longest training, which is added.
    """
    asked = [timeline for protocol, deficits in spec.protocols for timeline in protocol.timelines(deficits)]
    if any(timeline.protocol == "sliding" for timeline in asked):
        asked.insert(0, Timeline("clean", CLEAN, 0, 0, max(timeline.epochs for timeline in asked)))
    return tuple(dict.fromkeys(asked))


def _prefixes(spec: Spec) -> list[str]:
    """Return the prefix of the trajectory names of every variant: its name, and its number if there is a grid.

    A name cannot contain the dot, so the names of trajectories are unique.
    """
    names = [variant.values.get(VARIANT) for variant in spec.variants]
    gridded = len(names) > len(set(names))
    seen: Counter[object] = Counter()
    prefixes = []
    for name in names:
        prefixes.append(("" if name is None else f"{name}.") + (f"variant{seen[name]}-" if gridded else ""))
        seen[name] += 1
    return prefixes


def _name(timeline: Timeline, seed: int, prefix: str) -> str:
    window = "" if timeline.deficit == CLEAN else f"-{timeline.onset}-{timeline.offset}"
    return f"{prefix}{timeline.protocol}-{timeline.deficit}{window}-of-{timeline.epochs}-seed{seed}"


@dataclass(frozen=True)
class _Branch:
    """Timelines that have shared every epoch so far.

    Attributes:
        parent: the last stage that they share, or None.
        history: the hash of everything that determines their epochs so far.
        rate_origin: the epoch from which the learning-rate schedule counts.
        members: the number of each timeline, with its remaining segments.
    """

    parent: Stage | None
    history: blake2b
    rate_origin: int
    members: tuple[tuple[int, tuple[Segment, ...]], ...]


def _share_stages(
    timelines: tuple[Timeline, ...], variant: Variant, index: int, seed: int, root: blake2b
) -> Iterator[tuple[Stage, tuple[int, ...]]]:
    """Yield every stage of one variant and seed, parents first, with the numbers of the timelines that share it.

    A stage ends where one of its timelines branches off, ends or changes its condition.
    """
    waiting = [_Branch(None, root, 0, tuple((number, timeline.segments) for number, timeline in enumerate(timelines)))]
    while waiting:
        branch = waiting.pop()
        for condition in dict.fromkeys(ahead[0].condition for _, ahead in branch.members):
            members = [(number, ahead) for number, ahead in branch.members if ahead[0].condition == condition]
            epochs = min(ahead[0].epochs for _, ahead in members)
            stage, history, origin = _make_stage(branch, condition, epochs, variant, index, seed)
            yield stage, tuple(number for number, _ in members)
            rest = [(number, _skip_epochs(ahead, epochs)) for number, ahead in members]
            unfinished = tuple((number, ahead) for number, ahead in rest if ahead)
            if unfinished:
                waiting.append(_Branch(stage, history, origin, unfinished))


def _skip_epochs(segments: tuple[Segment, ...], epochs: int) -> tuple[Segment, ...]:
    """Return the segments without the first `epochs` epochs, at most those of the first segment."""
    left = segments[0].epochs - epochs
    return (Segment(segments[0].condition, left), *segments[1:]) if left else segments[1:]


def _make_stage(
    branch: _Branch, condition: str, epochs: int, variant: Variant, index: int, seed: int
) -> tuple[Stage, blake2b, int]:
    """Return the next stage of a branch, with the hash and the rate origin of the branch after it."""
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
        # Epoch by epoch, so that the same epochs give the same hash wherever other trajectories branch off.
        history.update(f"{experience}{rate!r}{restart_state and number == 0}\n".encode())
    ended = history.copy()
    ended.update(f"from {start}".encode())
    parent_id = parent.id if parent is not None else None
    stop = start + epochs
    stage = Stage(ended.hexdigest(), parent_id, seed, index, condition, start, stop, rates, restart_state)
    return stage, history, origin
