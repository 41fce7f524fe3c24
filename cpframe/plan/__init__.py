"""The plan: `Spec` in, `Study` out, with the trajectories of the spec and the stages that they share. No torch in here.

`stages` makes timelines, trajectories and stages; `identity` collects what determines the bits of a stage and hashes
it; `provenance` records where results come from. A new setting that changes a training must become part of `identity`.
"""
