"""The analysis of a study: pure functions from records to findings, without torch and without files.

The input is a `cpframe.records.model.StudyRecord`; the output is `findings.Findings`, which computes everything below
lazily and is all that reports, figures and JSON documents are made from.

- `statistics`: means over seeds with their intervals.
- `comparisons`: removal and sensitivity curves, paired by seed with the no-deficit trajectories.
- `verdicts`, `missing_controls`: what the study may claim, and the controls that it lacks.
- `critical_periods`: up to which removal a network recovers, and at which onsets it is sensitive.
- `confounds`: the part of a removal curve that the idle control explains.
- `metric_curves`: metrics through training, averaged over seeds; `representatives`: which few of them to show.
- `phases`, `plasticity`, `fisher_sensitivity`: the phases of Fisher information, its redistribution among layers, and
  its relation to sensitivity.

To add a finding, write a module with a function from the study (and the groups) to a frozen dataclass, and give
`Findings` a property that calls it; a section of the report (`cpframe.report.sections`) shows it.
"""
