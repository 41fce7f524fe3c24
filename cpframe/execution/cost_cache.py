"""The costs of rehearsals, remembered on this machine: `cpframe plan` measures once; runs correct it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cpframe.environment import cache_folder
from cpframe.execution.costs import Costs
from cpframe.execution.preflight import preflight
from cpframe.numerics import Numerics, hardware
from cpframe.plan.identity import changes, component_facts, determinants, digest
from cpframe.spec.model import Spec, Variant
from cpframe.store import StoreError, write_atomically


def measured(spec: Spec, numerics: Numerics, data_folder: Path) -> tuple[dict[int, Costs], bool]:
    """The costs of every variant, by its index, and whether they were remembered and not measured now.

    Raises:
        DataError: when a data set cannot be had.
        SpecError: when the parts of the study do not fit one another.
    """
    before = _remembered(spec, numerics)
    if before is not None:
        return before, True
    costs = preflight(spec, numerics, data_folder)
    remember(spec, numerics, costs)
    return costs, False


def remember(spec: Spec, numerics: Numerics, costs: Mapping[int, Costs]) -> None:
    """Keep the costs just measured of some or all variants, where they are quicker than those known before.

    A machine that had other work to do makes everything look dear; nothing makes it look cheap.
    """
    before = _remembered(spec, numerics) or {}
    best = {
        number: min((cost for cost in (before.get(number), costs.get(number)) if cost is not None), key=_seconds)
        for number in sorted(before.keys() | costs.keys())
    }
    path = _path(spec, numerics)
    with suppress(OSError, StoreError):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _written(best).encode())


def _remembered(spec: Spec, numerics: Numerics) -> dict[int, Costs] | None:
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):  # damaged: it can be measured again
        return _read(_path(spec, numerics).read_text(), spec)
    return None


def _seconds(cost: Costs) -> float:
    return cost.train + cost.test + sum(cost.metrics.values())


def _path(spec: Spec, numerics: Numerics) -> Path:
    return cache_folder() / "timings" / f"{_key(spec, numerics)}.json"


def _key(spec: Spec, numerics: Numerics) -> str:
    """A hash of what the costs depend on: the parts, the numerics and the machine; not seeds and protocols."""
    facts = {
        "variants": [_parts(variant) for variant in spec.variants],
        "metrics": [[one.name, component_facts(one.component), changes(one.schedule)] for one in spec.metrics],
        "determinants": determinants(numerics),
        "hardware": hardware(numerics.device),
    }
    return digest(facts).hexdigest()


def _parts(variant: Variant) -> list[object]:
    components = (variant.dataset, variant.architecture, variant.optimizer)
    deficits = {name: component_facts(deficit) for name, deficit in variant.deficits.items()}
    return [*map(component_facts, components), deficits, changes(variant.training)]


def _written(costs: Mapping[int, Costs]) -> str:
    rows = {number: dataclasses.asdict(cost) | {"idle": sorted(cost.idle)} for number, cost in costs.items()}
    return json.dumps(rows)


def _read(text: str, spec: Spec) -> dict[int, Costs]:
    rows = json.loads(text)
    costs = {int(number): Costs(**(row | {"idle": frozenset(row["idle"])})) for number, row in rows.items()}
    if sorted(costs) != list(range(len(spec.variants))):
        raise ValueError("of another study")
    metrics = {metric.name for metric in spec.metrics}
    for cost in costs.values():
        if set(cost.metrics) != metrics or set(cost.numbers) != metrics:
            raise ValueError("of other metrics")
        numbers = (cost.train, cost.test, cost.state_bytes, *cost.metrics.values(), *cost.numbers.values())
        if not all(_is_cost(number) for number in numbers):
            raise ValueError("not numbers")
    return costs


def _is_cost(number: object) -> bool:
    return type(number) in {int, float} and 0 <= number < float("inf")  # type: ignore[operator]
