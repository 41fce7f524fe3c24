"""TOML in, a checked `Spec` out: everything is checked before anything trains. No torch in here.

A file becomes a `Document` (tables that know the line of every key, with profile and overrides laid over them), and
`reader` turns it into the frozen dataclasses of `model`. A new setting is a field in `model`; a new protocol a class
in `protocols`; `variants` has the grid.
"""
