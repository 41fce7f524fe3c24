"""The checked spec as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

from cpframe import api
from cpframe.api import Count, Natural, NonNegative
from cpframe.spec.document import Document
from cpframe.spec.protocols import Protocol

VARIANT = "variant"
"""The key of a named variant's name among the values of a `Variant`."""

C_co = TypeVar("C_co", covariant=True)


@dataclass(frozen=True)
class Component(Generic[C_co]):
    """A component of the spec; the type parameter is the protocol of its kind, such as `cpframe.api.Architecture`.

    Attributes:
        use: ``package/name``.
        version: the version of the package.
        call: the instance of the plugin's dataclass, with the parameters of the spec.
        data: the fingerprint of a deficit's files, see `cpframe.api.HasFingerprint`; empty for other components (the
            fingerprint of a data set is part of every stage's id).
    """

    use: str
    version: str
    call: C_co
    data: str = ""


Deficit = Component[api.Deficit | api.DeficitWithData]


@dataclass(frozen=True)
class Augment:
    """Augmentation of the training images, drawn anew in every epoch.

    Attributes:
        shift: the largest shift in pixels, up, down, left or right; the border is filled with the mean colour.
        flip: whether every image is mirrored left to right with probability 1/2.
    """

    shift: Natural = 0
    flip: bool = False


@dataclass(frozen=True)
class Training:
    """The training settings.

    Attributes:
        batch_size: the number of images per step.
        augment: the augmentation of training images.
        order: whether deficits act before augmentation (deterministic ones are then computed once) or after it.
        restart_at_removal: what is reset at the end of a deficit: the learning-rate schedule, the optimizer's state.
        reestimate_batchnorm: whether the statistics of BatchNorm are estimated on the clean training set before each
            test.
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
    """When and on which images a metric is measured.

    Attributes:
        every: the interval in epochs; a metric is measured after the first epoch and after every multiple of it.
        inputs: the number of training images in the probe, drawn once per seed; all if the training set has fewer.
        on: ``clean`` images, or images under the ``condition`` of the epoch.
    """

    every: Count = 1
    inputs: Count = 256
    on: Literal["clean", "condition"] = "clean"


@dataclass(frozen=True)
class Metric:
    """A metric of the spec.

    Attributes:
        name: the name in the spec.
        component: the component.
        schedule: when and on which images it is measured.
    """

    name: str
    component: Component[api.Metric]
    schedule: MetricSchedule


@dataclass(frozen=True)
class ObserverOptions:
    """The options of an observer.

    Attributes:
        wait: the seconds that the end of a run waits for the observer; epochs that it has not processed by then are
            lost to it.
    """

    wait: NonNegative = 60.0


@dataclass(frozen=True)
class Observer:
    """An observer of the spec.

    Attributes:
        name: the name in the spec.
        component: the component.
        options: the options.
    """

    name: str
    component: Component[api.Observer]
    options: ObserverOptions


@dataclass(frozen=True)
class Variant:
    """A named variant, a point of the grid, or both: everything that determines a training except seed and timeline.

    Attributes:
        values: the name of the variant in the spec, under the key `VARIANT`, if it has one; then the values of the
            grid by dotted key.
        dataset: the data set.
        architecture: the architecture.
        optimizer: the optimizer.
        training: the training settings.
        deficits: the deficits, by name.
    """

    values: Mapping[str, object]
    dataset: Component[api.Dataset]
    architecture: Component[api.Architecture]
    optimizer: Component[api.Optimizer]
    training: Training
    deficits: Mapping[str, Deficit]


@dataclass(frozen=True)
class Spec:
    """A checked spec.

    Attributes:
        document: the document that was read, which knows where each key was written.
        title: the title of the study.
        seeds: the seeds; every timeline of every variant is trained once per seed.
        score_epochs: the number of last epochs whose mean test accuracy is the score.
        variants: the variants, at least one.
        protocols: the protocols, each with the names of the deficits that it applies to.
        metrics: the metrics, in the order of the spec.
        observers: the observers, in the order of the spec; they determine no result.
    """

    document: Document
    title: str
    seeds: tuple[int, ...]
    score_epochs: int
    variants: tuple[Variant, ...]
    protocols: tuple[tuple[Protocol, tuple[str, ...]], ...]
    metrics: tuple[Metric, ...]
    observers: tuple[Observer, ...] = ()
