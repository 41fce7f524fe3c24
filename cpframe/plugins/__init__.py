"""Plugins: found by their entry points, asked for their components, and checked. No torch in here.

`discovery` turns entry points into a `Catalogue` of components, which the spec's reader looks names up in; `hookspecs`
has every hook, `parameters` reads the fields of a component, `source_digest` hashes its code. A new kind of component
begins with a hook in `hookspecs` and its protocol in `cpframe.api.components`.
"""
