"""The report as one document of plain dicts, lists, texts, numbers and None, ready for JSON.

``README.md`` in this package describes the keys. Version 3 of the schema renamed these keys of version 2:

- verdict: ``loss`` to ``drop``; in ``period``, ``healed_until``, ``lost_from`` and ``hurting`` to ``recovers_until``,
  ``persists_from`` and ``sensitive``, and the kinds ``already at the first`` and ``none up to the last`` to
  ``before the first`` and ``after the last``.
- layers: ``centre`` to ``mean_layer``.
- plasticity: ``moved``, ``floor`` and ``shift`` to ``redistributed``, ``measurement_error`` and ``mean_layer_change``.
- controls: ``loss`` to ``drop``, and the kind ``no loss`` to ``no drop``.
"""

from __future__ import annotations

from collections.abc import Sequence

from cpframe.analysis.comparisons import variant_key
from cpframe.analysis.critical_periods import THRESHOLD
from cpframe.analysis.findings import Findings
from cpframe.records.model import StudyRecord
from cpframe.report.json_values import Plain, plain
from cpframe.report.sections import choose_sections
from cpframe.report.wording.study import count_statuses

SCHEMA_VERSION = 3
"""The version of the schema. It changes when a key is removed or changes its meaning, not when one is added."""


def study_document(study: StudyRecord, sections: Sequence[str] = (), threshold: float = THRESHOLD) -> dict[str, Plain]:
    """Return all findings on a study.

    Args:
        study: the study, finished or not.
        sections: the names of the sections to include, besides ``schema_version`` and ``study``; all without any.
        threshold: the largest drop that counts as recovered, as a fraction of 1.

    Raises:
        KeyError: if there is no section of that name.
    """
    chosen = choose_sections(sections)
    findings = Findings(study, threshold)
    head = {"schema_version": SCHEMA_VERSION, "study": plain(_study_facts(findings))}
    return head | {section.name: plain(section.document(findings)) for section in chosen}


def _study_facts(findings: Findings) -> dict[str, object]:
    study = findings.study
    return {
        "title": study.title,
        "created": study.created,
        "provenance": study.provenance,
        "score_epochs": study.score_epochs,
        "threshold": findings.threshold,
        "deficits": study.deficits,
        "seeds": sorted({t.seed for t in study.trajectories}),
        "variants": list({variant_key(t.variant): t.variant for t in study.trajectories}.values()),
        "trajectories": count_statuses(study),
        "failures": [{"name": t.name, "reason": t.reason} for t in study.trajectories if t.status == "failed"],
    }
