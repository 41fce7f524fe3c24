"""The variants of a spec as documents: the named ones, each with every combination of the grid's values."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cpframe.errors import Problem, nearest
from cpframe.spec.document import Document
from cpframe.spec.dotted_keys import dotted, is_word, key_path
from cpframe.spec.model import VARIANT
from cpframe.spec.positions import KeyPath
from cpframe.spec.validation import shown

_VARIED = ("dataset", "architecture", "optimizer", "training", "deficits")
_SHARED = ("title", "seeds", "score_epochs", "protocols", "metrics", "observers", "grid", "profiles", "variants")
_GRID = 'a table of arrays, "optimizer.lr" = [0.1, 0.2]'
_MOST = 10_000


def variations(document: Document, problems: list[Problem]) -> Iterator[tuple[dict[str, object], Document]]:
    """Every variant that a spec asks for, in order: what it is called, and the spec as it is for this variant.

    A variant's name has the key `VARIANT`; the values of the grid have their dotted keys.

    Args:
        document: the spec.
        problems: every slip in its ``[variants]`` and ``[grid]`` is added; what they spoil is left out.
    """
    yield from _Varying(document, problems).variations()


@dataclass(frozen=True)
class _Varying:
    document: Document
    problems: list[Problem]

    def variations(self) -> Iterator[tuple[dict[str, object], Document]]:
        grid = {key: values for key, values in self.table("grid", _GRID).items() if self.line_makes_sense(key, values)}
        named = self.named(grid)
        count = len(named) * math.prod(map(len, grid.values()))
        if count > _MOST:
            self.problem(
                ("grid",) if grid else ("variants",), f"asks for {count} variants; a study has at most {_MOST}"
            )
            grid = {}
        for name, document in named:
            for combination in itertools.product(*(range(len(values)) for values in grid.values())):
                chosen = {key: (place, grid[key][place]) for key, place in zip(grid, combination, strict=True)}
                varied = self.with_grid(document, chosen)
                if varied is not None:
                    yield name | {key: value for key, (_, value) in chosen.items()}, varied

    def problem(self, path: KeyPath, why: str) -> None:
        self.problems.append(self.document.problem(path, why))

    def table(self, key: str, form: str) -> Mapping[str, Any]:
        table = self.document.tables.get(key, {})
        if not isinstance(table, Mapping):
            self.problem((key,), f"should be {form}, not {shown(table)}")
            return {}
        return table

    def line_makes_sense(self, key: str, values: object) -> bool:
        """Whether a line of the grid makes sense by itself."""
        before = len(self.problems)
        where: KeyPath = ("grid", key)
        try:
            path = key_path(key)
        except KeyError as error:
            self.problem(where, str(error.args[0]))
            return False
        if not isinstance(values, list) or not values:
            self.problem(where, f"should be an array of the values to try, not {shown(values)}")
        elif repeated := [place for place, value in enumerate(values) if value in values[:place]]:
            self.problem((*where, repeated[0]), f"names {shown(values[repeated[0]])} more than once")
        if path[0] not in _VARIED:
            self.problem(where, f"cannot vary; a grid varies keys of {', '.join(_VARIED)}")
        elif path == ("deficits",):
            self.problem(where, "cannot vary as a whole; a grid varies one of them, deficits.NAME")
        elif path[0] == "deficits":
            self.deficit_is_there(path[1], where)
        return len(self.problems) == before

    def deficit_is_there(self, name: str, where: KeyPath) -> None:
        deficits = self.document.tables.get("deficits", {})
        if isinstance(deficits, Mapping) and name not in deficits:
            self.problem(where, f"{name!r} is not a deficit of this spec; {nearest(name, deficits)}")

    def named(self, grid: Mapping[str, object]) -> list[tuple[dict[str, object], Document]]:
        """The named variants; the spec as it is, without a name, where there are none."""
        if "variants" not in self.document.tables:
            return [({}, self.document)]
        before = len(self.problems)
        table = self.table("variants", "tables, [variants.NAME]")
        if not table and len(self.problems) == before:
            self.problem(("variants",), "is empty: name at least one, [variants.NAME], or leave it out")
        documents = {
            name: self.with_variant(name, changes)
            for name, changes in table.items()
            if self.variant_makes_sense(name, changes, grid)
        }
        return [({VARIANT: name}, document) for name, document in documents.items() if document is not None]

    def variant_makes_sense(self, name: str, changes: object, grid: Mapping[str, object]) -> bool:
        """Whether a named variant makes sense by itself and beside the grid."""
        before = len(self.problems)
        where: KeyPath = ("variants", name)
        if not is_word(name):
            self.problem(where, "should be a word of letters, digits, - and _")
        if not isinstance(changes, Mapping):
            self.problem(where, f"should be a table, [{dotted(where)}], not {shown(changes)}")
            return False
        for key in changes:
            if key in _SHARED:
                self.problem((*where, key), f"is shared by all variants; a variant has keys of {', '.join(_VARIED)}")
            elif key not in _VARIED:
                self.problem((*where, key), f"is not what a variant can have keys of; {nearest(key, _VARIED)}")
        deficits = changes.get("deficits", {})
        if not isinstance(deficits, Mapping):
            self.problem((*where, "deficits"), f"should be tables, deficits.NAME, not {shown(deficits)}")
        for deficit in deficits if isinstance(deficits, Mapping) else ():
            self.deficit_is_there(deficit, (*where, "deficits", deficit))
        for key in grid:
            if _has(changes, key_path(key)):
                why = f"is never used, since the grid varies {key}: leave it to one of them"
                self.problem((*where, *key_path(key)), why)
        return len(self.problems) == before

    def with_variant(self, name: str, changes: Mapping[str, object]) -> Document | None:
        document = self.document
        for key, value in changes.items():
            base: KeyPath = ("variants", name, key)
            origins = {place[3:]: spot for place, spot in document.origins.items() if place[:3] == base}
            try:
                document = document.laid_over(key, value, origins)
            except KeyError as error:
                self.problem(base, str(error.args[0]))
                return None
        return replace(document, variant=name)

    def with_grid(self, document: Document, chosen: Mapping[str, tuple[int, object]]) -> Document | None:
        # from the outside in, so that a table put in place does not take away a key that was set in it
        for key, (place, value) in sorted(chosen.items(), key=lambda item: len(key_path(item[0]))):
            try:
                document = document.laid_over(key, value, {(): self.document.where(("grid", key, place))})
            except KeyError as error:
                self.problem(("grid", key), str(error.args[0]))
                return None
        return document


def _has(table: object, path: KeyPath) -> bool:
    for part in path:
        if not isinstance(table, Mapping) or part not in table:
            return False
        table = table[part]
    return True
