"""The stage tree of a study as text: a shape that several seeds and variants share is drawn once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from rich.text import Text
from rich.tree import Tree

from cpframe.execution.progress import StudyProgress
from cpframe.plan.stages import Stage

_LONGEST = 12
"""The most branches drawn in a row; of a longer row, the first ones and the last one are drawn."""
_MOST_SHAPES = 4

_Shape = tuple[tuple[str, int, int, "_Shape"], ...]


def draw_trees(progress: StudyProgress) -> list[Tree | str]:
    """Return a tree for every shape among the variants and seeds, with the progress of their stages."""
    roots: dict[tuple[int, int], list[Stage]] = {}
    for root in progress.children.get(None, ()):
        roots.setdefault((root.variant, root.seed), []).append(root)
    alike: dict[_Shape, list[list[Stage]]] = {}
    for stages in roots.values():
        alike.setdefault(_shape(progress, stages), []).append(stages)
    trees: list[Tree | str] = []
    for twins in list(alike.values())[:_MOST_SHAPES]:
        legend = Text("\nsame level: the same condition continues; indented: the condition changes", "dim")
        tree = Tree(Text(_heading(twins, len(roots))) + legend, guide_style="dim")
        # Twins have the same shape: their stages are at the same positions of their trees.
        _add(tree, progress, [list(row) for row in zip(*map(_sort, twins), strict=True)])
        trees.append(tree)
    if len(alike) > _MOST_SHAPES:
        trees.append(f"... and {len(alike) - _MOST_SHAPES} more trees that differ from these")
    return trees


def _heading(twins: Sequence[Sequence[Stage]], whole: int) -> str:
    seeds, variants = ({getattr(stages[0], name) for stages in twins} for name in ("seed", "variant"))
    of = f"{_count(len(seeds), 'seed')}" + (f" of {_count(len(variants), 'variant')}" if len(variants) > 1 else "")
    if len(twins) == 1:
        return f"stages of seed {min(seeds)}"
    return f"stages of each of {of}" + (", which form equal trees" if len(twins) == whole else "")


def _shape(progress: StudyProgress, stages: Iterable[Stage]) -> _Shape:
    return tuple(
        (one.condition, one.start, one.stop, _shape(progress, progress.children.get(one.id, ())))
        for one in _sort(stages)
    )


def _sort(stages: Iterable[Stage]) -> list[Stage]:
    return sorted(stages, key=lambda one: (one.start, one.condition, one.stop))


def _add(tree: Tree, progress: StudyProgress, rows: Sequence[Sequence[Stage]]) -> None:
    """Add branches; a stage that continues under the same condition is on the level of the one before it."""
    chains = [_chain(progress, row) for row in rows]
    for chain in chains if len(chains) <= _LONGEST else [*chains[: _LONGEST - 2], [], chains[-1]]:
        if not chain:
            tree.add(f"[dim]... {len(chains) - _LONGEST + 1} more branches ...[/dim]")
        left_out = range(_LONGEST - 2, len(chain) - 1) if len(chain) > _LONGEST else range(0)
        for number, (row, below) in enumerate(chain):
            if number not in left_out:
                _add(tree.add(_label(progress, row)), progress, below)
            elif number == left_out.start:
                tree.add(f"[dim]... {len(left_out)} more under {row[0].condition} ...[/dim]")


def _chain(progress: StudyProgress, row: Sequence[Stage]) -> list[tuple[Sequence[Stage], list[Sequence[Stage]]]]:
    """Return a stage and those that continue under its condition, each with the branches off it."""
    chain: list[tuple[Sequence[Stage], list[Sequence[Stage]]]] = []
    on: Sequence[Stage] | None = row
    while on is not None:
        after = list(zip(*(_sort(progress.children.get(one.id, ())) for one in on), strict=True))
        next_on = next((one for one in after if one[0].condition == row[0].condition), None)
        chain.append((on, [one for one in after if one is not next_on]))
        on = next_on
    return chain


def _label(progress: StudyProgress, row: Sequence[Stage]) -> Text:
    one = row[0]
    label = Text(f"{one.condition} [{one.start}, {one.stop})")
    states = Counter(map(progress.stage_status, row))
    styles = {"complete": "green", "begun": "yellow", "damaged": "red", "failed": "red"}
    for state, count in states.items():
        if state not in styles:
            continue
        label.append(f"  {state}" + (f" {count} of {len(row)}" if count < len(row) else ""), styles[state])
    return label


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
