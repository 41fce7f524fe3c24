"""The variants of a spec as documents: each named variant with every combination of the grid's values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cpframe.errors import Problem, nearest
from cpframe.spec.document import Document
from cpframe.spec.dotted_keys import dotted_key, is_word, key_path
from cpframe.spec.model import VARIANT
from cpframe.spec.positions import KeyPath
from cpframe.spec.validation import describe

_VARIABLE = ("dataset", "architecture", "optimizer", "training", "deficits")
_SHARED = ("title", "seeds", "score_epochs", "protocols", "metrics", "observers", "grid", "profiles", "variants")
_GRID = 'a table of arrays, "optimizer.lr" = [0.1, 0.2]'
_MAX_VARIANTS = 10_000


def expand_variants(document: Document, problems: list[Problem]) -> Iterator[tuple[dict[str, object], Document]]:
    """Yield the values of every variant, in order, and the document of that variant.

    The values are the name of a named variant, under the key `VARIANT`, and the values of the grid by dotted key.

    Args:
        document: the document of the spec.
        problems: every problem of ``[variants]`` and ``[grid]`` is added; variants that cannot be made are left out.
    """
    yield from _Expansion(document, problems).variants()


@dataclass(frozen=True)
class _Expansion:
    document: Document
    problems: list[Problem]

    def variants(self) -> Iterator[tuple[dict[str, object], Document]]:
        grid = {key: values for key, values in self.table("grid", _GRID).items() if self.check_grid_key(key, values)}
        named = self.named_variants(grid)
        count = len(named) * math.prod(map(len, grid.values()))
        if count > _MAX_VARIANTS:
            why = f"asks for {count} variants; at most {_MAX_VARIANTS} are allowed"
            self.problem(("grid",) if grid else ("variants",), why)
            grid = {}
        for name, document in named:
            for combination in itertools.product(*(range(len(values)) for values in grid.values())):
                chosen = {key: (index, grid[key][index]) for key, index in zip(grid, combination, strict=True)}
                variant = self.apply_grid(document, chosen)
                if variant is not None:
                    yield name | {key: value for key, (_, value) in chosen.items()}, variant

    def problem(self, path: KeyPath, why: str) -> None:
        self.problems.append(self.document.problem(path, why))

    def table(self, key: str, form: str) -> Mapping[str, Any]:
        table = self.document.tables.get(key, {})
        if not isinstance(table, Mapping):
            self.problem((key,), f"must be {form}, not {describe(table)}")
            return {}
        return table

    def check_grid_key(self, key: str, values: object) -> bool:
        """Return whether a key of the grid and its values are valid; add the problems if not."""
        before = len(self.problems)
        where: KeyPath = ("grid", key)
        try:
            path = key_path(key)
        except KeyError as error:
            self.problem(where, str(error.args[0]))
            return False
        if not isinstance(values, list) or not values:
            self.problem(where, f"must be an array of the values to try, not {describe(values)}")
        elif repeated := [index for index, value in enumerate(values) if value in values[:index]]:
            self.problem((*where, repeated[0]), f"repeats {describe(values[repeated[0]])}")
        if path[0] not in _VARIABLE:
            self.problem(where, f"cannot vary; a grid can vary keys of {', '.join(_VARIABLE)}")
        elif path == ("deficits",):
            self.problem(where, "cannot vary as a whole; vary one deficit, deficits.NAME")
        elif path[0] == "deficits":
            self.check_deficit(path[1], where)
        return len(self.problems) == before

    def check_deficit(self, name: str, where: KeyPath) -> None:
        deficits = self.document.tables.get("deficits", {})
        if isinstance(deficits, Mapping) and name not in deficits:
            self.problem(where, f"unknown deficit {name!r}; {nearest(name, deficits, 'deficits')}")

    def named_variants(self, grid: Mapping[str, object]) -> list[tuple[dict[str, object], Document]]:
        """Return the values and document of every named variant; of a spec without variants, the spec itself."""
        if "variants" not in self.document.tables:
            return [({}, self.document)]
        before = len(self.problems)
        table = self.table("variants", "tables, [variants.NAME]")
        if not table and len(self.problems) == before:
            self.problem(("variants",), "is empty; add a table [variants.NAME], or remove it")
        documents = {
            name: self.apply_variant(name, changes)
            for name, changes in table.items()
            if self.check_variant(name, changes, grid)
        }
        return [({VARIANT: name}, document) for name, document in documents.items() if document is not None]

    def check_variant(self, name: str, changes: object, grid: Mapping[str, object]) -> bool:
        """Return whether a named variant is valid, alone and together with the grid; add the problems if not."""
        before = len(self.problems)
        where: KeyPath = ("variants", name)
        if not is_word(name):
            self.problem(where, "the name must consist of letters, digits, - and _")
        if not isinstance(changes, Mapping):
            self.problem(where, f"must be a table, [{dotted_key(where)}], not {describe(changes)}")
            return False
        for key in changes:
            if key in _SHARED:
                why = f"is shared by all variants; a variant can have keys of {', '.join(_VARIABLE)}"
                self.problem((*where, key), why)
            elif key not in _VARIABLE:
                self.problem((*where, key), f"unknown key; {nearest(key, _VARIABLE, 'keys')}")
        deficits = changes.get("deficits", {})
        if not isinstance(deficits, Mapping):
            self.problem((*where, "deficits"), f"must be tables, deficits.NAME, not {describe(deficits)}")
        for deficit in deficits if isinstance(deficits, Mapping) else ():
            self.check_deficit(deficit, (*where, "deficits", deficit))
        for key in grid:
            if _has_key(changes, key_path(key)):
                why = f"has no effect, because the grid varies {key}; remove one of the two"
                self.problem((*where, *key_path(key)), why)
        return len(self.problems) == before

    def apply_variant(self, name: str, changes: Mapping[str, object]) -> Document | None:
        document = self.document
        for key, value in changes.items():
            base: KeyPath = ("variants", name, key)
            origins = {place[3:]: origin for place, origin in document.origins.items() if place[:3] == base}
            try:
                document = document.with_value(key, value, origins)
            except KeyError as error:
                self.problem(base, str(error.args[0]))
                return None
        return replace(document, variant=name)

    def apply_grid(self, document: Document, chosen: Mapping[str, tuple[int, object]]) -> Document | None:
        # From the outside in, so that a table that replaces another does not remove a key that was set in it.
        for key, (index, value) in sorted(chosen.items(), key=lambda item: len(key_path(item[0]))):
            try:
                document = document.with_value(key, value, {(): self.document.where(("grid", key, index))})
            except KeyError as error:
                self.problem(("grid", key), str(error.args[0]))
                return None
        return document


def _has_key(table: object, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(table, Mapping) or part not in table:
            return False
        table = table[part]
    return True
