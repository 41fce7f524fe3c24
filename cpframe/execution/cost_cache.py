"""The cost cache: costs measured by a preflight, kept on this machine for later plans of the same study."""

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


def cached_costs(spec: Spec, numerics: Numerics, data_folder: Path) -> tuple[dict[int, Costs], bool]:
    """Return the costs of every variant, from the cache if possible, else measured by a preflight.

    Returns:
        The costs by variant index, and whether they come from the cache.

    Raises:
        DataError: when a data set is not available.
        SpecError: when the parts of the study do not work together.
    """
    cached = _load(spec, numerics)
    if cached is not None:
        return cached, True
    costs = preflight(spec, numerics, data_folder)
    store_costs(spec, numerics, costs)
    return costs, False


def store_costs(spec: Spec, numerics: Numerics, costs: Mapping[int, Costs]) -> None:
    """Keep newly measured costs of some or all variants; where the cache has lower ones, those stay.

    Other work on the machine makes every measurement slower and none faster, so the lowest is the best estimate.
    """
    cached = _load(spec, numerics) or {}
    best = {
        variant: min((cost for cost in (cached.get(variant), costs.get(variant)) if cost is not None), key=_seconds)
        for variant in sorted(cached.keys() | costs.keys())
    }
    path = _path(spec, numerics)
    with suppress(OSError, StoreError):  # the cache is a convenience
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, _to_json(best).encode())


def _load(spec: Spec, numerics: Numerics) -> dict[int, Costs] | None:
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):  # missing or damaged: measured again
        return _from_json(_path(spec, numerics).read_text(), spec)
    return None


def _seconds(cost: Costs) -> float:
    return cost.train + cost.test + sum(cost.metrics.values())


def _path(spec: Spec, numerics: Numerics) -> Path:
    return cache_folder() / "timings" / f"{_key(spec, numerics)}.json"


def _key(spec: Spec, numerics: Numerics) -> str:
    """Return a hash of all that costs depend on: components, numerics and machine, but not seeds or protocols."""
    facts = {
        "variants": [_variant_facts(variant) for variant in spec.variants],
        "metrics": [
            [metric.name, component_facts(metric.component), changes(metric.schedule)] for metric in spec.metrics
        ],
        "determinants": determinants(numerics),
        "hardware": hardware(numerics.device),
    }
    return digest(facts).hexdigest()


def _variant_facts(variant: Variant) -> list[object]:
    components = (variant.dataset, variant.architecture, variant.optimizer)
    deficits = {name: component_facts(deficit) for name, deficit in variant.deficits.items()}
    return [*map(component_facts, components), deficits, changes(variant.training)]


def _to_json(costs: Mapping[int, Costs]) -> str:
    rows = {variant: dataclasses.asdict(cost) | {"idle": sorted(cost.idle)} for variant, cost in costs.items()}
    return json.dumps(rows)


def _from_json(text: str, spec: Spec) -> dict[int, Costs]:
    rows = json.loads(text)
    costs = {int(variant): Costs(**(row | {"idle": frozenset(row["idle"])})) for variant, row in rows.items()}
    if sorted(costs) != list(range(len(spec.variants))):
        raise ValueError("the variants must be those of the spec")
    metrics = {metric.name for metric in spec.metrics}
    for cost in costs.values():
        if set(cost.metrics) != metrics or set(cost.numbers) != metrics:
            raise ValueError("the metrics must be those of the spec")
        numbers = (cost.train, cost.test, cost.state_bytes, *cost.metrics.values(), *cost.numbers.values())
        if not all(_is_cost(number) for number in numbers):
            raise ValueError("a cost must be a finite number of at least 0")
    return costs


def _is_cost(number: object) -> bool:
    return type(number) in {int, float} and 0 <= number < float("inf")  # type: ignore[operator]
