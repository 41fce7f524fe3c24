"""Spec in, `Study` out: the trajectories that a spec asks for, and the stages that they share. No torch in here.

`stages` lays out timelines and stages, `identity` says what determines the bits of a stage and hashes it,
`provenance` states where results come from. Whatever new setting changes what is trained must reach `identity`.
"""
