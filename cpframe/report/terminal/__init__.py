"""The report in the terminal, printed with rich.

`render.render` takes a study and a console, and prints the sections of `cpframe.report.sections` in turn;
`layout.View` is the argument of every section: the findings, the width, and whether to show everything. Every other
module has the contents of one section; `layout` has headings, legends and notes, and `charts` draws curves, bars and
heat maps with characters. The words are in `cpframe.report.wording`.

A new section of the terminal report is a function from a `View` to rich renderables, named in the `Section` of its
module.
"""

NARROWEST, WIDEST = 60, 400
"""The smallest and the largest number of columns of a report."""
