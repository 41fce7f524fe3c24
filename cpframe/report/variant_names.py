"""What variants are called: in as few words as tell those of one study apart."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cpframe.analysis.comparisons import variant_key
from cpframe.records.model import StudyRecord
from cpframe.report.formatting import printable

_LONG_NUMBER = 6  # letters; longer ones are rounded where that leaves them apart
_SHORT_KEY = 5  # letters; such keys are not abbreviated

Variant = Mapping[str, object]


@dataclass(frozen=True)
class VariantNames:
    """The names of one study's variants. No two variants have the same name.

    Attributes:
        full: by `variant_key`: ``constant, momentum=0.9``. Keys that all variants agree on are left out; of a dotted
            key the last part is told, unless two keys share it.
        brief: likewise, with keys abbreviated: ``constant, mom=0.9``.
    """

    full: Mapping[str, str]
    brief: Mapping[str, str]

    def label(self, variant: Variant) -> str:
        """Of a variant of the study; empty where the spec has neither variants nor a grid."""
        return self.full[variant_key(variant)]


def study_variants(study: StudyRecord) -> VariantNames:
    """The names of all variants that a study has trajectories of."""
    return variant_names(trajectory.variant for trajectory in study.trajectories)


def variant_names(variants: Iterable[Variant]) -> VariantNames:
    """Name variants. A single one keeps all its keys, for there is nothing else to tell it by."""
    found = {variant_key(variant): variant for variant in variants}
    keys = list(dict.fromkeys(key for variant in found.values() for key in variant))
    told = [key for key in keys if len({_value_key(variant, key) for variant in found.values()}) > 1] or keys
    values = {key: _spelled([variant[key] for variant in found.values() if key in variant]) for key in told}
    names = _apart(told, [key.rsplit(".", 1)[-1] for key in told])
    return VariantNames(
        _named(found, values, dict(zip(told, names, strict=True))),
        _named(found, values, dict(zip(told, _apart(names, list(map(_abbreviated, names))), strict=True))),
    )


def _value_key(variant: Variant, key: str) -> str:
    """The same for the same value, and empty for none."""
    return variant_key({"": variant[key]}) if key in variant else ""


def _apart(keys: Sequence[str], shorter: Sequence[str]) -> list[str]:
    """The shorter form of each key, but where another one has the same."""
    times = Counter(shorter)
    return [short if times[short] == 1 else key for key, short in zip(keys, shorter, strict=True)]


def _abbreviated(key: str) -> str:
    """``wd`` for ``weight_decay``, ``mom`` for ``momentum``."""
    words = [word for word in re.split(r"[_.-]+", key) if word]
    if len(key) <= _SHORT_KEY or key == "variant":
        return key
    return "".join(word[0] for word in words) if len(words) > 1 else key[:3]


def _spelled(values: Sequence[object]) -> dict[str, str]:
    """How the values of one key are written: rounded, as they are, or as Python has them, if need be."""
    distinct = {variant_key({"": value}): value for value in values}
    spellings: tuple[Callable[[object], str], ...] = (
        lambda value: _rounded(value, 3), lambda value: _rounded(value, 6), str, repr,
    )  # fmt: skip
    texts: list[str] = []
    for spelling in spellings:
        texts = [printable(spelling(value)) for value in distinct.values()]
        if len(set(texts)) == len(distinct):
            break
    return dict(zip(distinct, texts, strict=True))


def _rounded(value: object, digits: int) -> str:
    text = str(value)
    if isinstance(value, float) and math.isfinite(value) and len(text) > _LONG_NUMBER:
        return min(text, f"{value:.{digits}g}", key=len)
    return text


def _named(
    found: Mapping[str, Variant], values: Mapping[str, Mapping[str, str]], names: Mapping[str, str]
) -> dict[str, str]:
    labels: dict[str, str] = {}
    for place, (identity, variant) in enumerate(found.items()):
        told = [(key, values[key][_value_key(variant, key)]) for key in values if key in variant]
        label = printable(", ".join(text if key == "variant" else f"{names[key]}={text}" for key, text in told))
        labels[identity] = f"{label} (variant {place + 1})".lstrip() if label in labels.values() else label
    return labels


def variant_label(variant: Mapping[str, object]) -> str:
    """A variant in short: ``constant, momentum=0.9``: its name, then the last part of each dotted key of the grid.

    Keys whose last parts are the same are written in full. Empty where the spec has neither names nor a grid.
    """
    last = [key.rsplit(".", 1)[-1] for key in variant]
    keys = [short if last.count(short) == 1 else key for key, short in zip(variant, last, strict=True)]
    said = zip(variant, keys, variant.values(), strict=True)
    return printable(", ".join(f"{value}" if key == "variant" else f"{short}={value}" for key, short, value in said))
