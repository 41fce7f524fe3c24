"""TOML -> Spec: everything is checked before anything trains, and all problems are told at once."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpframe.api import Count, Natural
from cpframe.errors import Problem, SpecError, nearest
from cpframe.plugins.discovery import Catalogue, Kind
from cpframe.plugins.parameters import parameters
from cpframe.records.model import CLEAN, TAKEN
from cpframe.spec.document import Document, read_document
from cpframe.spec.dotted_keys import is_word
from cpframe.spec.model import Component, Metric, MetricSchedule, Observer, ObserverOptions, Spec, Training, Variant
from cpframe.spec.positions import KeyPath
from cpframe.spec.protocols import PROTOCOLS, Protocol
from cpframe.spec.validation import build, shown
from cpframe.spec.variants import variations


@dataclass(frozen=True)
class _Head:
    """The keys of a spec outside any table."""

    title: str = ""
    seeds: tuple[Natural, ...] = (0, 1, 2)
    score_epochs: Count = 5


_TABLES = {
    *("dataset", "architecture", "optimizer", "training", "deficits", "protocols", "metrics", "observers"),
    *("variants", "grid", "profiles"),
}


def read_spec(path: Path, catalogue: Catalogue, profile: str | None = None, overrides: Sequence[str] = ()) -> Spec:
    """Read and check a spec.

    Args:
        path: of the TOML file.
        catalogue: the components there are.
        profile: name of a ``[profiles.NAME]`` table to lay over it.
        overrides: ``key=value`` each, laid over that in turn.

    Raises:
        SpecError: with every problem found.
    """
    document, problems = read_document(path, profile, overrides)
    return _Reader(document, catalogue, problems).spec()


@dataclass(frozen=True)
class _Reader:
    """One reading of a document; the problems it meets are gathered in `problems`."""

    document: Document
    catalogue: Catalogue
    problems: list[Problem]

    def spec(self) -> Spec:
        head = build(_Head, self.document.tables, (), self.document, self.problems, others=_TABLES) or _Head()
        first = {seed: place for place, seed in reversed(list(enumerate(head.seeds)))}
        for place, seed in enumerate(head.seeds):
            if first[seed] < place:
                self.problem(("seeds", place), f"names seed {seed} more than once")
        if not head.seeds:
            self.problem(("seeds",), "is empty: name at least one seed")
        variants = self.variants()
        protocols = self.protocols(head.score_epochs)
        metrics = self.metrics()
        observers = self.observers()
        if self.problems:
            raise SpecError(self.problems)
        document = self.document
        title = head.title or document.path.stem
        return Spec(document, title, head.seeds, head.score_epochs, variants, protocols, metrics, observers)

    def problem(self, path: KeyPath, why: str) -> None:
        self.problems.append(self.document.problem(path, why))

    def component(self, kind: Kind, path: KeyPath, table: object, others: Collection[str] = ()) -> Component | None:
        """Build the component that a table names with ``use``; `others` are keys of somebody else."""
        known = [offer.name for offer in self.catalogue.offers if offer.kind == kind]
        if not isinstance(table, Mapping):
            why = f'a table with use = "...", the name of the {kind}; {nearest("", known)}'
            self.problem(path, f"is missing: {why}" if table is None else f"should be {why}")
            return None
        use = table.get("use")
        if not isinstance(use, str):
            why = f"the name of the {kind}, in quotes; {nearest('', known)}"
            self.problem((*path, "use"), f"should be {why}" if "use" in table else f"is missing: {why}")
            return None
        try:
            offer = self.catalogue.find(kind, use)
        except LookupError as error:
            self.problem((*path, "use"), str(error))
            return None
        call = build(offer.component, table, path, self.document, self.problems, others={"use", *others})
        return None if call is None else Component(f"{offer.package}/{offer.name}", offer.version, call)

    def table(self, key: str, form: str) -> Mapping[str, Any]:
        """A table at the top of the spec; empty when it is not there."""
        table = self.document.tables.get(key, {})
        if not isinstance(table, Mapping):
            self.problem((key,), f"should be {form}, not {shown(table)}")
            return {}
        return table

    def deficits(self) -> Mapping[str, Any]:
        return self.table("deficits", "tables, [deficits.NAME]")

    def variants(self) -> tuple[Variant, ...]:
        found = (
            _Reader(document, self.catalogue, self.problems).variant(values)
            for values, document in variations(self.document, self.problems)
        )
        variants = tuple(variant for variant in found if variant is not None)
        for name in variants[0].deficits if variants else ():
            if len({variant.deficits[name].idle for variant in variants if name in variant.deficits}) > 1:
                why = "is idle in some variants and not in others: the control needs a name of its own"
                self.problem(("deficits", name), why)
        return variants

    def variant(self, values: Mapping[str, object]) -> Variant | None:
        tables = self.document.tables
        dataset = self.component("dataset", ("dataset",), tables.get("dataset"))
        architecture = self.component("architecture", ("architecture",), tables.get("architecture"))
        optimizer = self.component("optimizer", ("optimizer",), tables.get("optimizer"))
        training = build(Training, tables.get("training", {}), ("training",), self.document, self.problems)
        deficits = {}
        for name, table in self.deficits().items():
            if not is_word(name) or name == CLEAN:
                self.problem(("deficits", name), f"should be a word of letters, digits, - and _, other than {CLEAN!r}")
            deficits[name] = self.component("deficit", ("deficits", name), table)
        sound = {name: deficit for name, deficit in deficits.items() if deficit is not None}
        if (
            dataset is None
            or architecture is None
            or optimizer is None
            or training is None
            or len(sound) < len(deficits)
        ):
            return None
        return Variant(values, dataset, architecture, optimizer, training, sound)

    def protocols(self, score_epochs: int) -> tuple[tuple[Protocol, tuple[str, ...]], ...]:
        tables = self.document.tables.get("protocols", [])
        if not isinstance(tables, list) or not tables:
            where: KeyPath = ("protocols",) if "protocols" in self.document.tables else ()
            why = "should be at least one [[protocols]] table, which says when the deficits act"
            self.problems.append(Problem(self.document.where(where), "protocols", why))
            return ()
        known = self.deficits()
        found = []
        for number, table in enumerate(tables):
            path: KeyPath = ("protocols", number)
            kind = self.protocol_kind(path, table)
            if kind is None:
                continue
            protocol = build(kind, table, path, self.document, self.problems, others={"use"})
            if protocol is None:
                continue
            for place, name in enumerate(protocol.deficits):
                spot: KeyPath = (*path, "deficits", place)
                if name not in known:
                    self.problem(spot, f"{name!r} is not a deficit of this spec; {nearest(name, known)}")
                if name in protocol.deficits[:place]:
                    self.problem(spot, f"names {name!r} more than once")
            deficits = protocol.deficits or tuple(known)
            if not deficits:
                self.problem(path, "has no deficit to apply: add a [deficits.NAME] table")
            for key, why in protocol.flaws(score_epochs):
                self.problem(path + key, why)
            found.append((protocol, deficits))
        return tuple(found)

    def protocol_kind(self, path: KeyPath, table: object) -> type[Protocol] | None:
        if not isinstance(table, Mapping):
            self.problem(path, f"should be a table, not {shown(table)}")
            return None
        use = table.get("use")
        if isinstance(use, str) and use in PROTOCOLS:
            return PROTOCOLS[use]
        if isinstance(use, str):
            why = f"{use!r} is not a known protocol; {nearest(use, PROTOCOLS)}"
        else:
            why = f"the name of the protocol, in quotes; {nearest('', PROTOCOLS)}"
            why = f"should be {why}" if "use" in table else f"is missing: {why}"
        self.problem((*path, "use"), why)
        return None

    def metrics(self) -> tuple[Metric, ...]:
        own = set(parameters(MetricSchedule))
        found = []
        for name, table in self.table("metrics", "tables, [metrics.NAME]").items():
            path: KeyPath = ("metrics", name)
            if not is_word(name):
                self.problem(path, "should be a word of letters, digits, - and _")
            if name in TAKEN or name.endswith("_stderr"):
                self.problem(path, "needs another name: results files have something else under this one")
            component = self.component("metric", path, table, others=own)
            if not isinstance(table, Mapping):
                continue
            mine = {key: value for key, value in table.items() if key in own}
            schedule = build(MetricSchedule, mine, path, self.document, self.problems)
            if component is not None and schedule is not None:
                found.append(Metric(name, component, schedule))
        return tuple(found)

    def observers(self) -> tuple[Observer, ...]:
        own = set(parameters(ObserverOptions))
        found: list[Observer] = []
        for name, table in self.table("observers", "tables, [observers.NAME]").items():
            path: KeyPath = ("observers", name)
            if not is_word(name):
                self.problem(path, "should be a word of letters, digits, - and _")
            component = self.component("observer", path, table, others=own)
            if not isinstance(table, Mapping):
                continue
            mine = {key: value for key, value in table.items() if key in own}
            options = build(ObserverOptions, mine, path, self.document, self.problems)
            if component is None or options is None:
                continue
            call = dataclasses.asdict(component.call)
            for other in found:
                if other.component.use == component.use and dataclasses.asdict(other.component.call) == call:
                    why = (
                        f"is the same as observers.{other.name}: each would write what the other writes, in one place; "
                        "give it other parameters, or leave one of them out"
                    )
                    self.problem(path, why)
                    break
            found.append(Observer(name, component, options))
        return tuple(found)
