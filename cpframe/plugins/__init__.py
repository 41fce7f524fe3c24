"""Plugins: found by their entry points, asked for their components, and checked. No torch in this package.

`discovery` turns entry points into a `Catalogue` of components, in which the spec reader looks up names. `kinds` has
the component kinds, `hookspecs` the hook of each, `parameters` reads the fields of a component, `source_digest` hashes
its code. A new kind needs a protocol in `cpframe.api.components`, a `Kind` in `kinds` and a hook in `hookspecs`.
"""
