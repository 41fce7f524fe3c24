"""The names of the variants of a study, as short as distinguishes them."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cpframe.analysis.comparisons import variant_key
from cpframe.records.model import StudyRecord
from cpframe.report.formatting import printable

_LONG_NUMBER = 6  # characters; longer numbers are rounded if they stay distinct
_SHORT_KEY = 5  # characters; such keys are not abbreviated

Variant = Mapping[str, object]


@dataclass(frozen=True)
class VariantNames:
    """The names of the variants of one study. No two variants have the same name.

    Attributes:
        full: the names by `variant_key`, such as ``constant, momentum=0.9``. Keys with the same value in all variants
            are left out. Of a dotted key only the last part is written, unless two keys share it.
        brief: the names with abbreviated keys, such as ``constant, mom=0.9``.
    """

    full: Mapping[str, str]
    brief: Mapping[str, str]

    def label(self, variant: Variant) -> str:
        """Return the name of a variant of the study; empty if the spec has neither variants nor a grid."""
        return self.full[variant_key(variant)]


def study_variants(study: StudyRecord) -> VariantNames:
    """Return the names of all variants that a study has trajectories of."""
    return variant_names(trajectory.variant for trajectory in study.trajectories)


def variant_names(variants: Iterable[Variant]) -> VariantNames:
    """Return the names of variants. A single variant keeps all its keys."""
    found = {variant_key(variant): variant for variant in variants}
    keys = list(dict.fromkeys(key for variant in found.values() for key in variant))
    varying = [key for key in keys if len({_value_key(variant, key) for variant in found.values()}) > 1] or keys
    values = {key: _spell([variant[key] for variant in found.values() if key in variant]) for key in varying}
    names = _shorten_distinct(varying, [key.rsplit(".", 1)[-1] for key in varying])
    abbreviated = _shorten_distinct(names, list(map(_abbreviate, names)))
    return VariantNames(
        _name_all(found, values, dict(zip(varying, names, strict=True))),
        _name_all(found, values, dict(zip(varying, abbreviated, strict=True))),
    )


def _value_key(variant: Variant, key: str) -> str:
    """Return a string that is the same for equal values, and empty for a missing one."""
    return variant_key({"": variant[key]}) if key in variant else ""


def _shorten_distinct(keys: Sequence[str], shorter: Sequence[str]) -> list[str]:
    """Return the shorter form of each key, or the key itself if another key has the same shorter form."""
    times = Counter(shorter)
    return [short if times[short] == 1 else key for key, short in zip(keys, shorter, strict=True)]


def _abbreviate(key: str) -> str:
    """Return ``wd`` for ``weight_decay``, ``mom`` for ``momentum``."""
    words = [word for word in re.split(r"[_.-]+", key) if word]
    if len(key) <= _SHORT_KEY or key == "variant":
        return key
    return "".join(word[0] for word in words) if len(words) > 1 else key[:3]


def _spell(values: Sequence[object]) -> dict[str, str]:
    """Return the shortest of several notations in which the values of one key are distinct, by `variant_key`."""
    distinct = {variant_key({"": value}): value for value in values}
    spellings: tuple[Callable[[object], str], ...] = (
        lambda value: _round(value, 3), lambda value: _round(value, 6), str, repr,
    )  # fmt: skip
    texts: list[str] = []
    for spelling in spellings:
        texts = [printable(spelling(value)) for value in distinct.values()]
        if len(set(texts)) == len(distinct):
            break
    return dict(zip(distinct, texts, strict=True))


def _round(value: object, digits: int) -> str:
    text = str(value)
    if isinstance(value, float) and math.isfinite(value) and len(text) > _LONG_NUMBER:
        return min(text, f"{value:.{digits}g}", key=len)
    return text


def _name_all(
    found: Mapping[str, Variant], values: Mapping[str, Mapping[str, str]], names: Mapping[str, str]
) -> dict[str, str]:
    labels: dict[str, str] = {}
    for position, (identity, variant) in enumerate(found.items(), 1):
        parts = [(key, values[key][_value_key(variant, key)]) for key in values if key in variant]
        label = printable(", ".join(text if key == "variant" else f"{names[key]}={text}" for key, text in parts))
        labels[identity] = f"{label} (variant {position})".lstrip() if label in labels.values() else label
    return labels
