"""The spec as checked, frozen dataclasses: what a study is asked to train and measure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cpframe.api import Count, Natural, NonNegative
from cpframe.spec.document import Document
from cpframe.spec.protocols import Protocol

VARIANT = "variant"
"""The key, among a variant's values, of the name of its ``[variants.NAME]``."""


@dataclass(frozen=True)
class Component:
    """A component that the spec asks for.

    Attributes:
        use: ``package/name``.
        version: of the package.
        call: the instance of the plugin's dataclass, with the parameters of the spec; what it is called with and
            returns depends on the kind, see `cpframe.api`.
        data: what it says of its files, where these can change under the same parameters (deficits only: what a data
            set says is part of every stage's id).
    """

    use: str
    version: str
    call: Any
    data: str = ""

    @property
    def idle(self) -> bool:
        """Whether it is a deficit without any training: the control for what lost training does."""
        return bool(getattr(self.call, "idle", False))


@dataclass(frozen=True)
class Augment:
    """Augmentation of the training images, drawn anew in every epoch.

    Attributes:
        shift: largest shift in pixels, up, down, left or right; the border is filled with the mean colour.
        flip: mirror every image left to right with probability 1/2.
    """

    shift: Natural = 0
    flip: bool = False


@dataclass(frozen=True)
class Training:
    """How a stage is trained.

    Attributes:
        batch_size: images a step.
        augment: augmentation.
        order: whether deficits act before augmentation (then deterministic ones are computed once) or after it.
        restart_at_removal: what starts anew when a deficit ends: the learning-rate schedule, the optimizer's state.
        reestimate_batchnorm: before each test, estimate the statistics of BatchNorm anew on the clean training set.
        numerics: ``exact`` (float32, deterministic), ``fast`` (bfloat16, CUDA only) or ``auto`` (fast on CUDA).
    """

    batch_size: Count = 128
    augment: Augment = Augment()
    order: Literal["deficit-first", "augment-first"] = "deficit-first"
    restart_at_removal: Literal["nothing", "rate", "state", "rate-and-state"] = "nothing"
    reestimate_batchnorm: bool = False
    numerics: Literal["auto", "exact", "fast"] = "auto"


@dataclass(frozen=True)
class MetricSchedule:
    """When and on what a metric is measured.

    Attributes:
        every: measured after the first epoch and then after every so many.
        inputs: how many training images the probe has, drawn once a seed; all when there are fewer.
        on: ``clean`` images, or those of the ``condition`` the learner is in.
    """

    every: Count = 1
    inputs: Count = 256
    on: Literal["clean", "condition"] = "clean"


@dataclass(frozen=True)
class Metric:
    """A metric of the spec: its name there, the component, and when and on what it is measured."""

    name: str
    component: Component
    schedule: MetricSchedule


@dataclass(frozen=True)
class ObserverOptions:
    """How long an observer may take.

    Attributes:
        wait: seconds that the end of a run waits for it; what it has not taken in by then is lost to it.
    """

    wait: NonNegative = 60.0


@dataclass(frozen=True)
class Observer:
    """An observer of the spec: its name there, the component, and how long it may take."""

    name: str
    component: Component
    options: ObserverOptions


@dataclass(frozen=True)
class Variant:
    """A named variant, a point of the grid or both: everything that determines a training but seed and timeline.

    Attributes:
        values: its name in the spec, with the key ``variant``, where it has one, then the grid's values by dotted key.
        dataset, architecture, optimizer: components.
        training: how it is trained.
        deficits: components, by name.
    """

    values: Mapping[str, object]
    dataset: Component
    architecture: Component
    optimizer: Component
    training: Training
    deficits: Mapping[str, Component]


@dataclass(frozen=True)
class Spec:
    """A checked spec.

    Attributes:
        document: that it was read from; knows where each key was written.
        title: of the study.
        seeds: one training each.
        score_epochs: how many last epochs a score is the mean of.
        variants: at least one.
        protocols: with the names of the deficits that each applies to.
        metrics: in the order of the spec.
        observers: in the order of the spec; no part of what determines a result.
    """

    document: Document
    title: str
    seeds: tuple[int, ...]
    score_epochs: int
    variants: tuple[Variant, ...]
    protocols: tuple[tuple[Protocol, tuple[str, ...]], ...]
    metrics: tuple[Metric, ...]
    observers: tuple[Observer, ...] = ()
