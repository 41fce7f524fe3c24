"""The identity of a stage: everything that determines its bits, in one canonical form that survives renames."""

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

from cpframe.api.optional import data_fingerprint
from cpframe.errors import Problem, SpecError
from cpframe.numerics import Numerics
from cpframe.plugins.source_digest import code_digest, current_digest, source_digest
from cpframe.spec.model import Component, Deficit, Spec, Variant

FORMAT = 2
"""The version of the meaning of a stage, part of every stage's id; raise it when that meaning changes."""
TRAINING_CODE = ("api/data.py", "api/optional.py", "fisher", "numerics.py", "training")
"""The files and folders of cpframe whose code determines the bits of a stage; no other code changes an id."""


def digest(facts: object) -> blake2b:
    """Return the hash of facts in their canonical form; it can be updated further."""
    return blake2b(canonical_text(facts).encode(), digest_size=16)


def canonical_text(facts: object) -> str:
    """Return facts as JSON with sorted keys, which is the same in every process and version of Python."""
    return json.dumps(canonical(facts), sort_keys=True)


def canonical(value: object) -> object:
    """Return the JSON form of a value: the fields of a dataclass by name, the sorted members of a set.

    Names of classes are not part of it. A value of any other type becomes its ``repr``.
    """
    if value is None or (isinstance(value, bool | int | float | str) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return canonical(value.value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: canonical(getattr(value, field.name)) for field in dataclasses.fields(value) if field.init}
    if isinstance(value, Mapping):
        return {str(key): canonical(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(inner) for inner in value]
    if isinstance(value, set | frozenset):
        return sorted(map(canonical_text, value))
    return str(value) if isinstance(value, Path) else repr(value)


def changes(settings: Any) -> dict[str, object]:
    """Return the canonical form of the settings that differ from their defaults.

    A new setting whose default means the behaviour before it thus keeps every id. The meaning of a default must never
    change.

    Args:
        settings: a dataclass of cpframe's own.
    """
    found: dict[str, object] = {}
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        if value != default:
            found[field.name] = changes(value) if dataclasses.is_dataclass(value) else canonical(value)
    return found


def component_facts(component: Component[object]) -> dict[str, object]:
    """Return the facts that identify a component: name, version, source, parameters and data.

    The version of cpframe's own distribution is left out: the source identifies the code, and a new release must not
    invalidate stages.
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
    """Return the facts that determine every epoch of a training, whatever its timeline."""
    # A restart is part of the stages that it changes; the determinants contain the numerics profile that was chosen.
    training = dataclasses.replace(variant.training, restart_at_removal="nothing", numerics="auto")
    return {
        "format": FORMAT,
        "seed": seed,
        "dataset": component_facts(variant.dataset),
        "architecture": component_facts(variant.architecture),
        "optimizer": component_facts(variant.optimizer),
        "training": changes(training),
        "metrics": {
            metric.name: [component_facts(metric.component), changes(metric.schedule)] for metric in spec.metrics
        },
        "determinants": determinants,
    }


def determinants(numerics: Numerics) -> dict[str, str]:
    """Return the facts outside the spec that determine the bits of a training; they are part of every stage's id.

    The code of deficits is not among them: a deficit changes only the stages in which it acts, and those after them.
    """
    return {
        "numerics": numerics.identity,
        "code": training_code(),
        "torch": version("torch"),
        "numpy": version("numpy"),
    }


@cache
def training_code() -> str:
    """Return the digest of cpframe's own training code, as it was when this process first asked for it."""
    return current_training_code()


def check_sources(spec: Spec) -> None:
    """Check that the code that this process has imported is the code on the disk, which identifies the stages.

    Raises:
        SpecError: when a plugin or cpframe itself was edited after it was imported.
    """
    components = [component for variant in spec.variants for component in _components_of(variant)]
    components += [metric.component for metric in spec.metrics]
    # By module: a grid may have thousands of variants, whose components are defined in a few.
    users = {(type(component.call).__module__, component.use) for component in components}
    imported = {module for module, _ in users}
    modules = {module for module in imported if source_digest(module) != current_digest(module)}
    edited = {use for module, use in users if module in modules}
    if training_code() != current_training_code():
        edited.add("cpframe")
    if edited:
        why = "its source has changed since this process imported it; restart the process"
        raise SpecError([Problem(name, "", why) for name in sorted(edited)])


def _components_of(variant: Variant) -> list[Component[Any]]:
    return [variant.dataset, variant.architecture, variant.optimizer, *variant.deficits.values()]


def current_training_code() -> str:
    """Return the digest of the code on the disk that determines the bits of a stage."""
    root = Path(__file__).parents[1]
    return code_digest(root, _training_files(root))


def _training_files(root: Path) -> Iterator[Path]:
    for name in TRAINING_CODE:
        path = root / name
        yield from path.rglob("*.py") if path.is_dir() else [path]


def data_determinants(spec: Spec, folder: Path) -> dict[str, str]:
    """Return the fingerprints of the data sets, part of every stage's id; see `cpframe.api.HasFingerprint`.

    Args:
        spec: the spec.
        folder: the data folder.
    """
    fingerprints = [data_fingerprint(variant.dataset.call, folder) for variant in spec.variants]
    return {"data": " ".join(dict.fromkeys(filter(None, fingerprints)))}


def with_data(spec: Spec, folder: Path) -> Spec:
    """Return the spec with the fingerprints of its deficits, part of the ids of the stages in which a deficit acts.

    Args:
        spec: the spec.
        folder: the data folder.
    """

    def add_fingerprint(deficit: Deficit) -> Deficit:
        return dataclasses.replace(deficit, data=data_fingerprint(deficit.call, folder))

    variants = (
        dataclasses.replace(
            variant, deficits={name: add_fingerprint(deficit) for name, deficit in variant.deficits.items()}
        )
        for variant in spec.variants
    )
    return dataclasses.replace(spec, variants=tuple(variants))
