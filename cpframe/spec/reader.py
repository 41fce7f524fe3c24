"""TOML -> `Spec`: everything is checked before anything is trained, and all problems are reported at once."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cpframe.api import Count, Natural
from cpframe.api.optional import is_idle
from cpframe.errors import Problem, SpecError, list_names, nearest
from cpframe.plugins.discovery import Catalogue
from cpframe.plugins.kinds import ARCHITECTURE, DATASET, DEFICIT, METRIC, OBSERVER, OPTIMIZER, Kind
from cpframe.plugins.parameters import parameters
from cpframe.records.model import CLEAN, RESERVED_NAMES
from cpframe.spec.document import Document, read_document
from cpframe.spec.dotted_keys import is_word
from cpframe.spec.model import Component, Metric, MetricSchedule, Observer, ObserverOptions, Spec, Training, Variant
from cpframe.spec.overrides import Overrides
from cpframe.spec.positions import KeyPath
from cpframe.spec.protocols import PROTOCOLS, Protocol
from cpframe.spec.source import SpecSource
from cpframe.spec.validation import build, describe
from cpframe.spec.variants import expand_variants

K = TypeVar("K")

_TABLES = {
    *("dataset", "architecture", "optimizer", "training", "deficits", "protocols", "metrics", "observers"),
    *("variants", "grid", "profiles"),
}
_WORD = "the name must consist of letters, digits, - and _"


@dataclass(frozen=True)
class _Head:
    """The keys of a spec outside all tables."""

    title: str = ""
    seeds: tuple[Natural, ...] = (0, 1, 2)
    score_epochs: Count = 5


def read_spec(source: SpecSource, catalogue: Catalogue, profile: str | None = None, overrides: Overrides = ()) -> Spec:
    """Read and check a spec.

    Args:
        source: the path of a TOML file, TOML text, or a dict of the same structure.
        catalogue: the installed components.
        profile: the name of a ``[profiles.NAME]`` table to apply, or None.
        overrides: values to set after that: texts ``key=value``, or a mapping of dotted keys to values.

    Raises:
        SpecError: with all problems of the spec.
    """
    document, problems = read_document(source, profile, overrides)
    return _Reader(document, catalogue, problems).spec()


@dataclass(frozen=True)
class _Reader:
    """Reads one document; the problems that it finds are added to `problems`."""

    document: Document
    catalogue: Catalogue
    problems: list[Problem]

    def spec(self) -> Spec:
        head = build(_Head, self.document.tables, (), self.document, self.problems, others=_TABLES) or _Head()
        for index, seed in enumerate(head.seeds):
            if seed in head.seeds[:index]:
                self.problem(("seeds", index), f"repeats seed {seed}")
        if not head.seeds:
            self.problem(("seeds",), "must have at least one seed")
        variants = self.variants()
        protocols = self.protocols(head.score_epochs)
        metrics = self.metrics()
        observers = self.observers()
        if self.problems:
            raise SpecError(self.problems)
        document = self.document
        title = head.title or document.name
        return Spec(document, title, head.seeds, head.score_epochs, variants, protocols, metrics, observers)

    def problem(self, path: KeyPath, why: str) -> None:
        self.problems.append(self.document.problem(path, why))

    def component(
        self, kind: Kind[K], path: KeyPath, table: object, others: Collection[str] = ()
    ) -> Component[K] | None:
        """Build the component that a table names by ``use``; `others` are keys that are not its parameters."""
        known = list_names([offer.name for offer in self.catalogue.of_kind(kind)], f"{kind}s")
        if not isinstance(table, Mapping):
            why = f'must be a table with use = "...", the name of the {kind}; {known}'
            self.problem(path, f"is missing; it {why}" if table is None else why)
            return None
        use = table.get("use")
        if not isinstance(use, str):
            why = f"must be the name of the {kind}, in quotes; {known}"
            self.problem((*path, "use"), why if "use" in table else f"is missing; it {why}")
            return None
        try:
            offer = self.catalogue.find(kind, use)
        except LookupError as error:
            self.problem((*path, "use"), str(error))
            return None
        call = build(offer.component, table, path, self.document, self.problems, others={"use", *others})
        return None if call is None else Component(f"{offer.package}/{offer.name}", offer.version, call)

    def table(self, key: str, form: str) -> Mapping[str, Any]:
        """Return a table at the top level of the spec; empty if it is missing."""
        table = self.document.tables.get(key, {})
        if not isinstance(table, Mapping):
            self.problem((key,), f"must be {form}, not {describe(table)}")
            return {}
        return table

    def deficits(self) -> Mapping[str, Any]:
        return self.table("deficits", "tables, [deficits.NAME]")

    def variants(self) -> tuple[Variant, ...]:
        read = (
            _Reader(document, self.catalogue, self.problems).variant(values)
            for values, document in expand_variants(self.document, self.problems)
        )
        variants = tuple(variant for variant in read if variant is not None)
        for name in variants[0].deficits if variants else ():
            if len({is_idle(variant.deficits[name].call) for variant in variants if name in variant.deficits}) > 1:
                why = "is idle in some variants and not in others; give the idle control a name of its own"
                self.problem(("deficits", name), why)
        return variants

    def variant(self, values: Mapping[str, object]) -> Variant | None:
        tables = self.document.tables
        dataset = self.component(DATASET, ("dataset",), tables.get("dataset"))
        architecture = self.component(ARCHITECTURE, ("architecture",), tables.get("architecture"))
        optimizer = self.component(OPTIMIZER, ("optimizer",), tables.get("optimizer"))
        training = build(Training, tables.get("training", {}), ("training",), self.document, self.problems)
        deficits = {}
        for name, table in self.deficits().items():
            if not is_word(name) or name == CLEAN:
                self.problem(("deficits", name), f"{_WORD}, and must not be {CLEAN!r}")
            deficits[name] = self.component(DEFICIT, ("deficits", name), table)
        valid = {name: deficit for name, deficit in deficits.items() if deficit is not None}
        if (
            dataset is None
            or architecture is None
            or optimizer is None
            or training is None
            or len(valid) < len(deficits)
        ):
            return None
        return Variant(values, dataset, architecture, optimizer, training, valid)

    def protocols(self, score_epochs: int) -> tuple[tuple[Protocol, tuple[str, ...]], ...]:
        tables = self.document.tables.get("protocols", [])
        if not isinstance(tables, list) or not tables:
            where: KeyPath = ("protocols",) if "protocols" in self.document.tables else ()
            why = "must be at least one [[protocols]] table, which says when the deficits act"
            self.problems.append(Problem(self.document.where(where), "protocols", why))
            return ()
        known = self.deficits()
        protocols = []
        for number, table in enumerate(tables):
            path: KeyPath = ("protocols", number)
            kind = self.protocol_kind(path, table)
            if kind is None:
                continue
            protocol = build(kind, table, path, self.document, self.problems, others={"use"})
            if protocol is None:
                continue
            self.check_deficits(protocol, path, known)
            deficits = protocol.deficits or tuple(known)
            if not deficits:
                self.problem(path, "has no deficit to apply; add a table [deficits.NAME]")
            for key, why in protocol.problems(score_epochs):
                self.problem(path + key, why)
            protocols.append((protocol, deficits))
        return tuple(protocols)

    def check_deficits(self, protocol: Protocol, path: KeyPath, known: Collection[str]) -> None:
        for index, name in enumerate(protocol.deficits):
            where: KeyPath = (*path, "deficits", index)
            if name not in known:
                self.problem(where, f"unknown deficit {name!r}; {nearest(name, known, 'deficits')}")
            if name in protocol.deficits[:index]:
                self.problem(where, f"repeats {name!r}")

    def protocol_kind(self, path: KeyPath, table: object) -> type[Protocol] | None:
        if not isinstance(table, Mapping):
            self.problem(path, f"must be a table, not {describe(table)}")
            return None
        use = table.get("use")
        if isinstance(use, str) and use in PROTOCOLS:
            return PROTOCOLS[use]
        if isinstance(use, str):
            why = f"unknown protocol {use!r}; {nearest(use, PROTOCOLS, 'protocols')}"
        else:
            why = f"must be the name of the protocol, in quotes; {list_names(PROTOCOLS, 'protocols')}"
            why = why if "use" in table else f"is missing; it {why}"
        self.problem((*path, "use"), why)
        return None

    def metrics(self) -> tuple[Metric, ...]:
        schedule_keys = set(parameters(MetricSchedule))
        metrics = []
        for name, table in self.table("metrics", "tables, [metrics.NAME]").items():
            path: KeyPath = ("metrics", name)
            if not is_word(name):
                self.problem(path, _WORD)
            if name in RESERVED_NAMES or name.endswith("_stderr"):
                self.problem(path, "the name is reserved in results files; choose another name")
            component = self.component(METRIC, path, table, others=schedule_keys)
            if not isinstance(table, Mapping):
                continue
            settings = {key: value for key, value in table.items() if key in schedule_keys}
            schedule = build(MetricSchedule, settings, path, self.document, self.problems)
            if component is not None and schedule is not None:
                metrics.append(Metric(name, component, schedule))
        return tuple(metrics)

    def observers(self) -> tuple[Observer, ...]:
        option_keys = set(parameters(ObserverOptions))
        observers: list[Observer] = []
        for name, table in self.table("observers", "tables, [observers.NAME]").items():
            path: KeyPath = ("observers", name)
            if not is_word(name):
                self.problem(path, _WORD)
            component = self.component(OBSERVER, path, table, others=option_keys)
            if not isinstance(table, Mapping):
                continue
            settings = {key: value for key, value in table.items() if key in option_keys}
            options = build(ObserverOptions, settings, path, self.document, self.problems)
            if component is None or options is None:
                continue
            if twins := [other.name for other in observers if other.component == component]:
                why = (
                    f"repeats observers.{twins[0]}, so both would write to the same place; change a parameter, "
                    "or remove one of the two"
                )
                self.problem(path, why)
            observers.append(Observer(name, component, options))
        return tuple(observers)
