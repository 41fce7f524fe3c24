"""What identifies a stage: all that determines its bits, written in one canonical form that outlives renames."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from enum import Enum
from functools import cache
from hashlib import blake2b
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cpframe.numerics import Numerics
from cpframe.plugins.source_digest import code_digest, source_digest
from cpframe.spec.model import Component, Spec, Variant

FORMAT = 2
"""Part of every stage's id: raise it when the meaning of a stage changes."""
TRAINING_CODE = ("api/data.py", "fisher", "numerics.py", "training")
"""The files and folders of cpframe whose code decides the bits of a stage; nothing else in cpframe changes an id."""


def digest(facts: object) -> blake2b:
    """Hash facts in their canonical form; the hash can be continued."""
    return blake2b(canonical_text(facts).encode(), digest_size=16)


def canonical_text(facts: object) -> str:
    """Write facts as JSON with sorted keys; equal values give equal text in every process and version of Python."""
    return json.dumps(canonical(facts), sort_keys=True)


def canonical(value: object) -> object:
    """Return the JSON form of a value: of a dataclass its fields by name, of a set its sorted members.

    Names of classes are no part of it. What has no form of its own is written as its ``repr``.
    """
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return canonical(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: canonical(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted(map(canonical_text, value))
    return str(value) if isinstance(value, Path) else repr(value)


def changes(settings: Any) -> dict[str, object]:
    """Return the canonical form of a dataclass of cpframe's own, without the fields that have their default.

    So a new field whose default means what was done before keeps every id. A default must never change its meaning.
    """
    found: dict[str, object] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            found[field.name] = changes(value) if dataclasses.is_dataclass(value) else canonical(value)
    return found


def component_facts(component: Component) -> dict[str, object]:
    """Return all that tells a component from another: name, version, source, parameters, and data if it has any.

    The version of cpframe's own distribution is left out: the source says more, and a release must not retrain.
    """
    package = component.use.partition("/")[0]
    facts: dict[str, object] = {
        "use": component.use,
        "source": source_digest(type(component.call).__module__),
        "parameters": component.call,
    }
    if package != "cpframe":
        facts["version"] = component.version
    if component.data:
        facts["data"] = component.data
    return facts


def training_facts(spec: Spec, variant: Variant, seed: int, determinants: Mapping[str, str]) -> dict[str, object]:
    """Return what determines every epoch of a training, whatever its timeline."""
    # Restarts show in the stages that they change; the determinants say which numerics these came to.
    training = dataclasses.replace(variant.training, restart_at_removal="nothing", numerics="auto")
    return {
        "format": FORMAT,
        "seed": seed,
        "dataset": component_facts(variant.dataset),
        "architecture": component_facts(variant.architecture),
        "optimizer": component_facts(variant.optimizer),
        "training": changes(training),
        "metrics": {one.name: [component_facts(one.component), changes(one.schedule)] for one in spec.metrics},
        "determinants": determinants,
    }


def determinants(numerics: Numerics) -> dict[str, str]:
    """Return whatever outside the spec determines the bits of a training: part of every stage's id.

    The code of deficits is no part of it: a deficit changes only the stages that it acts in and those after.
    """
    return {
        "numerics": numerics.identity,
        "code": training_code(),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


@cache
def training_code() -> str:
    """Hash the code in cpframe that decides the bits of a stage."""
    root = Path(__file__).parents[1]
    return code_digest(root, _training_files(root))


def _training_files(root: Path) -> Iterator[Path]:
    for name in TRAINING_CODE:
        path = root / name
        yield from path.rglob("*.py") if path.is_dir() else [path]


def data_determinants(spec: Spec, folder: Path) -> dict[str, str]:
    """Return what the data sets say of their files, which can change under the same parameters; see `api.Dataset`."""
    said = [getattr(variant.dataset.call, "fingerprint", lambda _: "")(folder) for variant in spec.variants]
    return {"data": " ".join(dict.fromkeys(filter(None, said)))}


def with_data(spec: Spec, folder: Path) -> Spec:
    """Return the spec with what its deficits say of their files, part of the stages that such a deficit acts in."""

    def said(deficit: Component) -> Component:
        asked = getattr(deficit.call, "fingerprint", None)
        return deficit if asked is None else dataclasses.replace(deficit, data=asked(folder))

    variants = (
        dataclasses.replace(variant, deficits={name: said(deficit) for name, deficit in variant.deficits.items()})
        for variant in spec.variants
    )
    return dataclasses.replace(spec, variants=tuple(variants))
