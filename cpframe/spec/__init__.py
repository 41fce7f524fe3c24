"""The spec: TOML in, a checked `Spec` out, before anything is trained. No torch in this package.

`source` reads a file, a text or a dict; `document` applies the profile and the overrides and knows where every key was
written; `reader` turns the `Document` into the frozen dataclasses of `model`. A new setting is a field in `model`, a
new protocol a class in `protocols`; `variants` expands named variants and the grid.
"""
